package erasure

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
)

// surveyAll finds out where every segment that is neither sealed nor open ends.
//
// It walks the headers first: a synced mark in one segment may vouch for stripes of another. A stripe that a mark or a
// verdict vouches for needs k headers that agree. The stripes after these are read whole; the first of them with fewer than
// k valid shards is where the segment was torn, and it ends there.
func (l *Log) surveyAll(ctx context.Context) error {
	l.surveyMu.Lock()
	defer l.surveyMu.Unlock()
	var todo []*segment
	for _, s := range l.liveSegments() {
		s.mu.Lock()
		if !s.sealed && !s.open && !s.surveyed {
			todo = append(todo, s)
		}
		s.mu.Unlock()
	}
	walks := map[*segment]*walk{}
	for again := true; again; {
		again = false
		for _, s := range todo {
			goal := l.goal(s)
			if w := walks[s]; w == nil || w.end() < goal && goal > w.goal {
				w, err := l.walk(ctx, s, goal, l.hasEnd(s))
				if err != nil {
					return err
				}
				walks[s], again = w, true
			}
		}
	}
	for _, s := range todo {
		if err := l.settle(ctx, s, walks[s]); err != nil {
			return err
		}
	}
	return nil
}

// goal is how many stripes of a segment are vouched for.
func (l *Log) goal(s *segment) uint32 {
	s.mu.Lock()
	ended, stripes := s.ended, s.verdict.Stripes
	s.mu.Unlock()
	if ended {
		return stripes
	}
	l.marksMu.Lock()
	defer l.marksMu.Unlock()
	return l.marks[s.id]
}

// noteMarks remembers what a valid header vouches for.
func (l *Log) noteMarks(h header) {
	l.marksMu.Lock()
	defer l.marksMu.Unlock()
	for _, m := range h.marks {
		if m.segment != 0 && m.stripes > l.marks[m.segment] {
			l.marks[m.segment] = m.stripes
		}
		l.markedID = max(l.markedID, m.segment)
	}
	l.seenSeq = max(l.seenSeq, h.seq)
}

// A walk is the chain of headers of a segment.
type walk struct {
	goal    uint32
	stripes []stripeInfo
	lost    uint32 // vouched-for stripes without k headers
}

// end is the number of the stripe after the last one.
func (w *walk) end() uint32 {
	if len(w.stripes) == 0 {
		return 0
	}
	return w.stripes[len(w.stripes)-1].number + 1
}

// hasEnd tells whether a verdict or a footer says where the segment ends.
func (l *Log) hasEnd(s *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || s.sealed
}

// walk lists the stripes of a segment from its headers. Past the goal it stops where the chain does, or at once when the
// goal is the end; before it, it looks for the next header that belongs to the segment.
func (l *Log) walk(ctx context.Context, s *segment, goal uint32, ended bool) (*walk, error) {
	w := &walk{goal: goal}
	if !s.known {
		w.lost = goal
		return w, nil
	}
	r := &headerReader{l: l, s: s, windows: make([]window, s.n())}
	var at stripeInfo // of the stripe that should come next
	var prev id16
	chained := true
	for !ended || at.number < goal {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, ok := r.at(ctx, at.block, s.k)
		if ok && h.directory() {
			break
		}
		if !ok || h.stripe < at.number || chained && (h.stripe != at.number || h.prev != prev || h.ordinal != at.ordinal) {
			if at.number >= goal {
				r.dismiss()
				r.scan(ctx, at.block)
				break
			}
			chained = false
			at.block++
			if int64(at.block)*blockBytes >= r.length(ctx) {
				break // nothing is left to scan
			}
			continue
		}
		w.lost += h.stripe - at.number
		st := infoOfHeader(h, at.block)
		w.stripes = append(w.stripes, st)
		at = stripeInfo{number: st.number + 1, block: st.next(), ordinal: st.ordinal + st.records}
		prev, chained = st.digest, true
	}
	if at.number < goal {
		w.lost += goal - at.number
	}
	return w, ctx.Err()
}

// settle makes the walk the truth about the segment, after it has read the stripes that nothing vouches for.
func (l *Log) settle(ctx context.Context, s *segment, w *walk) error {
	s.mu.Lock()
	ended, verdict := s.ended, s.verdict
	s.mu.Unlock()
	stripes := w.stripes
	tail := len(stripes)
	if ended {
		if n := len(stripes); n > 0 && verdict.Digest != [16]byte{} && stripes[n-1].number+1 == verdict.Stripes && stripes[n-1].digest != id16(verdict.Digest) {
			w.lost++
		}
	} else {
		if i := slices.IndexFunc(stripes, func(st stripeInfo) bool { return st.number >= w.goal }); i >= 0 {
			tail = i
		}
		for i := tail; i < len(stripes); i++ {
			ok, err := l.whole(ctx, s, stripes[i])
			if err != nil {
				return err
			}
			if !ok {
				stripes = stripes[:i]
				break
			}
		}
	}
	if w.lost > 0 {
		l.metrics.corrupt.Add(float64(w.lost))
		l.log.LogAttrs(ctx, slog.LevelError, "durable stripes cannot be found; nothing is deleted", slog.Uint64("segment", uint64(s.id)),
			slog.Uint64("stripes", uint64(w.lost)), slog.Int("shards_absent", s.absent()))
	}
	if n := len(stripes); ended && n > 0 {
		l.suspectOld(ctx, s, stripes[n-1])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stripes, s.tail, s.lost, s.surveyed = stripes, tail, w.lost, true
	s.summarize()
	return nil
}

// suspectOld makes a scrub of a segment due when a present shard file does not have its last stripe, as one on a disk that was
// restored from an old copy.
func (l *Log) suspectOld(ctx context.Context, s *segment, last stripeInfo) {
	r := &headerReader{l: l, s: s, windows: make([]window, s.n()), unread: make([]error, s.n())}
	for i := range s.n() {
		if d := s.dirOf(i); d == nil || !d.readable() {
			continue
		}
		if h, ok := r.one(ctx, i, last.block); r.unread[i] == nil && ctx.Err() == nil && (!ok || infoOfHeader(h, last.block) != last) {
			l.suspects.add(s.id)
		}
	}
}

// whole tells whether k shards of a stripe past every mark are valid. A present directory that cannot be read is taken out
// of service: unknown is not missing, and only what is absent has no say in where a segment ends.
func (l *Log) whole(ctx context.Context, s *segment, st stripeInfo) (bool, error) {
	got, err := l.loadStripe(ctx, s, st.block, st.shard, true)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			return false, nil
		}
		for i := range s.n() {
			if d := s.dirOf(i); d != nil && d.readable() {
				b := make([]byte, headerBytes)
				if err, _ := l.readShard(ctx, s, i, b, st.offset()); outOfReach(err) {
					d.setOffline(err)
				}
			}
		}
		return false, ctx.Err()
	}
	defer got.release()
	for i, err := range got.errs {
		if d := s.dirOf(i); d != nil && d.readable() && outOfReach(err) {
			d.setOffline(err)
		}
	}
	return got.h.stripe == st.number && got.h.digest == st.digest, nil
}

const (
	windowSmall = 4096
	windowLarge = 64 << 10
)

// A window is a part of a shard file in memory.
type window struct {
	off int64
	b   []byte
}

// A headerReader reads the headers of one segment, a window at a time where stripes are small.
type headerReader struct {
	l       *Log
	s       *segment
	windows []window
	size    int64
	unread  []error // by shard: why its last header could not be read, when that says nothing about the shard
}

// dismiss takes directories out of service that could not be read where the segment seems to end. They have no say any
// longer, and whether enough are left to decide is for the membership rule.
func (r *headerReader) dismiss() {
	for i, err := range r.unread {
		if d := r.s.dirOf(i); err != nil && d != nil && d.readable() {
			d.setOffline(err)
		}
	}
}

// scanBytes is how much of a shard file is looked at at once behind the end of the chain of headers.
const scanBytes = 1 << 20

// scan learns the marks in all headers from block on: one of them may vouch for the very stripe at which the chain broke.
// What lies there is mostly preallocated and never written.
func (r *headerReader) scan(ctx context.Context, block uint32) {
	var wg sync.WaitGroup
	for i := range r.s.n() {
		if d := r.s.dirOf(i); d != nil && d.readable() {
			wg.Go(func() { r.scanShard(ctx, d, i, int64(block)*blockBytes) })
		}
	}
	wg.Wait()
}

func (r *headerReader) scanShard(ctx context.Context, d *dir, shard int, off int64) {
	for ctx.Err() == nil {
		b := make([]byte, scanBytes) // read by a goroutine that may be left behind: not used twice
		var n int
		got := make(chan int, 1)
		err, _ := d.guard(ctx, func() error {
			f, err := r.l.files.get(r.s, shard, d)
			if err != nil {
				return err
			}
			defer r.l.files.put(f)
			n, err := f.f.ReadAt(b, off)
			got <- n
			return err
		})
		select {
		case n = <-got:
		default:
		}
		if outOfReach(err) && !errors.Is(err, io.EOF) && ctx.Err() == nil {
			d.setOffline(err)
			return
		}
		for at := 0; at+headerBytes <= n; at += blockBytes {
			if h, err := decodeHeader(b[at:]); err == nil && r.s.belongs(r.l.store, h) && int(h.index) == shard {
				r.l.noteMarks(h)
			}
		}
		if err != nil || n < len(b) {
			return
		}
		off += scanBytes
	}
}

// at returns the header at block on which need shards agree.
func (r *headerReader) at(ctx context.Context, block uint32, need int) (header, bool) {
	votes := map[header]int{}
	r.unread = make([]error, r.s.n())
	for i := range r.s.n() {
		h, ok := r.one(ctx, i, block)
		if !ok {
			continue
		}
		if votes[h.shared()]++; votes[h.shared()] >= need {
			return h.shared(), true
		}
	}
	return header{}, false
}

// one returns the header of one shard when it belongs there.
func (r *headerReader) one(ctx context.Context, shard int, block uint32) (header, bool) {
	off := int64(block) * blockBytes
	w := &r.windows[shard]
	if off < w.off || off+headerBytes > w.off+int64(len(w.b)) {
		size := windowSmall
		if gap := off - w.off; w.b != nil && gap > 0 && gap < 4*windowLarge {
			size = windowLarge
		}
		b, err := r.read(ctx, shard, off, size)
		if err != nil {
			if outOfReach(err) && r.s.dirOf(shard) != nil && ctx.Err() == nil {
				r.unread[shard] = err
			}
			return header{}, false
		}
		w.off, w.b = off, b
	}
	if at := off - w.off; at+headerBytes <= int64(len(w.b)) {
		h, err := decodeHeader(w.b[at:])
		if err == nil && r.s.belongs(r.l.store, h) && int(h.index) == shard {
			r.l.noteMarks(h)
			return h, true
		}
	}
	return header{}, false
}

// read returns up to size bytes at off; fewer at the end of the file.
func (r *headerReader) read(ctx context.Context, shard int, off int64, size int) ([]byte, error) {
	b := make([]byte, size)
	err, abandoned := r.l.readShard(ctx, r.s, shard, b, off)
	if errors.Is(err, io.ErrUnexpectedEOF) && !abandoned {
		b = make([]byte, size)
		for n := size / 2 &^ (headerBytes - 1); n >= headerBytes; n = n / 2 &^ (headerBytes - 1) {
			if err, abandoned := r.l.readShard(ctx, r.s, shard, b[:n], off); err == nil {
				return b[:n], nil
			} else if abandoned {
				break
			}
		}
	}
	return b, err
}

// length is that of the longest shard file.
func (r *headerReader) length(ctx context.Context) int64 {
	if r.size > 0 {
		return r.size
	}
	for i := range r.s.n() {
		if d := r.s.dirOf(i); d != nil && d.readable() {
			path := r.s.path(d, i)
			size := make(chan int64, 1)
			_, _ = d.guard(ctx, func() error {
				fi, err := r.l.fs.Stat(path)
				size <- fi.Size
				return err
			})
			select {
			case n := <-size:
				r.size = max(r.size, n)
			default:
			}
		}
	}
	return r.size
}
