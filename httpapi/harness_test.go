package httpapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/s3"
)

var testCredentials = auth.Credentials{AccessKey: "TESTACCESSKEY", SecretKey: "test-secret-key/with+signs"}

const region = "us-east-1"

// A logBuffer keeps the access log of a server as text.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A faultyStore is the real store, of which tests may replace some answers.
type faultyStore struct {
	deleteMany func(deletes []cas.DeleteRequest) ([]cas.KeyResult, error) // guarded by mu
	*cas.Store
	mu       sync.Mutex
	put      func(context.Context, cas.PutRequest) (cas.ObjectInfo, error)
	complete func(context.Context, cas.CompleteRequest) (cas.ObjectInfo, error)
	stat     func() error // instead of Bucket
}

func (f *faultyStore) Put(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
	f.mu.Lock()
	put := f.put
	f.mu.Unlock()
	if put != nil {
		return put(ctx, r)
	}
	return f.Store.Put(ctx, r)
}

func (f *faultyStore) DeleteMany(ctx context.Context, bucket string, deletes []cas.DeleteRequest) ([]cas.KeyResult, error) {
	f.mu.Lock()
	deleteMany := f.deleteMany
	f.mu.Unlock()
	if deleteMany != nil {
		return deleteMany(deletes)
	}
	return f.Store.DeleteMany(ctx, bucket, deletes)
}

func (f *faultyStore) CompleteUpload(ctx context.Context, r cas.CompleteRequest) (cas.ObjectInfo, error) {
	f.mu.Lock()
	complete := f.complete
	f.mu.Unlock()
	if complete != nil {
		return complete(ctx, r)
	}
	return f.Store.CompleteUpload(ctx, r)
}

func (f *faultyStore) Bucket(ctx context.Context, name string) (cas.Bucket, error) {
	f.mu.Lock()
	stat := f.stat
	f.mu.Unlock()
	if stat != nil {
		if err := stat(); err != nil {
			return cas.Bucket{}, err
		}
	}
	return f.Store.Bucket(ctx, name)
}

var _ s3.Store = (*faultyStore)(nil)

// A server is a store behind HTTP, for one test.
type server struct {
	URL    string
	client *http.Client
	t      testing.TB
	store  *faultyStore
	api    *httpapi.Server
	access *logBuffer
	log    *logBuffer
}

func openStore(t testing.TB) *cas.Store { return openStoreIn(t, t.TempDir()) }

// openStoreIn opens a new store over three directories under root.
func openStoreIn(t testing.TB, root string) *cas.Store {
	t.Helper()
	dirs := make([]string, 3)
	for i := range dirs {
		dirs[i] = filepath.Join(root, fmt.Sprintf("d%d", i+1))
		if err := os.Mkdir(dirs[i], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	st, err := cas.Open(context.Background(), cas.Options{Dirs: dirs, SegmentBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(context.Background()); err != nil && !errors.Is(err, cas.ErrClosed) {
			t.Errorf("close store: %v", err)
		}
	})
	return st
}

// startServer starts a server; change may alter its options.
func startServer(t testing.TB, change ...func(*httpapi.Options)) *server {
	t.Helper()
	s := &server{t: t, store: &faultyStore{Store: openStore(t)}, access: &logBuffer{}, log: &logBuffer{}}
	o := httpapi.Options{
		Store: s.store, Credentials: testCredentials, Version: "test",
		Logger:    slog.New(slog.NewJSONHandler(s.log, nil)),
		AccessLog: slog.New(slog.NewJSONHandler(s.access, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if s.api, err = httpapi.New(o); err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s.api.Handler())
	t.Cleanup(ts.Close)
	s.connect(ts.URL)
	return s
}

// connect makes the client for the server's address.
func (s *server) connect(url string) {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	s.URL, s.client = url, &http.Client{Transport: tr}
	s.t.Cleanup(tr.CloseIdleConnections)
}

// Client is an HTTP client that knows nothing of S3.
func (s *server) Client() *http.Client { return s.client }

// request makes a signed request of a path as it goes over the wire (with its query).
func (s *server) request(method, path string, body []byte, headers ...string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	sum := sha256.Sum256(body)
	auth.Sign(req, testCredentials, region, hex.EncodeToString(sum[:]), time.Now())
	return req
}

// A response is one with its body read.
type response struct {
	*http.Response
	body []byte
}

// errorCode is the Code of an error document, or empty.
func (r response) errorCode() string {
	var e struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}
	if xml.Unmarshal(r.body, &e) != nil {
		return ""
	}
	return e.Code
}

func (s *server) send(req *http.Request) response {
	s.t.Helper()
	res, err := s.Client().Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return response{res, b}
}

// do sends a signed request.
func (s *server) do(method, path string, body []byte, headers ...string) response {
	s.t.Helper()
	return s.send(s.request(method, path, body, headers...))
}

// must is do that demands a status.
func (s *server) must(status int, method, path string, body []byte, headers ...string) response {
	s.t.Helper()
	r := s.do(method, path, body, headers...)
	if r.StatusCode != status {
		s.t.Fatalf("%s %s = %s, want %d: %s", method, path, r.Status, status, r.body)
	}
	return r
}

// fails demands an error by status and code.
func (s *server) fails(status int, code, method, path string, body []byte, headers ...string) response {
	s.t.Helper()
	r := s.do(method, path, body, headers...)
	if r.StatusCode != status || method != http.MethodHead && r.errorCode() != code {
		s.t.Errorf("%s %s %q = %s %s, want %d %s\n%s", method, path, headers, r.Status, r.errorCode(), status, code, r.body)
	}
	return r
}

// sdk is a client of the server.
func (s *server) sdk(change ...func(*awss3.Options)) *awss3.Client {
	o := awss3.Options{
		Region: region, BaseEndpoint: aws.String(s.URL), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(testCredentials.AccessKey, testCredentials.SecretKey, ""),
		HTTPClient:  s.Client(),

		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	for _, c := range change {
		c(&o)
	}
	return awss3.New(o)
}

// element returns the text of the first element of that name in a document.
func element(doc []byte, name string) string {
	_, rest, ok := strings.Cut(string(doc), "<"+name+">")
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return text
}
