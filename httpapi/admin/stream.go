package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/reqlog"
)

// A line of a stream has exactly one of its fields.
type line struct {
	Progress *cas.Progress `json:"progress,omitempty"`
	Result   any           `json:"result,omitempty"`
	Error    *problem      `json:"error,omitempty"`
}

// operate serves one operation as a stream.
func (a *API) operate(op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := reqlog.From(r.Context())
		if r.ContentLength != 0 {
			failWith(w, e, badRequest("the body must be empty: parameters belong into the query"))
			return
		}
		f := readForm(r)
		do := op.parse(f)
		if err := f.done(); err != nil {
			failWith(w, e, err)
			return
		}
		a.stream(w, r, op, do)
	}
}

// stream runs an operation and tells how far it is, so that neither the client nor a proxy nor our own stall detection takes the silence for
// an end. The status line waits for the first line: an operation that is refused at once has a status of its own.
func (a *API) stream(w http.ResponseWriter, r *http.Request, op operation, do work) {
	e := reqlog.From(r.Context())
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(a.stopping, func() { cancel(errStopping) })()

	var latest atomic.Pointer[cas.Progress]
	latest.Store(&cas.Progress{Operation: op.progress, Began: time.Now()})
	type outcome struct {
		result   any
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack()) // the stack of the re-panic would not say where
			}
			done <- o
		}()
		if o.err = context.Cause(ctx); o.err == nil {
			o.result, o.err = do(ctx, a.o.Store, func(p cas.Progress) { latest.Store(&p) })
		}
	}()

	tick := time.NewTicker(a.o.Interval)
	defer tick.Stop()
	started := false
	send := func(l line) {
		if !started {
			started = true
			h := w.Header()
			h.Set("Content-Type", "application/x-ndjson")
			h.Set("Cache-Control", "no-store")
			h.Set("X-Accel-Buffering", "no") // nginx would hold the lines back
			w.WriteHeader(http.StatusOK)
		}
		// A client that has gone ends the operation by its context, not here: its outcome must be known and logged.
		if json.NewEncoder(w).Encode(l) == nil {
			w.(http.Flusher).Flush()
		}
	}
	for {
		select {
		case o := <-done:
			switch {
			case o.panicked != nil:
				panic(o.panicked)
			case o.err == nil:
				send(line{Result: o.result})
				return
			case ctx.Err() != nil:
				o.err = fmt.Errorf("%w; called again the operation goes on: %w", a.whyCancelled(ctx), o.err)
			}
			p := problemOf(o.err, e)
			if started {
				send(line{Error: &p})
			} else {
				writeJSON(w, p.status, p)
			}
			return
		case <-tick.C:
			send(line{Progress: latest.Load()})
		}
	}
}

// whyCancelled tells apart our own end and that of the client. At a shutdown connections are cut too.
func (a *API) whyCancelled(ctx context.Context) error {
	if a.stopping.Err() != nil || context.Cause(ctx) == errStopping { //nolint:errorlint // we set it ourselves
		return errStopping
	}
	return errClientGone
}
