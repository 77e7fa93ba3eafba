package cas

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/casd/casd/index"
)

func mustVersioning(t testing.TB, s *Store, bucket string, to Versioning) {
	t.Helper()
	if err := s.SetVersioning(t.Context(), bucket, to); err != nil {
		t.Fatal(err)
	}
}

// put stores a body and returns its version ID.
func putVersionOf(t testing.TB, s *Store, key, body string) string {
	t.Helper()
	info, err := putBytes(t.Context(), s, "b", key, []byte(body), nil)
	if err != nil {
		t.Fatal(err)
	}
	return info.VersionID
}

func mustDelete(t testing.TB, s *Store, key, id string) DeleteResult {
	t.Helper()
	r, err := s.DeleteVersion(t.Context(), DeleteRequest{Bucket: "b", Key: key, VersionID: id, Owner: "deleter"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// versionsOf lists everything of bucket b, as "key=size" or "key!" for a marker, with "*" when it is the newest, and "~" for null versions.
func versionsOf(t testing.TB, s *Store) (all []string) {
	t.Helper()
	l, err := s.ListVersions(t.Context(), VersionListRequest{Bucket: "b", Max: 1000})
	if err != nil || l.Truncated {
		t.Fatal(err, l.Truncated)
	}
	for _, it := range l.Items {
		text := fmt.Sprintf("%s=%d", it.Object.Key, it.Object.Size)
		if it.Marker {
			text = it.Object.Key + "!"
		}
		if it.Object.VersionID == nullVersion {
			text += "~"
		}
		if it.Latest {
			text += "*"
		}
		all = append(all, text)
	}
	return all
}

func TestVersionIDs(t *testing.T) {
	n, err := newVersionNamer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "version_id_v1.golden", []byte(n.id(1)+n.id(1<<40)))
	last := ""
	for _, csn := range []uint64{0, 1, 255, 256, 1 << 40, 1<<64 - 1} {
		id := n.id(csn)
		if got, err := n.csn(id); err != nil || got != csn {
			t.Fatalf("%d is %s is %d: %v", csn, id, got, err)
		}
		if id <= last || id != strings.ToLower(id) {
			t.Errorf("%s after %s", id, last)
		}
		last = id
		for i := range id { // any other digit makes it a made-up one
			b := []byte(id)
			if b[i] ^= 1; b[i] == id[i] {
				continue
			}
			if _, err := n.csn(string(b)); !errors.Is(err, ErrInvalidVersion) {
				t.Fatalf("%s: %v", b, err)
			}
		}
	}
	for _, id := range []string{"", "null", "x", last[1:], last + "0", strings.ToUpper(n.id(0xabcdef)), strings.Repeat("z", 32)} {
		if _, err := n.csn(id); !errors.Is(err, ErrInvalidVersion) {
			t.Errorf("%q: %v", id, err)
		}
	}
	key := make([]byte, 32)
	key[0] = 1
	other, err := newVersionNamer(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.csn(n.id(7)); !errors.Is(err, ErrInvalidVersion) {
		t.Errorf("the ID of another store: %v", err)
	}
}

// The null version through all states of a bucket.
func TestNullVersions(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	expect := func(want ...string) {
		t.Helper()
		if got := versionsOf(t, s); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if id := putVersionOf(t, s, "k", "1"); id != nullVersion {
		t.Fatal(id)
	}
	expect("k=1~*")
	mustVersioning(t, s, "b", VersioningEnabled)
	v2 := putVersionOf(t, s, "k", "22")
	v3 := putVersionOf(t, s, "k", "333")
	expect("k=3*", "k=2", "k=1~")
	if v3 <= v2 {
		t.Errorf("%s is older than %s", v3, v2)
	}
	mustVersioning(t, s, "b", VersioningSuspended)
	if id := putVersionOf(t, s, "k", "4444"); id != nullVersion {
		t.Fatal(id)
	}
	expect("k=4~*", "k=3", "k=2") // the old null version was replaced
	mustVersioning(t, s, "b", VersioningEnabled)
	putVersionOf(t, s, "k", "55555")
	expect("k=5*", "k=4~", "k=3", "k=2")
	if r := mustDelete(t, s, "k", ""); !r.Marker || !r.Found || !r.Versioned || r.VersionID == "" || r.VersionID == nullVersion {
		t.Fatalf("%+v", r)
	}
	mustVersioning(t, s, "b", VersioningSuspended)
	if r := mustDelete(t, s, "k", ""); !r.Marker || r.Found || r.VersionID != nullVersion {
		t.Fatalf("%+v", r)
	}
	expect("k!~*", "k!", "k=5", "k=3", "k=2")
	if r := mustDelete(t, s, "k", nullVersion); !r.Marker || !r.Found || r.VersionID != nullVersion {
		t.Fatalf("%+v", r)
	}
	// Rows still point at null versions that are gone.
	if r := mustDelete(t, s, "k", nullVersion); r.Marker || r.Found {
		t.Fatalf("%+v", r)
	}
	expect("k!*", "k=5", "k=3", "k=2")
	if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k", VersionID: nullVersion}); !errors.Is(err, ErrNoSuchVersion) {
		t.Fatal(err)
	}
	if i, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k", VersionID: v2}); err != nil || i.Size != 2 || i.VersionID != v2 || !i.Versioned {
		t.Fatalf("%+v %v", i, err)
	}
	if err := s.DeleteBucket(t.Context(), "b"); !errors.Is(err, ErrBucketNotEmpty) {
		t.Fatal(err)
	}
}

func TestDeleteMarkers(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustVersioning(t, s, "b", VersioningEnabled)
	// On a key that never was, and stacked.
	one, two := mustDelete(t, s, "k", ""), mustDelete(t, s, "k", "")
	if one.Found || !two.Marker || one.VersionID == two.VersionID {
		t.Fatalf("%+v %+v", one, two)
	}
	_, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	var marker *DeleteMarkerError
	if !errors.Is(err, ErrNoSuchKey) || errors.Is(err, ErrDeleteMarker) || !errors.As(err, &marker) || marker.VersionID != two.VersionID {
		t.Fatalf("%v", err)
	}
	_, err = s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k", VersionID: one.VersionID})
	if errors.Is(err, ErrNoSuchKey) || !errors.Is(err, ErrDeleteMarker) || !errors.As(err, &marker) || marker.VersionID != one.VersionID || marker.Modified.IsZero() {
		t.Fatalf("%v", err)
	}
	if err := s.DeleteBucket(t.Context(), "b"); !errors.Is(err, ErrBucketNotEmpty) {
		t.Fatal(err)
	}
	// For a condition there is nothing.
	if _, err := putBytes(t.Context(), s, "b", "k", []byte("x"), func(c *ObjectInfo) error {
		if c != nil {
			return ErrPreconditionFailed
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if st := stats(t, s); st.Objects != 1 || st.LogicalBytes != 1 {
		t.Fatalf("%+v", st)
	}
	l, err := s.ListVersions(t.Context(), VersionListRequest{Bucket: "b", Max: 10})
	if err != nil || len(l.Items) != 3 || l.Items[1].Object.Owner != "deleter" || !l.Items[1].Marker {
		t.Fatalf("%+v %v", l, err)
	}
	for _, it := range l.Items {
		if r := mustDelete(t, s, "k", it.Object.VersionID); r.Marker != it.Marker || !r.Found {
			t.Fatalf("%+v", r)
		}
	}
	if st := stats(t, s); st.Objects != 0 || st.LogicalBytes != 0 {
		t.Fatalf("%+v", st)
	}
	if _, err := s.DeleteVersion(t.Context(), DeleteRequest{Bucket: "b", Key: "k", VersionID: "made up"}); !errors.Is(err, ErrInvalidVersion) {
		t.Fatal(err)
	}
	if err := s.DeleteBucket(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
}

// The version of a null row's mutation is no version, whoever computes its ID.
func TestNullVersionHasNoOtherID(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", []byte("x"))
	mustVersioning(t, s, "b", VersioningEnabled)
	mustPut(t, s, "b", "k", []byte("y"))
	var csn uint64
	if err := s.view(func(v *index.View) error {
		c, err := s.newest(v, &bucketRow{}, "b", "k")
		csn = c.row.Null
		return err
	}); err != nil || csn == 0 {
		t.Fatal(csn, err)
	}
	if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k", VersionID: s.versions.id(csn)}); !errors.Is(err, ErrNoSuchVersion) {
		t.Fatal(err)
	}
	if r := mustDelete(t, s, "k", s.versions.id(csn)); r.Found {
		t.Fatalf("%+v", r)
	}
}

func TestDeleteManyVersions(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustVersioning(t, s, "b", VersioningEnabled)
	v1 := putVersionOf(t, s, "k", "1")
	v2 := putVersionOf(t, s, "k", "22")
	refused := errors.New("refused")
	res, err := s.DeleteMany(t.Context(), "b", []DeleteRequest{{Key: "k", VersionID: v1}, {Key: "k"}, {Key: "k"}, {Key: "other"}, {Key: "k", VersionID: "x"},
		{Key: "k", VersionID: v2, If: func(c *ObjectInfo) error {
			if c == nil || c.VersionID != v2 {
				return errors.New("another version")
			}
			return refused
		}}})
	if err != nil || len(res) != 6 {
		t.Fatal(res, err)
	}
	if r := res[0]; r.Err != nil || !r.Found || r.Marker || r.VersionID != v1 {
		t.Errorf("%+v", r)
	}
	if a, b := res[1], res[2]; a.Err != nil || !a.Marker || !a.Found || b.Err != nil || b.Found || a.VersionID >= b.VersionID {
		t.Errorf("%+v %+v", a, b)
	}
	if r := res[3]; r.Err != nil || !r.Marker || r.Found {
		t.Errorf("%+v", r)
	}
	if !errors.Is(res[4].Err, ErrInvalidVersion) || !errors.Is(res[5].Err, refused) {
		t.Errorf("%v %v", res[4].Err, res[5].Err)
	}
	if got := versionsOf(t, s); !slices.Equal(got, []string{"k!*", "k!", "k=2", "other!*"}) {
		t.Errorf("%v", got)
	}
}

// A multipart upload and copies of versions.
func TestVersionsOfUploadsAndCopies(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustVersioning(t, s, "b", VersioningEnabled)
	for i := range 2 {
		if err := putMultipart(t.Context(), s, "k", noise(uint64(i), 100_000+i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := versionsOf(t, s); !slices.Equal(got, []string{"k=100001*", "k=100000"}) {
		t.Fatal(got)
	}
	l, err := s.ListVersions(t.Context(), VersionListRequest{Bucket: "b", Max: 10})
	if err != nil {
		t.Fatal(err)
	}
	var from ObjectInfo
	made, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "b", SourceKey: "k", SourceVersion: l.Items[1].Object.VersionID, Bucket: "b", Key: "k",
		Attributes: func(o ObjectInfo) (Attributes, error) { from = o; return o.Attributes, nil }})
	if err != nil || made.Size != 100_000 || made.VersionID == from.VersionID || from.VersionID != l.Items[1].Object.VersionID {
		t.Fatalf("%+v of %+v: %v", made, from, err)
	}
	mustHave(t, s, "b", "k", noise(0, 100_000))
	marker := mustDelete(t, s, "k", "")
	copyOf := func(id string) error {
		_, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "b", SourceKey: "k", SourceVersion: id, Bucket: "b", Key: "k2",
			Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
		return err
	}
	if err := copyOf(""); !errors.Is(err, ErrNoSuchKey) {
		t.Fatal(err)
	}
	if err := copyOf(marker.VersionID); !errors.Is(err, ErrDeleteMarker) {
		t.Fatal(err)
	}
	if err := copyOf(nullVersion); !errors.Is(err, ErrNoSuchVersion) {
		t.Fatal(err)
	}
}

// A page may end at a null version that is then deleted, while older versions of its key are still to come.
func TestListVersionsBehindNull(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustVersioning(t, s, "b", VersioningEnabled)
	putVersionOf(t, s, "k", "1")
	putVersionOf(t, s, "k", "22")
	mustVersioning(t, s, "b", VersioningSuspended)
	putVersionOf(t, s, "k", "333")
	putVersionOf(t, s, "l", "4444")
	var got []int64
	q := VersionListRequest{Bucket: "b", Max: 1}
	for {
		l, err := s.ListVersions(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range l.Items {
			got = append(got, it.Object.Size)
			mustDelete(t, s, it.Object.Key, it.Object.VersionID)
		}
		if !l.Truncated {
			break
		}
		q.AfterKey, q.AfterID, q.SkipAfterPrefix = l.NextKey, l.NextID, l.NextIsPrefix
	}
	if !slices.Equal(got, []int64{3, 2, 1, 4}) {
		t.Fatal(got)
	}
}

// A cycle keeps what any version names, and reclaims what the last one of it named. Markers name nothing.
func TestGCOfVersions(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3), SegmentBytes: 2 << 20})
	mustBucket(t, s, "b")
	mustVersioning(t, s, "b", VersioningEnabled)
	var ids []string
	for i := range 6 {
		info, err := putBytes(t.Context(), s, "b", "k", noise(uint64(i), 3<<20), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.VersionID)
	}
	mustDelete(t, s, "k", "")
	have := func(from int) {
		t.Helper()
		for i := from; i < len(ids); i++ {
			o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k", VersionID: ids[i]})
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			_, err = o.WriteRange(t.Context(), &got, 0, o.Info.Size)
			o.Close()
			if err != nil || !bytes.Equal(got.Bytes(), noise(uint64(i), 3<<20)) {
				t.Fatalf("version %d: %d bytes, %v", i, got.Len(), err)
			}
		}
	}
	chunks := stats(t, s).Chunks
	mustGC(t, s, GCRequest{Threshold: 0.01})
	if now := stats(t, s).Chunks; now != chunks {
		t.Fatalf("%d chunks of %d are left though every version is there", now, chunks)
	}
	have(0)
	for _, id := range ids[:4] {
		mustDelete(t, s, "k", id)
	}
	r := mustGC(t, s, GCRequest{Threshold: 0.01})
	if r.ReclaimedBytes < 8<<20 || stats(t, s).Chunks >= chunks {
		t.Fatalf("%+v, %d chunks of %d", r, stats(t, s).Chunks, chunks)
	}
	have(4)
}

// What is asked of a key costs the same whatever lies below: the null version is found, and lists go on behind the key, without a walk.
func TestManyVersions(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", []byte("null"))
	mustVersioning(t, s, "b", VersioningEnabled)
	deletes := make([]DeleteRequest, 1000)
	for i := range deletes {
		deletes[i].Key = "k"
	}
	for range 10 {
		if _, err := s.DeleteMany(t.Context(), "b", deletes); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, "b", "l", []byte("x"))
	counted := func(fn func(r *countingReader) error) int {
		t.Helper()
		var c countingReader
		if err := s.view(func(v *index.View) error {
			c.Reader = v
			return fn(&c)
		}); err != nil {
			t.Fatal(err)
		}
		return c.n
	}
	if n := counted(func(r *countingReader) error {
		v, err := s.getVersion(r, GetRequest{Bucket: "b", Key: "k", VersionID: nullVersion})
		if err == nil && v.row.Content.Size != 4 {
			return fmt.Errorf("%+v", v)
		}
		return err
	}); n > 3 {
		t.Errorf("%d reads for the null version", n)
	}
	if l, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 10}); err != nil || len(l.Items) != 1 || l.Truncated {
		t.Errorf("%+v %v", l, err)
	}
	n := 0
	for q := (VersionListRequest{Bucket: "b", Max: 1000}); ; {
		l, err := s.ListVersions(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i, it := range l.Items {
			if it.Latest != (n+i == 0 || it.Object.Key == "l") {
				t.Fatalf("version %d: %+v", n+i, it)
			}
		}
		n += len(l.Items)
		if q.AfterKey, q.AfterID = l.NextKey, l.NextID; !l.Truncated {
			break
		}
	}
	if n != 10_002 {
		t.Errorf("%d versions are listed", n)
	}
}

// A countingReader counts reads.
type countingReader struct {
	index.Reader
	n int
}

func (c *countingReader) Get(t index.Table, key []byte) (index.Entry, bool, error) {
	c.n++
	return c.Reader.Get(t, key)
}

func (c *countingReader) First(t index.Table, lo, hi []byte) (index.Entry, bool, error) {
	c.n++
	return c.Reader.First(t, lo, hi)
}
