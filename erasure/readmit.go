package erasure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	probeFile  = "probe" + tmpExtension
	probeBytes = 64 << 10 // written, synced and read back before a directory is used again

	stalledReason = "does not answer" // how the reason begins while operations are under way
)

// Probe looks whether members that are absent or offline can be used again, where they were last or in one of Options.Dirs, and
// tells how many can. One that is in service and has gone from its place is offline from then on. It is cheap when none is away,
// and does nothing while members are being changed.
//
// A directory comes back when it is the one it was, by its format.json, its list of members is not ahead, it can be locked, takes
// a write, syncs it and gives it back past the page cache, can be listed, and no operation of its last life is still under way. Its
// shard files then count again where no other directory has taken over, and it is healing: its segments are among Unverified.
func (l *Log) Probe(ctx context.Context) (readmitted int) {
	select {
	case l.members.changing <- struct{}{}:
	default:
		return 0
	}
	defer l.unlockMembers()
	if l.closed.Load() {
		return 0
	}
	var mu sync.Mutex
	var back []*returned
	var wg sync.WaitGroup
	for _, d := range l.dirs() {
		if d.readable() {
			wg.Go(func() { l.present(ctx, d) }) // else nobody who only reads would notice that it went away
			continue
		}
		if d.draining() {
			l.forgetDir(d) // its shards are to be rebuilt elsewhere
		}
		wg.Go(func() {
			if r := l.knock(ctx, d); r != nil {
				mu.Lock()
				defer mu.Unlock()
				back = append(back, r)
			}
		})
	}
	wg.Wait()
	for _, r := range back {
		l.readmit(r)
	}
	return len(back)
}

// A returned is a directory that is back.
type returned struct {
	old, d *dir
	files  []shardFile
}

// named tells whether a path was given when the log was opened, or since then.
func (l *Log) named(path string) bool {
	if _, ok := l.joinedPaths.Load(path); ok {
		return true
	}
	return slices.ContainsFunc(l.opt.Dirs, func(p string) bool {
		abs, err := filepath.Abs(p)
		return err == nil && abs == path
	})
}

// knock looks whether a directory that is away is back.
func (l *Log) knock(ctx context.Context, old *dir) *returned {
	if n := old.busy.Load(); n > 0 {
		old.setReason(fmt.Sprintf("%s: %d operations have not returned", stalledReason, n))
		return nil
	}
	// Only where somebody said that a directory of this store is: what the list of members says of paths may be out of date, and who
	// starts a copy of a store must not reach for the original.
	var paths []string
	if l.named(old.path) {
		paths = append(paths, old.path)
	}
	for _, p := range l.opt.Dirs {
		abs, err := filepath.Abs(p)
		if err == nil && !slices.Contains(paths, abs) && !slices.ContainsFunc(l.dirs(), func(d *dir) bool { return d.path == abs }) {
			paths = append(paths, abs)
		}
	}
	for _, path := range paths {
		d, err := l.revive(ctx, old, path)
		if err == nil && d == nil {
			continue // it is not there
		}
		var files []shardFile
		if err == nil {
			d.start()
			if files, err = l.listDir(d); err == nil && !d.readable() {
				err = errHung
			}
			if i := slices.IndexFunc(files, func(f shardFile) bool { return f.broken != nil }); err == nil && i >= 0 {
				err = files[i].broken // unknown is not missing
			}
		}
		if err != nil {
			if d != nil {
				d.setOffline(err)
				d.release(errOffline)
			}
			old.setReason("cannot be used again: " + err.Error())
			return nil
		}
		return &returned{old, d, files}
	}
	if _, reason := old.status(); strings.HasPrefix(reason, stalledReason) { // they have returned, and it is gone
		old.setReason("is not in its place any more")
	}
	return nil
}

// revive returns the directory of old that is at path, locked and fit to be written; nil when it is not there.
func (l *Log) revive(ctx context.Context, old *dir, path string) (*dir, error) {
	d := l.newDir(Member{ID: old.id, Path: path})
	ours := false
	err, _ := old.guard(ctx, func() error {
		form, err := readFormat(l.fs, path)
		if ours = err == nil && form.Dir == old.id && form.Store == l.store.String(); !ours {
			return nil
		}
		return l.refuseNetwork(path)
	})
	if err != nil || !ours {
		return nil, err
	}
	if old.lock != nil { // on what was there; nothing of that is under way any more
		old.lock.Close()
		old.lock = nil
	}
	var mu sync.Mutex
	var lock io.Closer
	late := false
	err, _ = old.guard(ctx, func() error {
		host, _ := os.Hostname() // informative
		lk, err := l.fs.Lock(filepath.Join(path, lockFile), fmt.Sprintf("pid %d on %s", os.Getpid(), host))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if late {
			return lk.Close()
		}
		lock = lk
		return l.examine(d)
	})
	mu.Lock()
	defer mu.Unlock()
	late = true
	if err != nil && lock != nil {
		lock.Close()
		return nil, err
	}
	d.lock = lock
	return d, err
}

// examine proves that a locked directory belongs here and keeps what is written to it.
func (l *Log) examine(d *dir) error {
	info, err := l.fs.Stat(d.path)
	if err != nil {
		return err
	}
	d.device = info.Device
	have, err := readFormat(l.fs, d.path) // now that nobody else changes it
	if err != nil {
		return err
	}
	form := l.members.get().of(d.id)
	l.members.mu.Lock()
	seen := l.members.seen
	l.members.mu.Unlock()
	switch {
	case have.Dir != d.id || have.Store != form.Store:
		return errors.New("it is another directory now")
	case have.CSN > seen:
		return fmt.Errorf("its member list has revision %d, the store's has %d: other directories of the store went on without these; restart with all of them", have.CSN, seen)
	}
	err = tryDisk(l.fs, filepath.Join(d.path, probeFile), l.random())
	full := isFull(err)
	if err != nil && !full {
		return err
	}
	if err := errors.Join(l.fs.MkdirAll(d.segments()), l.fs.SyncDir(d.path)); err != nil {
		return err
	}
	if !have.agrees(form) {
		if err := writeFormat(l.fs, d.path, form); err != nil {
			return fmt.Errorf("it does not take the member list: %w", err)
		}
	}
	if full {
		d.setFull()
	}
	return nil
}

// tryDisk writes a file, syncs it, reads it back past the page cache and removes it.
func tryDisk(fsys FS, path string, seed id16) (err error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if rerr := fsys.Remove(path); err == nil {
			err = rerr
		}
	}()
	want := bytes.Repeat(seed[:], probeBytes/len(seed))
	if _, err := f.WriteAt(want, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if err := readPastCache(f, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was written does not read back")
	}
	return nil
}

func (d *dir) setReason(reason string) {
	d.mu.Lock()
	changed := d.reason != reason
	d.reason = reason
	d.mu.Unlock()
	if changed {
		d.log.LogAttrs(context.Background(), slog.LevelWarn, "data directory stays out of service", slog.String("dir", d.path), slog.String("why", reason))
	}
}

// readmit puts a directory that is back in the place of its last life. The caller holds the token of members.changing.
func (l *Log) readmit(r *returned) {
	old, d := r.old, r.d
	mine := map[fileKey]bool{}
	for _, f := range r.files {
		mine[fileKey{segment: f.id, shard: f.index}] = true
	}
	l.adopt(r)
	for _, s := range l.liveSegments() {
		for i := range s.homes {
			if s.dirOf(i) == old && !mine[fileKey{segment: s.id, shard: i}] {
				s.setDir(i, old, nil) // it is proven not to be there
			}
		}
		if s.known && s.holds(d) {
			d.distrust(s.id)
		}
	}
	d.mu.Lock()
	if d.unverified == nil {
		d.unverified = map[SegmentID]struct{}{} // and whether it lacks any is for Healed
	}
	left := len(d.unverified)
	d.mu.Unlock()
	dirs := slices.Clone(l.dirs())
	dirs[slices.Index(dirs, old)] = d
	form := l.members.get()
	form.Members = slices.Clone(form.Members)
	form.Members[form.find(d.id)].Path = d.path
	l.members.set(form, dirs)
	l.findHoles()
	l.relearnParity()
	l.files.forgetDir(old)
	l.duplicates.forgetDir(old)
	old.release(errOffline)
	l.signalRoom()
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "data directory is back", slog.String("dir", d.path), slog.Int("shard_files", len(r.files)), slog.Int("unverified", left))
}

// adopt makes the shard files of a directory that is back part of their segments.
func (l *Log) adopt(r *returned) {
	strangers := map[SegmentID][]shardFile{}
	for _, f := range r.files {
		l.segMu.Lock()
		l.maxID = max(l.maxID, f.id)
		l.segMu.Unlock()
		if l.void(f.id) {
			continue // never used, whoever brings it; a start removes it
		}
		s := l.lookup(f.id)
		if s != nil && !s.known && (f.footer != nil || f.first != nil) {
			s = l.identified(s, f)
		}
		if s == nil {
			strangers[f.id] = append(strangers[f.id], f)
			continue
		}
		if !s.fits(f) {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "shard file does not belong to its segment",
				slog.String("dir", f.d.path), slog.String("file", shardName(f.id, f.class, f.index)))
			continue
		}
		if !s.setDir(f.index, r.old, f.d) && !s.setDir(f.index, nil, f.d) {
			l.secondCopy(f, s.dirOf(f.index))
			l.duplicates.add(f.id, f.index, f.d)
		}
		l.learnFrom(s, f)
	}
	for id, files := range strangers {
		// Before the log is recovered, all its directories may still be on their way. After that nothing can be unknown that
		// counts: what could, was seen.
		if l.recovered.Load() {
			l.log.LogAttrs(context.Background(), slog.LevelWarn, "segment that nobody knows is left alone", slog.String("dir", r.d.path), slog.Uint64("segment", uint64(id)))
			continue
		}
		s := l.assemble(id, files)
		l.segMu.Lock()
		if v, ok := l.verdicts[id]; ok && !(s.sealed && s.count == v.Stripes && s.digest == id16(v.Digest)) {
			s.sealed, s.ended, s.verdict = false, true, v
		}
		l.segs[id] = s
		l.segMu.Unlock()
	}
}

// fits tells whether a file may be a shard of the segment. One that says nothing may.
func (s *segment) fits(f shardFile) bool {
	if f.class != s.class || f.index >= len(s.homes) {
		return false
	}
	switch {
	case !s.known:
		return true
	case f.footer != nil:
		return f.footer.nonce == s.nonce
	case f.first != nil:
		return f.first.nonce == s.nonce
	}
	return true
}

// identified puts a segment that f says the identity of in the place of s, of which no present file did.
func (l *Log) identified(s *segment, f shardFile) *segment {
	known := l.assemble(s.id, []shardFile{f})
	if known.class != s.class || known.n() > len(s.homes) {
		return s
	}
	for i := range known.homes {
		if d := s.dirOf(i); i != f.index {
			known.homes[i].Store(d)
		}
	}
	known.homes[f.index].Store(nil)
	l.segMu.Lock()
	defer l.segMu.Unlock()
	if v, ok := l.verdicts[s.id]; ok && !(known.sealed && known.count == v.Stripes && known.digest == id16(v.Digest)) {
		known.sealed, known.ended, known.verdict = false, true, v
	}
	l.segs[s.id] = known
	l.learnParity(known.m)
	return known
}

// learnFrom takes into account what a shard file that was not there before tells of its segment.
func (l *Log) learnFrom(s *segment, f shardFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open || s.sealed:
	case f.footer != nil && !s.ended && f.footer.nonce == s.nonce:
		s.setFooter(f.footer.shared())
	case s.lost > 0 || !l.recovered.Load():
		s.surveyed = false // there may be more of it now
	}
}
