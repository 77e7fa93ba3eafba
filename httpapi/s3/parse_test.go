package s3

import (
	"encoding/xml"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestBucketNames(t *testing.T) {
	for _, name := range []string{"abc", "a-b", "a.b.c", "123", "1a2", "my--bucket", "a" + strings.Repeat("b", 62), "1.2.3", "1.2.3.4.5", "an" + "y"} {
		if !validBucketName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", "ab", "aB", "a_b", "-ab", "ab-", "a..b", ".ab", "ab.", "1.2.3.4", "127.0.0.1", "xn--a", "sthree-x", "amzn-s3-demo-x", "a-s3alias", "a--ol-s3", "a.mrap", "a--x-s3", "a--table-s3", "healthz", "readyz", "metrics", "a b", "a/b", "äbc", "-", strings.Repeat("a", 64)} {
		if validBucketName(name) {
			t.Errorf("%q is accepted", name)
		}
	}
}

// Every parameter that selects an operation must be known as one that does.
func TestOperationTable(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range subResources {
		known[s] = true
	}
	names := make(map[string]bool)
	bodies := 0 // writes whose handler verifies the body itself
	for _, op := range operations {
		if op.sub != "" && !known[op.sub] {
			t.Errorf("%s: %q is missing in subResources", op.name, op.sub)
		}
		if names[op.name] {
			t.Errorf("two operations are named %s", op.name)
		}
		names[op.name] = true
		if op.takesBody() && op.method != http.MethodGet && op.method != http.MethodHead {
			bodies++
		}
		if op.handle == nil || !strings.HasPrefix(op.action, "s3:") {
			t.Errorf("%s has no handler or action", op.name)
		}
		for _, p := range op.params {
			if known[p] {
				t.Errorf("%s: %q selects another operation", op.name, p)
			}
		}
	}
	if bodies != 6 {
		t.Errorf("%d operations take a body; the hash of what the others get is verified before their handler", bodies)
	}
}

func TestWithoutChunked(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "gzip": "gzip", "aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, aws-chunked": "gzip", "AWS-Chunked, gzip , br": "gzip,br", "gzip, br": "gzip, br", "aws-chunked,,": "",
	} {
		if got := withoutChunked(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What is written is read back by an XML parser, as far as XML can say it.
func TestXMLText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		x := newXML(true)
		x.text("A", s)
		var got struct {
			Text string `xml:",chardata"`
		}
		if err := xml.Unmarshal(x.b, &got); err != nil {
			t.Fatalf("%q: %v in %q", s, err, x.b)
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
				return utf8.RuneError
			}
			return r
		}, s)
		if got.Text != want {
			t.Fatalf("%q became %q", s, got.Text)
		}
	})
}

func TestTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := position{rapid.String().Draw(t, "key"), rapid.Bool().Draw(t, "prefix")}
		if got, ok := decodeToken(encodeToken(p)); !ok || got != p {
			t.Fatalf("%+v became %+v", p, got)
		}
	})
	for _, s := range []string{"", "AQ==", "AgBh", "AQJh", "!", "AQBh=", "AQD_"} {
		if p, ok := decodeToken(s); ok {
			t.Errorf("%q is %+v", s, p)
		}
	}
}

func TestConditionsIgnoreBadDates(t *testing.T) {
	at := time.Date(2024, 5, 6, 7, 8, 9, 500, time.UTC)
	h := http.Header{"If-Modified-Since": {"2024"}, "If-Unmodified-Since": {""}}
	if got, _ := readConditions.evaluate(h, "e", at); got != holds {
		t.Error("bad dates decide")
	}
	// Fractions of a second are invisible to clients, so they may not decide either.
	h = http.Header{"If-Unmodified-Since": {at.Format(http.TimeFormat)}}
	if got, _ := readConditions.evaluate(h, "e", at); got != holds {
		t.Error("a fraction of a second decides")
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=99999999999999999999-", "bytes=1-0", "bytes=--", ""} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		r, ok, satisfiable := parseRange(header, size)
		if satisfiable && (!ok || r.off < 0 || r.n <= 0 || r.off+r.n > size || r.off+r.n < 0) {
			t.Fatalf("%q of %d is %+v", header, size, r)
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(`<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object></Delete>`))
	f.Add([]byte(`<?xml version="1.0"?><Delete xmlns="x"><Object><Key>&lt;</Key><VersionId>null</VersionId></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><Delete>&a;</Delete>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d deleteRequest
		var c completeRequest
		var b createBucketConfiguration
		for root, v := range map[string]any{"Delete": &d, "CompleteMultipartUpload": &c, "CreateBucketConfiguration": &b} {
			if err := decodeXML(data, root, v); err == nil && strings.Contains(string(data), "<!DOCTYPE") && !strings.Contains(string(data), "<!--") && !strings.Contains(string(data), "CDATA") {
				t.Fatalf("accepted a document type: %q", data)
			}
		}
		if parts, err := completeParts(c.Parts); err == nil && len(parts) > partsMax {
			t.Fatal("too many parts")
		}
	})
}

func FuzzCopySource(f *testing.F) {
	for _, s := range []string{"/bucket/key", "bucket/key?versionId=null", "%2Fbucket%2Fkey", "bucket", "?", "/bucket/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		s, err := parseCopySource(v)
		if err == nil && (!validBucketName(s.bucket) || s.key == "" || len(s.key) > keyBytesMax || !utf8.ValidString(s.key)) {
			t.Fatalf("%q is %+v", v, s)
		}
	})
}
