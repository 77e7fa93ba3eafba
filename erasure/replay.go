package erasure

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"

	"github.com/zeebo/xxh3"
)

// damageMax bounds the errors that Replay collects.
const damageMax = 16

// Replay calls fn for every record of every committed stripe with a sequence over after, in the order of the sequences,
// then of the ordinals. It obeys the verdicts that were set. A body is given when bodies says so for its kind, and only
// then read. Label and Body are valid until fn returns.
//
// An error of fn ends the replay and is returned. What cannot be read is left out; the replay goes on, and the error says
// at its end what is missing: it matches ErrCorrupt or ErrUnavailable. In memory is one stripe, or one directory stripe, of
// each segment whose sequences overlap. fn must not wait for a Drop. Snapshots are not replayed.
func (l *Log) Replay(ctx context.Context, after uint64, bodies func(kind uint8) bool, fn func(Replayed) error) error {
	r := &replay{l: l, bodies: bodies, fn: func(_ stripeInfo, rec Replayed) error { return fn(rec) }}
	if err := r.run(ctx, after); err != nil {
		return err
	}
	return errors.Join(r.damage...)
}

// run replays all segments that hold what belongs to the sequence of the log: snapshots do not.
func (r *replay) run(ctx context.Context, after uint64) error {
	l := r.l
	if err := l.surveyAll(ctx); err != nil {
		return err
	}
	var h cursorHeap
	for _, s := range l.liveSegments() {
		if s.class == Snapshot {
			continue
		}
		s.mu.Lock()
		first, last := s.firstSeq, s.lastSeq
		s.mu.Unlock()
		if last > after {
			h = append(h, &cursor{s: s, key: max(first, after+1)})
		}
	}
	heap.Init(&h)
	defer func() {
		for _, c := range h {
			c.close()
		}
	}()
	for len(h) > 0 {
		c := h[0]
		more, err := c.step(ctx, r, after)
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&h, 0)
		} else {
			c.close()
			heap.Pop(&h)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if l.blind() {
		r.missing(0, fmt.Errorf("%w: %d of %d directories are out of service, and whole segments may lie there", ErrUnavailable, l.outOfService(), len(l.dirs())))
	}
	return nil
}

// A cursor is a place in a segment that is replayed.
type cursor struct {
	s    *segment
	key  uint64 // sequence of cur, or the least that it can be
	cur  dirEntry
	next func() (dirEntry, error, bool)
	stop func()
}

// step replays the stripe at hand and goes on to the next one. It is false at the end, and when the segment is dropped meanwhile.
func (c *cursor) step(ctx context.Context, r *replay, after uint64) (more bool, err error) {
	if !c.s.gate.enter() {
		return false, nil
	}
	defer c.s.gate.leave()
	if c.next == nil {
		c.next, c.stop = iter.Pull2(r.l.stripesAfter(ctx, c.s, after))
	} else if err := r.stripe(ctx, c.s, c.cur); err != nil {
		return false, err
	}
	return c.advance(r), nil
}

func (c *cursor) advance(r *replay) bool {
	for {
		e, err, ok := c.next()
		if !ok {
			return false
		}
		if err == nil {
			c.cur, c.key = e, e.seq
			return true
		}
		r.missing(c.s.id, err)
	}
}

func (c *cursor) close() {
	if c.stop != nil {
		c.stop()
	}
}

type cursorHeap []*cursor

func (h cursorHeap) Len() int { return len(h) }
func (h cursorHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].key, h[j].key), cmp.Compare(h[i].s.id, h[j].s.id)) < 0
}
func (h cursorHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *cursorHeap) Push(x any)   { *h = append(*h, x.(*cursor)) }
func (h *cursorHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// A replay is one run of Replay, or of ReadSegment.
type replay struct {
	l      *Log
	bodies func(kind uint8) bool
	fn     func(stripeInfo, Replayed) error
	damage []error
	hurt   map[SegmentID]bool // segments of which something is missing
}

// missing takes note that a part of a segment cannot be had. Segment 0 stands for segments that nobody knows.
func (r *replay) missing(id SegmentID, err error) {
	r.l.log.LogAttrs(context.Background(), slog.LevelError, "part of the log cannot be read", slog.Uint64("segment", uint64(id)), slog.String("cause", err.Error()))
	if r.hurt == nil {
		r.hurt = map[SegmentID]bool{}
	}
	r.hurt[id] = true
	if len(r.damage) < damageMax {
		r.damage = append(r.damage, err)
	}
}

// stripe replays one stripe.
func (r *replay) stripe(ctx context.Context, s *segment, e dirEntry) error {
	entries, err := decodeTable(e.tableBytes, e.records, e.payload)
	if err != nil {
		r.missing(s.id, &CorruptError{Segment: s.id, Stripe: e.number, Offset: e.offset(), Need: s.k})
		return nil
	}
	wanted := 0
	for _, t := range entries {
		if r.bodies != nil && r.bodies(t.kind) {
			wanted += frameBytes + int(t.body)
		}
	}
	var payload []byte
	if wanted > int(e.payload)/2 {
		if st, err := r.l.loadStripe(ctx, s, e.block, e.shard, false); err == nil {
			payload = st.payload()
			st.release()
		}
	}
	frame := e.table
	for i, t := range entries {
		p := place{s.id, e.block, e.shard, frame, t.body, e.ordinal + uint32(i)}
		frame += frameBytes + t.body
		out := Replayed{Placed: Placed{Kind: t.kind, Label: t.label, Location: p.location(), Seq: e.seq}}
		if r.bodies != nil && r.bodies(t.kind) {
			if out.Body, err = r.body(ctx, p, payload); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.missing(s.id, err)
				continue
			}
		}
		if err := r.fn(e.stripeInfo, out); err != nil {
			return err
		}
	}
	return nil
}

// body returns the body at p, from the payload of its stripe when that was loaded.
func (r *replay) body(ctx context.Context, p place, payload []byte) ([]byte, error) {
	if payload != nil {
		if b, err := decodeFrame(payload[p.frame:p.frame+frameBytes+p.body], p.segment, p.ordinal); err == nil {
			return b, nil
		}
	}
	return r.l.Read(ctx, p.location(), make([]byte, 0, p.body))
}

// stripesAfter yields the stripes of a segment with a sequence over after, with their record tables, and errors for those
// that cannot be had.
func (l *Log) stripesAfter(ctx context.Context, s *segment, after uint64) iter.Seq2[dirEntry, error] {
	s.mu.Lock()
	sealed, stripes, tables, lost := s.sealed, s.stripes, s.tables, s.lost
	s.mu.Unlock()
	if sealed {
		return l.sealedStripes(ctx, s, after)
	}
	return func(yield func(dirEntry, error) bool) {
		if lost > 0 && !yield(dirEntry{}, &CorruptError{Segment: s.id, Need: s.k}) {
			return
		}
		for i, st := range stripes {
			if st.seq <= after {
				continue
			}
			e := dirEntry{stripeInfo: st}
			var err error
			if i < len(tables) {
				e.tableBytes = tables[i]
			} else {
				e.tableBytes, err = l.readTable(ctx, s, st)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (l *Log) readTable(ctx context.Context, s *segment, st stripeInfo) ([]byte, error) {
	var table []byte
	err := l.readRange(ctx, s, st.block, st.shard, 0, int(st.table), func(b []byte) bool {
		if xxh3.Hash(b) != st.tableSum {
			return false
		}
		table = append([]byte(nil), b...)
		return true
	})
	return table, err
}

// sealedStripes reads the directory stripes, one at a time. When one is damaged beyond repair the headers of the stripes
// tell the rest.
func (l *Log) sealedStripes(ctx context.Context, s *segment, after uint64) iter.Seq2[dirEntry, error] {
	return func(yield func(dirEntry, error) bool) {
		s.mu.Lock()
		block, n := s.dirBlock, s.dirStripes
		s.mu.Unlock()
		next := uint32(0) // stripe
		for range n {
			entries, end, err := l.readDirectory(ctx, s, block)
			if err != nil {
				l.log.LogAttrs(ctx, slog.LevelError, "directory of a segment cannot be read; its headers are", slog.Uint64("segment", uint64(s.id)), slog.String("cause", err.Error()))
				l.walkedStripes(ctx, s, next, after)(yield)
				return
			}
			block = end
			for _, e := range entries {
				next = e.number + 1
				if e.seq > after && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// walkedStripes yields the stripes of a sealed segment from number first on, found by their headers.
func (l *Log) walkedStripes(ctx context.Context, s *segment, first uint32, after uint64) iter.Seq2[dirEntry, error] {
	return func(yield func(dirEntry, error) bool) {
		s.mu.Lock()
		count := s.count
		s.mu.Unlock()
		w, err := l.walk(ctx, s, count, true)
		if err != nil {
			yield(dirEntry{}, err)
			return
		}
		if w.lost > 0 {
			err := error(&CorruptError{Segment: s.id, Need: s.k})
			if s.absent() > 0 && l.outOfService() > 0 {
				err = fmt.Errorf("%w: %d stripes of segment %016x", ErrUnavailable, w.lost, uint64(s.id))
			}
			if !yield(dirEntry{}, err) {
				return
			}
		}
		for _, st := range w.stripes {
			if st.number < first || st.seq <= after {
				continue
			}
			table, err := l.readTable(ctx, s, st)
			if !yield(dirEntry{st, table}, err) {
				return
			}
		}
	}
}

// readDirectory returns the entries of the directory stripe at block and the block after it.
func (l *Log) readDirectory(ctx context.Context, s *segment, block uint32) ([]dirEntry, uint32, error) {
	r := &headerReader{l: l, s: s, windows: make([]window, s.n())}
	h, ok := r.at(ctx, block, s.k)
	if !ok {
		h, ok = r.at(ctx, block, 1) // fewer agree: the shards will tell
	}
	corrupt := &CorruptError{Segment: s.id, Offset: int64(block) * blockBytes, Need: s.k}
	if !ok {
		if s.absent() > s.m && l.outOfService() > 0 {
			return nil, 0, ErrUnavailable
		}
		return nil, 0, corrupt
	}
	st, err := l.loadStripe(ctx, s, block, h.shard, false)
	if err != nil {
		return nil, 0, err
	}
	defer st.release()
	if !st.h.directory() {
		return nil, 0, corrupt
	}
	entries, err := decodeDirectory(st.payload())
	if err != nil {
		return nil, 0, corrupt
	}
	return entries, block + uint32(st.h.stored()/blockBytes), nil
}

// eachStripe calls fn for the stripes of a segment with a sequence over after until it returns an error.
func (l *Log) eachStripe(ctx context.Context, s *segment, after uint64, fn func(dirEntry) error) error {
	if err := l.surveyAll(ctx); err != nil {
		return err
	}
	for e, err := range l.stripesAfter(ctx, s, after) {
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}
