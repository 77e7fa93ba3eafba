package erasure

import (
	"context"
	"log/slog"
	"os"
	"sync"
)

// Recover ends every segment that is neither sealed nor ended where it was torn, makes what counts durable on all present
// directories, and opens the log for writing. It returns the new verdicts; the caller commits them, as mutations, before
// anything else is served. What is left of void segments is removed in the background. When the membership rule forbids writing
// it decides nothing, returns nothing, and WriteState says why.
//
// It may be called again when the members have changed since. What Replay gave then still is all there is, unless Probe took a
// directory back meanwhile: that may have brought stripes that were out of sight.
func (l *Log) Recover(ctx context.Context) ([]Verdict, error) {
	if l.recovered.Load() {
		return nil, nil
	}
	if err := l.surveyAll(ctx); err != nil {
		return nil, err
	}
	l.resume()
	if err := l.membership(); err != nil {
		return nil, nil // WriteState tells
	}
	var vs []Verdict
	var torn []*segment
	for _, s := range l.liveSegments() {
		s.mu.Lock()
		if !s.sealed && !s.ended && !s.open {
			torn = append(torn, s)
		}
		s.mu.Unlock()
	}
	for _, s := range torn {
		if err := l.heal(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := l.membership(); err != nil {
		return nil, nil // directories failed while they were healed
	}
	for _, s := range torn {
		goal := l.goal(s)
		s.mu.Lock()
		s.ended, s.verdict = true, Verdict{Segment: s.id, Stripes: s.count, Digest: s.digest}
		if goal > s.count { // durable once and not found: a directory that comes back may have them
			s.verdict.Stripes, s.verdict.Digest = goal, [16]byte{}
		}
		v := s.verdict
		s.mu.Unlock()
		vs = append(vs, v)
		l.segMu.Lock()
		l.verdicts[v.Segment] = v
		l.segMu.Unlock()
		l.log.LogAttrs(ctx, slog.LevelInfo, "segment recovered", slog.Uint64("segment", uint64(v.Segment)), slog.Uint64("stripes", uint64(v.Stripes)))
	}
	l.recovered.Store(true)
	l.settleParity()
	if l.anyVoid() {
		l.background.Go(func() { l.sweep(l.dirs()) })
	}
	return vs, nil
}

// seqGap is added to the sequence at each start. A stripe that only absent directories hold is then still older than what
// comes: such a stripe was never durable, and far fewer than that are in flight at once.
const seqGap = 1 << 20

// resume sets sequence, segment number and position behind everything that was ever seen.
func (l *Log) resume() {
	l.marksMu.Lock()
	seq, id := l.seenSeq, l.markedID
	l.marksMu.Unlock()
	var pos Position
	for _, s := range l.liveSegments() {
		if s.class == Snapshot {
			continue
		}
		s.mu.Lock()
		seq = max(seq, s.lastSeq)
		if s.count > 0 && s.lastSeq > pos.Seq {
			pos = Position{Seq: s.lastSeq, Segment: s.id, Stripe: s.count - 1, Digest: s.digest}
		}
		s.mu.Unlock()
	}
	l.segMu.Lock()
	l.maxID = max(l.maxID, id)
	l.segMu.Unlock()
	l.mu.Lock()
	l.position = pos
	if l.seq = seq; seq > 0 {
		l.seq += seqGap
	}
	l.mu.Unlock()
}

// heal rewrites every shard of the stripes that no mark vouched for on all present directories and syncs them. Those that
// look right are rewritten too: they may be in the page cache only, after an fsync that failed before the last process
// died.
func (l *Log) heal(ctx context.Context, s *segment) error {
	s.mu.Lock()
	tail := s.stripes[s.tail:]
	s.mu.Unlock()
	if len(tail) == 0 {
		return nil
	}
	homes := s.homeDirs()
	handles := l.openForHealing(s, homes)
	defer func() {
		for i, f := range handles {
			if f != nil {
				homes[i].closeFile(f)
			}
		}
	}()
	var tasks []task
	for _, st := range tail {
		if err := l.healStripe(ctx, s, st, homes, handles); err != nil {
			return err
		}
	}
	for i, d := range homes {
		if d != nil && handles[i] != nil && d.readable() {
			tasks = append(tasks, task{d, func() error { return l.syncFile(handles[i], s.path(d, i)) }})
		}
	}
	runAll(laneControl, tasks) // a directory that fails is offline, and membership is checked again
	return nil
}

// openForHealing opens the shard files of a segment for writing; nil stands for those that cannot be.
func (l *Log) openForHealing(s *segment, homes []*dir) []File {
	var mu sync.Mutex
	handles := make([]File, s.n())
	late := false
	var tasks []task
	for i, d := range homes {
		if d == nil || !d.readable() {
			continue
		}
		tasks = append(tasks, task{d, func() error {
			f, err := l.fs.OpenFile(s.path(d, i), os.O_RDWR)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if late { // given up while it hung
				return f.Close()
			}
			handles[i] = f
			return nil
		}})
	}
	runAll(laneControl, tasks)
	mu.Lock()
	defer mu.Unlock()
	late = true
	return handles
}

func (l *Log) healStripe(ctx context.Context, s *segment, st stripeInfo, homes []*dir, handles []File) error {
	got, err := l.loadStripe(ctx, s, st.block, st.shard, true)
	if err != nil {
		return err
	}
	bad := got.bad()
	if s.m > 0 {
		enc, err := l.codecs.get(s.k, s.m)
		if err != nil {
			return err
		}
		if err := enc.Reconstruct(got.shards); err != nil {
			return err
		}
	}
	var tasks []task
	for i, d := range homes {
		if d == nil || handles[i] == nil || !d.readable() {
			continue
		}
		h := got.h
		h.index, h.sum = uint8(i), sum128(got.shards[i])
		buf := make([]byte, h.stored())
		h.encode(buf)
		copy(buf[headerBytes:], got.shards[i])
		tasks = append(tasks, task{d, func() error {
			_, err := handles[i].WriteAt(buf, st.offset())
			return err
		}})
	}
	errs := runAll(laneControl, tasks)
	got.release()
	healed := 0
	for _, i := range bad {
		if homes[i] != nil && handles[i] != nil {
			healed++
		}
	}
	if firstError(errs) == nil && healed > 0 {
		l.metrics.healed.Add(float64(healed))
		l.log.LogAttrs(ctx, slog.LevelWarn, "shards healed", slog.Uint64("segment", uint64(s.id)), slog.Uint64("stripe", uint64(st.number)), slog.Any("shards", bad))
	}
	return nil
}
