package erasure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// ReadBack is Read from the disks: it opens the shard files by their names, reads past the page cache, and does without parity.
// When it succeeds the data shards of the record are where they should be, in their directories, and right. It is for
// whoever is about to give up another copy.
//
// Errors: ErrNotFound when the segment is not live; ErrUnproven when any of these shards cannot be read, or the record does not
// verify, whatever Read would make of it; and those of the context.
func (l *Log) ReadBack(ctx context.Context, loc Location, dst []byte) ([]byte, error) {
	p, s, err := l.find(loc)
	if err != nil {
		return dst, err
	}
	defer s.gate.leave()
	frames, err := l.readBackRange(ctx, s, p, p.frameEnd())
	if err != nil {
		return dst, err
	}
	body, err := l.provenBody(s, p, frames)
	return append(dst, body...), err
}

// readBackRun bounds what ReadBackAll reads at once, bytes.
const readBackRun = 8 << 20

// ReadBackAll is ReadBack of many records, of which it reads those of one stripe at once: give them in the order of the log. fn is called with the
// number of a location and the body of its record, which is valid until fn returns, or with the error of ReadBack. Its error ends the whole.
func (l *Log) ReadBackAll(ctx context.Context, locs []Location, fn func(i int, body []byte, err error) error) error {
	for first := 0; first < len(locs); {
		p := locs[first].place()
		end, next := p.frameEnd(), first+1
		for ; next < len(locs); next++ {
			q := locs[next].place()
			if q.segment != p.segment || q.block != p.block || q.shard != p.shard || q.frame < end || q.frameEnd()-p.frame > readBackRun {
				break
			}
			end = q.frameEnd()
		}
		if err := l.readBackStripe(ctx, locs[first:next], end, func(i int, body []byte, err error) error { return fn(first+i, body, err) }); err != nil {
			return err
		}
		first = next
	}
	return nil
}

// readBackStripe reads back records of one stripe that lie before the payload offset end.
func (l *Log) readBackStripe(ctx context.Context, locs []Location, end uint32, fn func(i int, body []byte, err error) error) error {
	var frames []byte
	p, s, err := l.find(locs[0])
	if err == nil {
		defer s.gate.leave()
		if uint64(end) > uint64(p.shard)*uint64(s.k) {
			err = fmt.Errorf("%w: malformed location", ErrNotFound)
		} else {
			frames, err = l.readBackRange(ctx, s, p, end)
		}
	}
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	for i, loc := range locs {
		var body []byte
		one := err
		if one == nil {
			q := loc.place()
			body, one = l.provenBody(s, q, frames[q.frame-p.frame:q.frameEnd()-p.frame])
		}
		if err := fn(i, body, one); err != nil {
			return err
		}
	}
	return nil
}

// frameEnd is the offset in the payload behind the frame.
func (p place) frameEnd() uint32 { return p.frame + frameBytes + p.body }

// readBackRange reads the payload of the stripe of p from its frame up to end.
func (l *Log) readBackRange(ctx context.Context, s *segment, p place, end uint32) ([]byte, error) {
	sp := spans(p.block, p.shard, int(p.frame), make([]byte, end-p.frame))
	var wg sync.WaitGroup
	for i := range sp {
		wg.Go(func() { sp[i].buf, sp[i].err = l.readBackSpan(ctx, s, sp[i]) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	frames := sp[0].buf
	for i := range sp {
		if sp[i].err != nil {
			if suspicious(sp[i].err) {
				l.suspects.add(s.id)
			}
			return nil, fmt.Errorf("%w: segment %016x shard %d: %w", ErrUnproven, uint64(s.id), sp[i].shard, sp[i].err)
		}
		if i > 0 {
			frames = append(frames[:len(frames):len(frames)], sp[i].buf...)
		}
	}
	return frames, nil
}

// provenBody returns the body in a frame.
func (l *Log) provenBody(s *segment, p place, frame []byte) ([]byte, error) {
	body, err := decodeFrame(frame, p.segment, p.ordinal)
	if err != nil {
		l.suspects.add(s.id)
		return nil, fmt.Errorf("%w: segment %016x record %d: %w", ErrUnproven, uint64(s.id), p.ordinal, err)
	}
	return body, nil
}

// find returns the segment of a record, whose gate the caller leaves.
func (l *Log) find(loc Location) (place, *segment, error) {
	p := loc.place()
	if l.closed.Load() {
		return p, nil, ErrClosed
	}
	s := l.use(p.segment)
	if s == nil {
		return p, nil, fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(p.segment))
	}
	var err error
	switch {
	case !s.known:
		err = fmt.Errorf("%w: segment %016x", ErrUnavailable, uint64(p.segment))
	case p.body > MaxBodyBytes || uint64(p.frame)+frameBytes+uint64(p.body) > uint64(p.shard)*uint64(s.k):
		err = fmt.Errorf("%w: malformed location %x", ErrNotFound, loc[:])
	}
	if err != nil {
		s.gate.leave()
		return p, nil, err
	}
	return p, s, nil
}

// pageBytes is what the page cache is made of: to drop a part of a page is to drop nothing.
var pageBytes = max(blockBytes, int64(os.Getpagesize()))

// readBackSpan reads the whole pages around a span and returns what is in the span.
func (l *Log) readBackSpan(ctx context.Context, s *segment, sp span) ([]byte, error) {
	for {
		moves := s.moves.Load()
		d := s.dirOf(sp.shard)
		switch {
		case d == nil:
			return nil, errAbsent
		case !d.readable():
			return nil, errOffline
		}
		path := s.path(d, sp.shard)
		from := sp.off / pageBytes * pageBytes
		buf := make([]byte, roundUp(sp.off+int64(len(sp.buf)), blockBytes)-from) // read by a goroutine that may be left behind: not used twice
		err, abandoned := d.guard(ctx, func() error {
			f, err := l.fs.OpenFile(path, os.O_RDONLY)
			if err != nil {
				return err
			}
			f.Drop(from, roundUp(int64(len(buf)), pageBytes))
			return errors.Join(readPastCache(f, buf, from), f.Close())
		})
		switch {
		case err == nil:
			d.readErrors.Store(0)
			return buf[sp.off-from:][:len(sp.buf)], nil
		case !abandoned && s.moves.Load() != moves:
			continue // it moved meanwhile
		case !abandoned:
			d.readFailed(err)
		}
		return nil, err
	}
}
