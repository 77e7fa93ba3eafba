package httpapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
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

// The hash that was signed is checked where nobody wants the body, too, before anything is done.
func TestIntegrityOfUnwantedBodies(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/empty", nil)
	s.must(200, "PUT", "/bucket/key", []byte("x"))
	up := element(s.must(200, "POST", "/bucket/up?uploads", nil).body, "UploadId")
	hash := func(b string) string {
		sum := sha256.Sum256([]byte(b))
		return hex.EncodeToString(sum[:])
	}
	send := func(method, path, body, hash string, chunked bool, headers ...string) response {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if chunked {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), -1
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		auth.Sign(req, testCredentials, region, hash, time.Now())
		return s.send(req)
	}
	long := strings.Repeat("x", 1<<20)
	for _, op := range []struct {
		method, path string
		status       int
		headers      []string
	}{
		{"POST", "/bucket/new?uploads", 200, nil},
		{"PUT", "/bucket/copy", 200, []string{"x-amz-copy-source", "/bucket/key"}},
		{"PUT", "/bucket/up?partNumber=1&uploadId=" + up, 200, []string{"x-amz-copy-source", "/bucket/key"}},
		{"DELETE", "/bucket/up?uploadId=" + up, 204, nil},
		{"DELETE", "/bucket/key", 204, nil},
		{"DELETE", "/empty", 204, nil},
	} {
		for _, tc := range []struct {
			body, hash string
			chunked    bool
			code       string
		}{
			{"", hash("x"), false, "XAmzContentSHA256Mismatch"}, {"", hash("x"), true, "XAmzContentSHA256Mismatch"},
			{"y", hash("x"), false, "XAmzContentSHA256Mismatch"}, {"y", hash("x"), true, "XAmzContentSHA256Mismatch"},
			{"y", hash(""), false, "XAmzContentSHA256Mismatch"}, {"y", hash(""), true, "XAmzContentSHA256Mismatch"},
			{long + "y", hash(long + "y"), false, "MaxMessageLengthExceeded"}, {long + "y", hash(long + "y"), true, "MaxMessageLengthExceeded"},
		} {
			if r := send(op.method, op.path, tc.body, tc.hash, tc.chunked, op.headers...); r.StatusCode != 400 || r.errorCode() != tc.code {
				t.Errorf("%s %s, %d bytes, chunked %v: %s %s, want %s", op.method, op.path, len(tc.body), tc.chunked, r.Status, r.errorCode(), tc.code)
			}
		}
		if strings.HasPrefix(op.path, "/bucket/copy") { // a copy with a body is probably none
			for _, h := range []string{hash("y"), auth.UnsignedPayload} {
				for _, chunked := range []bool{false, true} {
					if r := send(op.method, op.path, "y", h, chunked, op.headers...); r.StatusCode != 400 || r.errorCode() != "InvalidRequest" {
						t.Errorf("copy with a body, chunked %v, %s: %s %s", chunked, h, r.Status, r.body)
					}
				}
			}
			s.fails(404, "NoSuchKey", "GET", op.path, nil)
		}
		// What is right, or not signed, still works. The last of them does it.
		if op.status == 200 {
			for _, ok := range [][2]string{{"", hash("")}, {"", auth.UnsignedPayload}} {
				for _, chunked := range []bool{false, true} {
					if r := send(op.method, op.path, ok[0], ok[1], chunked, op.headers...); r.StatusCode != op.status {
						t.Errorf("%s %s chunked %v %s: %s %s", op.method, op.path, chunked, ok[1], r.Status, r.body)
					}
				}
			}
			continue
		}
		if r := send(op.method, op.path, "y", hash("y"), true); r.StatusCode != op.status {
			t.Errorf("%s %s: %s %s", op.method, op.path, r.Status, r.body)
		}
	}
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
