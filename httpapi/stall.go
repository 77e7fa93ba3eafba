package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/casd/casd/httpapi/reqlog"
)

const (
	// writePiece is how much of a response must be taken within Limits.StallTimeout.
	writePiece = 64 << 10
	// keepBody is the rest of an unwanted body that net/http itself reads away before the answer, keeping the connection.
	keepBody = 256 << 10
)

// A stallGuard stands between a handler and its connection. It moves the connection's deadlines along while bytes flow, so that a client may be slow
// but not stand still, counts what is received, and sees to it that a body that nobody read does not spoil the connection.
type stallGuard struct {
	http.ResponseWriter // of net/http
	body                io.ReadCloser
	rc                  *http.ResponseController
	entry               *reqlog.Entry
	limits              Limits

	length     int64 // declared length of the body, -1 unknown
	expects    bool  // the client waits for "100 Continue"
	ended      bool  // the body was read to its end or failed
	closing    bool  // the answer said "Connection: close" because of the body
	headerSent bool
	lastRead   time.Time // when the read deadline was last moved
	lastWrite  time.Time
}

// newStallGuard puts itself in place of the writer of resp and of the body of r.
func newStallGuard(resp *echo.Response, r *http.Request, entry *reqlog.Entry, limits Limits) *stallGuard {
	g := &stallGuard{
		ResponseWriter: resp.Writer,
		body:           r.Body,
		rc:             http.NewResponseController(resp.Writer),
		entry:          entry,
		limits:         limits,
		length:         r.ContentLength,
		expects:        r.Header.Get("Expect") != "",
	}
	resp.Writer = g
	// net/http takes the deadline away after each request; this one is for "100 Continue", which is written without our help.
	g.touchWrite(time.Now())
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		g.ended = true
	} else {
		r.Body = guardedBody{g}
	}
	return g
}

// unasked tells whether the client was never told to send its body.
func (g *stallGuard) unasked() bool { return g.expects && !g.entry.BodyRead }

// Unwrap is for http.ResponseController.
func (g *stallGuard) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// A guardedBody is the request body that handlers see.
type guardedBody struct{ g *stallGuard }

func (b guardedBody) Close() error { return b.g.body.Close() }

// Read moves the deadline along, at most once a sixteenth of the time-out, since that costs a lock and a timer.
func (b guardedBody) Read(p []byte) (int, error) {
	g := b.g
	g.entry.BodyRead = true
	if now := time.Now(); now.Sub(g.lastRead) > g.limits.StallTimeout/16 {
		g.lastRead = now
		_ = g.rc.SetReadDeadline(now.Add(g.limits.StallTimeout)) // recorders in tests have none
	}
	n, err := g.body.Read(p)
	g.entry.BytesIn += int64(n)
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			// net/http now watches the connection for the client's departure; a deadline would look like one.
			_ = g.rc.SetReadDeadline(time.Time{})
		}
		g.ended = err == io.EOF
	}
	return n, err
}

func (g *stallGuard) touchWrite(now time.Time) {
	if now.Sub(g.lastWrite) > g.limits.StallTimeout/16 {
		g.lastWrite = now
		_ = g.rc.SetWriteDeadline(now.Add(g.limits.StallTimeout))
	}
}

// WriteHeader decides what becomes of the connection when the body was not read to its end.
func (g *stallGuard) WriteHeader(status int) {
	now := time.Now()
	g.touchWrite(now)
	if !g.ended && !g.headerSent && status >= 200 {
		g.headerSent = true
		rest := g.length - g.entry.BytesIn
		switch {
		case g.unasked(): // the body may never come: nobody may wait for it
			g.closing = true
			_ = g.rc.SetReadDeadline(now)
		default:
			g.closing = g.length < 0 || rest > keepBody
			_ = g.rc.SetReadDeadline(now.Add(g.limits.DrainTimeout))
		}
		if g.closing {
			g.Header().Set("Connection", "close")
		}
	}
	g.ResponseWriter.WriteHeader(status)
}

// Write sends p in pieces, each with its own deadline.
func (g *stallGuard) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+writePiece)]
		g.touchWrite(time.Now())
		m, err := g.ResponseWriter.Write(piece)
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// Flush is part of http.Flusher.
func (g *stallGuard) Flush() {
	g.touchWrite(time.Now())
	_ = g.rc.Flush()
}

// drain reads away some of a body that the handler did not want, after the answer: closing a connection with unread bytes resets it, and the
// client might lose the answer.
func (g *stallGuard) drain() {
	if g.ended || !g.closing || g.unasked() {
		return
	}
	if g.rc.Flush() != nil || g.rc.SetReadDeadline(time.Now().Add(g.limits.DrainTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, g.body, g.limits.DrainBytes)
}
