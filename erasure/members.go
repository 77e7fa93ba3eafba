package erasure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// A memberList is who belongs to the store. format.json is the authority on it: it must be known before the log can be read,
// and it must be possible to change it when the log cannot be written.
type memberList struct {
	changing chan struct{}          // holds a token while members are changed or readmitted; one at a time
	dirs     atomic.Pointer[[]*dir] // the members that are not just joining, in the order of the list; replaced, never changed

	mu   sync.Mutex // guards what follows
	form format
	seen uint64 // highest revision that some format.json may have
}

func (ml *memberList) get() format {
	ml.mu.Lock()
	defer ml.mu.Unlock()
	return ml.form
}

// set makes form, and the directories that go with it, what counts.
func (ml *memberList) set(form format, dirs []*dir) {
	ml.mu.Lock()
	ml.form, ml.seen = form, max(ml.seen, form.CSN)
	ml.mu.Unlock()
	for _, d := range dirs {
		if i := form.find(d.id); i >= 0 {
			d.setRole(form.Members[i].State)
		}
	}
	ml.dirs.Store(&dirs)
}

// dirs returns the directories of the members that are not just joining. The slice is not to be changed.
func (l *Log) dirs() []*dir {
	if p := l.members.dirs.Load(); p != nil {
		return *p
	}
	return nil
}

// code is that of new segments.
func (l *Log) code() Code { return l.members.get().code() }

// Code returns the code of new segments.
func (l *Log) Code() Code { return l.code() }

func (c Code) valid() bool { return c.K >= 1 && c.M >= 0 && c.K+c.M <= shardsMax }

// String returns the code as in 4+2.
func (c Code) String() string { return fmt.Sprintf("%d+%d", c.K, c.M) }

// membership applies the membership rule. A segment lies on at least m+1 directories, m being its parity. So when at most m
// members are out of service, at least one shard file of every segment is seen, and no shorter history can be continued. A
// member that may lack shard files it should have, because it took the place of another one, and one that was declared lost
// before its shards were rebuilt, count as if they were out of service too, unless every member is there: then there is nothing
// that is not seen. And data is never written with less parity than the code says.
func (l *Log) membership() error {
	n, away, m := len(l.dirs()), l.outOfService(), l.code().M
	switch {
	case n-away < m+1:
		return fmt.Errorf("%w: %d of %d directories are in service, parity is %d", ErrReadOnly, n-away, n, m)
	case l.blind():
		return fmt.Errorf("%w: %d of %d directories are in service, %d members are not healed, parity is %d", ErrReadOnly, n-away, n, l.debt(), l.minParity())
	}
	return nil
}

// outOfService counts the members that are absent or offline.
func (l *Log) outOfService() (n int) {
	for _, d := range l.dirs() {
		if !d.readable() {
			n++
		}
	}
	return n
}

// debt counts the members, present or past, whose shard files may be missing although they are not out of service.
func (l *Log) debt() int {
	n := l.members.get().Lost
	for _, d := range l.dirs() {
		if d.readable() && d.owes(l.holes.Load()) {
			n++
		}
	}
	return n
}

// blind tells whether there may be segments of which no shard file is seen.
func (l *Log) blind() bool {
	away := l.outOfService()
	return away > 0 && away+l.debt() > l.minParity()
}

// findHoles looks whether any live segment lacks a shard file.
func (l *Log) findHoles() {
	l.holes.Store(slices.ContainsFunc(l.liveSegments(), func(s *segment) bool { return s.known && s.absent() > 0 }))
}

// learnParity takes the parity of a segment into account. The caller holds segMu, or is the only one that knows the segment.
func (l *Log) learnParity(m int) {
	if int32(m) < l.parity.Load() {
		l.parity.Store(int32(m))
	}
}

// relearnParity finds the smallest parity anew, after a change of the code or when segments were dropped. What the member list says
// counts too: segments of which nothing is seen may have it.
func (l *Log) relearnParity() {
	form := l.members.get()
	l.segMu.Lock()
	defer l.segMu.Unlock()
	l.parity.Store(int32(min(form.leastParity(), l.seenParity(form.code().M))))
}

// seenParity is the smallest of m and the parity of every segment that is seen. The caller holds segMu.
func (l *Log) seenParity(m int) int {
	for _, segs := range []map[SegmentID]*segment{l.segs, l.retired} { // what was retired may come back, until its drop is durable
		for id, s := range segs {
			if s.known && !l.voids.has(id) {
				m = min(m, s.m)
			}
		}
	}
	return m
}

// settleParity brings the smallest parity in the member list up to date, when all members are there, so that nothing is out of sight,
// and nobody changes them. What it leaves as it was is on the safe side; the next start, or drop, tries again.
func (l *Log) settleParity() {
	select {
	case l.members.changing <- struct{}{}:
	default:
		return
	}
	defer l.unlockMembers()
	if l.closed.Load() || l.outOfService() > 0 {
		return
	}
	form := l.members.get()
	l.placing.Lock() // no segment is being made with an older code
	l.segMu.Lock()
	least, unknown := l.seenParity(form.code().M), false
	for id, s := range l.segs {
		v, ended := l.verdicts[id]
		unknown = unknown || !s.known && !(ended && v.Stripes == 0)
	}
	l.segMu.Unlock()
	l.placing.Unlock()
	if unknown || least == form.leastParity() {
		return
	}
	if err := l.changeMembers(0, func(f *format) { f.setLeastParity(least) }, l.dirs()); err != nil {
		l.log.LogAttrs(context.Background(), slog.LevelWarn, "smallest parity cannot be written down", slog.Int("parity", least), slog.String("cause", err.Error()))
	}
}

// lockMembers begins a change of the members.
func (l *Log) lockMembers(ctx context.Context) error {
	if l.closed.Load() {
		return ErrClosed
	}
	select {
	case l.members.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) unlockMembers() { <-l.members.changing }

// findMember returns the place in the list of the member with an ID or a path, or -1.
func (f format) findMember(ref string) int {
	if i := f.find(ref); i >= 0 {
		return i
	}
	abs, err := filepath.Abs(ref)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(f.Members, func(m Member) bool { return m.Path == abs })
}

// lookMember returns the place of a member that is named by its ID or its path, and its directory, which is nil when it is joining.
func (l *Log) lookMember(ref string) (int, *dir, error) {
	form := l.members.get()
	i := form.findMember(ref)
	if i < 0 {
		return 0, nil, &DirError{Path: ref, Reason: "is not a member of the store"}
	}
	return i, l.member(form.Members[i].ID), nil
}

// member returns the directory with an ID, or nil.
func (l *Log) member(id string) *dir {
	for _, d := range l.dirs() {
		if d.id == id {
			return d
		}
	}
	return nil
}

// changeMembers gives the store a new member list: durably in format.json of every member in service, those in more included,
// before anything rests on it. dirs are the directories that belong to the new list. A directory that cannot take it is offline
// then, but when one has no space, nothing is changed and the error is ErrNoSpace; nor is it when a new directory fails at once.
//
// Any two sets of directories that may write have one in common, so the list of one that wrote is never passed over: a crash
// at any point leaves the old list or the new one. The caller holds the token of members.changing.
func (l *Log) changeMembers(csn uint64, edit func(*format), dirs []*dir) error {
	form := l.members.get()
	form.Members = slices.Clone(form.Members)
	edit(&form)
	l.members.mu.Lock()
	l.members.seen = max(l.members.seen, csn) + 1
	form.CSN = l.members.seen
	l.members.mu.Unlock()

	var prepare, commit []task
	var online []*dir
	for _, d := range dirs {
		if d.readable() {
			online = append(online, d)
			prepare = append(prepare, task{d, func() error { return prepareFormat(l.fs, d.path, form.of(d.id)) }})
		}
	}
	errs := runAll(laneControl, prepare)
	if i := slices.IndexFunc(online, func(d *dir) bool { return !slices.Contains(l.dirs(), d) }); i >= 0 && errs[i] != nil {
		return &DirError{Path: online[i].path, Reason: "does not take the member list", Err: errs[i]}
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return isFull(err) || isShortage(err) }); i >= 0 {
		for _, d := range online {
			_, _ = d.guard(context.Background(), func() error { return l.fs.Remove(filepath.Join(d.path, formatFile+tmpExtension)) }) // one that stays is overwritten
		}
		if isFull(errs[i]) {
			return fmt.Errorf("%w: for format.json in %s", ErrNoSpace, online[i].path)
		}
		return &DirError{Path: online[i].path, Reason: "does not take the member list now", Err: errs[i]}
	}
	for i, d := range online {
		if errs[i] == nil {
			commit = append(commit, task{d, func() error { return commitFormat(l.fs, d.path) }})
		} else {
			d.setOffline(fmt.Errorf("does not take the member list: %w", errs[i]))
		}
	}
	took := 0
	for i, err := range runAll(laneControl, commit) {
		if err == nil {
			took++
		} else { // it may have the new list, or the old one
			commit[i].d.setOffline(fmt.Errorf("does not take the member list: %w", err))
		}
	}
	if took == 0 {
		return fmt.Errorf("%w: no data directory takes the new member list", ErrUnavailable)
	}
	l.members.set(form, dirs)
	l.relearnParity()
	l.signalRoom()
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "members of the store changed", slog.Uint64("revision", form.CSN), slog.Int("members", form.serving()),
		slog.String("code", form.code().String()))
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// of is the document for one directory.
func (f format) of(id string) format {
	f.Dir = id
	return f
}

// owes tells whether the directory may lack shard files; holes says whether any segment lacks one.
func (d *dir) owes(holes bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.role == StateHealing || d.unverified != nil && holes
}

func (d *dir) setRole(role string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.role = role
}
