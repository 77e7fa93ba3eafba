package erasure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
)

// A Duplicate is a shard file of which more than one directory has a copy: a move was cut short, or a directory came back
// whose shards were rebuilt elsewhere.
type Duplicate struct {
	Segment SegmentID
	Shard   int
	Dirs    []string // IDs of the directories; the first one is read
}

type shardKey struct {
	segment SegmentID
	shard   int
}

// A duplicateSet remembers where the copies of shard files are that are not read: one entry for each.
type duplicateSet struct {
	mu   sync.Mutex
	dirs map[shardKey][]*dir
	sure map[shardKey]bool // every copy was read, and none of them is wholly right: there is nothing to be had from them
}

func (q *duplicateSet) add(id SegmentID, shard int, d *dir) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := shardKey{id, shard}
	if q.dirs == nil {
		q.dirs, q.sure = map[shardKey][]*dir{}, map[shardKey]bool{}
	}
	delete(q.sure, key)
	if !slices.Contains(q.dirs[key], d) {
		q.dirs[key] = append(q.dirs[key], d)
	}
}

func (q *duplicateSet) remove(id SegmentID, shard int, d *dir) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := shardKey{id, shard}
	if i := slices.Index(q.dirs[key], d); i >= 0 {
		q.dirs[key] = slices.Delete(slices.Clone(q.dirs[key]), i, i+1)
	}
	if len(q.dirs[key]) == 0 {
		delete(q.dirs, key)
		delete(q.sure, key)
	}
}

func (q *duplicateSet) forget(key shardKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.dirs, key)
	delete(q.sure, key)
}

// forgetDir forgets the copies in a directory that is not in use any more.
func (q *duplicateSet) forgetDir(d *dir) {
	q.mu.Lock()
	var keys []shardKey
	for key, dirs := range q.dirs {
		if slices.Contains(dirs, d) {
			keys = append(keys, key)
		}
	}
	q.mu.Unlock()
	for _, key := range keys {
		q.remove(key.segment, key.shard, d)
	}
}

// of returns the directories that have another copy of a shard file.
func (q *duplicateSet) of(id SegmentID, shard int) []*dir {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.dirs[shardKey{id, shard}])
}

// promising tells whether a copy that is not read may have what the other one lacks.
func (q *duplicateSet) promising(id SegmentID, shard int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := shardKey{id, shard}
	return len(q.dirs[key]) > 0 && !q.sure[key]
}

func (q *duplicateSet) setSure(id SegmentID, shard int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if key := (shardKey{id, shard}); len(q.dirs[key]) > 0 {
		q.sure[key] = true
	}
}

// Duplicates lists the shard files of live segments of which several directories that are in service have a copy.
func (l *Log) Duplicates() []Duplicate {
	l.duplicates.mu.Lock()
	keys := make([]shardKey, 0, len(l.duplicates.dirs))
	for key := range l.duplicates.dirs {
		keys = append(keys, key)
	}
	l.duplicates.mu.Unlock()
	slices.SortFunc(keys, func(a, b shardKey) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.shard, b.shard))
	})
	var list []Duplicate
	for _, key := range keys {
		s := l.lookup(key.segment)
		if s == nil {
			if l.void(key.segment) {
				l.duplicates.forget(key)
			}
			continue
		}
		d := Duplicate{Segment: key.segment, Shard: key.shard}
		if home := s.dirOf(key.shard); home != nil && home.readable() {
			d.Dirs = append(d.Dirs, home.id)
		}
		for _, other := range l.duplicates.of(key.segment, key.shard) {
			if other.readable() {
				d.Dirs = append(d.Dirs, other.id)
			}
		}
		if len(d.Dirs) > 1 {
			list = append(list, d)
		}
	}
	return list
}

// ResolveDuplicate leaves one copy of a shard file. It keeps the copy in a directory that holds no other shard of the segment, is not
// being emptied, and has most room, if that can be made right: what is not right there is taken from the other copies, or rebuilt. The
// others go only when every stripe of the one that stays was read past the page cache and found right, or was rewritten and read
// back; then readers go over to it. When no copy can be made right all stay, and the error matches ErrCorrupt, or ErrUnavailable
// while directories are out of service. A shard file without a duplicate is left alone.
//
// Other errors, and what runs beside it, are as with MoveShard.
func (l *Log) ResolveDuplicate(ctx context.Context, id SegmentID, shard int, o MoveOptions) error {
	s, unlock, err := l.still(ctx, id, shard)
	if err != nil {
		return err
	}
	defer unlock()
	return l.resolve(ctx, s, shard, nil, o)
}

// still returns a segment whose shard files nobody else changes until unlock is called.
func (l *Log) still(ctx context.Context, id SegmentID, shard int) (s *segment, unlock func(), err error) {
	if err := l.stopped(); err != nil {
		return nil, nil, err
	}
	if !l.recovered.Load() {
		return nil, nil, fmt.Errorf("%w: the log is not recovered", ErrReadOnly)
	}
	if err := l.scrubs.lock(ctx, id); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			l.scrubs.unlock(id)
		}
	}()
	used := l.use(id)
	if used == nil {
		return nil, nil, fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(id))
	}
	defer func() {
		if err != nil {
			used.gate.leave()
		}
	}()
	s = used
	if shard < 0 || shard >= len(s.homes) {
		return nil, nil, fmt.Errorf("%w: segment %016x has no shard %d", ErrNotFound, uint64(id), shard)
	}
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	if open {
		return nil, nil, fmt.Errorf("%w: %016x", ErrSegmentOpen, uint64(id))
	}
	if !s.known && !(l.hasEnd(s) && l.goal(s) == 0) {
		return nil, nil, fmt.Errorf("%w: segment %016x", ErrUnavailable, uint64(id))
	}
	return s, func() { s.gate.leave(); l.scrubs.unlock(id) }, nil
}

// resolveAll resolves the duplicates of a segment, as far as possible.
func (l *Log) resolveAll(ctx context.Context, s *segment, o MoveOptions) error {
	for shard := range s.homes {
		if err := l.resolve(ctx, s, shard, nil, o); err != nil {
			l.log.LogAttrs(ctx, slog.LevelWarn, "two copies of a shard file stay", slog.String("file", shardName(s.id, s.class, shard)), slog.String("cause", err.Error()))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// resolve leaves one copy of a shard file, that in prefer when it is there. The segment is still.
func (l *Log) resolve(ctx context.Context, s *segment, shard int, prefer *dir, o MoveOptions) error {
	dups := l.duplicates.of(s.id, shard)
	if !slices.ContainsFunc(dups, (*dir).readable) {
		return nil
	}
	c := l.newScrubber(s, ScrubOptions{Repair: true, Throttle: o.Throttle})
	defer c.close()
	c.open(ctx)
	home := s.dirOf(shard)
	if !s.known { // then it opened nothing
		c.files = make([]scrubFile, shardsMax)
		c.files[shard].d = home
	}
	var copies []int
	if home != nil && home.readable() && (c.files[shard].f != nil || !s.known) {
		copies = append(copies, shard)
	}
	for _, d := range dups {
		if i := c.openCopy(ctx, d, shard); i >= 0 {
			copies = append(copies, i)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(copies) == 0 || len(copies) == 1 && copies[0] == shard {
		return nil
	}
	l.order(c, copies, shard, prefer)
	empty := c.view.count == 0 && !c.view.sealed && c.goal == 0
	kept, sure := -1, true
	for i, keep := range copies {
		if empty {
			kept = keep // the file says nothing, and a missing one neither
			break
		}
		others := slices.Delete(slices.Clone(copies), i, i+1)
		m := &shardCopier{c: c, shard: shard, target: keep, copies: append([]int{keep}, others...)}
		err := c.sync(keep)
		if err == nil {
			err = m.all(ctx)
		}
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if err == nil && m.lost == 0 {
			kept = keep
			break
		}
		sure = sure && err == nil && m.unread == 0
	}
	if kept < 0 {
		if sure && l.outOfService() == 0 {
			l.duplicates.setSure(s.id, shard)
		}
		return fmt.Errorf("two copies of shard %d: %w", shard, l.beyond(s, 0))
	}
	return l.keep(c, s, shard, home, copies, kept)
}

// openCopy opens a copy that is not read, and returns its index in c.files, or -1.
func (c *scrubber) openCopy(ctx context.Context, d *dir, shard int) int {
	if !d.readable() {
		return -1
	}
	path := c.s.path(d, shard)
	f, size, err := c.l.openFile(ctx, d, path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.l.present(ctx, d):
		c.l.duplicates.remove(c.s.id, shard, d)
		return -1
	case err != nil:
		d.readFailed(err)
		return -1
	}
	c.files = append(c.files, scrubFile{d: d, path: path, f: f, size: size, short: -1})
	return len(c.files) - 1
}

// sync makes a shard file, and its name, durable: a process that died may have left it in the page cache only, where dropping pages does
// nothing to those that were never written.
func (c *scrubber) sync(i int) error {
	f := &c.files[i]
	w := c.writable(i)
	if w == nil {
		return fmt.Errorf("erasure: writing %s: %s", f.path, f.why)
	}
	return c.heal(f.d, func() error {
		if err := c.l.syncFile(w, f.path); err != nil {
			return err
		}
		return c.l.fs.SyncDir(f.d.segments())
	})
}

// order sorts copies, the one that should stay first.
func (l *Log) order(c *scrubber, copies []int, shard int, prefer *dir) {
	type rank struct {
		last bool  // not the one that was asked for
		same int   // other shards of the segment in the directory
		free int64 // of which more is better
	}
	ranks := map[int]rank{}
	for _, i := range copies {
		d := c.files[i].d
		r := rank{last: d != prefer}
		for other := range c.s.homes {
			if other != shard && c.s.dirOf(other) == d {
				r.same++
			}
		}
		if d.draining() {
			r.same += shardsMax
		}
		r.free, _ = d.free() // one that cannot be asked comes last
		ranks[i] = r
	}
	slices.SortStableFunc(copies, func(a, b int) int {
		x, y := ranks[a], ranks[b]
		if x.last != y.last {
			if y.last {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(x.same, y.same), cmp.Compare(y.free, x.free))
	})
}

// keep has readers use one copy, and removes the others.
func (l *Log) keep(c *scrubber, s *segment, shard int, home *dir, copies []int, kept int) error {
	d := c.files[kept].d
	if l.lookup(s.id) != s || !c.rehome(shard, home, d) {
		return fmt.Errorf("%w: segment %016x was dropped, or its shard files have moved", ErrNotFound, uint64(s.id))
	}
	l.duplicates.remove(s.id, shard, d)
	if home != nil && !slices.Contains(copies, shard) && !c.files[shard].missing {
		l.duplicates.add(s.id, shard, home) // out of reach
	}
	for _, i := range copies {
		if i != kept {
			l.discardCopy(s, shard, c.files[i].d)
		}
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "one copy of a shard file is left of two", slog.String("path", s.path(d, shard)))
	return nil
}

// discardCopy removes a shard file that is read no more, durably. One that stays is a duplicate.
func (l *Log) discardCopy(s *segment, shard int, d *dir) {
	path := s.path(d, shard)
	err := errOffline
	if d.readable() && l.present(context.Background(), d) { // else what is at path is somebody else's
		var abandoned bool
		err, abandoned = d.guard(context.Background(), func() error {
			if err := l.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return l.fs.SyncDir(d.segments())
		})
		if err != nil && !abandoned {
			d.failed(err)
		}
	}
	if err == nil {
		l.duplicates.remove(s.id, shard, d)
		return
	}
	l.duplicates.add(s.id, shard, d)
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "shard file that is not read any more stays", slog.String("path", path), slog.String("cause", err.Error()))
}

// beyond says that a shard can neither be read nor rebuilt at an offset.
func (l *Log) beyond(s *segment, off int64) error {
	if l.outOfService() > 0 {
		return fmt.Errorf("%w: segment %016x at offset %d", ErrUnavailable, uint64(s.id), off)
	}
	return &CorruptError{Segment: s.id, Offset: off, Need: s.k}
}
