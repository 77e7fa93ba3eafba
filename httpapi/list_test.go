package httpapi_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// listing is what both versions of ListObjects answer.
type listing struct {
	Name, Prefix, Delimiter       string
	Marker, NextMarker            *string
	ContinuationToken, StartAfter *string
	NextContinuationToken         string
	KeyCount, MaxKeys             int
	IsTruncated                   bool
	EncodingType                  string
	Contents                      []struct{ Key string }
	CommonPrefixes                []struct{ Prefix string }
}

func (s *server) list(t interface{ Fatalf(string, ...any) }, q url.Values) (l listing) {
	r := s.do("GET", "/bucket?"+q.Encode(), nil)
	if r.StatusCode != 200 {
		t.Fatalf("list %v: %s %s", q, r.Status, r.body)
	}
	if err := xml.Unmarshal(r.body, &l); err != nil {
		t.Fatalf("list %v: %v in %s", q, err, r.body)
	}
	return l
}

// entries are the keys and prefixes of a page in one order.
func (l listing) entries() (e []string) {
	for _, c := range l.Contents {
		k, _ := url.PathUnescape(c.Key)
		e = append(e, "key "+k)
	}
	for _, c := range l.CommonPrefixes {
		p, _ := url.PathUnescape(c.Prefix)
		e = append(e, "prefix "+p)
	}
	sort.Slice(e, func(i, j int) bool { return e[i][strings.IndexByte(e[i], ' '):] < e[j][strings.IndexByte(e[j], ' '):] })
	return e
}

// model lists naively: each key in order becomes itself or its common prefix. A marker leaves out entries that are not greater, start-after
// keys that are not.
func model(keys []string, prefix, delimiter, marker, startAfter string) (e []string) {
	for _, k := range keys {
		if !strings.HasPrefix(k, prefix) || startAfter != "" && k <= startAfter {
			continue
		}
		entry := "key " + k
		if i := strings.Index(k[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			entry = "prefix " + k[:len(prefix)+i+len(delimiter)]
		}
		if name := entry[strings.IndexByte(entry, ' ')+1:]; marker != "" && name <= marker || len(e) > 0 && e[len(e)-1] == entry {
			continue
		}
		e = append(e, entry)
	}
	return e
}

// Pages of any size, by token, marker or start-after, are together what the model lists: nothing twice, nothing skipped.
func TestListModel(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	keys := []string{
		"a", "a/", "a/b", "a/b/", "a/b/c", "a//", "a//b", "a b", "a+b", "a-b", "aa", "aa/b", "b", "foo", "foo/", "foo/bar", "foo/baz", "foo0", "foobar/", "/", "//", "/x",
		"z/1/2/3", "z/1/3", "z/2", "z0", "ü/x", "ü0", "日本/語", "~",
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.must(200, "PUT", "/bucket/"+(&url.URL{Path: k}).EscapedPath(), []byte("x"))
	}
	some := rapid.SampledFrom(append([]string{"", "", "f", "fo", "z/", "z/1", "z/1/", "none", "a/b/c/d", "zz", "A"}, keys...))
	rapid.Check(t, func(t *rapid.T) {
		prefix, after := "", some.Draw(t, "after")
		if rapid.Bool().Draw(t, "prefixed") {
			prefix = some.Draw(t, "prefix")
		}
		delimiter := rapid.SampledFrom([]string{"", "/", "/", "o", "/b", "//", "x"}).Draw(t, "delimiter")
		size := rapid.IntRange(1, 12).Draw(t, "size")
		v2 := rapid.Bool().Draw(t, "v2")
		q := url.Values{"prefix": {prefix}, "delimiter": {delimiter}, "max-keys": {fmt.Sprint(size)}, "encoding-type": {"url"}}
		if v2 {
			q.Set("list-type", "2")
			q.Set("start-after", after)
		} else {
			q.Set("marker", after)
		}
		var got []string
		for page := 0; ; page++ {
			l := s.list(t, q)
			e := l.entries()
			if len(e) > size || l.IsTruncated && len(e) != size || page > len(keys) {
				t.Fatalf("page %d of size %d has %q, truncated %v", page, size, e, l.IsTruncated)
			}
			if v2 && l.KeyCount != len(e) {
				t.Fatalf("KeyCount %d of %d", l.KeyCount, len(e))
			}
			got = append(got, e...)
			if !l.IsTruncated {
				if l.NextContinuationToken != "" || l.NextMarker != nil {
					t.Fatalf("the last page has a next one: %+v", l)
				}
				break
			}
			switch {
			case v2:
				q.Set("continuation-token", l.NextContinuationToken) // beats start-after
			case delimiter != "":
				m, _ := url.PathUnescape(*l.NextMarker)
				q.Set("marker", m)
			default:
				if l.NextMarker != nil {
					t.Fatalf("NextMarker without a delimiter")
				}
				q.Set("marker", strings.TrimPrefix(e[len(e)-1], "key "))
			}
		}
		marker, startAfter := after, ""
		if v2 {
			marker, startAfter = "", after
		}
		if want := model(keys, prefix, delimiter, marker, startAfter); !slices.Equal(got, want) {
			t.Fatalf("prefix %q delimiter %q after %q by %d (v2 %v):\ngot  %q\nwant %q", prefix, delimiter, after, size, v2, got, want)
		}
	})
}

// start-after is about keys: the common prefix that it lies in is listed while it has greater keys. A marker is about what was listed.
func TestStartAfterInPrefix(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	for _, k := range []string{"a/1", "a/2", "b"} {
		s.must(200, "PUT", "/bucket/"+k, []byte("x"))
	}
	for after, want := range map[string]string{"": "a/ b", "a": "a/ b", "a/": "a/ b", "a/1": "a/ b", "a/10": "a/ b", "a/2": "b", "a/zzz": "b", "a0": "b", "b": ""} {
		l := s.list(t, url.Values{"list-type": {"2"}, "delimiter": {"/"}, "start-after": {after}})
		if got := strings.NewReplacer("key ", "", "prefix ", "").Replace(strings.Join(l.entries(), " ")); got != want {
			t.Errorf("start-after %q: %q, want %q", after, got, want)
		}
	}
	for marker, want := range map[string]string{"a": "a/ b", "a/": "b", "a/1": "b"} {
		l := s.list(t, url.Values{"delimiter": {"/"}, "marker": {marker}})
		if got := strings.NewReplacer("key ", "", "prefix ", "").Replace(strings.Join(l.entries(), " ")); got != want {
			t.Errorf("marker %q: %q, want %q", marker, got, want)
		}
	}
	l := s.list(t, url.Values{"list-type": {"2"}, "delimiter": {"/"}, "start-after": {"a/1"}, "max-keys": {"1"}})
	l = s.list(t, url.Values{"list-type": {"2"}, "delimiter": {"/"}, "continuation-token": {l.NextContinuationToken}, "max-keys": {"1"}})
	if got := l.entries(); !slices.Equal(got, []string{"key b"}) || l.IsTruncated {
		t.Errorf("the page after the prefix: %q", got)
	}
}

func TestListEchoes(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	for i := range 3 {
		s.must(200, "PUT", fmt.Sprintf("/bucket/k%d", i), []byte("x"))
	}
	l := s.list(t, url.Values{})
	if l.Marker == nil || *l.Marker != "" || l.MaxKeys != 1000 || l.IsTruncated || len(l.Contents) != 3 {
		t.Errorf("v1: %+v", l)
	}
	l = s.list(t, url.Values{"max-keys": {"2000"}, "marker": {"k0"}})
	if l.MaxKeys != 1000 || *l.Marker != "k0" || len(l.Contents) != 2 {
		t.Errorf("v1, 2,000 keys: %+v", l)
	}
	l = s.list(t, url.Values{"list-type": {"2"}, "continuation-token": {""}, "start-after": {""}})
	if l.ContinuationToken == nil || *l.ContinuationToken != "" || l.StartAfter == nil || l.Marker != nil || l.KeyCount != 3 {
		t.Errorf("v2 with empty parameters: %+v", l)
	}
	l = s.list(t, url.Values{"list-type": {"2"}})
	if l.ContinuationToken != nil || l.StartAfter != nil {
		t.Errorf("v2 without them: %+v", l)
	}
	l = s.list(t, url.Values{"list-type": {"2"}, "max-keys": {"0"}})
	if l.IsTruncated || l.KeyCount != 0 || len(l.Contents) != 0 || l.NextContinuationToken != "" {
		t.Errorf("v2, no keys: %+v", l)
	}
	l = s.list(t, url.Values{"max-keys": {"0"}})
	if l.IsTruncated || len(l.Contents) != 0 || l.NextMarker != nil {
		t.Errorf("v1, no keys: %+v", l)
	}
	l = s.list(t, url.Values{"list-type": {"2"}, "max-keys": {"1"}})
	first := l.NextContinuationToken
	l = s.list(t, url.Values{"list-type": {"2"}, "max-keys": {"1"}, "continuation-token": {first}, "start-after": {"k2"}})
	if len(l.Contents) != 1 || l.Contents[0].Key != "k1" || *l.ContinuationToken != first {
		t.Errorf("the token beats start-after: %+v", l)
	}
}

// Parameters of the other version do nothing, with a value or without; neither do those of lists in HEAD.
func TestListForeignParameters(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", []byte("x"))
	for _, query := range []string{
		"list-type=2&marker=", "list-type=2&marker=zzz", "marker=&start-after=", "start-after=zzz", "continuation-token=", "fetch-owner=", "marker=&continuation-token=&fetch-owner",
		"prefix=&delimiter=&marker=&max-keys=&encoding-type=",
	} {
		if r := s.must(200, "GET", "/bucket?"+query, nil); !bytes.Contains(r.body, []byte("<Key>key</Key>")) {
			t.Errorf("%s: %s", query, r.body)
		}
	}
	for _, query := range []string{"list-type=2", "list-type=2&max-keys=1&prefix=&delimiter=/", "location", "location=", "list-type=2&location", "marker", "prefix="} {
		s.must(200, "HEAD", "/bucket?"+query, nil)
		s.fails(404, "", "HEAD", "/nobucket?"+query, nil)
	}
	for _, query := range []string{"unheard-of", "policy", "versions", "uploads", "list-type=2&policy"} {
		s.fails(501, "", "HEAD", "/bucket?"+query, nil)
	}
	s.fails(501, "NotImplemented", "GET", "/bucket?list-type=2&location", nil)
}

// Multipart uploads are listed by key, then by time, with both markers and delimiters.
func TestListUploads(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	var want []string
	for _, k := range []string{"a", "a", "b/1", "b/2", "c", "c"} {
		r := s.must(200, "POST", "/bucket/"+k+"?uploads", nil)
		want = append(want, k+" "+element(r.body, "UploadId"))
	}
	type uploads struct {
		IsTruncated                       bool
		NextKeyMarker, NextUploadIdMarker string
		Upload                            []struct{ Key, UploadId string }
		CommonPrefixes                    []struct{ Prefix string }
	}
	for size := 1; size <= 7; size++ {
		for _, delimiter := range []string{"", "/"} {
			var got []string
			q := url.Values{"max-uploads": {fmt.Sprint(size)}, "delimiter": {delimiter}}
			for page := 0; page < 10; page++ {
				r := s.must(200, "GET", "/bucket?uploads&"+q.Encode(), nil)
				var u uploads
				if err := xml.Unmarshal(r.body, &u); err != nil {
					t.Fatal(err)
				}
				for _, x := range u.Upload {
					got = append(got, x.Key+" "+x.UploadId)
				}
				for _, p := range u.CommonPrefixes {
					got = append(got, p.Prefix)
				}
				if !u.IsTruncated {
					break
				}
				q.Set("key-marker", u.NextKeyMarker)
				q.Set("upload-id-marker", u.NextUploadIdMarker)
			}
			w := want
			if delimiter != "" {
				w = []string{want[0], want[1], "b/", want[4], want[5]}
			}
			slices.Sort(got)
			w = slices.Sorted(slices.Values(w))
			if !slices.Equal(got, w) {
				t.Errorf("by %d, delimiter %q:\ngot  %q\nwant %q", size, delimiter, got, w)
			}
		}
	}
	// A key-marker alone passes all uploads of that key.
	r := s.must(200, "GET", "/bucket?uploads&key-marker=b/2", nil)
	if strings.Count(string(r.body), "<Upload>") != 2 {
		t.Errorf("after b/2: %s", r.body)
	}
}
