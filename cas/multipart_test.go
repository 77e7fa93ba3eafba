package cas

import (
	"bytes"
	"errors"
	"testing"
)

func mustUpload(t testing.TB, s *Store, key string) Upload {
	t.Helper()
	u, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: key, Attributes: Attributes{ContentType: "a/b"}})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustPart(t testing.TB, s *Store, u Upload, n int, b []byte) CompletePart {
	t.Helper()
	p, err := s.PutPart(t.Context(), PartRequest{Bucket: u.Bucket, Key: u.Key, UploadID: u.ID, Number: n, Body: bytes.NewReader(b),
		Finish: func(int64) (Attributes, error) { return Attributes{ETag: etagOf(b)}, nil }})
	if err != nil {
		t.Fatalf("part %d: %v", n, err)
	}
	return CompletePart{Number: n, ETag: p.ETag}
}

func finishWith(etag string) func(Upload, []Part) (Attributes, error) {
	return func(u Upload, _ []Part) (Attributes, error) { a := u.Attributes; a.ETag = etag; return a, nil }
}

func TestMultipart(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 6)}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	u := mustUpload(t, s, "k")
	bodies := [][]byte{noise(1, 12<<20), noise(2, partBytesMin), noise(3, 6<<20), noise(4, 100)}
	var parts []CompletePart
	for i, b := range bodies {
		mustPart(t, s, u, i*3+1, noise(99, 600)) // is replaced
		parts = append(parts, mustPart(t, s, u, i*3+1, b))
	}
	mustPart(t, s, u, 77, noise(50, 5000)) // not named in Complete
	l, err := s.ListParts(t.Context(), PartListRequest{Bucket: "b", Key: "k", UploadID: u.ID, After: 1, Max: 2})
	if err != nil || !l.Truncated || len(l.Parts) != 2 || l.Parts[0].Number != 4 || l.Parts[0].Size != partBytesMin || l.Upload.ContentType != "a/b" {
		t.Fatalf("list parts = %+v, %v", l, err)
	}
	before := stats(t, s)
	req := CompleteRequest{Bucket: "b", Key: "k", UploadID: u.ID, Parts: parts, Finish: finishWith("tag-4")}
	info, err := s.CompleteUpload(t.Context(), req)
	whole := bytes.Join(bodies, nil)
	if err != nil || info.Size != int64(len(whole)) || info.ETag != "tag-4" || info.Parts != 4 || info.ContentType != "a/b" {
		t.Fatalf("complete = %+v, %v", info, err)
	}
	if grown := stats(t, s).PayloadBytes - before.PayloadBytes; grown > 64<<10 {
		t.Fatalf("complete wrote %d bytes", grown)
	}
	again, err := s.CompleteUpload(t.Context(), req)
	if err != nil || again.ETag != info.ETag || !again.Modified.Equal(info.Modified) {
		t.Fatalf("repeated complete = %+v, %v", again, err)
	}
	closeStore(t, s)
	s = openStore(t, o)
	mustHave(t, s, "b", "k", whole)
	ob, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer ob.Close()
	p, off, ok, err := ob.Part(t.Context(), 3)
	if err != nil || !ok || p.Size != 6<<20 || off != 12<<20+partBytesMin || p.ETag != etagOf(bodies[2]) {
		t.Fatalf("part 3 = %+v at %d, %v, %v", p, off, ok, err)
	}
	if _, _, ok, _ := ob.Part(t.Context(), 5); ok {
		t.Fatal("part 5 of 4 was found")
	}
	if ul, err := s.ListUploads(t.Context(), UploadListRequest{Bucket: "b", Max: 10}); err != nil || len(ul.Items) != 0 {
		t.Fatalf("uploads left: %+v, %v", ul, err)
	}
	if st := stats(t, s); st.Uploads != 0 || st.Objects != 1 {
		t.Fatalf("stats %+v", st)
	}
}

func TestMultipartRefusals(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	u := mustUpload(t, s, "k")
	small, big := mustPart(t, s, u, 1, noise(1, 1000)), mustPart(t, s, u, 2, noise(2, partBytesMin))
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		r    CompleteRequest
		want error
	}{
		{"no such upload", CompleteRequest{UploadID: "nope", Parts: []CompletePart{small}}, ErrNoSuchUpload},
		{"other key", CompleteRequest{Key: "other", UploadID: u.ID, Parts: []CompletePart{small}}, ErrNoSuchUpload},
		{"order", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{big, small}}, ErrInvalidPartOrder},
		{"twice", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{small, small}}, ErrInvalidPartOrder},
		{"too small", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{small, big}}, ErrPartTooSmall},
		{"missing", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{big, {Number: 3, ETag: "x"}}}, ErrInvalidPart},
		{"wrong etag", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{{Number: 2, ETag: "x"}}}, ErrInvalidPart},
		{"none", CompleteRequest{UploadID: u.ID}, ErrInvalidPart},
		{"finish", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{big}, Finish: func(Upload, []Part) (Attributes, error) { return Attributes{}, boom }}, boom},
		{"condition", CompleteRequest{UploadID: u.ID, Parts: []CompletePart{big}, If: func(*ObjectInfo) error { return ErrPreconditionFailed }}, ErrPreconditionFailed},
	} {
		c.r.Bucket = "b"
		if c.r.Key == "" {
			c.r.Key = "k"
		}
		if c.r.Finish == nil {
			c.r.Finish = finishWith("t")
		}
		if _, err := s.CompleteUpload(t.Context(), c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := s.AbortUpload(t.Context(), "b", "k", u.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.AbortUpload(t.Context(), "b", "k", u.ID); !errors.Is(err, ErrNoSuchUpload) {
		t.Fatalf("second abort: %v", err)
	}
	if _, err := s.PutPart(t.Context(), PartRequest{Bucket: "b", Key: "k", UploadID: u.ID, Number: 1, Body: bytes.NewReader(nil)}); !errors.Is(err, ErrNoSuchUpload) {
		t.Fatalf("part after abort: %v", err)
	}
}

// Many parts: the part table and the tree of part manifests become chunks of their own.
func TestMultipartOfManyParts(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	u := mustUpload(t, s, "k")
	body := noise(1, partBytesMin)
	var parts []CompletePart
	const count = partsInRowMax + 2
	for n := range count {
		parts = append(parts, mustPart(t, s, u, n+1, body)) // duplicates: fast, and the lists are long all the same
	}
	info, err := s.CompleteUpload(t.Context(), CompleteRequest{Bucket: "b", Key: "k", UploadID: u.ID, Parts: parts, Finish: finishWith("t")})
	if err != nil || info.Parts != count || info.Size != count*partBytesMin {
		t.Fatalf("complete = %+v, %v", info, err)
	}
	o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, n := range []int{1, 2, count} {
		_, off, ok, err := o.Part(t.Context(), n)
		if err != nil || !ok || off != int64(n-1)*partBytesMin {
			t.Fatalf("part %d at %d, %v, %v", n, off, ok, err)
		}
		var w bytes.Buffer
		if _, err := o.WriteRange(t.Context(), &w, off, partBytesMin); err != nil || !bytes.Equal(w.Bytes(), body) {
			t.Fatalf("part %d: %v", n, err)
		}
	}
}

func TestListUploads(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	var ids []string
	for _, k := range []string{"a/1", "a/2", "b", "b", "c"} {
		ids = append(ids, mustUpload(t, s, k).ID)
	}
	l, err := s.ListUploads(t.Context(), UploadListRequest{Bucket: "b", Delimiter: "/", Max: 2})
	if err != nil || !l.Truncated || len(l.Items) != 2 || l.Items[0].Prefix != "a/" || l.Items[1].Upload.ID != ids[2] {
		t.Fatalf("first page: %+v, %v", l, err)
	}
	l, err = s.ListUploads(t.Context(), UploadListRequest{Bucket: "b", Delimiter: "/", Max: 2, AfterKey: l.NextKey, AfterID: l.NextID, SkipAfterPrefix: l.NextIsPrefix})
	if err != nil || l.Truncated || len(l.Items) != 2 || l.Items[0].Upload.ID != ids[3] || l.Items[1].Upload.Key != "c" {
		t.Fatalf("second page: %+v, %v", l, err)
	}
}
