package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
)

// serve starts a server by Serve, with its real time-outs, and returns a function that stops it and its error.
func serve(t *testing.T, change ...func(*httpapi.Options)) (s *server, stop func() error) {
	t.Helper()
	s = &server{t: t, store: &faultyStore{Store: openStore(t)}, access: &logBuffer{}, log: &logBuffer{}}
	o := httpapi.Options{
		Store: s.store, Credentials: testCredentials, Version: "test", Logger: slog.New(slog.NewJSONHandler(s.log, nil)), AccessLog: slog.New(slog.NewJSONHandler(s.access, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if s.api, err = httpapi.New(o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.connect("http://" + ln.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.api.Serve(ctx, ln, nil, nil) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return s, stop
}

// A refused request with "Expect: 100-continue" is answered at once, without a byte of its body, and does not poison the connection.
func TestExpectContinue(t *testing.T) {
	s, _ := serve(t)
	s.must(200, "PUT", "/bucket", nil)
	body := noise(100_000)
	for _, tc := range []struct{ path, code string }{{"/nobucket/key", "NoSuchBucket"}, {"/bucket/key?versioning", "NotImplemented"}, {"/bucket/up?partNumber=1&uploadId=none", "NoSuchUpload"}} {
		c := s.dial()
		req := s.request("PUT", tc.path, body)
		req.Header.Set("Expect", "100-continue")
		if _, err := c.Write(head(req)); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(c)
		r, err := readResponse(br, "PUT")
		if err != nil || r.errorCode() != tc.code {
			t.Fatalf("%s: %v, %v %s", tc.path, err, r.Response, r.body)
		}
		if !r.Close {
			t.Errorf("%s: the connection stays, but nobody knows whether the body will come", tc.path)
		}
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("%s: after the answer: %v", tc.path, err)
		}
	}
	// One that is welcome is told to go on.
	c := s.dial()
	br := bufio.NewReader(c)
	for range 2 {
		req := s.request("PUT", "/bucket/key", body)
		req.Header.Set("Expect", "100-continue")
		c.Write(head(req))
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v", line, err)
		}
		br.ReadString('\n')
		c.Write(body)
		if r, err := readResponse(br, "PUT"); err != nil || r.StatusCode != 200 {
			t.Fatalf("%v, %v", r.Response, err)
		}
	}
	if r := s.must(200, "GET", "/bucket/key", nil); !bytes.Equal(r.body, body) {
		t.Error("other bytes")
	}
}

// A client that sends a big body without asking sees why it was refused, even when it reads nothing before it has sent all.
func TestEarlyRefusal(t *testing.T) {
	s, _ := serve(t)
	body := noise(8 << 20)
	c := s.dial()
	if _, err := c.Write(append(head(s.request("PUT", "/nobucket/key", body)), body...)); err != nil {
		t.Fatalf("the body was not taken: %v", err)
	}
	br := bufio.NewReader(c)
	r, err := readResponse(br, "PUT")
	if err != nil || r.errorCode() != "NoSuchBucket" || !r.Close {
		t.Fatalf("%v, %v %s", err, r.Response, r.body)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the connection ends with %v", err)
	}
	// A small one costs no connection.
	c = s.dial()
	br = bufio.NewReader(c)
	small := noise(10_000)
	for i := range 3 {
		c.Write(append(head(s.request("PUT", "/nobucket/key", small)), small...))
		if r, err := readResponse(br, "PUT"); err != nil || r.errorCode() != "NoSuchBucket" || r.Close {
			t.Fatalf("request %d: %v, %v", i, err, r.Response)
		}
	}
	c.Write(head(s.request("GET", "/", nil)))
	if r, err := readResponse(br, "GET"); err != nil || r.StatusCode != 200 {
		t.Fatalf("%v, %v", err, r.Response)
	}
}

// A client that sends nothing more, or takes nothing, does not hold a request for ever.
func TestStalledClients(t *testing.T) {
	s, _ := serve(t, func(o *httpapi.Options) {
		o.Limits.StallTimeout = 300 * time.Millisecond
		o.Limits.HeaderTimeout = 300 * time.Millisecond
		o.Limits.DrainTimeout = 100 * time.Millisecond
	})
	s.must(200, "PUT", "/bucket", nil)
	body := noise(12 << 20)
	s.must(200, "PUT", "/bucket/big", body)

	c := s.dial() // half a body
	c.Write(append(head(s.request("PUT", "/bucket/key", body)), body[:1<<20]...))
	if r, err := readResponse(bufio.NewReader(c), "PUT"); err != nil || r.StatusCode != 400 || r.errorCode() != "RequestTimeout" {
		t.Errorf("half a body: %v, %v %s", err, r.Response, r.body)
	}
	s.fails(404, "NoSuchKey", "GET", "/bucket/key", nil)

	c = s.dial() // half a header
	c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))
	if b, err := io.ReadAll(c); err != nil {
		t.Errorf("half a header: %q, %v", b, err)
	}

	c = s.dial() // a response that is not taken
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	c.Write(head(s.request("GET", "/bucket/big", nil)))
	waitFor(t, func() bool { return strings.Contains(s.access.String(), `"error_code":"ClientGone"`) })
	c.Close() // what the kernel still holds would take long through so small a window

	// Slow is not stalled.
	c = s.dial()
	req := s.request("PUT", "/bucket/slow", body[:1000])
	c.Write(head(req))
	for i := 0; i < 1000; i += 100 {
		time.Sleep(60 * time.Millisecond)
		c.Write(body[i : i+100])
	}
	if r, err := readResponse(bufio.NewReader(c), "PUT"); err != nil || r.StatusCode != 200 {
		t.Errorf("slow: %v, %v %s", err, r.Response, r.body)
	}
	// And idle between requests is neither.
	br := bufio.NewReader(c)
	time.Sleep(500 * time.Millisecond)
	c.Write(head(s.request("HEAD", "/bucket/slow", nil)))
	if r, err := readResponse(br, "HEAD"); err != nil || r.StatusCode != 200 {
		t.Errorf("after a pause: %v, %v", err, r.Response)
	}
	time.Sleep(500 * time.Millisecond)
	req = s.request("PUT", "/bucket/empty", nil)
	req.Header.Set("Expect", "100-continue")
	req.Header.Set("Content-Length", "0")
	c.Write(head(req))
	if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("after another: %q, %v", line, err)
	}
	br.ReadString('\n')
	if r, err := readResponse(br, "PUT"); err != nil || r.StatusCode != 200 {
		t.Errorf("after another: %v, %v", err, r.Response)
	}
}

// A response that cannot be finished is broken off, never ended; one that cannot be begun is an error.
func TestDamagedObject(t *testing.T) {
	root := t.TempDir()
	var st *cas.Store
	s, _ := serve(t, func(o *httpapi.Options) {
		st = openStoreIn(t, root)
		o.Store = st
	})
	s.must(200, "PUT", "/bucket", nil)
	long, short := noise(8<<20), noise(1<<20)
	s.must(200, "PUT", "/bucket/long", long)
	s.must(200, "PUT", "/bucket/short", short)
	// All shards of the later stripes rot.
	damaged := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || st.Size() < 4<<20 || strings.Contains(path, "index") {
			return err
		}
		damaged++
		_, err = f.WriteAt(bytes.Repeat([]byte("rot"), 1<<20), 3<<20)
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files damaged, %v", damaged, err)
	}
	res, err := s.Client().Do(s.request("GET", "/bucket/long", nil))
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", err, res)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil || len(got) >= len(long) || !bytes.HasPrefix(long, got) {
		t.Errorf("%d bytes, right so far: %v, end: %v", len(got), bytes.HasPrefix(long, got), err)
	}
	r := s.fails(500, "InternalError", "GET", "/bucket/short", nil)
	if r.Header.Get("Etag") != "" || r.Header.Get("Content-Type") != "application/xml" {
		t.Errorf("the error has the headers of the object: %v", r.Header)
	}
	if !strings.Contains(s.log.String(), "corrupt") || !strings.Contains(s.access.String(), `"aborted":true`) {
		t.Errorf("not logged: %s", s.log)
	}
}

// Work that takes long shows signs of life, and may then still fail.
func TestKeepAliveWhileCompleting(t *testing.T) {
	s, _ := serve(t, func(o *httpapi.Options) { o.Limits.KeepAlive = 20 * time.Millisecond })
	s.must(200, "PUT", "/bucket", nil)
	complete := func(path, etag string) string {
		doc := []byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>` + etag + `</ETag></Part></CompleteMultipartUpload>`)
		req := s.request("POST", path, doc)
		req.Header.Set("Connection", "close")
		return s.rawSend(req, doc, false)
	}
	slowly := func(err error) {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		s.store.complete = func(ctx context.Context, r cas.CompleteRequest) (cas.ObjectInfo, error) {
			time.Sleep(150 * time.Millisecond)
			if err != nil {
				return cas.ObjectInfo{}, err
			}
			return s.store.Store.CompleteUpload(ctx, r)
		}
	}
	up := element(s.must(200, "POST", "/bucket/key?uploads", nil).body, "UploadId")
	etag := s.must(200, "PUT", "/bucket/key?partNumber=1&uploadId="+up, []byte("part")).Header.Get("Etag")

	slowly(cas.ErrNoSpace)
	raw := complete("/bucket/key?uploadId="+up, etag)
	if !strings.HasPrefix(raw, "HTTP/1.1 200") || !strings.Contains(raw, "<Code>InsufficientStorage</Code>") || strings.Count(raw, "<?xml") != 1 {
		t.Errorf("failed late: %s", raw)
	}
	if !strings.Contains(raw, "\r\n \r\n") {
		t.Errorf("no white space was sent: %s", raw)
	}
	slowly(cas.ErrUnknownOutcome)
	if raw = complete("/bucket/key?uploadId="+up, etag); strings.HasSuffix(raw, "0\r\n\r\n") || strings.Contains(raw, "<Code>") {
		t.Errorf("an unknown outcome got an end: %q", raw)
	}
	slowly(nil)
	raw = complete("/bucket/key?uploadId="+up, etag)
	if !strings.HasPrefix(raw, "HTTP/1.1 200") || !strings.Contains(raw, "<CompleteMultipartUploadResult") || !strings.HasSuffix(raw, "0\r\n\r\n") {
		t.Errorf("done late: %s", raw)
	}
	s.must(200, "GET", "/bucket/key", nil)
}

// Shutting down lets requests finish, up to a limit, and then breaks them off.
func TestShutdown(t *testing.T) {
	s, stop := serve(t)
	s.must(200, "PUT", "/bucket", nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	s.store.mu.Lock()
	s.store.put = func(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
		close(entered)
		<-leave
		return s.store.Store.Put(ctx, r)
	}
	s.store.mu.Unlock()
	answer := make(chan response, 1)
	go func() { answer <- s.do("PUT", "/bucket/key", []byte("x")) }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	waitFor(t, func() bool { // no new connections
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(leave)
	if r := <-answer; r.StatusCode != 200 {
		t.Errorf("the request under way: %s", r.Status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}

	s, stop = serve(t, func(o *httpapi.Options) { o.ShutdownTimeout = 50 * time.Millisecond })
	s.must(200, "PUT", "/bucket", nil)
	entered = make(chan struct{})
	returned := make(chan error, 1)
	s.store.mu.Lock()
	s.store.put = func(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
		close(entered)
		<-ctx.Done()
		returned <- context.Cause(ctx)
		return cas.ObjectInfo{}, ctx.Err()
	}
	s.store.mu.Unlock()
	go func() {
		if res, err := s.Client().Do(s.request("PUT", "/bucket/key", []byte("x"))); err == nil {
			res.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-returned:
	default:
		t.Error("Serve returned before its handler")
	}
}

func TestBigHeaders(t *testing.T) {
	s, _ := serve(t)
	req := s.request("GET", "/", nil)
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(head(req), []byte("\r\n")))
	for i := range 10_000 {
		fmt.Fprintf(&b, "X-Header-%d: value\r\n", i)
	}
	b.WriteString("\r\n")
	c := s.dial()
	go c.Write(b.Bytes())
	r, err := readResponse(bufio.NewReader(c), "GET")
	if err != nil || r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v, %v", err, r.Response)
	}
}

// Serve tells when it cannot serve.
func TestServeFailure(t *testing.T) {
	api, err := httpapi.New(httpapi.Options{Store: openStore(t), Credentials: testCredentials, AdminSeparate: true})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Serve(t.Context(), ln, nil, nil); err == nil {
		t.Error("an admin listener is missing")
	}
	ln, _ = net.Listen("tcp", "127.0.0.1:0")
	admin, _ := net.Listen("tcp", "127.0.0.1:0")
	ln.Close()
	if err := api.Serve(t.Context(), ln, admin, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
	if _, err := httpapi.New(httpapi.Options{Store: openStore(t)}); err == nil {
		t.Error("without credentials")
	}
	if _, err := httpapi.New(httpapi.Options{Credentials: testCredentials}); err == nil {
		t.Error("without a store")
	}
}

// What is not HTTP never gets to us. It is refused all the same.
func TestNotHTTP(t *testing.T) {
	s := startServer(t)
	for _, tc := range []struct{ request, status string }{
		{"GET /bucket/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"GET /bucket/key HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", "400"},
		{"GET /bucket/key HTTP/1.1\r\n\r\n", "400"},
	} {
		c := s.dial()
		if _, err := io.WriteString(c, tc.request); err != nil {
			t.Fatal(err)
		}
		r, err := readResponse(bufio.NewReader(c), "GET")
		if err != nil || !strings.HasPrefix(r.Status, tc.status) || r.Header.Get("X-Amz-Request-Id") != "" {
			t.Errorf("%q: %v, %v", tc.request, r.Response, err)
		}
	}
}
