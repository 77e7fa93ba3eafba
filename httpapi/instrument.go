package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/casd/casd/httpapi/admin"
	"github.com/casd/casd/httpapi/reqlog"
	"github.com/casd/casd/httpapi/s3"
)

func newHostID() string {
	var b [24]byte
	_, _ = rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

func newRequestID() string {
	const hex = "0123456789ABCDEF"
	var b [16]byte
	for x, i := mathrand.Uint64(), 0; i < len(b); i++ {
		b[i] = hex[x&15]
		x >>= 4
	}
	return string(b[:])
}

// instrument is the one middleware: it gives the request its ID and its log entry, bounds how long its client may stall, counts it, logs
// it, turns a panic into an InternalError, and closes the connection cleanly when the body was not wanted.
func (s *Server) instrument(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		resp := c.Response()
		entry := &reqlog.Entry{RequestID: newRequestID(), HostID: s.hostID}
		r := reqlog.With(c.Request(), entry)
		b := newStallGuard(resp, r, entry, s.opts.Limits)
		c.SetRequest(r)

		h := resp.Header()
		h["Server"] = serverHeader
		h["x-amz-request-id"] = []string{entry.RequestID}
		h["x-amz-id-2"] = []string{s.hostID}

		s.handlers.Add(1)
		s.metrics.inFlight.Inc()
		finished := false
		defer func() {
			var cause any
			if !finished {
				cause = recover()
				if cause != http.ErrAbortHandler { //nolint:errorlint // the value itself is the protocol
					entry.Err = fmt.Errorf("httpapi: panic: %v", cause)
					s.opts.Logger.Error("panic in a handler", slog.String("request_id", entry.RequestID), slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
					if !resp.Committed {
						s.s3.Fail(resp, r, entry.Err)
						cause = nil
					} else {
						cause = http.ErrAbortHandler
					}
				}
			}
			s.metrics.inFlight.Dec()
			status := resp.Status
			if !resp.Committed {
				status = 0
			}
			d := time.Since(start)
			s.metrics.observe(entry.Operation, status, d, entry.BytesIn, resp.Size)
			s.logAccess(c, entry, status, d, cause != nil)
			if cause == nil {
				b.drain()
			}
			s.handlers.Add(-1)
			if cause != nil {
				panic(cause)
			}
		}()

		if !admin.Uncounted(r.URL.EscapedPath()) {
			if n := s.active.Add(1); n > int64(s.opts.Limits.Requests) {
				s.active.Add(-1)
				s.metrics.refused.Inc()
				entry.Operation = "Refused"
				s.s3.Fail(resp, r, s3.ErrTooManyRequests)
				finished = true
				return nil
			}
			defer s.active.Add(-1)
		}
		err := next(c)
		finished = true
		return err
	}
}

var serverHeader = []string{"casd"}

func (s *Server) logAccess(c echo.Context, e *reqlog.Entry, status int, d time.Duration, aborted bool) {
	r := c.Request()
	ctx := context.WithoutCancel(r.Context())
	if e.Err != nil {
		s.opts.Logger.LogAttrs(ctx, slog.LevelError, "request failed",
			slog.String("request_id", e.RequestID), slog.String("operation", e.Operation),
			slog.String("bucket", e.Bucket), slog.String("key", e.Key), slog.Any("error", e.Err))
	}
	if !s.opts.AccessLog.Enabled(ctx, slog.LevelInfo) {
		return
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	attrs := []slog.Attr{
		slog.String("request_id", e.RequestID),
		slog.String("method", r.Method),
		slog.String("operation", e.Operation),
		slog.String("bucket", e.Bucket),
		slog.String("key", e.Key),
		slog.String("client", host),
		slog.String("access_key", e.AccessKey),
		slog.Int("status", status),
		slog.String("error_code", e.ErrorCode),
		slog.Int64("bytes_in", e.BytesIn),
		slog.Int64("bytes_out", c.Response().Size),
		slog.Float64("seconds", d.Seconds()),
		slog.String("user_agent", r.UserAgent()),
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	s.opts.AccessLog.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}
