package erasure

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
)

// createSegment makes a new segment with room for the stripes of bs: its files exist durably on every directory before it
// is returned, so that a later start with any quorum sees its number. Directories that fail are put out of service and the
// rest is tried.
func (l *Log) createSegment(c Class, bs []*builder) (*openSegment, error) {
	for {
		if err := l.membership(); err != nil {
			return nil, err
		}
		o, err := l.tryCreate(c, bs)
		switch {
		case err == nil:
			if c != Snapshot {
				l.openMarks[classIndex(c)].Store(mark{segment: o.id})
			}
			l.log.LogAttrs(context.Background(), slog.LevelDebug, "segment opened", slog.Uint64("segment", uint64(o.id)), slog.String("class", c.String()),
				slog.Int("k", o.k), slog.Int("m", o.m))
			return o, nil
		case errors.Is(err, ErrClosed) || errors.Is(err, ErrNoSpace) || isShortage(err):
			return nil, err
		}
		// A directory went out of service, or the membership rule says no now.
	}
}

// tryCreate makes one attempt. Its error may be that of a directory that is out of service now.
func (l *Log) tryCreate(c Class, bs []*builder) (*openSegment, error) {
	l.placing.RLock()
	defer l.placing.RUnlock()
	code := l.code()
	m := code.M
	dirs := l.choose(code.K+m, needFor(bs))
	if len(dirs) < m+1 {
		if err := l.membership(); err != nil { // a directory went out of service meanwhile
			return nil, err
		}
		return nil, ErrNoSpace
	}
	s := &segment{class: c, known: true, k: len(dirs) - m, m: m, nonce: l.random(), homes: newHomes(len(dirs), dirs...), settled: make(chan struct{}), open: true, surveyed: true, unproven: c == Snapshot}
	l.segMu.Lock()
	l.maxID++
	s.id = l.maxID
	l.creating[s.id] = struct{}{}
	l.segMu.Unlock()
	o := &openSegment{segment: s, dirs: dirs, handles: make([]File, len(dirs)), lane: laneMetadata}
	switch c {
	case Data:
		o.lane = laneData
	case Snapshot:
		o.lane = laneBackground
	}
	need := roundUp(storedFor(bs, s.k), blockBytes)
	size := max(l.step(c), need)
	for _, d := range dirs {
		if l.roomIn(d, TierUpload) < size {
			size = max(need, blockBytes)
		}
	}
	if err := l.createFiles(o, size); err != nil {
		l.discard(o)
		l.segMu.Lock()
		delete(l.creating, s.id)
		l.segMu.Unlock()
		return nil, err
	}
	l.segMu.Lock()
	l.segs[s.id] = s
	delete(l.creating, s.id)
	l.learnParity(m)
	l.segMu.Unlock()
	return o, nil
}

func classIndex(c Class) int {
	if c == Metadata {
		return 0
	}
	return 1
}

// choose picks up to n directories that have room for a new segment: those with the most room when it differs by much, else in turn.
func (l *Log) choose(n int, need func(k int) int64) []*dir {
	c := l.roomiest(need)
	l.segMu.RLock()
	turn := int(l.maxID)
	l.segMu.RUnlock()
	if len(c) == 0 {
		return nil
	}
	turn %= len(c)
	c = append(slices.Clone(c[turn:]), c[:turn]...)
	if len(c) <= n {
		return c
	}
	free := make(map[*dir]int64, len(c))
	for _, d := range c {
		free[d], _ = d.free() // one that cannot be asked comes last
	}
	most := slices.Max(slices.Collect(mapValues(free, c)))
	slices.SortStableFunc(c, func(a, b *dir) int {
		roomy := func(d *dir) int {
			if free[d] >= most-most/8 {
				return 0
			}
			return 1
		}
		if ra, rb := roomy(a), roomy(b); ra != rb || ra == 0 {
			return ra - rb
		}
		switch {
		case free[a] > free[b]:
			return -1
		case free[a] < free[b]:
			return 1
		}
		return 0
	})
	return c[:n]
}

func mapValues(free map[*dir]int64, c []*dir) func(func(int64) bool) {
	return func(yield func(int64) bool) {
		for _, d := range c {
			if !yield(free[d]) {
				return
			}
		}
	}
}

func (l *Log) createFiles(o *openSegment, size int64) error {
	tasks := make([]task, len(o.dirs))
	for i, d := range o.dirs {
		tasks[i] = task{d, func() error {
			f, err := l.fs.OpenFile(o.path(i), os.O_RDWR|os.O_CREATE|os.O_EXCL)
			if err != nil {
				return err
			}
			if err := errors.Join(f.Allocate(0, size), f.Sync()); err != nil {
				f.Close()
				return err
			}
			if err := l.fs.SyncDir(d.segments()); err != nil {
				f.Close()
				return err
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.ended { // given up while this one hung
				return f.Close()
			}
			o.handles[i] = f
			return nil
		}}
	}
	for _, d := range o.dirs {
		l.spend(d, size)
	}
	o.allocated = size
	return firstError(runAll(laneControl, tasks))
}

// discard removes the files of a segment that never took a stripe. Its number is not used again.
func (l *Log) discard(o *openSegment) {
	o.mu.Lock()
	o.ended = true
	handles := slices.Clone(o.handles)
	o.mu.Unlock()
	for i, d := range o.dirs {
		d.lanes[laneControl].do(func() error {
			if handles[i] != nil {
				handles[i].Close()
			}
			_ = l.fs.Remove(o.path(i)) // what stays is empty and gets a verdict at the next start
			return nil
		}, func(error, bool) {})
	}
}
