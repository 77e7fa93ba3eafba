package erasure

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// MoveOptions say how a shard file is moved.
type MoveOptions struct {
	// Throttle is called before each read with the bytes that it will read. Its error ends the move.
	Throttle func(ctx context.Context, bytes int) error
}

// MoveShard moves the file of one shard of a segment to another data directory, named by its ID. The new file is written
// beside, synced, and read back past the page cache; only then it gets its name, durably, readers go over to it, and the
// old file goes. A reader who has the old file open reads it to the end: the bytes are the same. A power loss leaves the old
// file, the new one, or both. A copy that the target has already is made right and used.
//
// Every stripe is checked on the way. One that the old file does not have right, or all of them when its directory is out of
// service or the file is gone, is rebuilt from the other shards; what cannot be rebuilt is moved as it is. When the old file
// cannot be removed it is a duplicate, should its directory come back.
//
// It runs beside everything else; scrubs and moves of one segment wait for each other. In memory are runBytes, or one shard, or
// one stripe with its parity while one is rebuilt.
//
// Errors: ErrNotFound when the segment is not live, ErrSegmentOpen when it takes stripes, a *DirError when the target cannot take it,
// ErrNoSpace, ErrUnavailable or ErrCorrupt when the old file cannot be read and not be rebuilt, ErrReadOnly before Recover, ErrClosed,
// and those of the context and of Throttle. The old file is then as it was.
func (l *Log) MoveShard(ctx context.Context, id SegmentID, shard int, to string, o MoveOptions) error {
	s, unlock, err := l.still(ctx, id, shard)
	if err != nil {
		return err
	}
	defer unlock()
	target := l.member(to)
	if target == nil {
		return &DirError{Path: to, Reason: "is not a member"}
	}
	if err := l.resolve(ctx, s, shard, target, o); err != nil && (ctx.Err() != nil || slices.Contains(l.duplicates.of(id, shard), target)) {
		return err
	}
	old := s.dirOf(shard)
	if old == target {
		return nil
	}
	m := &mover{l: l, s: s, shardCopier: shardCopier{shard: shard}, old: old, to: target}
	m.c = l.newScrubber(s, ScrubOptions{Repair: true, Throttle: o.Throttle})
	defer m.c.close()
	if err := m.admit(ctx); err != nil {
		return err
	}
	if err := m.copy(ctx); err != nil {
		return fmt.Errorf("moving shard %d of segment %016x to %s: %w", shard, uint64(id), target.path, err)
	}
	l.metrics.moved.Add(float64(m.moved))
	if old != nil {
		l.discardCopy(s, shard, old)
	}
	l.log.LogAttrs(ctx, slog.LevelDebug, "shard file moved", slog.String("file", shardName(id, s.class, shard)), slog.String("from", m.from()),
		slog.String("to", target.path), slog.Int64("bytes", m.moved))
	return nil
}

// A mover is one move.
type mover struct {
	shardCopier
	l     *Log
	s     *segment
	old   *dir // nil: no present directory holds the file
	to    *dir
	empty bool // the segment never took a stripe
}

func (m *mover) from() string {
	if m.old == nil {
		return ""
	}
	return m.old.path
}

// admit looks whether the target may have the file, and opens the shard files.
func (m *mover) admit(ctx context.Context) error {
	s := m.s
	refuse := func(why string) error { return &DirError{Path: m.to.path, Reason: why} }
	switch st, _ := m.to.status(); st {
	case dirOnline:
	case dirFull:
		return fmt.Errorf("%w: in %s", ErrNoSpace, m.to.path)
	default:
		return refuse("is " + string(st))
	}
	if m.to.draining() {
		return refuse("is draining")
	}
	for i := range s.homes {
		if s.dirOf(i) == m.to {
			return refuse(fmt.Sprintf("holds shard %d of segment %016x", i, uint64(s.id)))
		}
	}
	m.empty = m.c.view.count == 0 && !m.c.view.sealed && m.c.goal == 0
	if free, err := m.to.free(); err != nil {
		return refuse(err.Error())
	} else if free < m.c.need()+fullFreeBytes {
		return fmt.Errorf("%w: in %s", ErrNoSpace, m.to.path)
	}
	if !m.c.vacant(ctx, m.to) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return refuse("cannot be asked, or holds a file of the segment")
	}
	m.c.open(ctx)
	return ctx.Err()
}

// copy writes the new file and has it used.
func (m *mover) copy(ctx context.Context) error {
	c, d := m.c, m.to
	name := m.s.path(d, m.shard)
	path := name + tmpExtension
	c.l.removeTemp(d, path)
	file, err := c.create(d, path)
	if err != nil {
		return err
	}
	at := len(c.files)
	c.files = append(c.files, scrubFile{d: d, path: path, f: file, missing: true, fresh: true, short: -1})
	m.target, m.copies = at, []int{m.shard}
	if !m.empty {
		if err := m.all(ctx); err != nil {
			return err
		}
	}
	if err := c.name(&c.files[at], name); err != nil {
		m.l.duplicates.add(m.s.id, m.shard, d) // it may have its name
		return err
	}
	m.l.pause("move")
	if m.l.lookup(m.s.id) != m.s || !c.rehome(m.shard, m.old, d) {
		m.l.discardCopy(m.s, m.shard, d)
		return fmt.Errorf("%w: it was dropped, or a returning directory has it", ErrNotFound)
	}
	return nil
}
