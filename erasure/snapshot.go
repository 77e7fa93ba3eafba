package erasure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// snapshotStripesMax bounds the stripes of one snapshot that are encoded and not yet written.
const snapshotStripesMax = 2

// A SnapshotWriter writes a segment of class Snapshot beside the open segments. It is used by one goroutine. Close or Abort ends
// it, before the log is closed.
//
// A snapshot counts when it is sealed and not before: what a crash leaves of one is void, and a start removes it. Its stripes
// take no sequence of their own: they all have the last one that was given when it began. It is no part of what Replay, FindEnds
// and Position are about. Scrub, heal, Retire and Drop treat it like any other segment.
type SnapshotWriter struct {
	l       *Log
	o       *openSegment
	b       *builder // the stripe that is being filled
	seq     uint64
	stripes []stripeInfo
	tables  [][]byte
	slots   chan struct{} // one for each stripe that is being written
	failed  error         // why it cannot go on
	ended   bool
}

// NewSnapshot begins a snapshot. It takes no lock that a commit needs. Errors are those of Room, for deletes, and of the context.
func (l *Log) NewSnapshot(ctx context.Context) (*SnapshotWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := l.writable(TierDelete); err != nil {
		return nil, err
	}
	o, err := l.createSegment(Snapshot, nil)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	seq := max(l.seq, 1)
	l.mu.Unlock()
	return &SnapshotWriter{l: l, o: o, b: &builder{}, seq: seq, slots: make(chan struct{}, snapshotStripesMax)}, nil
}

// Append adds a record, which it copies. In memory are the stripe that it goes into, two that are being written, and all record
// tables: few large records with short labels take least. Errors are ErrTooLarge, ErrNoSpace, and ErrSnapshotFailed, after which
// only Abort is left to do.
func (w *SnapshotWriter) Append(r Record) error {
	if err := checkRecord(r); err != nil {
		return err
	}
	if w.failed == nil && w.ended {
		return fmt.Errorf("%w: it has ended", ErrSnapshotFailed)
	}
	rec := &record{kind: r.Kind, role: roleMutation, label: slices.Clone(r.Label)}
	if n := tableEntryBytes + frameBytes + len(r.Label) + len(r.Body); len(w.b.recs) > 0 && w.b.payload+n > w.l.opt.StripeBytes {
		w.flush()
	}
	if w.failed == nil {
		w.b.addCopy(rec, r.Body, w.l.opt.StripeBytes)
	}
	return w.failed
}

// fail keeps the first reason why the snapshot cannot go on.
func (w *SnapshotWriter) fail(err error) {
	switch {
	case w.failed != nil:
	case errors.Is(err, ErrNoSpace):
		w.failed = fmt.Errorf("snapshot: %w", err)
	default:
		w.failed = fmt.Errorf("%w: %w", ErrSnapshotFailed, err)
	}
}

// flush gives the stripe its place and has it written.
func (w *SnapshotWriter) flush() {
	b := w.b
	defer b.release() // encoding copies what is in it
	w.b = &builder{}
	if len(b.recs) == 0 || w.failed != nil {
		return
	}
	if err := w.l.reserve(w.o, []*builder{b}); err != nil {
		w.fail(w.cause(err))
		return
	}
	cs := w.o.place(b)
	cs.seq, cs.flight = w.seq, &flight{}
	w.slots <- struct{}{} // a directory that hangs is given up after its time-out
	if err := w.l.write(w.o, cs, func() { <-w.slots }); err != nil {
		w.fail(err)
		return
	}
	w.stripes, w.tables = append(w.stripes, cs.stripeInfo), append(w.tables, cs.entries)
	if !w.o.healthy() {
		w.fail(w.cause(errSegmentFailed))
	}
}

// cause is what went wrong in the segment, if that is known.
func (w *SnapshotWriter) cause(err error) error {
	if p := w.o.broken.Load(); p != nil && !errors.Is(err, ErrNoSpace) {
		return *p
	}
	return err
}

// Close makes the snapshot durable on all its shard files, seals it, reads all of it back past the page cache, and returns its
// number. With an error nothing is left of it: ErrNoSpace, that of the context, or ErrSnapshotFailed, as when a directory failed
// meanwhile, and another one may be begun.
func (w *SnapshotWriter) Close(ctx context.Context) (SegmentID, error) {
	if w.ended {
		return 0, fmt.Errorf("%w: it has ended", ErrSnapshotFailed)
	}
	w.flush()
	if len(w.stripes) == 0 {
		w.fail(errors.New("it is empty"))
	}
	for _, step := range []func(context.Context) error{w.sync, w.seal, w.verify} {
		if w.failed == nil && ctx.Err() != nil {
			w.failed = ctx.Err()
		}
		if w.failed != nil {
			break
		}
		if err := step(ctx); err != nil && ctx.Err() != nil {
			w.failed = ctx.Err()
		} else if err != nil {
			w.fail(err)
		}
	}
	if w.failed != nil {
		w.Abort()
		return 0, w.failed
	}
	w.ended = true
	s := w.o.segment
	s.mu.Lock()
	s.unproven = false
	s.mu.Unlock()
	w.l.log.LogAttrs(ctx, slog.LevelInfo, "snapshot written", slog.Uint64("segment", uint64(s.id)), slog.Int("stripes", len(w.stripes)))
	return s.id, nil
}

func (w *SnapshotWriter) sync(context.Context) error {
	if err := <-w.l.startSync(w.o); err != nil {
		return err
	}
	s := w.o.segment
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stripes, s.tables = w.stripes, w.tables
	s.summarize()
	return nil
}

func (w *SnapshotWriter) seal(context.Context) error {
	f, err := w.l.trySeal(w.o)
	if err != nil {
		w.o.fail(err)
		return err
	}
	s := w.o.segment
	s.mu.Lock()
	s.open = false
	s.setFooter(f)
	s.mu.Unlock()
	w.settle()
	return nil
}

// settle closes the files; the segment takes no more stripes.
func (w *SnapshotWriter) settle() {
	select {
	case <-w.o.settled:
	default:
		w.o.closeHandles()
		close(w.o.settled)
	}
}

func (w *SnapshotWriter) verify(ctx context.Context) error {
	var bad error
	_, err := w.l.ScrubSegment(ctx, w.o.id, ScrubOptions{Finding: func(f Finding) {
		if bad == nil {
			bad = fmt.Errorf("%s does not read back: %s: %s", f.File, f.Kind, f.Detail)
		}
	}})
	if err != nil {
		return err
	}
	return bad
}

// Abort removes what was written. It does nothing after Close.
func (w *SnapshotWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.b.release()
	l, s := w.l, w.o.segment
	w.o.jobs.Wait()
	w.settle()
	l.segMu.Lock()
	l.voids.ids[s.id] = true
	l.forget(s.id)
	l.segMu.Unlock()
	<-s.gate.shut()
	l.unlinkSegments(l.dirs(), func(id SegmentID) bool { return id == s.id })
	l.files.forgetSegment(s.id)
	l.relearnParity()
	l.findHoles()
}

// LatestSnapshots returns the snapshots that count, the newest first.
func (l *Log) LatestSnapshots() (ids []SegmentID) {
	for _, s := range slices.Backward(l.liveSegments()) {
		s.mu.Lock()
		counts := s.class == Snapshot && s.sealed && !s.unproven
		s.mu.Unlock()
		if counts {
			ids = append(ids, s.id)
		}
	}
	return ids
}
