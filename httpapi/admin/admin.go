// Package admin answers what operators ask of a running server: whether it is alive and ready, its metrics, and the
// admin API under /-/.
//
//	GET /healthz   200 while the process answers at all
//	GET /readyz    200 when reads are served, else 503 and the reason; a store that cannot be written says so in the body
//	GET /metrics   Prometheus
//	GET /-/stats   cas.Stats as JSON; ?bucket=NAME for one bucket
//	GET /-/version {"version": "..."}
//
// The first three are open to everybody who reaches the listener. Everything under /-/ wants the root credentials, by Signature Version 4 with
// the service "s3". Errors there are JSON: {"code": "...", "message": "..."}.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/reqlog"
	"github.com/casd/casd/httpapi/s3err"
)

// A Store is what the admin API asks of the store.
type Store interface {
	Ready() error
	WriteState() error
	Stats(ctx context.Context, bucket string) (cas.Stats, error)
}

// Options of New. All fields but Version are required.
type Options struct {
	Store    Store
	Verifier *auth.Verifier
	Metrics  prometheus.Gatherer
	Version  string
}

// An API serves the admin requests.
type API struct {
	o       Options
	metrics http.Handler
}

// New returns the admin API.
func New(o Options) *API {
	return &API{o: o, metrics: promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4})}
}

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
	h, name := a.route(r.URL.EscapedPath())
	e.Operation = name
	if h == nil {
		fail(w, e, http.StatusNotFound, "NotFound", "there is no such page")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, e, http.StatusMethodNotAllowed, "MethodNotAllowed", "only GET and HEAD are allowed here")
		return
	}
	h(w, r)
}

func (a *API) route(path string) (http.HandlerFunc, string) {
	switch path {
	case "/healthz":
		return a.healthz, "Healthz"
	case "/readyz":
		return a.readyz, "Readyz"
	case "/metrics":
		return a.metrics.ServeHTTP, "Metrics"
	case "/-/stats":
		return a.root(a.stats), "AdminStats"
	case "/-/version":
		return a.root(a.version), "AdminVersion"
	}
	return nil, "AdminUnknown"
}

func (a *API) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *API) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := a.o.Store.Ready(); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
		return
	}
	if err := a.o.Store.WriteState(); err != nil {
		writeJSON(w, http.StatusOK, map[string]string{"status": "read-only", "reason": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
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
		e.Err = err
		fail(w, e, http.StatusInternalServerError, "InternalError", "the statistics could not be read; see the server's log, request "+e.RequestID)
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
