package erasure

import (
	"context"
	"log/slog"
	"slices"
)

// repair ends every open segment that can no longer be written on all its directories, at the last stripe that is durable
// there; queues the verdicts; and gives what was not durable, mutations excepted, a place in new segments on the
// directories that are left.
func (l *Log) repair() {
	l.dataMu.Lock()
	defer l.dataMu.Unlock()
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	drained := make(chan struct{})
	l.pipe <- pipeItem{barrier: drained}
	<-drained

	var again []*builder
	l.retiring = slices.DeleteFunc(l.retiring, func(o *openSegment) bool {
		if o.healthy() {
			return false
		}
		again = append(again, l.end(o)...)
		return true
	})
	if l.data != nil && !l.data.healthy() {
		again = append(again, l.end(l.data)...)
		l.data = nil
	}
	if l.meta != nil && !l.meta.healthy() {
		again = append(again, l.end(l.meta)...)
		l.meta = nil
	}
	var floats []*record
	var bulk []*builder
	for _, old := range again {
		b := &builder{buf: old.buf}
		for _, r := range old.recs {
			switch r.role {
			case roleBulk:
				b.add(r)
			case roleFloating:
				floats = append(floats, r)
			}
		}
		if len(b.recs) > 0 {
			bulk = append(bulk, b)
		}
	}
	l.unfloat(floats)
	l.pending = append(bulk, l.pending...)
	_ = l.placePending() // what finds no place waits for the next sync
	l.signalRoom()
}

// end closes a segment for ever at its last durable stripe and returns what was in the stripes behind it. The caller holds
// the lock of its class, and its encoder is idle.
func (l *Log) end(o *openSegment) []*builder {
	o.jobs.Wait()
	o.mu.Lock()
	o.ended = true
	rest := o.unsynced
	o.unsynced = nil
	o.mu.Unlock()
	var again []*builder
	l.mu.Lock()
	for _, cs := range rest {
		cs.flight.void = true
		again = append(again, cs.b)
	}
	l.advance()
	l.mu.Unlock()
	l.endWithVerdict(o)
	return again
}

// endWithVerdict queues the verdict that the segment ends at its last durable stripe.
func (l *Log) endWithVerdict(o *openSegment) {
	s := o.segment
	s.mu.Lock()
	s.open, s.ended = false, true
	s.verdict = Verdict{Segment: s.id, Stripes: s.count, Digest: s.digest}
	s.tables = nil
	v := s.verdict
	s.mu.Unlock()
	l.segMu.Lock()
	l.verdicts[v.Segment] = v
	l.segMu.Unlock()
	l.mu.Lock()
	l.untaken = append(l.untaken, v)
	l.mu.Unlock()
	cause := "sealing failed"
	if p := o.broken.Load(); p != nil {
		cause = (*p).Error()
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "segment ended", slog.Uint64("segment", uint64(s.id)), slog.Uint64("stripes", uint64(v.Stripes)),
		slog.String("cause", cause))
	o.closeHandles()
	close(o.settled)
}

// closeHandles closes the files in the lanes, because closing may hang too.
func (o *openSegment) closeHandles() {
	for i, d := range o.dirs {
		d.closeFile(o.handles[i])
	}
}

// TakeVerdicts returns the verdicts on segments that failed since the log was opened and that no successful Commit has
// followed since they were taken. The caller puts them, as mutations, before those of its next Commit; putting one twice
// does no harm.
func (l *Log) TakeVerdicts() []Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = append(l.taken, l.untaken...)
	l.untaken = nil
	return slices.Clone(l.taken)
}
