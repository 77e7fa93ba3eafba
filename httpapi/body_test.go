package httpapi_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/casd/casd/cas"
)

// A reader sees the old object or the new one, never a mix, and a deleted one to its end.
func TestReplaceWhileReading(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	old := bytes.Repeat(noise(1<<20), 6)
	s.must(200, "PUT", "/bucket/key", old)
	res, err := s.Client().Do(s.request("GET", "/bucket/key", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 1000)
	if _, err := res.Body.Read(first); err != nil {
		t.Fatal(err)
	}
	s.must(200, "PUT", "/bucket/key", []byte("new"))
	s.must(204, "DELETE", "/bucket/key", nil)
	var rest bytes.Buffer
	n, err := rest.ReadFrom(res.Body)
	if err != nil || int(n) > len(old) || !bytes.HasSuffix(old, rest.Bytes()) {
		t.Errorf("%d bytes after the first, %v", n, err)
	}
}

// What clients claim of their bodies is checked, and nothing of a wrong body is kept.
func TestIntegrity(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	body := noise(200_000)
	tampered := bytes.Clone(body)
	tampered[100_000] ^= 1
	req := s.request("PUT", "/bucket/key", body)
	req.Body = http.NoBody
	req = cloneWithBody(req, tampered)
	if r := s.send(req); r.StatusCode != 400 || r.errorCode() != "XAmzContentSHA256Mismatch" {
		t.Errorf("tampered: %s %s", r.Status, r.body)
	}
	for _, a := range checksumsOf(body) {
		s.fails(400, "BadDigest", "PUT", "/bucket/key", tampered, a.header, a.value)
		r := s.must(200, "PUT", "/bucket/"+a.header, body, a.header, a.value)
		if r.Header.Get(a.header) != a.value || r.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
			t.Errorf("%s: %v", a.header, r.Header)
		}
		if r := s.must(200, "GET", "/bucket/"+a.header, nil); r.Header.Get(a.header) != "" {
			t.Errorf("%s without being asked for", a.header)
		}
		for _, method := range []string{"GET", "HEAD"} {
			if r := s.must(200, method, "/bucket/"+a.header, nil, "x-amz-checksum-mode", "ENABLED"); r.Header.Get(a.header) != a.value {
				t.Errorf("%s %s: %v", method, a.header, r.Header)
			}
		}
		if r := s.must(206, "GET", "/bucket/"+a.header, nil, "x-amz-checksum-mode", "ENABLED", "Range", "bytes=0-9"); r.Header.Get(a.header) != "" {
			t.Errorf("%s of a range", a.header)
		}
	}
	s.fails(400, "BadDigest", "PUT", "/bucket/key", tampered, "Content-MD5", md5Of(body))
	s.must(200, "PUT", "/bucket/md5", body, "Content-MD5", md5Of(body))
	s.fails(404, "NoSuchKey", "GET", "/bucket/key", nil)
}

// An upload that ends early leaves nothing.
func TestShortBody(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	req := s.request("PUT", "/bucket/key", bytes.Repeat([]byte("x"), 100_000))
	raw := s.rawSend(req, bytes.Repeat([]byte("x"), 99_999), true)
	if !strings.Contains(raw, "IncompleteBody") && raw != "" {
		t.Errorf("answer: %s", raw)
	}
	s.fails(404, "NoSuchKey", "GET", "/bucket/key", nil)
	waitFor(t, func() bool { return strings.Contains(s.access.String(), "IncompleteBody") })
}

func TestContextReachesTheStore(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	read, gone := make(chan struct{}), make(chan struct{})
	s.store.mu.Lock()
	s.store.put = func(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
		buf := make([]byte, 64)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				break
			}
		}
		close(read)
		<-ctx.Done()
		close(gone)
		return cas.ObjectInfo{}, ctx.Err()
	}
	s.store.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	req := s.request("PUT", "/bucket/key", []byte("x")).WithContext(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := s.Client().Do(req); err == nil {
			res.Body.Close()
		}
	}()
	<-read
	cancel()
	<-gone
	<-done
}
