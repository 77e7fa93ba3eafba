package erasure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
)

// errAbsent says that no present directory holds a shard.
var errAbsent = errors.New("erasure: shard is on no present directory")

// Read appends the body of the record at loc to dst and returns it. When all is well that is one pread in one directory, or
// two when the record lies across a shard boundary. What cannot be read or does not verify is rebuilt from parity.
//
// Errors: ErrNotFound when the segment is not live; a *CorruptError when too few shards verify although all could be read;
// ErrUnavailable when too many are out of reach; and those of the context.
func (l *Log) Read(ctx context.Context, loc Location, dst []byte) ([]byte, error) {
	p, s, err := l.find(loc)
	if err != nil {
		return dst, err
	}
	defer s.gate.leave()
	n := frameBytes + int(p.body)
	err = l.readRange(ctx, s, p.block, p.shard, int(p.frame), n, func(b []byte) bool {
		body, err := decodeFrame(b, p.segment, p.ordinal)
		if err != nil {
			return false
		}
		dst = append(dst, body...)
		return true
	})
	return dst, err
}

// A span is the part of a range that lies in one shard.
type span struct {
	shard int
	off   int64 // in the shard file
	buf   []byte
	err   error
}

// spans cuts the range of the payload of a stripe that begins at off and fills buf.
func spans(block, shard uint32, off int, buf []byte) []span {
	var sp []span
	for len(buf) > 0 {
		i, at := off/int(shard), off%int(shard)
		n := min(len(buf), int(shard)-at)
		sp = append(sp, span{shard: i, off: int64(block)*blockBytes + headerBytes + int64(at), buf: buf[:n]})
		buf, off = buf[n:], off+n
	}
	return sp
}

// readRange reads n bytes at off of the payload of a stripe and gives them to verify, which may see several attempts:
// plain, with what failed rebuilt, and from the shards whose checksums hold.
func (l *Log) readRange(ctx context.Context, s *segment, block, shard uint32, off, n int, verify func([]byte) bool) error {
	buf := getBuf(n)
	sp := spans(block, shard, off, buf)
	abandoned := l.readSpans(ctx, s, sp, false)
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := 0
	for i := range sp {
		if sp[i].err != nil {
			failed++
		}
	}
	if abandoned { // late writers may scribble over buf
		fresh := getBuf(n)
		copy(fresh, buf)
		buf = fresh
		for i, at := 0, 0; i < len(sp); i++ {
			sp[i].buf, at = buf[at:at+len(sp[i].buf)], at+len(sp[i].buf)
		}
	}
	defer func() { putBuf(buf) }()
	if failed == 0 && verify(buf) {
		return nil
	}
	l.metrics.degraded.Inc()
	if failed == 0 || slices.ContainsFunc(sp, func(p span) bool { return suspicious(p.err) }) {
		l.suspects.add(s.id)
	}
	if failed > 0 || len(sp) == 1 {
		rebuilt := true
		for i := range sp {
			if failed == 0 || sp[i].err != nil {
				rebuilt = rebuilt && l.rebuildSpan(ctx, s, &sp[i])
			}
		}
		if rebuilt && verify(buf) {
			l.metrics.reconstructed.Add(float64(n))
			return nil
		}
	}
	st, err := l.loadStripe(ctx, s, block, shard, true)
	if err != nil {
		return err
	}
	defer st.release()
	st.copyRange(buf, off)
	if !verify(buf) {
		l.metrics.corrupt.Inc()
		return &CorruptError{Segment: s.id, Stripe: st.h.stripe, Offset: int64(block) * blockBytes, Valid: st.valid, Need: s.k}
	}
	l.metrics.reconstructed.Add(float64(n))
	l.log.LogAttrs(ctx, slog.LevelWarn, "shard lies", slog.Uint64("segment", uint64(s.id)), slog.Uint64("stripe", uint64(st.h.stripe)), slog.Any("bad", st.bad()))
	return nil
}

// readSpans reads every span, in parallel when there are several. abandoned says that a buffer may still be written to.
func (l *Log) readSpans(ctx context.Context, s *segment, sp []span, offline bool) (abandoned bool) {
	if len(sp) == 1 {
		sp[0].err, abandoned = l.readShardOf(ctx, s, sp[0].shard, sp[0].buf, sp[0].off, offline)
		return abandoned
	}
	left := make([]bool, len(sp))
	var wg sync.WaitGroup
	for i := range sp {
		wg.Go(func() { sp[i].err, left[i] = l.readShardOf(ctx, s, sp[i].shard, sp[i].buf, sp[i].off, offline) })
	}
	wg.Wait()
	for _, a := range left {
		abandoned = abandoned || a
	}
	return abandoned
}

// readShard fills buf from a shard file. abandoned says that buf may still be written to.
func (l *Log) readShard(ctx context.Context, s *segment, shard int, buf []byte, off int64) (err error, abandoned bool) {
	return l.readShardOf(ctx, s, shard, buf, off, false)
}

// readShardOf is readShard; offline says that a directory that is offline, but answers, may be asked too.
func (l *Log) readShardOf(ctx context.Context, s *segment, shard int, buf []byte, off int64, offline bool) (err error, abandoned bool) {
	moves := s.moves.Load()
	d := s.dirOf(shard)
	if d == nil {
		return errAbsent, false
	}
	if !d.readable() && !(offline && d.answers()) {
		return errOffline, false
	}
	err, abandoned = d.guard(ctx, func() error {
		f, err := l.files.get(s, shard, d)
		if err != nil {
			return err
		}
		defer l.files.put(f)
		n, err := f.f.ReadAt(buf, off)
		if n == len(buf) {
			return nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	})
	switch {
	case abandoned, errors.Is(err, errOffline):
	case err != nil && s.moves.Load() != moves:
		return l.readShardOf(ctx, s, shard, buf, off, offline) // it moved meanwhile
	case err != nil:
		l.files.forget(fileKey{s.id, shard, d})
		d.readFailed(err)
	default:
		d.readErrors.Store(0)
	}
	return err, abandoned
}

// outOfReach tells whether a read error says nothing about what is on the disk.
func outOfReach(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errBadShard)
}

// suspicious tells whether a read error means damage on a directory that is present.
func suspicious(err error) bool {
	return err != nil && !errors.Is(err, errAbsent) && !errors.Is(err, errOffline) && !errors.Is(err, errHung) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, fs.ErrClosed)
}

// rebuildSpan fills the span from the same range of k other shards.
func (l *Log) rebuildSpan(ctx context.Context, s *segment, sp *span) bool {
	if s.m == 0 {
		return false
	}
	enc, err := l.codecs.get(s.k, s.m)
	if err != nil {
		return false
	}
	shards := make([][]byte, s.n())
	got, next := 0, 0
	pooled := [][]byte{}
	defer func() {
		for _, b := range pooled {
			putBuf(b)
		}
	}()
	for got < s.k && next < s.n() {
		var wave []span
		for ; next < s.n() && got+len(wave) < s.k; next++ {
			if d := s.dirOf(next); next != sp.shard && d != nil && d.readable() {
				wave = append(wave, span{shard: next, off: sp.off, buf: getBuf(len(sp.buf))})
			}
		}
		abandoned := l.readSpans(ctx, s, wave, false)
		for _, w := range wave {
			if !abandoned {
				pooled = append(pooled, w.buf)
			}
			if w.err == nil {
				shards[w.shard] = w.buf
				got++
			}
		}
		if ctx.Err() != nil {
			return false
		}
	}
	if got < s.k {
		return false
	}
	required := make([]bool, s.n())
	required[sp.shard] = true
	shards[sp.shard] = sp.buf[:0:len(sp.buf)]
	if err := enc.ReconstructSome(shards, required); err != nil {
		return false
	}
	copy(sp.buf, shards[sp.shard]) // the same memory, unless the codec made its own
	return true
}

// A loadedStripe is a stripe of which at least k shards verified.
type loadedStripe struct {
	h      header // shared
	k, m   int
	valid  int
	shards [][]byte // data of each shard; nil: bad or not read
	bufs   [][]byte
	errs   []error // why a shard is nil
}

func (st *loadedStripe) release() {
	for _, b := range st.bufs {
		putBuf(b)
	}
	st.bufs, st.shards = nil, nil
}

// bad lists the shards that were read and are not right.
func (st *loadedStripe) bad() []int {
	var bad []int
	for i, err := range st.errs {
		if err != nil {
			bad = append(bad, i)
		}
	}
	return bad
}

// copyRange fills b with the payload from off.
func (st *loadedStripe) copyRange(b []byte, off int) {
	for len(b) > 0 {
		i, at := off/int(st.h.shard), off%int(st.h.shard)
		n := copy(b, st.shards[i][at:])
		b, off = b[n:], off+n
	}
}

// payload returns a copy of the payload.
func (st *loadedStripe) payload() []byte {
	b := make([]byte, st.h.payload)
	st.copyRange(b, 0)
	return b
}

var errBadShard = errors.New("erasure: shard does not verify")

// loadStripe reads whole shards, all of them or just enough, keeps those that verify and agree, and rebuilds the data
// shards. When directories that failed a write are all that is left, it reads them too: the checksums tell whether that did
// any good. Errors are those of Read.
func (l *Log) loadStripe(ctx context.Context, s *segment, block, shard uint32, all bool) (*loadedStripe, error) {
	n := s.n()
	st := &loadedStripe{k: s.k, m: s.m, shards: make([][]byte, n), errs: make([]error, n)}
	heads := make([]header, n)
	for pass := range 3 { // data shards, parity, what is offline
		wave := make([]span, 0, n)
		for i := range n {
			var due bool
			switch pass {
			case 0:
				due = all || i < s.k
			case 1:
				due = !all && i >= s.k
			case 2:
				due = errors.Is(st.errs[i], errOffline)
			}
			if due {
				wave = append(wave, span{shard: i, off: int64(block) * blockBytes, buf: getBuf(headerBytes + int(shard))})
			}
		}
		abandoned := l.readSpans(ctx, s, wave, pass == 2)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, w := range wave {
			if !abandoned {
				st.bufs = append(st.bufs, w.buf)
			}
			st.errs[w.shard] = w.err
			if w.err != nil {
				continue
			}
			h, err := decodeHeader(w.buf)
			data := w.buf[headerBytes:]
			if err != nil || !s.belongs(l.store, h) || int(h.index) != w.shard || h.shard != shard || sum128(data) != h.sum {
				st.errs[w.shard] = errBadShard
				continue
			}
			heads[w.shard], st.shards[w.shard] = h, data
		}
		if st.agree(heads) >= s.k {
			break
		}
	}
	if st.valid < s.k || !st.rebuild(l) {
		defer st.release()
		reach, away := st.valid, l.outOfService() > 0
		for _, err := range st.errs {
			if outOfReach(err) && (away || !errors.Is(err, errAbsent)) {
				reach++
			}
		}
		if reach >= s.k {
			return nil, fmt.Errorf("%w: segment %016x offset %d: %d of %d shards verify, %d are needed", ErrUnavailable, uint64(s.id), int64(block)*blockBytes, st.valid, n, s.k)
		}
		return nil, &CorruptError{Segment: s.id, Stripe: st.h.stripe, Offset: int64(block) * blockBytes, Valid: st.valid, Need: s.k}
	}
	return st, nil
}

// agree finds the largest set of shards of one stripe and returns its size. The others stay in place until rebuild drops them.
func (st *loadedStripe) agree(heads []header) int {
	votes := map[header]int{}
	st.valid = 0
	for i, h := range heads {
		if st.shards[i] != nil {
			votes[h.shared()]++
			if n := votes[h.shared()]; n > st.valid {
				st.valid, st.h = n, h.shared()
			}
		}
	}
	if st.valid >= st.k {
		for i, h := range heads {
			if st.shards[i] != nil && h.shared() != st.h {
				st.shards[i], st.errs[i] = nil, errBadShard
			}
		}
	}
	return st.valid
}

// rebuild fills in missing data shards and checks the digest.
func (st *loadedStripe) rebuild(l *Log) bool {
	sums := make([]id16, st.k)
	missing := false
	for i := range st.k {
		missing = missing || st.shards[i] == nil
	}
	if missing {
		enc, err := l.codecs.get(st.k, st.m)
		if err != nil || enc.ReconstructData(st.shards) != nil {
			return false
		}
	}
	for i := range st.k {
		sums[i] = sum128(st.shards[i])
	}
	return stripeDigest(sums) == st.h.digest
}
