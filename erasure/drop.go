package erasure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A gate counts who uses a segment, so that its files are not taken from under a reader.
type gate struct {
	mu    sync.Mutex
	users int
	idle  chan struct{} // set when the segment left the live set; closed when nobody uses it any more
}

// enter is false when the segment is not live any more; else leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		return false
	}
	g.users++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users == 0 && g.idle != nil {
		close(g.idle)
	}
}

// shut lets nobody in any more. The channel is closed when everybody is out.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle == nil {
		if g.idle = make(chan struct{}); g.users == 0 {
			close(g.idle)
		}
	}
	return g.idle
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.idle != nil
}

// use returns a live segment that will not be dropped before it was given back with s.gate.leave, or nil.
func (l *Log) use(id SegmentID) *segment {
	if s := l.lookup(id); s != nil && s.gate.enter() {
		return s
	}
	return nil
}

// A voidSet holds the segments that do not count, whichever directory brings files of them. It is guarded by Log.segMu.
type voidSet struct {
	ids  map[SegmentID]bool     // true: their files may be removed
	next SegmentID              // below it is void what is not in live
	live map[SegmentID]struct{} // see SetLive
}

func (v *voidSet) has(id SegmentID) bool {
	if _, ok := v.ids[id]; ok {
		return true
	}
	_, live := v.live[id]
	return id < v.next && !live
}

// removable tells whether the files of a segment may be removed for good.
func (v *voidSet) removable(id SegmentID) bool {
	mine, ok := v.ids[id]
	return v.has(id) && (mine || !ok)
}

// void tells whether a segment does not count, whichever directory brings files of it.
func (l *Log) void(id SegmentID) bool {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	return l.voids.has(id)
}

// SetDropped tells the log that segments were dropped: they are void, whichever directory brings files of them, now or later.
// Recover removes what is left of them. It is called before Recover, with all drops of the catalog that no SetLive covers;
// FindEnds does it with those in the tail of the log.
func (l *Log) SetDropped(ids []SegmentID) {
	l.segMu.Lock()
	for _, id := range ids {
		l.voids.ids[id] = true
		l.maxID = max(l.maxID, id)
		l.forget(id)
	}
	l.segMu.Unlock()
	l.relearnParity()
	l.findHoles()
}

// SetLive tells the log that of the segments below next those in live counted, and no others, when it was at next: see Live.
// It is called before Recover. Segments that were dropped later are for SetDropped and FindEnds.
func (l *Log) SetLive(next SegmentID, live []SegmentID) {
	l.segMu.Lock()
	l.voids.next, l.voids.live = next, make(map[SegmentID]struct{}, len(live))
	for _, id := range live {
		l.voids.live[id] = struct{}{}
	}
	if next > 0 {
		l.maxID = max(l.maxID, next-1)
	}
	for id := range l.segs {
		if l.voids.has(id) {
			l.forget(id)
		}
	}
	l.segMu.Unlock()
	l.relearnParity()
	l.findHoles()
}

// Live returns the next segment number and, by number, every segment below it that is live, is about to be, or was retired
// and not dropped yet. What of the segments below next is not among them will never count again.
func (l *Log) Live() (next SegmentID, live []SegmentID) {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	live = slices.Collect(maps.Keys(l.segs))
	live = slices.AppendSeq(live, maps.Keys(l.retired))
	live = slices.AppendSeq(live, maps.Keys(l.creating))
	live = slices.DeleteFunc(live, l.voids.has) // retired, and the drop is durable
	slices.Sort(live)
	return l.maxID + 1, slices.Compact(live)
}

// forget removes all that is known of a segment. The caller holds segMu.
func (l *Log) forget(id SegmentID) {
	if s := l.segs[id]; s != nil {
		s.gate.shut()
	}
	delete(l.segs, id)
	l.unlearn(id)
}

// unlearn forgets where a segment ends. The caller holds segMu.
func (l *Log) unlearn(id SegmentID) {
	delete(l.verdicts, id)
	l.marksMu.Lock()
	delete(l.marks, id)
	l.marksMu.Unlock()
}

// Retire takes segments out of the live set, in memory: to read there gives ErrNotFound from now on, and they are no longer
// listed, replayed, scrubbed or healed. Their files stay until Drop, and a start before that has them back. Retiring twice does no harm.
//
// A segment must be closed and lie wholly before Position, else the error is ErrSegmentOpen: so a position that is written down
// after Retire is never in a segment that is dropped. Segments that are not live are ErrNotFound. With an error nothing is retired.
func (l *Log) Retire(ids []SegmentID) error {
	pos := l.Position()
	l.segMu.Lock()
	defer l.segMu.Unlock()
	for _, id := range ids {
		s := l.segs[id]
		if s == nil && l.retired[id] != nil {
			continue
		}
		if s == nil {
			return fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(id))
		}
		s.mu.Lock()
		open, last := s.open || s.unproven, s.lastSeq
		s.mu.Unlock()
		switch {
		case open:
			return fmt.Errorf("%w: %016x", ErrSegmentOpen, uint64(id))
		case s.class != Snapshot && last > 0 && last >= pos.Seq:
			return fmt.Errorf("%w: %016x holds the newest stripe", ErrSegmentOpen, uint64(id))
		}
	}
	for _, id := range ids {
		if s := l.segs[id]; s != nil {
			s.gate.shut()
			l.retired[id] = s
			delete(l.segs, id)
		}
	}
	return nil
}

// Drop removes segments for good. The caller has made a record durable that FindEnds will find, or that leads to SetDropped at
// every later start, and everything that a start needs of them is elsewhere: the mutations in them are in the catalog that it
// begins with, and in every older one that it may fall back to.
//
// Segments that were not retired are now, with the errors of Retire; after these nothing was dropped. Drop waits until nobody uses
// the segments and removes their files from all directories in service. What cannot be removed is void, and goes at a later
// start. When the context ends first nothing was removed; calling Drop again, or a later start, does it.
func (l *Log) Drop(ctx context.Context, ids []SegmentID) error {
	if l.closed.Load() {
		return ErrClosed
	}
	if !l.recovered.Load() {
		return fmt.Errorf("%w: not recovered yet", ErrReadOnly)
	}
	l.segMu.RLock()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id SegmentID) bool { return l.retired[id] == nil && l.segs[id] == nil && l.voids.has(id) }) // done
	l.segMu.RUnlock()
	slices.Sort(ids) // an order in which to take locks
	ids = slices.Compact(ids)
	if err := l.Retire(ids); err != nil {
		return err
	}
	var gone []*segment
	l.segMu.Lock()
	for _, id := range ids {
		gone = append(gone, l.retired[id])
		l.voids.ids[id] = true
		l.unlearn(id)
	}
	l.segMu.Unlock()
	l.relearnParity()
	l.suspects.remove(ids)
	doomed := map[SegmentID]bool{}
	for _, s := range gone {
		select {
		case <-s.gate.shut():
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := l.scrubs.lock(ctx, s.id); err != nil { // whoever writes shard files of a closed segment holds it
			return err
		}
		defer l.scrubs.unlock(s.id)
		doomed[s.id] = true
	}
	l.unlinkSegments(l.dirs(), func(id SegmentID) bool { return doomed[id] })
	l.segMu.Lock()
	for _, s := range gone {
		delete(l.retired, s.id)
	}
	l.segMu.Unlock()
	for _, s := range gone {
		l.files.forgetSegment(s.id)
	}
	l.findHoles()
	l.settleParity()
	l.metrics.dropped.Add(float64(len(gone)))
	l.lookAll() // there is room again
	return nil
}

// sweep removes what is left of void segments.
func (l *Log) sweep(dirs []*dir) {
	l.unlinkSegments(dirs, func(id SegmentID) bool {
		l.segMu.RLock()
		defer l.segMu.RUnlock()
		return l.segs[id] == nil && l.retired[id] == nil && l.voids.removable(id)
	})
}

// anyVoid tells whether there may be something to sweep.
func (l *Log) anyVoid() bool {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	return len(l.voids.ids) > 0 || l.voids.next > 0
}

// unlinkSegments removes every file of the segments that are doomed. One job of the background lane does one file: removing a large one
// takes its time.
func (l *Log) unlinkSegments(dirs []*dir, doomed func(SegmentID) bool) {
	var wg sync.WaitGroup
	for _, d := range dirs {
		if d.readable() {
			wg.Go(func() { l.unlinkDir(d, doomed) })
		}
	}
	wg.Wait()
}

func (l *Log) unlinkDir(d *dir, doomed func(SegmentID) bool) {
	run := func(fn func() error) error { return firstError(runAll(laneBackground, []task{{d, fn}})) }
	got := make(chan []string, 1) // a job that is given up may still end
	err := run(func() error {
		names, err := l.fs.ReadDir(d.segments())
		got <- names
		return err
	})
	if err != nil {
		return // the directory is out of service
	}
	removed := 0
	for _, name := range <-got {
		id, _, _, ok := parseShardName(strings.TrimSuffix(name, tmpExtension))
		if !ok || !doomed(id) {
			continue
		}
		path := filepath.Join(d.segments(), name)
		if run(func() error {
			if err := l.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.log.LogAttrs(context.Background(), slog.LevelWarn, "file of a dropped segment cannot be removed; a later start tries again",
					slog.String("path", path), slog.String("cause", err.Error()))
			}
			return nil
		}) != nil {
			return
		}
		removed++
	}
	if removed > 0 {
		_ = run(func() error { _ = l.fs.SyncDir(d.segments()); return nil }) // what comes back is void
	}
}

// Dropped tells whether a segment was dropped, or is void for another reason that is final.
func (l *Log) Dropped(id SegmentID) bool { return l.void(id) }

// IsLive tells whether a segment is in the live set.
func (l *Log) IsLive(id SegmentID) bool { return l.lookup(id) != nil }
