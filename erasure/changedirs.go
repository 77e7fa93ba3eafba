package erasure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// AddDir makes the empty directory at path a member of the running log; new segments may use it at once. csn is the caller's
// last CSN. The path is written down, and the next Open looks there too.
//
// A directory that cannot belong is refused with a *DirError, as Open does. A crash leaves the old members or the new ones, and
// the call can be repeated: when the directory is already a member the *DirError says so.
func (l *Log) AddDir(ctx context.Context, path string, csn uint64) (Member, error) {
	if err := l.lockMembers(ctx); err != nil {
		return Member{}, err
	}
	defer l.unlockMembers()
	d, err := l.join(path, csn)
	if err != nil {
		return Member{}, err
	}
	err = l.changeMembers(csn, func(f *format) {
		f.Members[f.find(d.id)] = Member{ID: d.id, Path: d.path, Joined: true}
	}, append(slices.Clone(l.dirs()), d))
	return l.joined(d, err)
}

// ReplaceDir makes the empty directory at path a member in the place of old, an ID or a path, which is absent or offline and
// declared lost by that: it is refused should it come back. The new one is healing: it takes new segments, but counts as out of
// service in the membership rule until Healed finds that it has all it should have. It works when the store is read-only.
func (l *Log) ReplaceDir(ctx context.Context, old, path string, csn uint64) (Member, error) {
	if err := l.lockMembers(ctx); err != nil {
		return Member{}, err
	}
	defer l.unlockMembers()
	_, gone, err := l.lookMember(old)
	if err != nil {
		return Member{}, err
	}
	if gone == nil || gone.readable() {
		return Member{}, &DirError{Path: old, Reason: "is in service: drain it with casd dir drain, then remove it, and add the new one"}
	}
	d, err := l.join(path, csn)
	if err != nil {
		return Member{}, err
	}
	dirs := slices.Clone(l.dirs())
	dirs[slices.Index(dirs, gone)] = d
	err = l.changeMembers(csn, func(f *format) {
		f.Members = slices.DeleteFunc(f.Members, func(m Member) bool { return m.ID == d.id })
		f.Members[f.find(gone.id)] = Member{ID: d.id, Path: d.path, State: StateHealing, Joined: true}
	}, dirs)
	if err == nil {
		l.forgetDir(gone)
		l.findHoles()
		gone.release(errOffline)
	}
	return l.joined(d, err)
}

// joined ends AddDir and ReplaceDir.
func (l *Log) joined(d *dir, err error) (Member, error) {
	if err == nil && !d.readable() {
		_, reason := d.status()
		err = &DirError{Path: d.path, Reason: "is a member now, and offline: " + reason}
	} else if err != nil {
		d.setOffline(err)
		d.release(errOffline)
	}
	return Member{ID: d.id, Path: d.path}, err
}

// join prepares an empty directory for membership. First it is in the list as joining, then it gets its format.json with that
// list: who finds the one without the other knows that it never held anything. The directory is locked, started, and not in use.
func (l *Log) join(path string, csn uint64) (*dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &DirError{Path: path, Reason: "has no absolute path", Err: err}
	}
	c, err := l.newcomer(abs)
	if err != nil {
		return nil, err
	}
	id := ""
	form := l.members.get()
	if c.form != nil {
		id = c.form.Dir
	} else if i := slices.IndexFunc(form.Members, func(m Member) bool { return m.State == StateJoining && m.Path == abs }); i >= 0 {
		id = form.Members[i].ID
	}
	if id == "" {
		id = l.random().String()
		err = l.changeMembers(csn, func(f *format) {
			f.Members = append(f.Members, Member{ID: id, Path: abs, State: StateJoining, Joined: true})
		}, l.dirs())
	}
	if err == nil && c.form == nil {
		err = l.timed(func() error { return l.found(c, l.members.get(), id) })
	}
	if err != nil {
		c.lock.Close()
		return nil, err
	}
	l.joinedPaths.Store(abs, true)
	d := l.newDir(Member{ID: id, Path: abs})
	d.device, d.lock = c.info.Device, c.lock
	d.start()
	return d, nil
}

// newcomer looks at a directory that is to become a member, refuses it or locks it.
func (l *Log) newcomer(path string) (*candidateDir, error) {
	type result struct {
		c   *candidateDir
		err error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := l.inspect(path)
		if err == nil {
			err = l.admit(c)
		}
		if err != nil && c != nil && c.lock != nil {
			c.lock.Close()
		}
		ch <- result{c, err}
	}()
	r, ok := await(ch, l.opt.IOTimeout, nil)
	if !ok {
		go func() { // should it answer after all
			if r := <-ch; r.err == nil {
				r.c.lock.Close()
			}
		}()
		return nil, &DirError{Path: path, Reason: "does not answer"}
	}
	return r.c, r.err
}

// admit says why a directory cannot become a member, or locks it.
func (l *Log) admit(c *candidateDir) error {
	if err := l.refuseNewcomer(c); err != nil {
		return err
	}
	for _, d := range l.dirs() {
		same := d.path == c.path
		if info, err := l.fs.Stat(d.path); err == nil && d.readable() {
			same = same || info.Inode == c.info.Inode && info.Device == c.info.Device
		}
		if same && d.readable() {
			return &DirError{Path: c.path, Reason: "is already a member of the store, also as " + d.path}
		}
		if same && d.lock != nil && d.busy.Load() == 0 { // of the directory that was there
			d.lock.Close()
			d.lock = nil
		}
	}
	host, _ := os.Hostname() // informative
	lock, err := l.fs.Lock(filepath.Join(c.path, lockFile), fmt.Sprintf("pid %d on %s", os.Getpid(), host))
	var held *LockedError
	switch {
	case errors.As(err, &held):
		return &DirError{Path: c.path, Reason: "is in use by another casd (" + held.Holder + ")", Err: err}
	case err != nil:
		return &DirError{Path: c.path, Reason: "cannot be locked", Err: err}
	}
	c.lock = &lockCloser{lock.Close}
	if err := l.load(c); err != nil { // now that nobody else changes it
		return err
	}
	return l.refuseNewcomer(c)
}

func (l *Log) refuseNewcomer(c *candidateDir) error {
	refuse := func(reason string) error { return &DirError{Path: c.path, Reason: reason} }
	form := l.members.get()
	switch {
	case c.missing:
		return refuse("does not exist; create it, or mount its disk, first")
	case c.problem != "":
		return refuse(c.problem)
	case c.form != nil && c.form.Store != form.Store:
		return refuse("belongs to store " + c.form.Store + "; give an empty directory")
	case c.form != nil:
		i := form.find(c.form.Dir)
		switch {
		case i < 0:
			return refuse("is not a member of the store any more; empty it before it is added again")
		case form.Members[i].State != StateJoining:
			return refuse("is already a member of the store")
		case c.shards:
			return refuse("holds shard files")
		}
	case c.alien != "":
		return refuse("holds " + c.alien + ", which is not casd's; give an empty directory")
	}
	return nil
}

// timed runs fn, but waits no longer than a directory may take. What fn uses must not be used after that.
func (l *Log) timed(fn func() error) error {
	ch := make(chan error, 1)
	go func() { ch <- fn() }()
	err, ok := await(ch, l.opt.IOTimeout, nil)
	if !ok {
		return errHung
	}
	return err
}

// RemoveDir takes a member, an ID or a path, out of the store. While shard files that count lie there it refuses with an error
// that matches ErrInUse and says how many.
//
// With lost, which is refused for a directory in service, the member is gone for ever, whatever it held: it no longer counts as
// out of service, also when the store is read-only because of it, and is refused by name should it come back.
func (l *Log) RemoveDir(ctx context.Context, ref string, lost bool, csn uint64) error {
	if err := l.lockMembers(ctx); err != nil {
		return err
	}
	defer l.unlockMembers()
	i, d, err := l.lookMember(ref)
	if err != nil {
		return err
	}
	drop := func(f *format) { f.Members = slices.Delete(f.Members, i, i+1) }
	if d == nil { // it never held anything
		return l.changeMembers(csn, drop, l.dirs())
	}
	if lost && d.readable() {
		return &DirError{Path: d.path, Reason: "is in service and cannot be declared lost; drain it and remove it"}
	}
	rest := slices.DeleteFunc(slices.Clone(l.dirs()), func(o *dir) bool { return o == d })
	if n := l.code().M + 1; !lost && len(rest) < n || len(rest) == 0 {
		return &DirError{Path: d.path, Reason: fmt.Sprintf("cannot be removed: the code %v needs %d directories to write; change the code or add a directory first", l.code(), n)}
	}
	if !lost {
		d.closing.Store(true)
		l.placing.Lock() // from here on whoever chooses directories passes it over
		err := l.inUse(d)
		l.placing.Unlock()
		if err != nil {
			d.closing.Store(false)
			return err
		}
	}
	err = l.changeMembers(csn, func(f *format) {
		drop(f)
		if lost {
			f.Lost++
		}
	}, rest)
	if err != nil {
		d.closing.Store(false)
		return err
	}
	l.forgetDir(d)
	l.findHoles()
	d.setOffline(errors.New("was removed from the store"))
	d.release(errOffline)
	return nil
}

// inUse returns an error that matches ErrInUse while shard files that count lie on d, or may.
func (l *Log) inUse(d *dir) error {
	here, missing := 0, 0
	for _, s := range l.liveSegments() {
		if s.holds(d) {
			here++
		}
		if s.known {
			missing += s.absent()
		}
	}
	switch {
	case here > 0:
		return fmt.Errorf("%w: %d shard files lie in %s", ErrInUse, here, d.path)
	case missing > 0 && !d.readable():
		return fmt.Errorf("%w: %d shard files are missing and may lie in %s", ErrInUse, missing, d.path)
	}
	return nil
}

// forgetDir makes every shard on d one that no present directory holds. d is out of service.
func (l *Log) forgetDir(d *dir) {
	for _, s := range l.liveSegments() {
		for i := range s.homes {
			s.setDir(i, d, nil)
		}
	}
	l.files.forgetDir(d)
	l.duplicates.forgetDir(d)
}

// SetDraining tells whether a member, an ID or a path, is to be emptied: it takes no new segments and no rebuilt shard files, but
// is read and healed in place. What is in segments that are open follows after Roll.
func (l *Log) SetDraining(ctx context.Context, ref string, on bool, csn uint64) error {
	if err := l.lockMembers(ctx); err != nil {
		return err
	}
	defer l.unlockMembers()
	i, d, err := l.lookMember(ref)
	if err != nil {
		return err
	}
	state := ""
	if on {
		state = StateDraining
	}
	switch now := l.members.get().Members[i].State; {
	case d == nil || now == StateHealing:
		return &DirError{Path: ref, Reason: "is " + now + "; wait for the end of that"}
	case now == state:
		return nil
	}
	if on {
		left := 0
		for _, o := range l.dirs() {
			if o != d && !o.draining() {
				left++
			}
		}
		if n := l.code().M + 1; left < n {
			return &DirError{Path: d.path, Reason: fmt.Sprintf("cannot be drained: the code %v needs %d other directories to write; add some first", l.code(), n)}
		}
	}
	return l.changeMembers(csn, func(f *format) { f.Members[i].State = state }, l.dirs())
}

// SetCode makes k+m the code of new segments. The membership rule goes by the smallest parity of that and of every live segment, which
// is in the member list: after a restart the segments with less may be out of sight.
func (l *Log) SetCode(ctx context.Context, k, m int, csn uint64) error {
	if err := l.lockMembers(ctx); err != nil {
		return err
	}
	defer l.unlockMembers()
	code := Code{k, m}
	switch n := len(l.dirs()); {
	case !code.valid():
		return fmt.Errorf("erasure: code %v: k must be at least 1, m at least 0, k+m at most %d", code, shardsMax)
	case k+m > n:
		return fmt.Errorf("erasure: code %v needs %d data directories, the store has %d", code, k+m, n)
	case code == l.code():
		return nil
	}
	if err := l.membership(); err != nil {
		return err
	}
	least := l.minParity()
	return l.changeMembers(csn, func(f *format) {
		if f.Code = &code; code == (Code{f.K, f.M}) {
			f.Code = nil
		}
		f.setLeastParity(least)
	}, l.dirs())
}

// Roll seals the open segments, so that their files can be moved; the next append opens new ones. Errors are those of Sync and of
// the context.
func (l *Log) Roll(ctx context.Context) error {
	if err := l.Sync(ctx); err != nil {
		return err
	}
	var rolled []*segment
	for _, s := range l.liveSegments() { // some may be about to be sealed
		s.mu.Lock()
		if s.open && s.class != Snapshot {
			rolled = append(rolled, s)
		}
		s.mu.Unlock()
	}
	broken := false
	roll := func(o *openSegment) bool {
		if o == nil {
			return false
		}
		rolled = append(rolled, o.segment)
		broken = broken || !o.healthy()
		return o.healthy()
	}
	l.dataMu.Lock()
	for _, o := range l.retiring {
		roll(o)
	}
	if roll(l.data) {
		l.retireData()
	}
	l.dataMu.Unlock()
	l.metaMu.Lock()
	if o := l.meta; roll(o) {
		l.meta = nil
		l.background.Go(func() { l.seal(o) })
	}
	l.metaMu.Unlock()
	if broken {
		l.repair()
	}
	for _, s := range rolled {
		select {
		case <-s.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
