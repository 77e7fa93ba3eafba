package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A directoryLog is what the store needs to know of, and change in, the data directories of its log.
type directoryLog interface {
	Dirs() []erasure.DirInfo
	// AddDir makes an empty directory a member, ReplaceDir in the place of one that is gone. csn is that of the last mutation.
	AddDir(ctx context.Context, path string, csn uint64) (erasure.Member, error)
	ReplaceDir(ctx context.Context, old, path string, csn uint64) (erasure.Member, error)
	// RemoveDir takes an empty member out, or, with lost, one that will not come back.
	RemoveDir(ctx context.Context, dir string, lost bool, csn uint64) error
	// SetDraining tells whether a member takes new shard files.
	SetDraining(ctx context.Context, dir string, on bool, csn uint64) error
	// Roll seals the open segments, so that their shard files can be moved.
	Roll(ctx context.Context) error
	// DrainPlan and BalancePlan yield the moves that empty a directory, and even out all of them.
	DrainPlan(dir string) iter.Seq2[erasure.Move, error]
	BalancePlan() iter.Seq2[erasure.Move, error]
	MoveShard(ctx context.Context, id erasure.SegmentID, shard int, to string, o erasure.MoveOptions) error
	// Duplicates lists shard files with more than one copy, one of which ResolveDuplicate leaves.
	Duplicates() []erasure.Duplicate
	ResolveDuplicate(ctx context.Context, id erasure.SegmentID, shard int, o erasure.MoveOptions) error
	// Probe takes back directories that were away and can be used again. What they hold is Unverified until it is scrubbed with repair.
	// Healed takes note of those that have all they should have.
	Probe(ctx context.Context) (readmitted int)
	Unverified() []erasure.SegmentID
	Healed(ctx context.Context, csn uint64) (dirs []string, err error)
}

// dirsGroup is the group of operations that change the data directories: one at a time.
const dirsGroup = "dirs"

const (
	probeInterval = 5 * time.Second // between looks for directories that are back, or healed
	drainRolls    = 4               // times that open segments are sealed for a drain, when nothing else is left to move
)

// errDirs makes an error of the log about directories one of the store.
func errDirs(op string, err error) error {
	var de *erasure.DirError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &de), errors.Is(err, erasure.ErrInUse), errors.Is(err, erasure.ErrNoHome):
		return fmt.Errorf("%s: %w: %w", op, ErrConflict, err)
	}
	return logError(op, err)
}

// findDir returns a member that is named by its ID or its path. The error is ErrNoSuchDir.
func (s *Store) findDir(ref string) (erasure.DirInfo, error) {
	abs, err := filepath.Abs(ref)
	if err != nil {
		abs = ref
	}
	infos := s.log.Dirs()
	for _, same := range []func(erasure.DirInfo) bool{
		func(d erasure.DirInfo) bool { return d.ID == ref },
		func(d erasure.DirInfo) bool { return d.Path == abs },
	} {
		if i := slices.IndexFunc(infos, same); i >= 0 {
			return infos[i], nil
		}
	}
	return erasure.DirInfo{}, fmt.Errorf("%w: %s", ErrNoSuchDir, ref)
}

// statusOf describes a member as it is now.
func (s *Store) statusOf(id string) (DirStatus, error) {
	d, err := s.findDir(id)
	return dirStatus(d), err
}

// away tells whether nothing can be read from a directory.
func away(d erasure.DirInfo) bool { return d.State == "offline" || d.State == "absent" }

// lastCSN returns that of the last mutation that is visible.
func (s *Store) lastCSN() (csn uint64, err error) {
	err = s.view(func(v *index.View) error {
		csn = v.CSN()
		return nil
	})
	return csn, err
}

// changeDirs runs one operation on the data directories: nothing else changes them meanwhile, ErrConflict says that something
// does. The list of members in the catalog follows, whatever the outcome.
func (s *Store) changeDirs(ctx context.Context, name string, tell ProgressFunc, change func(ctx context.Context, op *operation, csn uint64) error) error {
	op, ctx, err := s.beginOperation(ctx, name, dirsGroup)
	if err != nil {
		return err
	}
	defer op.end()
	op.tell = tell
	csn, err := s.lastCSN()
	if err != nil {
		return err
	}
	err = change(ctx, op, csn)
	s.followMembers(context.WithoutCancel(ctx))
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return fmt.Errorf("%s: %w", name, cause)
	}
	return err
}

// AddDir makes an empty directory a member of the store; new segments may use it at once. A member that is draining is not drained any
// longer. A directory that cannot belong is ErrConflict, and so is any while another operation on directories runs.
func (s *Store) AddDir(ctx context.Context, path string) (st DirStatus, err error) {
	err = s.changeDirs(ctx, "add", nil, func(ctx context.Context, _ *operation, csn uint64) error {
		if d, err := s.findDir(path); err == nil && d.Member.State == erasure.StateDraining {
			if err := s.log.SetDraining(ctx, d.ID, false, csn); err != nil {
				return errDirs("add directory", err)
			}
			st, err = s.statusOf(d.ID)
			return err
		}
		m, err := s.log.AddDir(ctx, path, csn)
		if err != nil {
			return errDirs("add directory", err)
		}
		st, err = s.statusOf(m.ID)
		return err
	})
	return st, err
}

// ReplaceDir makes the empty directory path a member in place of dir, an ID or a path, and rebuilds there what dir held. It returns
// when all of it is rebuilt. When it was interrupted, or the process ended, the store goes on with that by itself, and the same call waits for
// it. Errors: ErrNoSuchDir, ErrConflict when dir is in service or path cannot belong, ErrIncomplete when some of it cannot be rebuilt
// now.
func (s *Store) ReplaceDir(ctx context.Context, dir, path string, tell ProgressFunc) (st DirStatus, err error) {
	err = s.changeDirs(ctx, "replace", tell, func(ctx context.Context, op *operation, csn uint64) error {
		id := ""
		old, err := s.findDir(dir)
		switch now, twice := s.findDir(path); {
		case twice == nil && (err != nil || old.ID == now.ID && now.State == erasure.StateHealing): // begun before
			id = now.ID
		case err != nil:
			return err
		default:
			m, err := s.log.ReplaceDir(ctx, old.ID, path, csn)
			if err != nil {
				return errDirs("replace directory", err)
			}
			id = m.ID
			s.followMembers(context.WithoutCancel(ctx))
		}
		if err := s.awaitHealed(ctx, op, id, csn); err != nil {
			return err
		}
		st, err = s.statusOf(id)
		return err
	})
	return st, err
}

// awaitHealed heals until a directory has all it should have.
func (s *Store) awaitHealed(ctx context.Context, op *operation, id string, csn uint64) error {
	pace := &pacer{busy: s.clientsBusy}
	tried := map[erasure.SegmentID]bool{}
	for done := int64(0); ; {
		ids := append(s.log.Unverified(), s.log.Damaged()...)
		slices.Sort(ids) // the oldest first: the healer begins with the newest
		ids = slices.Compact(ids)
		op.progress("segments", done, done+int64(len(ids)), "items")
		at := slices.IndexFunc(ids, func(id erasure.SegmentID) bool { return !tried[id] })
		if at < 0 {
			if _, err := s.log.Healed(ctx, csn); err != nil {
				return errDirs("heal directory", err)
			}
			d, err := s.findDir(id)
			if err != nil || d.State != erasure.StateHealing {
				return err
			}
			return fmt.Errorf("heal directory: %w: %d segments could not be rebuilt; a scrub says why", ErrIncomplete, len(ids))
		}
		tried[ids[at]] = true
		_, err := s.log.ScrubSegment(ctx, ids[at], erasure.ScrubOptions{Repair: true, Throttle: pace.wait})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, erasure.ErrNotFound):
			s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "segment could not be healed", slog.Uint64("segment", uint64(ids[at])), slog.Any("error", err))
		}
		done++
	}
}

// DrainDir moves everything off a directory, an ID or a path, which takes nothing new from then on. What a directory that is out of service
// held is rebuilt elsewhere. It can be interrupted and called again. Errors: ErrNoSuchDir; ErrConflict when there are too few other
// directories, or the index lies there; ErrNoSpace.
func (s *Store) DrainDir(ctx context.Context, dir string, tell ProgressFunc) (st DirStatus, err error) {
	err = s.changeDirs(ctx, "drain", tell, func(ctx context.Context, op *operation, csn uint64) error {
		d, err := s.findDir(dir)
		if err != nil {
			return err
		}
		if err := s.refuseIndexDir("drain directory", d); err != nil {
			return err
		}
		for _, err := range s.log.DrainPlan(d.ID) {
			if errors.Is(err, erasure.ErrNoHome) { // then it never ends
				return errDirs("drain directory", err)
			}
		}
		if err := s.log.SetDraining(ctx, d.ID, true, csn); err != nil {
			return errDirs("drain directory", err)
		}
		s.followMembers(context.WithoutCancel(ctx))
		if err := s.empty(ctx, op, d.ID); err != nil {
			return err
		}
		st, err = s.statusOf(d.ID)
		return err
	})
	return st, err
}

// refuseIndexDir returns an error when the index lies in a data directory that is to go.
func (s *Store) refuseIndexDir(op string, d erasure.DirInfo) error {
	path, err := filepath.Abs(s.indexPath)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, strings.TrimSuffix(d.Path, "/")+"/") {
		return fmt.Errorf("%s: %w: the index %s lies there; start casd with --index DIR on another disk first: move the index file there while casd is stopped, or it is built anew from the log", op, ErrConflict, path)
	}
	return nil
}

// A mover makes moves for an operation.
type mover struct {
	s     *Store
	op    *operation
	phase string
	o     erasure.MoveOptions
	done  int64 // bytes
	total int64
	first error // that a move came to
}

func (s *Store) newMover(op *operation, phase string) *mover {
	pace := &pacer{busy: s.clientsBusy}
	return &mover{s: s, op: op, phase: phase, o: erasure.MoveOptions{Throttle: pace.wait}}
}

// make makes one move and tells whether it is made. The error is that of the context.
func (m *mover) make(ctx context.Context, mv erasure.Move) (bool, error) {
	err := m.s.log.MoveShard(ctx, mv.Segment, mv.Shard, mv.To, m.o)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	switch {
	case errors.Is(err, erasure.ErrNotFound), errors.Is(err, erasure.ErrSegmentOpen): // dropped, or not yet sealed
		return false, nil
	case errors.Is(err, erasure.ErrClosed):
		return false, ErrClosed
	case err != nil:
		m.failed(err)
		m.s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "shard file could not be moved", slog.Uint64("segment", uint64(mv.Segment)), slog.Int("shard", mv.Shard), slog.Any("error", err))
		return false, nil
	}
	m.done += mv.Bytes
	m.op.progress(m.phase, m.done, max(m.total, m.done), "bytes")
	return true, nil
}

func (m *mover) failed(err error) { m.first = cmp.Or(m.first, err) }

// resolve leaves one copy of each shard file that has several. What cannot be resolved stays. The error is that of the context.
func (m *mover) resolve(ctx context.Context) error {
	for _, d := range m.s.log.Duplicates() {
		err := m.s.log.ResolveDuplicate(ctx, d.Segment, d.Shard, m.o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, erasure.ErrNotFound) {
			m.s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "two copies of a shard file stay", slog.Uint64("segment", uint64(d.Segment)), slog.Int("shard", d.Shard), slog.Any("error", err))
		}
	}
	return nil
}

// empty moves all shard files off a directory that is draining.
func (s *Store) empty(ctx context.Context, op *operation, id string) error {
	m := s.newMover(op, "moving")
	for rolls := 0; ; {
		d, err := s.findDir(id)
		if err != nil {
			return err
		}
		if m.total == 0 {
			m.total = d.Bytes
			op.progress(m.phase, 0, m.total, "bytes")
		}
		if err := m.resolve(ctx); err != nil {
			return err
		}
		planned, made := 0, 0
		for mv, err := range s.log.DrainPlan(id) {
			planned++
			if err != nil {
				m.failed(err)
				continue
			}
			ok, err := m.make(ctx, mv)
			if err != nil {
				return err
			}
			if ok {
				made++
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case made > 0:
			m.first = nil // what failed once is tried again
			continue
		case planned > 0 && m.first != nil:
			return errDirs("drain directory", m.first)
		}
		if d, err = s.findDir(id); err != nil {
			return err
		}
		if d.Shards == 0 || away(d) && planned == 0 {
			op.progress(m.phase, m.done, m.done, "bytes")
			return nil
		}
		if rolls++; rolls > drainRolls { // they lie in open segments
			return fmt.Errorf("drain directory: %w: %d shard files stay in %s; drain it again", ErrBusy, d.Shards, d.Path)
		}
		if err := s.log.Roll(ctx); err != nil {
			return errDirs("drain directory", err)
		}
	}
}

// RemoveDir takes a drained directory, an ID or a path, out of the store; with lost, one that will never come back: what it held
// is rebuilt elsewhere, as far as possible. Errors: ErrNoSuchDir; ErrConflict when shard files that count lie there, when there are too few others,
// when it is in service and said to be lost, or when the index lies there.
func (s *Store) RemoveDir(ctx context.Context, dir string, lost bool) error {
	return s.changeDirs(ctx, "remove", nil, func(ctx context.Context, _ *operation, csn uint64) error {
		d, err := s.findDir(dir)
		if err != nil {
			return err
		}
		if !lost {
			if err := s.refuseIndexDir("remove directory", d); err != nil {
				return err
			}
		}
		return errDirs("remove directory", s.log.RemoveDir(ctx, d.ID, lost, csn))
	})
}

// Rebalance moves shard files until the directories are about equally full, and the shards of a segment are spread over devices as
// far as possible. It returns the bytes that it moved. It can be interrupted and called again.
func (s *Store) Rebalance(ctx context.Context, tell ProgressFunc) (moved int64, err error) {
	err = s.changeDirs(ctx, "rebalance", tell, func(ctx context.Context, op *operation, _ uint64) error {
		m := s.newMover(op, "moving")
		defer func() { moved = m.done }()
		if err := m.resolve(ctx); err != nil {
			return err
		}
		for mv, err := range s.log.BalancePlan() {
			if err != nil {
				return errDirs("rebalance", err)
			}
			if _, err := m.make(ctx, mv); err != nil {
				return err
			}
		}
		op.progress(m.phase, m.done, m.done, "bytes")
		return errDirs("rebalance", m.first)
	})
	return moved, err
}

// watchDirs takes directories back that were away, and takes note of those that are healed, until the store closes.
func (s *Store) watchDirs(ctx context.Context) {
	t := time.NewTicker(probeInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.lookAtDirs(ctx)
		}
	}
}

// lookAtDirs is one look.
func (s *Store) lookAtDirs(ctx context.Context) {
	infos := s.log.Dirs()
	if slices.ContainsFunc(infos, away) && s.log.Probe(ctx) > 0 {
		infos = s.log.Dirs()
	}
	if ids := s.log.Unverified(); len(ids) > 0 {
		s.healer.suspects(ids...)
		s.healer.poke()
	}
	healing := slices.ContainsFunc(infos, func(d erasure.DirInfo) bool { return d.State == erasure.StateHealing })
	if !healing || len(s.log.Damaged()) > 0 || len(s.log.Unverified()) > 0 {
		return
	}
	csn, err := s.lastCSN()
	if err == nil {
		var healed []string
		if healed, err = s.log.Healed(ctx, csn); len(healed) > 0 {
			s.followMembers(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "data directories that are healed cannot be trusted yet", slog.Any("error", err))
	}
}
