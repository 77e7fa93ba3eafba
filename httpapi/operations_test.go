package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
)

// An operatedStore answers what operators ask from a script; the rest is the real store.
type operatedStore struct {
	*cas.Store
	mu     sync.Mutex
	calls  []string
	err    error // of every operation, if set
	ready  error
	write  error
	status cas.Status
	// during runs in the middle of every operation.
	during func(ctx context.Context, progress cas.ProgressFunc) error
}

func (s *operatedStore) call(ctx context.Context, progress cas.ProgressFunc, format string, args ...any) error {
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
	err, during := s.err, s.during
	s.mu.Unlock()
	if during != nil {
		if err := during(ctx, progress); err != nil {
			return err
		}
	}
	return err
}

func (s *operatedStore) Ready() error      { return s.ready }
func (s *operatedStore) WriteState() error { return s.write }
func (s *operatedStore) Status(ctx context.Context) (cas.Status, error) {
	return s.status, s.call(ctx, nil, "status")
}
func (s *operatedStore) Receipts(ctx context.Context, max int) ([]cas.Receipt, error) {
	return []cas.Receipt{{ID: "r1"}}, s.call(ctx, nil, "receipts %d", max)
}
func (s *operatedStore) Scrub(ctx context.Context, r cas.ScrubRequest) (cas.Receipt, error) {
	return cas.Receipt{ID: "r2"}, s.call(ctx, r.Progress, "scrub %q %t %d", r.Level, r.NoRepair, r.Rate)
}
func (s *operatedStore) GC(ctx context.Context, r cas.GCRequest) (cas.GCReport, error) {
	return cas.GCReport{Dropped: 7}, s.call(ctx, r.Progress, "gc %t %g %t %d", r.DryRun, r.Threshold, r.Recode, r.Rate)
}
func (s *operatedStore) Check(ctx context.Context, r cas.CheckRequest) (cas.CheckReport, error) {
	return cas.CheckReport{Rows: 8}, s.call(ctx, r.Progress, "check %d", r.Rate)
}
func (s *operatedStore) AddDir(ctx context.Context, path string) (cas.DirStatus, error) {
	return cas.DirStatus{Path: path}, s.call(ctx, nil, "add %s", path)
}
func (s *operatedStore) ReplaceDir(ctx context.Context, dir, path string, p cas.ProgressFunc) (cas.DirStatus, error) {
	return cas.DirStatus{Path: path}, s.call(ctx, p, "replace %s %s", dir, path)
}
func (s *operatedStore) DrainDir(ctx context.Context, dir string, p cas.ProgressFunc) (cas.DirStatus, error) {
	return cas.DirStatus{Path: dir}, s.call(ctx, p, "drain %s", dir)
}
func (s *operatedStore) RemoveDir(ctx context.Context, dir string, lost bool) error {
	return s.call(ctx, nil, "remove %s %t", dir, lost)
}
func (s *operatedStore) Rebalance(ctx context.Context, p cas.ProgressFunc) (int64, error) {
	return 9, s.call(ctx, p, "rebalance")
}

// operated starts a server over a scripted store.
func operated(t *testing.T, change ...func(*httpapi.Options)) (*server, *operatedStore) {
	t.Helper()
	st := &operatedStore{}
	s := startServer(t, append(change, func(o *httpapi.Options) {
		st.Store = o.Store.(*faultyStore).Store
		o.Store = st
	})...)
	return s, st
}

func TestOperations(t *testing.T) {
	s, st := operated(t)
	st.status = cas.Status{StoreID: "abc", Dirs: []cas.DirStatus{{ID: "d1"}}}
	for _, c := range []struct{ method, path, call, answer string }{
		{"GET", "/-/status", "status", `"store_id":"abc"`},
		{"GET", "/-/dirs", "status", `[{"id":"d1"`},
		{"GET", "/-/receipts", "receipts 10", `[{"id":"r1"`},
		{"GET", "/-/receipts?max=100", "receipts 100", `[{"id":"r1"`},
		{"POST", "/-/scrub", `scrub "" false 0`, `{"result":{"id":"r2"`},
		{"POST", "/-/scrub?level=deep&repair=false&rate=1000", `scrub "deep" true 1000`, `{"result":{`},
		{"POST", "/-/gc", "gc false 0 false 0", `"segments_dropped":7`},
		{"POST", "/-/gc?dry_run=true&threshold=0.5&recode=ec&rate=5", "gc true 0.5 true 5", `{"result":{`},
		{"POST", "/-/check?rate=6", "check 6", `"rows":8`},
		{"POST", "/-/rebalance", "rebalance", `{"result":{"moved":9}}`},
		{"POST", "/-/dirs/add?path=/mnt/a%20b%2Bc", "add /mnt/a b+c", `"path":"/mnt/a b+c"`},
		{"POST", "/-/dirs/replace?dir=old&path=/new", "replace old /new", `"path":"/new"`},
		{"POST", "/-/dirs/drain?dir=/mnt/d1", "drain /mnt/d1", `"path":"/mnt/d1"`},
		{"POST", "/-/dirs/remove?dir=d", "remove d false", `{"result":{}}`},
		{"POST", "/-/dirs/remove?dir=d&lost=true", "remove d true", `{"result":{}}`},
	} {
		st.calls = nil
		r := s.must(200, c.method, c.path, nil)
		if len(st.calls) != 1 || st.calls[0] != c.call || !strings.Contains(string(r.body), c.answer) {
			t.Errorf("%s %s: %q, want %q; %s, want %s", c.method, c.path, st.calls, c.call, r.body, c.answer)
		}
		want := map[string]string{"GET": "application/json", "POST": "application/x-ndjson"}[c.method]
		if got := r.Header.Get("Content-Type"); got != want {
			t.Errorf("%s %s is %s", c.method, c.path, got)
		}
		req, _ := http.NewRequest(c.method, s.URL+c.path, nil)
		if r := s.send(req); r.StatusCode != 403 {
			t.Errorf("%s %s without a signature: %s", c.method, c.path, r.Status)
		}
		other := map[string]string{"GET": "POST", "POST": "GET"}[c.method]
		if r := s.must(405, other, c.path, nil); !strings.Contains(r.Header.Get("Allow"), c.method) {
			t.Errorf("%s %s allows %q", other, c.path, r.Header.Get("Allow"))
		}
		if len(st.calls) != 1 {
			t.Errorf("%s: refused requests reached the store: %q", c.path, st.calls)
		}
	}
}

// A parameter that is wrong or misspelt is refused before anything is done.
func TestOperationParameters(t *testing.T) {
	s, st := operated(t)
	for path, says := range map[string]string{
		"/-/scrub?level=all":              "level=all",
		"/-/scrub?repair=maybe":           "repair=maybe",
		"/-/scrub?rate=-1":                "rate=-1",
		"/-/scrub?rate=1MiB":              "rate=1MiB",
		"/-/scrub?level=deep&level=deep":  "more than once",
		"/-/gc?dryrun=true":               "dryrun",
		"/-/gc?threshold=0":               "threshold=0",
		"/-/gc?threshold=1.5":             "threshold=1.5",
		"/-/gc?threshold=NaN":             "threshold=NaN",
		"/-/gc?recode=all":                "recode=all",
		"/-/check?rate=x":                 "rate=x",
		"/-/rebalance?rate=1":             "rate",
		"/-/dirs/add":                     "absolute",
		"/-/dirs/add?path=d7":             "absolute",
		"/-/dirs/replace?dir=d1":          "absolute",
		"/-/dirs/replace?path=/mnt/d1":    "dir is missing",
		"/-/dirs/drain":                   "dir is missing",
		"/-/dirs/remove?dir=d1&lost=what": "lost=what",
	} {
		if r := s.must(400, "POST", path, nil); !strings.Contains(string(r.body), says) || !strings.Contains(string(r.body), `"InvalidArgument"`) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
	for _, path := range []string{"/-/receipts?max=0", "/-/receipts?max=101", "/-/status?verbose=1", "/-/dirs?x"} {
		s.must(400, "GET", path, nil)
	}
	s.must(400, "POST", "/-/scrub", []byte("level=deep"))
	if len(st.calls) != 0 {
		t.Errorf("the store was called: %q", st.calls)
	}
}

func TestOperationErrors(t *testing.T) {
	s, st := operated(t, func(o *httpapi.Options) { o.Limits.Progress = time.Millisecond })
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{cas.ErrConflict, 409, "Conflict"}, {cas.ErrNoSuchDir, 404, "NoSuchDir"}, {cas.ErrReadOnly, 503, "ReadOnly"}, {cas.ErrBusy, 503, "Busy"},
		{cas.ErrNotImplemented, 501, "NotImplemented"}, {cas.ErrNoSpace, 507, "NoSpace"}, {cas.ErrIncomplete, 503, "Incomplete"}, {cas.ErrClosed, 503, "ShuttingDown"},
		{cas.ErrCorrupt, 500, "Corrupt"}, {errors.New("a surprise"), 500, "InternalError"},
	} {
		err := fmt.Errorf("drain /mnt/d1: %w", c.err)
		st.err, st.during = err, func(ctx context.Context, p cas.ProgressFunc) error { return err }
		if r := s.must(c.status, "GET", "/-/status", nil); !strings.Contains(string(r.body), `"`+c.code+`"`) {
			t.Errorf("%v: %s", err, r.body)
		}
		// After the first line it comes in the stream.
		st.err = nil
		sent := make(chan struct{})
		st.during = func(context.Context, cas.ProgressFunc) error { <-sent; return err }
		res, rerr := s.Client().Do(s.request("POST", "/-/dirs/drain?dir=d", nil))
		if rerr != nil {
			t.Fatal(rerr)
		}
		scanner := bufio.NewScanner(res.Body)
		if !scanner.Scan() || !strings.HasPrefix(scanner.Text(), `{"progress":{"operation":"drain"`) {
			t.Errorf("%v: %s", err, scanner.Text())
		}
		close(sent)
		var last string
		for scanner.Scan() {
			last = scanner.Text()
		}
		want := fmt.Sprintf(`{"error":{"code":"%s","message":"drain /mnt/d1: %s"}}`, c.code, c.err)
		if res.StatusCode != 200 || last != want {
			t.Errorf("%s: %s, want %s", res.Status, last, want)
		}
		res.Body.Close()
	}
	// Refused at once, an operation has the status of its error.
	s, st = operated(t)
	st.err = fmt.Errorf("drain: %w", cas.ErrConflict)
	if r := s.must(409, "POST", "/-/dirs/drain?dir=d", nil); string(r.body) != `{"code":"Conflict","message":"drain: `+cas.ErrConflict.Error()+`"}`+"\n" {
		t.Errorf("%s", r.body)
	}
	st.during = func(context.Context, cas.ProgressFunc) error { panic("on purpose") }
	s.fails(500, "InternalError", "POST", "/-/scrub", nil)
	if !strings.Contains(s.log.String(), "on purpose") {
		t.Error("the panic is not in the log")
	}
}

// A stream goes on for longer than a stalled client is borne with, and each line arrives when it is written.
func TestOperationStream(t *testing.T) {
	const stall = 300 * time.Millisecond
	s, st := operated(t, func(o *httpapi.Options) {
		o.Limits.StallTimeout, o.Limits.HeaderTimeout, o.Limits.IdleTimeout, o.Limits.Progress = stall, stall, stall, 10*time.Millisecond
	})
	end := make(chan struct{})
	st.during = func(ctx context.Context, progress cas.ProgressFunc) error {
		for n := int64(1); ; n++ {
			progress(cas.Progress{Operation: "scrub", Phase: "reading", Done: n, Total: 1 << 40, Unit: "bytes"})
			select {
			case <-end:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	res, err := s.Client().Do(s.request("POST", "/-/scrub", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	type line struct {
		Progress *cas.Progress
		Result   *cas.Receipt
		Error    json.RawMessage
	}
	var last int64
	var result *cas.Receipt
	began := time.Now()
	ended := false
	for d := json.NewDecoder(res.Body); result == nil; {
		var l line
		if err := d.Decode(&l); err != nil || l.Error != nil {
			t.Fatalf("after %s: %v %s", time.Since(began), err, l.Error)
		}
		if l.Progress != nil {
			if l.Progress.Done < last {
				t.Errorf("progress went back from %d to %d", last, l.Progress.Done)
			}
			last = l.Progress.Done
		}
		if time.Since(began) > 3*stall && !ended {
			close(end)
			ended = true
		}
		result = l.Result
	}
	if !ended || result.ID != "r2" || last == 0 {
		t.Errorf("ended %t, %+v, last progress %d", ended, result, last)
	}
}

// When the client goes away the operation is cancelled.
func TestOperationClientGone(t *testing.T) {
	s, st := operated(t, func(o *httpapi.Options) { o.Limits.Progress = time.Millisecond })
	stopped := make(chan error, 1)
	st.during = func(ctx context.Context, _ cas.ProgressFunc) error {
		<-ctx.Done()
		stopped <- ctx.Err()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	res, err := s.Client().Do(s.request("POST", "/-/gc", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waitFor(t, func() bool { return strings.Contains(s.access.String(), `"error_code":"Cancelled"`) })
	if strings.Contains(s.log.String(), "request failed") {
		t.Errorf("an operation that was called off is no failure: %s", s.log)
	}
}

// A shutdown does not wait for operations.
func TestOperationShutdown(t *testing.T) {
	st := &operatedStore{Store: openStore(t)}
	began := make(chan struct{})
	st.during = func(ctx context.Context, _ cas.ProgressFunc) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}
	api, err := httpapi.New(httpapi.Options{Store: st, Credentials: testCredentials, ShutdownTimeout: time.Hour, Limits: httpapi.Limits{Progress: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, nil, nil) }()
	s := &server{t: t}
	s.connect("http://" + l.Addr().String())
	res, err := s.Client().Do(s.request("POST", "/-/check", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-began
	cancel()
	var all bytes.Buffer
	if _, err := all.ReadFrom(res.Body); err != nil || !strings.Contains(lastLine(all.String()), `{"error":{"code":"ShuttingDown"`) {
		t.Errorf("%v: %s", err, lastLine(all.String()))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func TestReadiness(t *testing.T) {
	store := openStore(t)
	for _, c := range []struct {
		name           string
		st             *operatedStore
		status, strict int
		says           string
	}{
		{"whole", &operatedStore{status: cas.Status{State: "ok"}}, 200, 200, `{"status":"ok","reasons":[]}`},
		{"a directory away", &operatedStore{status: cas.Status{State: "degraded", Reasons: []string{"d3 is absent"}}}, 200, 200, `{"status":"degraded","reasons":["d3 is absent"]}`},
		{"too many away", &operatedStore{write: cas.ErrReadOnly, status: cas.Status{State: "read-only", Reasons: []string{"3 absent"}}}, 200, 503, `{"status":"read-only","reasons":["3 absent"]}`},
		{"writing failed", &operatedStore{write: cas.ErrReadOnly, status: cas.Status{State: "failed"}}, 200, 503, `{"status":"read-only","reasons":["cas: store is read-only"]}`},
		{"closed", &operatedStore{ready: cas.ErrClosed, write: cas.ErrClosed}, 503, 503, `{"status":"not ready","reasons":["cas: store is closed"]}`},
		{"no status", &operatedStore{err: errors.New("broken")}, 200, 200, `{"status":"degraded","reasons":["status: broken"]}`},
	} {
		c.st.Store = store
		api, err := httpapi.New(httpapi.Options{Store: c.st, Credentials: testCredentials})
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]int{"/readyz": c.status, "/readyz?strict=1": c.strict} {
			w := httptest.NewRecorder()
			api.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != want || strings.TrimSpace(w.Body.String()) != c.says {
				t.Errorf("%s: %s is %d %s, want %d %s", c.name, path, w.Code, w.Body, want, c.says)
			}
		}
		if n := len(c.st.calls); n > 1 {
			t.Errorf("%s: the status was asked for %d times", c.name, n)
		}
	}
}

// A status that hangs does not take the readiness check with it.
func TestReadinessWhileStatusHangs(t *testing.T) {
	s, st := operated(t)
	release := make(chan struct{})
	defer close(release)
	st.during = func(context.Context, cas.ProgressFunc) error { <-release; return nil }
	for range 2 {
		r := s.must(200, "GET", "/readyz", nil)
		if !strings.Contains(string(r.body), `"degraded"`) || !strings.Contains(string(r.body), "may hang") {
			t.Errorf("%s", r.body)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.calls) != 1 {
		t.Errorf("%d calls hang", len(st.calls))
	}
}
