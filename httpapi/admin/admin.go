// Package admin answers what operators ask of a running server: whether it is alive and ready, its metrics, and the
// admin API under /-/.
//
//	GET  /healthz       200 while the process answers at all
//	GET  /readyz        200 when reads are served, else 503: {"status": "...", "reasons": [...]}; status is ok, degraded, read-only or
//	                    not ready. With ?strict=1 it is 503 too when writes are refused
//	GET  /metrics       Prometheus
//	GET  /-/stats       cas.Stats as JSON; ?bucket=NAME for one bucket
//	GET  /-/version     {"version": "..."}
//	GET  /-/status      cas.Status
//	GET  /-/dirs        its data directories: [cas.DirStatus, ...]
//	GET  /-/receipts    [cas.Receipt, ...] of past scrubs, the newest first; ?max=N, 10 by default, at most 100
//	POST /-/scrub       ?level=shards|chunks|deep&repair=true&rate=BYTES; the result is a cas.Receipt
//	POST /-/gc          ?dry_run=false&threshold=0.25&recode=ec&rate=BYTES; a cas.GCReport
//	POST /-/check       ?rate=BYTES; a cas.CheckReport
//	POST /-/dirs/add     ?path=PATH; a cas.DirStatus
//	POST /-/dirs/replace ?dir=DIR&path=PATH; a cas.DirStatus
//	POST /-/dirs/drain   ?dir=DIR; a cas.DirStatus
//	POST /-/dirs/remove  ?dir=DIR&lost=false; {}
//	POST /-/rebalance   {"moved": N}
//
// PATH is absolute and on the server's machine; DIR is the ID of a data directory, or its path. BYTES are a second, 0 means no limit.
//
// Every POST has an empty body and is answered by a stream of JSON lines (application/x-ndjson), since it may take hours: {"progress": cas.Progress}
// once a second, and at last {"result": ...} or {"error": {"code": "...", "message": "..."}}. An error that comes before the first line has its
// own status instead. The operation is cancelled when the client goes away and when the server shuts down; all of them can be called
// again and go on.
//
// The first three are open to everybody who reaches the listener. Everything under /-/ wants the root credentials, by Signature Version 4 with
// the service "s3". Errors there are JSON: {"code": "...", "message": "..."}.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/reqlog"
	"github.com/casd/casd/httpapi/s3err"
)

// A Store is what the admin API asks of the store; *cas.Store is one. See there for the contracts.
type Store interface {
	Ready() error
	WriteState() error
	Stats(ctx context.Context, bucket string) (cas.Stats, error)
	Status(ctx context.Context) (cas.Status, error)
	Receipts(ctx context.Context, max int) ([]cas.Receipt, error)
	Scrub(ctx context.Context, r cas.ScrubRequest) (cas.Receipt, error)
	GC(ctx context.Context, r cas.GCRequest) (cas.GCReport, error)
	Check(ctx context.Context, r cas.CheckRequest) (cas.CheckReport, error)
	AddDir(ctx context.Context, path string) (cas.DirStatus, error)
	ReplaceDir(ctx context.Context, dir, path string, progress cas.ProgressFunc) (cas.DirStatus, error)
	DrainDir(ctx context.Context, dir string, progress cas.ProgressFunc) (cas.DirStatus, error)
	RemoveDir(ctx context.Context, dir string, lost bool) error
	Rebalance(ctx context.Context, progress cas.ProgressFunc) (moved int64, err error)
}

var _ Store = (*cas.Store)(nil)

// Options of New. Store, Verifier and Metrics are required.
type Options struct {
	Store    Store
	Verifier *auth.Verifier
	Metrics  prometheus.Gatherer
	Version  string
	Interval time.Duration // between the lines of a stream; 0 means 1 s
}

// An API serves the admin requests.
type API struct {
	o       Options
	metrics http.Handler
	pages   map[string]page
	health  health

	stopping context.Context // ends with Stop
	stop     context.CancelFunc
}

// A page is what one path answers.
type page struct {
	operation string // in the access log and in metrics
	post      bool   // POST, else GET and HEAD
	serve     http.HandlerFunc
}

// New returns the admin API.
func New(o Options) *API {
	o.Interval = cmp.Or(o.Interval, time.Second)
	a := &API{o: o, metrics: promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4})}
	a.stopping, a.stop = context.WithCancel(context.Background())
	a.pages = map[string]page{
		"/healthz":    {operation: "Healthz", serve: a.healthz},
		"/readyz":     {operation: "Readyz", serve: a.readyz},
		"/metrics":    {operation: "Metrics", serve: a.metrics.ServeHTTP},
		"/-/stats":    {operation: "AdminStats", serve: a.root(a.stats)},
		"/-/version":  {operation: "AdminVersion", serve: a.root(a.version)},
		"/-/status":   {operation: "AdminStatus", serve: a.root(a.query(status))},
		"/-/dirs":     {operation: "AdminDirs", serve: a.root(a.query(dirs))},
		"/-/receipts": {operation: "AdminReceipts", serve: a.root(a.query(receipts))},
	}
	for path, op := range operations {
		a.pages[path] = page{operation: op.name, post: true, serve: a.root(a.operate(op))}
	}
	return a
}

// Stop cancels the operations that are under way, which end their streams, and refuses further ones.
func (a *API) Stop() { a.stop() }

// Owns tells whether an escaped path belongs to the admin API rather than to S3. No bucket can have these names.
func Owns(path string) bool {
	return Uncounted(path) || path == "/-" || strings.HasPrefix(path, "/-/")
}

// Uncounted tells whether a path is served even when too many requests are under way.
func Uncounted(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics"
}

// ServeHTTP answers one request; paths that it does not own are 404.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := reqlog.From(r.Context())
	p, ok := a.pages[r.URL.EscapedPath()]
	if !ok {
		e.Operation = "AdminUnknown"
		fail(w, e, http.StatusNotFound, "NotFound", "there is no such page")
		return
	}
	e.Operation = p.operation
	switch {
	case p.post && r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		fail(w, e, http.StatusMethodNotAllowed, "MethodNotAllowed", "only POST is allowed here")
	case !p.post && r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, e, http.StatusMethodNotAllowed, "MethodNotAllowed", "only GET and HEAD are allowed here")
	default:
		p.serve(w, r)
	}
}

// root lets only the root user pass.
func (a *API) root(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := reqlog.From(r.Context())
		res, err := a.o.Verifier.Verify(r)
		if err != nil {
			var ae *s3err.Error
			if !errors.As(err, &ae) {
				ae, e.Err = s3err.InternalError, err
			}
			fail(w, e, ae.Status, ae.Code, ae.Message)
			return
		}
		e.AccessKey = res.Identity.AccessKey
		if !res.Identity.Root {
			fail(w, e, http.StatusForbidden, "AccessDenied", "this needs the root credentials")
			return
		}
		next(w, r)
	}
}

func (a *API) stats(w http.ResponseWriter, r *http.Request) {
	e := reqlog.From(r.Context())
	bucket := r.URL.Query().Get("bucket")
	e.Bucket = bucket
	st, err := a.o.Store.Stats(r.Context(), bucket)
	switch {
	case errors.Is(err, cas.ErrNoSuchBucket):
		fail(w, e, http.StatusNotFound, "NoSuchBucket", "there is no bucket "+bucket)
	case err != nil:
		failWith(w, e, err)
	default:
		writeJSON(w, http.StatusOK, st)
	}
}

func (a *API) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": a.o.Version})
}

func fail(w http.ResponseWriter, e *reqlog.Entry, status int, code, message string) {
	e.ErrorCode = code
	writeJSON(w, status, map[string]string{"code": code, "message": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing to be done
}
