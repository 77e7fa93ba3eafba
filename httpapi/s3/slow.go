package s3

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"
)

// slow does work that may take longer than clients wait for a first byte, and then answers 200 with the document that the work returns (without prolog) and its headers.
// Once Options.KeepAlive has passed, the status line, the prolog and from then on spaces are sent while it goes on; an error is then sent as a
// document with status 200, as S3 does, and slow's error must go to fail all the same.
func (q *request) slow(work func(ctx context.Context) (*xmlDoc, error)) error {
	type result struct {
		doc      *xmlDoc
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack()) // the stack of the re-panic would not say where
			}
			done <- r
		}()
		r.doc, r.err = work(q.Context())
	}()
	tick := time.NewTicker(q.api.o.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			if r.panicked != nil {
				panic(r.panicked)
			}
			if r.err != nil {
				return r.err
			}
			if !q.started {
				for _, kv := range r.doc.header {
					q.w.Header()[kv[0]] = []string{kv[1]}
				}
				doc := newXML(true)
				doc.b = append(doc.b, r.doc.b...)
				doc.respond(q.w, http.StatusOK)
				return nil
			}
			r.doc.writeTo(q.w)
			return nil
		case <-tick.C:
			sign := " "
			if !q.started {
				q.started = true
				q.w.Header()["Content-Type"] = xmlContentType
				q.w.WriteHeader(http.StatusOK)
				sign = xmlProlog
			}
			// A client that has gone ends the work by its context, not here: the outcome must be known and logged.
			if _, err := q.w.Write([]byte(sign)); err == nil {
				q.w.(http.Flusher).Flush()
			}
		}
	}
}
