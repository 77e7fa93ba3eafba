package erasure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// A candidateDir is a directory that was given to Open.
type candidateDir struct {
	path    string
	info    FileInfo
	form    *format // nil: has none
	damaged bool    // has one that cannot be read
	missing bool    // does not exist
	problem string  // why it is absent, if it is
	shards  bool    // holds shard files
	alien   string  // a file that is not casd's
	lock    *lockCloser
}

type lockCloser struct{ close func() error }

func (c *lockCloser) Close() error { return c.close() }

// openDirs finds out what the given directories are, creates the store if that is due, and locks them.
func (l *Log) openDirs() (err error) {
	var given []*candidateDir
	defer func() {
		if err != nil {
			for _, c := range given {
				if c.lock != nil {
					c.lock.Close()
				}
			}
		}
	}()
	for _, path := range l.opt.Dirs {
		abs, err := filepath.Abs(path)
		if err != nil {
			return &DirError{Path: path, Reason: "has no absolute path", Err: err}
		}
		c, err := l.inspectTimed(abs)
		if err != nil {
			return err
		}
		given = append(given, c)
	}
	if err := l.refuseTwins(given); err != nil {
		return err
	}
	if err := l.lockDirs(given); err != nil {
		return err
	}
	form, err := l.commonFormat(given)
	if err != nil {
		return err
	}
	if form != nil {
		if given, form, err = l.addKnown(given, form); err != nil {
			return err
		}
	}
	if form == nil {
		if form, err = l.create(given); err != nil {
			return err
		}
	} else if err := l.finishCreation(form, given); err != nil {
		return err
	}
	return l.enlist(*form, given)
}

// inspectTimed is inspect; a directory that does not answer in time counts as missing.
func (l *Log) inspectTimed(path string) (*candidateDir, error) {
	type result struct {
		c   *candidateDir
		err error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := l.inspect(path)
		ch <- result{c, err}
	}()
	r, ok := await(ch, l.opt.IOTimeout, nil)
	if !ok {
		return &candidateDir{path: path, problem: "does not answer"}, nil
	}
	return r.c, r.err
}

// inspect looks at one directory. A damaged or missing one is no error.
func (l *Log) inspect(path string) (*candidateDir, error) {
	c := &candidateDir{path: path}
	info, err := l.fs.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.missing, c.problem = true, "does not exist"
		return c, nil
	case err != nil:
		c.problem = err.Error()
		return c, nil
	case !info.Dir:
		return nil, &DirError{Path: path, Reason: "is not a directory"}
	}
	c.info = info
	if err := l.refuseNetwork(path); err != nil {
		return nil, err
	}
	if err := l.load(c); err != nil {
		return nil, err
	}
	return c, nil
}

func (l *Log) refuseNetwork(path string) error {
	if st, err := l.fs.Statfs(path); err == nil && st.Network != "" && !l.opt.AllowNetworkFS {
		return &DirError{Path: path, Reason: "lies on a network file system (" + st.Network + "), where locks and fsync cannot be trusted; use a local disk or allow it with --allow-network-fs"}
	}
	return nil
}

// load reads what a directory holds.
func (l *Log) load(c *candidateDir) error {
	c.form, c.damaged, c.problem, c.shards, c.alien = nil, false, "", false, ""
	form, err := readFormat(l.fs, c.path)
	switch {
	case err == nil:
		c.form = &form
	case errors.Is(err, errNewer):
		return &DirError{Path: c.path, Reason: "was written by a newer casd; start that one", Err: err}
	case errors.Is(err, errFormatDamaged):
		c.damaged, c.problem = true, "its format.json is damaged; copy it back from a backup, or replace the directory"
	case !errors.Is(err, fs.ErrNotExist):
		c.problem = err.Error()
		return nil
	}
	names, err := l.fs.ReadDir(filepath.Join(c.path, segmentsFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.problem = err.Error()
		return nil
	}
	c.shards = len(names) > 0
	if c.form != nil || c.damaged {
		return nil
	}
	if names, err = l.fs.ReadDir(c.path); err != nil {
		c.problem = err.Error()
		return nil
	}
	for _, name := range names {
		switch name {
		case segmentsFolder, lockFile, formatFile + tmpExtension, "lost+found":
		default:
			c.alien = name
		}
	}
	if c.shards {
		return &DirError{Path: c.path, Reason: "holds shard files but no format.json; copy the file back from a backup, or move the shard files away and replace the directory"}
	}
	return nil
}

// refuseTwins returns an error when one directory was given twice, under whatever name, or copied.
func (l *Log) refuseTwins(given []*candidateDir) error {
	for i, a := range given {
		for _, b := range given[:i] {
			same := a.path == b.path || a.info.Dir && b.info.Dir && a.info.Inode == b.info.Inode && a.info.Device == b.info.Device
			if same {
				return &DirError{Path: a.path, Reason: "is given twice, also as " + b.path}
			}
			if a.form != nil && b.form != nil && a.form.Dir == b.form.Dir && a.form.Store == b.form.Store {
				return &DirError{Path: a.path, Reason: "is a copy of " + b.path + ": both say that they are directory " + a.form.Dir + "; give only one of them"}
			}
		}
	}
	return nil
}

// lockDirs locks every directory that is part of a store or will be, and reads it again now that nobody else changes it.
func (l *Log) lockDirs(given []*candidateDir) error {
	fresh := !slices.ContainsFunc(given, func(c *candidateDir) bool { return c.form != nil })
	host, _ := os.Hostname() // informative
	holder := fmt.Sprintf("pid %d on %s", os.Getpid(), host)
	for _, c := range given {
		if !c.info.Dir || c.form == nil && l.opt.Create == nil || c.form == nil && !fresh && c.alien != "" {
			continue
		}
		locked, err := l.lockTimed(*c, holder)
		var held *LockedError
		switch {
		case errors.As(err, &held):
			return &DirError{Path: c.path, Reason: "is in use by another casd (" + held.Holder + "); stop that one first", Err: err}
		case errors.As(err, new(*DirError)):
			return err
		case err != nil && !fresh: // of a store that is there: the others do without it
			c.form, c.problem = nil, "cannot be locked: "+err.Error()
			continue
		case err != nil:
			return &DirError{Path: c.path, Reason: "cannot be locked", Err: err}
		}
		*c = *locked
	}
	return nil
}

// lockTimed locks a directory and reads it again. It is errHung when that takes too long; a lock that comes later is given back.
func (l *Log) lockTimed(c candidateDir, holder string) (*candidateDir, error) {
	type result struct {
		c   *candidateDir
		err error
	}
	ch, abandoned := make(chan result), make(chan struct{})
	go func() {
		lock, err := l.fs.Lock(filepath.Join(c.path, lockFile), holder)
		if err == nil {
			c.lock = &lockCloser{lock.Close}
			if err = l.load(&c); err != nil {
				lock.Close()
			}
		}
		select {
		case ch <- result{&c, err}:
		case <-abandoned:
			if err == nil {
				lock.Close()
			}
		}
	}()
	r, ok := await(ch, l.opt.IOTimeout, nil)
	if !ok {
		close(abandoned)
		return nil, errHung
	}
	return r.c, r.err
}

// commonFormat returns the format on which the directories agree, the one with the newest member list, or nil when there is none.
func (l *Log) commonFormat(given []*candidateDir) (*format, error) {
	var form *format
	var from string
	for _, c := range given {
		if c.form == nil {
			continue
		}
		if form != nil && c.form.Store != form.Store {
			return nil, &DirError{Path: c.path, Reason: "belongs to store " + c.form.Store + ", but " + from + " to store " + form.Store + "; give the directories of one store"}
		}
		if form == nil || c.form.CSN > form.CSN {
			form, from = c.form, c.path
		}
	}
	if form == nil {
		return nil, nil
	}
	form = l.elect(given, form)
	for _, c := range given {
		if c.form != nil && !form.has(c.form.Dir) {
			return nil, &DirError{Path: c.path, Reason: "is not a member of store " + form.Store + " (any more); leave it out, or empty it and add it with casd dir add"}
		}
	}
	return form, nil
}

// elect returns the list of the newest revision that most directories have. There are two of one revision when a change failed
// half-way and another set of directories was started next, without those that had it: nothing rests on the one that fewer have.
func (l *Log) elect(given []*candidateDir, form *format) *format {
	best, most := form, 0
	for _, a := range given {
		if a.form == nil || a.form.CSN != form.CSN {
			continue
		}
		votes := 0
		for _, b := range given {
			if b.form != nil && a.form.agrees(*b.form) {
				votes++
			}
		}
		if votes > most {
			best, most = a.form, votes
		}
		if !a.form.agrees(*form) {
			l.log.LogAttrs(context.Background(), slog.LevelError, "directories disagree about the members of the store", slog.String("dir", a.path), slog.Uint64("revision", form.CSN))
		}
	}
	return best
}

// agrees tells whether two lists say the same; paths are only informative.
func (f format) agrees(other format) bool {
	return f.CSN == other.CSN && f.Lost == other.Lost && f.code() == other.code() && f.leastParity() == other.leastParity() &&
		slices.EqualFunc(f.Members, other.Members, func(a, b Member) bool { return a.ID == b.ID && a.State == b.State })
}

// addKnown adds the members that joined after the creation, were not given, and are where they were last: who starts with the
// directories that the store once had need not know of those that it was given since. Of those that it once had none is added: who leaves
// one out means it. And nothing is looked for when a directory is not where it was last: who starts a copy of a store must not
// reach for the original.
func (l *Log) addKnown(given []*candidateDir, form *format) ([]*candidateDir, *format, error) {
	for _, c := range given {
		if c.form != nil && !slices.ContainsFunc(form.Members, func(m Member) bool { return m.ID == c.form.Dir && m.Path == c.path }) {
			moved := *form
			moved.Members = slices.Clone(form.Members)
			for i := range moved.Members {
				moved.Members[i].Joined = false // nor at later starts
			}
			return given, &moved, nil
		}
	}
	tried := map[string]bool{}
	for again := true; again; {
		again = false
		for _, m := range form.Members {
			have := slices.ContainsFunc(given, func(c *candidateDir) bool { return c.path == m.Path || c.form != nil && c.form.Dir == m.ID })
			if have || !m.Joined || tried[m.Path] || !filepath.IsAbs(m.Path) {
				continue
			}
			tried[m.Path] = true
			l.joinedPaths.Store(m.Path, true)
			c, err := l.inspectTimed(m.Path)
			if err != nil || c.form == nil || c.form.Store != form.Store || c.form.Dir != m.ID {
				continue // absent
			}
			if err := l.refuseTwins(append(given[:len(given):len(given)], c)); err != nil {
				continue
			}
			given = append(given, c) // from here on the caller gives its lock back
			if err := l.lockDirs([]*candidateDir{c}); err != nil {
				return given, form, err
			}
			l.log.LogAttrs(context.Background(), slog.LevelInfo, "member directory was not given and is where it was last", slog.String("dir", c.path))
			if form, err = l.commonFormat(given); err != nil {
				return given, form, err
			}
			again = true
			break
		}
	}
	return given, form, nil
}

// repairFormat gives a directory the newest member list, and the paths where members were found last. That it cannot be
// written is no reason to do without the directory: the list is a copy.
func (l *Log) repairFormat(d *dir, form format) {
	form.Dir = d.id
	if err, _ := d.guard(context.Background(), func() error { return writeFormat(l.fs, d.path, form) }); err != nil {
		l.log.LogAttrs(context.Background(), slog.LevelWarn, "format.json cannot be brought up to date", slog.String("dir", d.path), slog.String("cause", err.Error()))
	}
}

// enlist makes the list of members, present and absent.
func (l *Log) enlist(form format, given []*candidateDir) error {
	l.store = form.storeID()
	l.parity.Store(int32(form.leastParity()))
	form.Members = slices.Clone(form.Members)
	for i := range form.Members {
		for _, c := range given {
			if c.form != nil && c.form.Dir == form.Members[i].ID {
				form.Members[i].Path = c.path
			}
		}
	}
	var dirs []*dir
	devices := map[uint64]string{}
	for _, member := range form.Members {
		if member.State == StateJoining {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "directory was not wholly added; add it again, or remove it", slog.String("dir", member.Path))
			l.leave(given, member.ID)
			continue
		}
		d := l.newDir(member)
		d.state, d.reason = dirAbsent, "not given, or not found"
		for _, c := range given {
			if c.form == nil || c.form.Dir != member.ID {
				continue
			}
			d.path, d.device, d.state, d.reason = c.path, c.info.Device, dirOnline, ""
			if c.lock != nil {
				d.lock = c.lock
			}
			if other, ok := devices[c.info.Device]; ok {
				if other != "" {
					l.log.LogAttrs(context.Background(), slog.LevelWarn, "data directories share one device: its loss takes them all", slog.String("dir", other), slog.String("dir2", c.path))
				}
				devices[c.info.Device] = "" // one warning a device
			} else {
				devices[c.info.Device] = c.path
			}
			// What a process that died early left here may not be durable yet, and everything rests on it.
			if err, _ := d.guard(context.Background(), func() error { return errors.Join(l.fs.MkdirAll(d.segments()), l.fs.SyncDir(d.path)) }); err != nil {
				d.setOffline(err)
			} else if !c.form.agrees(form) || !slices.Equal(c.form.Members, form.Members) {
				l.repairFormat(d, form)
			}
		}
		if d.state == dirAbsent {
			l.log.LogAttrs(context.Background(), slog.LevelError, "data directory of the store is absent", slog.String("id", member.ID), slog.String("last_path", member.Path))
		}
		dirs = append(dirs, d)
	}
	l.members.set(form, dirs)
	for _, c := range given {
		if c.form != nil {
			continue
		}
		why := c.problem
		if why == "" {
			why = "empty: perhaps its disk is not mounted; to make it part of the store use casd dir add or casd dir replace"
		}
		l.log.LogAttrs(context.Background(), slog.LevelError, "directory is not used", slog.String("dir", c.path), slog.String("why", why))
		for _, d := range dirs {
			if d.path == c.path {
				d.reason = why
			}
		}
		if c.lock != nil {
			c.lock.Close()
		}
	}
	return nil
}

// newDir returns the directory of a member, which is online unless somebody knows better.
func (l *Log) newDir(m Member) *dir {
	return &dir{id: m.ID, path: m.Path, fs: l.fs, log: l.log, timeout: l.opt.IOTimeout, state: dirOnline}
}

// leave gives back the lock of a directory that is not used.
func (l *Log) leave(given []*candidateDir, id string) {
	for _, c := range given {
		if c.form != nil && c.form.Dir == id && c.lock != nil {
			c.lock.Close()
			c.lock = nil
		}
	}
}
