package erasure

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
)

// Unverified lists the segments of which a directory that came back holds shard files that no scrub has looked at since, the
// newest first. A scrub with Repair that comes to its end verifies one.
func (l *Log) Unverified() []SegmentID {
	var ids []SegmentID
	for _, d := range l.dirs() {
		if !d.readable() {
			continue
		}
		d.mu.Lock()
		for id := range d.unverified {
			ids = append(ids, id)
		}
		d.mu.Unlock()
	}
	slices.SortFunc(ids, func(a, b SegmentID) int { return cmp.Compare(b, a) })
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id SegmentID) bool { return l.lookup(id) == nil })
}

// distrust makes a scrub of a segment due before d is trusted.
func (d *dir) distrust(id SegmentID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unverified == nil {
		d.unverified = map[SegmentID]struct{}{}
	}
	d.unverified[id] = struct{}{}
}

// verified takes note that a scrub with repair came to its end: what it found wrong on a directory that came back is right now,
// or beyond repair.
func (c *scrubber) verified() {
	if !c.repair {
		return
	}
	for _, d := range c.l.dirs() {
		whole := true
		for i := range c.s.n() {
			f := &c.files[i]
			whole = whole && (c.s.dirOf(i) != d || f.d == d && !f.failed && f.unread == "" && d.readable())
		}
		if whole {
			d.trust(c.s.id)
		}
	}
}

// trust takes note that the directory has nothing of a segment that was not verified.
func (d *dir) trust(id SegmentID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unverified, id)
}

// Healed looks which of the directories that were healing have all that they should have, makes them normal, and returns their
// IDs. csn is the caller's last CSN. It is called when Damaged and Unverified have nothing more that could be done, and again
// whenever that is so.
//
// A directory is whole when each of its segments was verified since it came back, and no segment lacks a shard file that it could
// take. Shard files that are beyond repair, whichever member comes back, are not waited for. Before the log is recovered none is: there
// may be segments of which nothing is seen.
func (l *Log) Healed(ctx context.Context, csn uint64) ([]string, error) {
	if !l.recovered.Load() {
		return nil, nil
	}
	if err := l.surveyAll(ctx); err != nil {
		return nil, err
	}
	if err := l.lockMembers(ctx); err != nil {
		return nil, err
	}
	defer l.unlockMembers()
	var whole []*dir
	for _, d := range l.dirs() {
		if d.readable() && d.healing() {
			whole = append(whole, d)
		}
	}
	lost := l.members.get().Lost
	if len(whole) == 0 && lost == 0 {
		return nil, nil
	}
	hopeless := l.outOfService() == 0
	for _, s := range l.liveSegments() {
		whole = slices.DeleteFunc(whole, func(d *dir) bool { return d.mustVerify(s) })
		s.mu.Lock()
		empty := !s.open && !s.sealed && s.count == 0
		s.mu.Unlock()
		n := s.absent()
		if !s.known || n == 0 || empty || n > s.m && hopeless {
			continue
		}
		lost = 0
		whole = slices.DeleteFunc(whole, func(d *dir) bool { return !s.holds(d) })
	}
	change := l.members.get().Lost > 0 && lost > 0
	var ids []string
	for _, d := range whole {
		d.mu.Lock()
		change = change || d.role == StateHealing
		d.mu.Unlock()
		ids = append(ids, d.id)
	}
	if change {
		err := l.changeMembers(csn, func(f *format) {
			f.Lost -= lost
			for i := range f.Members {
				if m := &f.Members[i]; m.State == StateHealing && slices.Contains(ids, m.ID) {
					m.State = ""
				}
			}
		}, l.dirs())
		if err != nil {
			return nil, err
		}
	}
	for _, d := range whole {
		d.mu.Lock()
		d.unverified = nil
		d.mu.Unlock()
		l.log.LogAttrs(ctx, slog.LevelInfo, "data directory is healed", slog.String("dir", d.path))
	}
	l.findHoles()
	l.signalRoom()
	return ids, nil
}

// mustVerify tells whether a segment is still to be verified on the directory.
func (d *dir) mustVerify(s *segment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.unverified[s.id]
	return ok
}
