// Package httpapi serves a store over HTTP: the S3 API, the admin API, health checks and metrics.
//
// Its sub-packages translate between protocols and package cas; none holds storage logic. This package assembles them:
// it decides by host and path which one gets a request, and surrounds them with what all requests share (request IDs, the access log, metrics,
// limits, time-outs, graceful shutdown).
//
// Only HTTP/1.1 is spoken, as by S3 itself. Paths are routed as they came over the wire: nothing cleans, decodes or
// redirects them, since "//", "." and ".." are parts of object keys.
package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/casd/casd/httpapi/admin"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/reqlog"
	"github.com/casd/casd/httpapi/s3"
	"github.com/casd/casd/httpapi/s3err"
)

// A Server answers HTTP requests from a store.
type Server struct {
	opts    Options
	s3      *s3.API
	admin   *admin.API
	metrics *metrics
	hostID  string

	main, separate http.Handler
	active         atomic.Int64 // requests counted against Limits.Requests
	handlers       atomic.Int64 // all requests inside handlers
}

// New assembles a server. It fails on unusable options, and when its metrics are already registered with o.Metrics.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("httpapi: register metrics: %w", err)
	}
	keys := auth.RootKeys(o.Credentials)
	verifier := auth.NewVerifier(keys, o.Region, o.Clock)
	s := &Server{opts: o, metrics: m, hostID: newHostID()}
	s.s3 = s3.New(s3.Options{
		Store:       o.Store,
		Verifier:    verifier,
		Authorizer:  auth.RootOnly{},
		Root:        keys.Root(),
		Domain:      o.Domain,
		Region:      o.Region,
		XMLBytes:    o.Limits.XMLBytes,
		DeleteBytes: o.Limits.DeleteBytes,
		KeepAlive:   o.Limits.KeepAlive,
	})
	s.admin = admin.New(admin.Options{
		Store:    o.Store,
		Verifier: verifier,
		Metrics:  o.Metrics,
		Version:  o.Version,
		Interval: o.Limits.Progress,
	})
	s.main = s.echo(s.dispatch)
	s.separate = s.echo(s.dispatchAdmin)
	return s, nil
}

// Handler serves S3, and unless Options.AdminSeparate the admin API, health checks and metrics.
func (s *Server) Handler() http.Handler { return s.main }

// AdminHandler serves the admin API, health checks and metrics, and nothing else.
func (s *Server) AdminHandler() http.Handler { return s.separate }

// echo surrounds a handler with the middleware. Echo's router has no routes: paths are not to be interpreted.
func (s *Server) echo(h echo.HandlerFunc) http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(discard{})
	// Whatever Echo's router makes of a request ("OPTIONS *" matches nothing), h decides.
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return s.instrument(h) })
	return e
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// dispatch serves one request of the main listener.
func (s *Server) dispatch(c echo.Context) error {
	w, r := c.Response(), c.Request()
	if path := r.URL.EscapedPath(); !s.opts.AdminSeparate && !s.s3.VirtualHost(r.Host) && admin.Owns(path) {
		if err := reservedName(r, path); err != nil {
			reqlog.From(r.Context()).Operation = "Unknown"
			s.s3.Fail(w, r, err)
			return nil
		}
		s.admin.ServeHTTP(w, r)
		return nil
	}
	s.s3.ServeHTTP(w, r)
	return nil
}

// reservedName tells what an S3 client is told that takes the name of a health check or of the metrics for that of a bucket. Reads of those are
// not S3's.
func reservedName(r *http.Request, path string) error {
	switch {
	case !admin.Uncounted(path) || r.Method == http.MethodGet || r.Method == http.MethodHead:
		return nil
	case r.Method == http.MethodPut:
		return s3err.InvalidBucketName.With("BucketName", path[1:])
	}
	return s3err.MethodNotAllowed.With("Method", r.Method).With("ResourceType", "BUCKET").WithHeader("Allow", "GET, HEAD")
}

// dispatchAdmin serves one request of the admin listener.
func (s *Server) dispatchAdmin(c echo.Context) error {
	s.admin.ServeHTTP(c.Response(), c.Request())
	return nil
}

// Serve answers requests on listener, and those for the admin API on adminListener if Options.AdminSeparate, until ctx ends. It then stops
// accepting, cancels operations of the admin API, lets requests under way finish for at most Options.ShutdownTimeout, breaks off the rest, and returns when no
// handler is running any more (or 5 s later: a handler may hang in the store). A nil tlsConfig means plain HTTP; it applies to both listeners.
// Serve closes the listeners. Its error is nil after an orderly shutdown.
func (s *Server) Serve(ctx context.Context, listener, adminListener net.Listener, tlsConfig *tls.Config) error {
	if s.opts.AdminSeparate && adminListener == nil {
		listener.Close()
		return errors.New("httpapi: Options.AdminSeparate needs an admin listener")
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)

	servers := []*http.Server{s.httpServer(base, s.main)}
	listeners := []net.Listener{listener}
	if adminListener != nil {
		servers = append(servers, s.httpServer(base, s.separate))
		listeners = append(listeners, adminListener)
	}
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		ln := listeners[i]
		if tlsConfig != nil {
			ln = tls.NewListener(ln, tlsConfig)
		}
		go func() { failed <- srv.Serve(ln) }()
	}
	var err error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
		err = fmt.Errorf("httpapi: serve: %w", err)
	}

	s.admin.Stop()
	grace, stop := context.WithTimeout(context.Background(), s.opts.ShutdownTimeout)
	defer stop()
	shut := make(chan error, len(servers))
	for _, srv := range servers {
		go func() { shut <- srv.Shutdown(grace) }()
	}
	for range servers {
		if e := <-shut; e != nil {
			s.opts.Logger.Warn("requests broken off at shutdown", slog.Int64("requests", s.handlers.Load()), slog.Any("error", e))
		}
	}
	cancel(errors.New("httpapi: server is shutting down"))
	for _, srv := range servers {
		srv.Close()
	}
	for range running {
		<-failed
	}
	for end := time.Now().Add(5 * time.Second); s.handlers.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Server{
		Handler:                      continueEmpty(h),
		Protocols:                    p,
		ReadHeaderTimeout:            s.opts.Limits.HeaderTimeout,
		IdleTimeout:                  s.opts.Limits.IdleTimeout,
		MaxHeaderBytes:               s.opts.Limits.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ErrorLog:                     slog.NewLogLogger(connLog{s.opts.Logger.Handler()}, slog.LevelDebug),
	}
}

// continueEmpty sends "100 Continue" to who expects it for an empty body. net/http does not, as it may, but botocore (the AWS CLI, boto3)
// asks for it even then, and mistakes the next answer on a connection that once left the 100 out: it then waits for the rest of an
// answer until its time-out of a minute. Where the body is not empty, reading it sends the 100, and leaving it out
// closes the connection.
func continueEmpty(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 && r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			w.WriteHeader(http.StatusContinue)
		}
		h.ServeHTTP(w, r)
	})
}

// connLog passes on what net/http says of single connections (failed TLS handshakes and the like). Clients cause these
// messages, so they are only for debugging.
type connLog struct{ slog.Handler }

func (h connLog) Handle(ctx context.Context, r slog.Record) error {
	r.Message = strings.TrimSpace(r.Message)
	return h.Handler.Handle(ctx, r)
}
