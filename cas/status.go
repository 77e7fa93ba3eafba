package cas

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// States of a store, best first.
const (
	StateOK       = "ok"
	StateDegraded = "degraded"  // all is served, but something wants attention
	StateReadOnly = "read-only" // reads are served, writes refused
	StateFailed   = "failed"    // it cannot serve any more and should be started again
)

// Status describes the store. It reads nothing of the data directories but how full they are; one that hangs may hold it up
// until it is offline.
func (s *Store) Status(ctx context.Context) (Status, error) {
	stats, err := s.Stats(ctx, "")
	if err != nil {
		return Status{}, err
	}
	id, code := s.log.StoreID(), s.log.Code()
	st := Status{
		StoreID: hex.EncodeToString(id[:]), Reasons: []string{}, Code: fmt.Sprintf("%d+%d", code.K, code.M), Dirs: []DirStatus{}, Stats: stats,
		Running: s.operations.list(), LastScrub: s.lastScrub.Load(), Index: s.indexStatus(),
	}
	if err := s.view(func(v *index.View) error { st.CSN = v.CSN(); return nil }); err != nil {
		return Status{}, err
	}
	if due, ok := s.nextScrub(); ok {
		st.NextScrub = due
	}
	if last := s.lastGC.Load(); last != nil {
		rep := *last
		rep.Segments = nil
		st.LastGC = &rep
	}
	for _, d := range s.log.Dirs() {
		st.Dirs = append(st.Dirs, dirStatus(d))
	}
	for _, info := range s.log.Segments() {
		st.Segments++
		if info.ShardsAbsent > 0 {
			st.Damaged++
		}
	}
	st.Damaged = max(st.Damaged, s.healer.waiting())
	s.judge(&st)
	return st, nil
}

func dirStatus(d erasure.DirInfo) DirStatus {
	return DirStatus{ID: d.ID, Path: d.Path, State: d.State, Reason: d.Reason, Free: d.Free, Total: d.Total, Device: d.Device, Shards: d.Shards, Bytes: d.Bytes}
}

func (s *Store) indexStatus() IndexStatus {
	i := IndexStatus{Path: s.indexPath, Overlay: s.idx.OverlayEntries()}
	sizes, err := s.idx.Sizes()
	i.FileBytes = sizes.FileBytes
	if e := s.indexTrouble.Load(); e != nil {
		err = *e
	}
	if err != nil {
		i.Trouble = err.Error()
	}
	return i
}

// judge says what state all of that makes, and why.
func (s *Store) judge(st *Status) {
	st.State = StateOK
	attention := func(format string, args ...any) {
		st.Reasons = append(st.Reasons, fmt.Sprintf(format, args...))
		if st.State == StateOK {
			st.State = StateDegraded
		}
	}
	if err := s.Ready(); err != nil {
		st.State = StateFailed
		attention("%v", err)
	} else if err := s.WriteState(); err != nil {
		st.State = StateReadOnly
		attention("writes are refused: %v", err)
	}
	if s.incomplete {
		attention("part of the log is out of reach: what is not found may exist")
	}
	usable := 0
	for _, d := range st.Dirs {
		switch d.State {
		case "online":
			usable++
		case "full":
			attention("data directory %s is full", d.Path)
		case "draining":
			attention("data directory %s is draining", d.Path)
		default:
			if d.State == "healing" {
				usable++
			}
			attention("data directory %s is %s%s", d.Path, d.State, because(d.Reason))
		}
	}
	if code := s.log.Code(); usable < code.K+code.M {
		attention("new segments are narrower than %s: %d directories take them", st.Code, usable)
	}
	if st.Damaged > 0 {
		attention("%d segments want healing", st.Damaged)
	}
	if n := s.damaged.n.Load(); n > 0 {
		attention("%d chunks are known to be beyond repair", n)
	}
	if r := st.LastScrub; r != nil && (r.Outcome == OutcomeLost || r.Outcome == OutcomeDamaged) {
		attention("the last scrub (%s) ended with the outcome %s%s", r.ID, r.Outcome, because(r.Reason))
	}
	if c := s.lastCheck.Load(); c != nil && c.DifferencesTotal > 0 {
		attention("index and log differ in %d places, as a check found", c.DifferencesTotal)
	}
	if st.Index.Trouble != "" {
		attention("index: %s", st.Index.Trouble)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// damagedSegments counts the live segments with shard files that no present directory holds.
func (s *Store) damagedSegments() (n int) {
	for _, info := range s.log.Segments() {
		if info.ShardsAbsent > 0 {
			n++
		}
	}
	return n
}
