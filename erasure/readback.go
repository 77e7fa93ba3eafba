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
	off, n := int(p.frame), frameBytes+int(p.body)
	sp := spans(p.block, p.shard, off, make([]byte, n))
	var wg sync.WaitGroup
	for i := range sp {
		wg.Go(func() { sp[i].buf, sp[i].err = l.readBackSpan(ctx, s, sp[i]) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	frame := sp[0].buf
	for i := range sp {
		if sp[i].err != nil {
			if suspicious(sp[i].err) {
				l.suspects.add(s.id)
			}
			return dst, fmt.Errorf("%w: segment %016x shard %d: %w", ErrUnproven, uint64(s.id), sp[i].shard, sp[i].err)
		}
		if i > 0 {
			frame = append(frame[:len(frame):len(frame)], sp[i].buf...)
		}
	}
	body, err := decodeFrame(frame, p.segment, p.ordinal)
	if err != nil {
		l.suspects.add(s.id)
		return dst, fmt.Errorf("%w: segment %016x record %d: %w", ErrUnproven, uint64(s.id), p.ordinal, err)
	}
	return append(dst, body...), nil
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
