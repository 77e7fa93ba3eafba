package erasure

import (
	"context"
	"errors"
	"fmt"
)

// ReadSegment calls fn for every durable record of one live segment, of whatever class and state, in order. A body is given
// when bodies says so for its kind. Label and Body are valid until fn returns.
//
// Stripes are read one after the other, and whole when most of their bodies are wanted; in memory are one stripe and one
// directory stripe. An error of fn ends it and is returned. What cannot be read is left out; the error says at the end what is
// missing: it matches ErrCorrupt or ErrUnavailable. ErrNotFound says that the segment is not live, or was dropped
// meanwhile; fn must not wait for that.
func (l *Log) ReadSegment(ctx context.Context, id SegmentID, bodies func(kind uint8) bool, fn func(Replayed) error) error {
	if l.closed.Load() {
		return ErrClosed
	}
	s := l.use(id)
	if s == nil {
		return fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(id))
	}
	defer s.gate.leave()
	if !l.isSealed(s) { // where it ends may depend on other segments
		if err := l.surveyAll(ctx); err != nil {
			return err
		}
	}
	if !s.known && l.hasEnd(s) && l.goal(s) == 0 {
		return nil // it never took a stripe
	}
	if !s.known {
		return fmt.Errorf("%w: segment %016x", ErrUnavailable, uint64(id))
	}
	r := &replay{l: l, bodies: bodies, fn: func(_ stripeInfo, rec Replayed) error { return fn(rec) }}
	for e, err := range l.stripesAfter(ctx, s, 0) {
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if s.gate.isShut() { // who drops it waits
			return fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(id))
		}
		if err != nil {
			r.missing(s.id, err)
			continue
		}
		if err := r.stripe(ctx, s, e); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(r.damage...)
}

func (l *Log) isSealed(s *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}
