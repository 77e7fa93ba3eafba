package erasure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// create makes a new store of the given directories, all of which must be empty.
func (l *Log) create(given []*candidateDir) (*format, error) {
	for _, c := range given {
		if c.damaged || c.problem != "" && !c.missing {
			return nil, &DirError{Path: c.path, Reason: c.problem}
		}
	}
	if l.opt.Create == nil {
		return nil, fmt.Errorf("%w: %s and the others given", ErrEmptyDirs, given[0].path)
	}
	k, m := l.opt.Create.K, l.opt.Create.M
	if k == 0 && m == 0 {
		k, m = defaultCode(len(given))
	}
	switch {
	case k < 1 || m < 0 || k+m > shardsMax:
		return nil, fmt.Errorf("erasure: code %d+%d: k must be at least 1, m at least 0, k+m at most %d", k, m, shardsMax)
	case k+m > len(given):
		return nil, fmt.Errorf("erasure: code %d+%d needs %d data directories, %d are given", k, m, k+m, len(given))
	}
	if m == 0 {
		l.log.LogAttrs(context.Background(), slog.LevelWarn, "store has no parity: losing one data directory loses data", slog.Int("k", k))
	}
	form := &format{Magic: formatMagic, Version: formatVersion, Store: l.random().String(), K: k, M: m,
		Created: time.Now().UTC().Format(time.RFC3339), Params: l.opt.Create.Params}
	for _, c := range given {
		if c.alien != "" {
			return nil, &DirError{Path: c.path, Reason: "holds " + c.alien + ", which is not casd's; give empty directories for a new store"}
		}
		form.Members = append(form.Members, Member{ID: l.random().String(), Path: c.path})
	}
	for i, c := range given {
		if err := l.found(c, *form, form.Members[i].ID); err != nil {
			return nil, err
		}
	}
	l.created = true
	return given[0].form, nil
}

// found makes c a member of the store, durably.
func (l *Log) found(c *candidateDir, form format, id string) error {
	form.Dir = id
	var parents []string // whose entries are new
	for p := c.path; !c.info.Dir && filepath.Dir(p) != p; p = filepath.Dir(p) {
		if _, err := l.fs.Stat(p); err == nil {
			break
		}
		parents = append(parents, filepath.Dir(p))
	}
	err := l.fs.MkdirAll(filepath.Join(c.path, segmentsFolder))
	if err == nil && !c.info.Dir {
		err = l.refuseNetwork(c.path)
	}
	if err == nil && c.lock == nil {
		lock, e := l.fs.Lock(filepath.Join(c.path, lockFile), fmt.Sprintf("pid %d", os.Getpid()))
		if err = e; err == nil {
			c.lock = &lockCloser{lock.Close}
		}
	}
	if err == nil && !c.info.Dir {
		c.info, err = l.fs.Stat(c.path)
		for _, p := range parents {
			err = errors.Join(err, l.fs.SyncDir(p))
		}
	}
	if err == nil {
		err = writeFormat(l.fs, c.path, form)
	}
	if err != nil {
		return &DirError{Path: c.path, Reason: "cannot be made part of the store", Err: err}
	}
	written, err := readFormat(l.fs, c.path)
	if err != nil {
		return &DirError{Path: c.path, Reason: "does not give back what was written", Err: err}
	}
	c.form, c.problem = &written, ""
	return nil
}

// finishCreation completes a creation that was cut short: as long as no directory holds any shard file, the members that
// have no directory yet are given to the empty ones.
func (l *Log) finishCreation(form *format, given []*candidateDir) error {
	if l.opt.Create == nil || form.CSN > 0 {
		return nil
	}
	have := map[string]bool{}
	var empty []*candidateDir
	for _, c := range given {
		switch {
		case c.shards:
			return nil
		case c.form != nil:
			have[c.form.Dir] = true
		case c.damaged || c.alien != "" || c.problem != "" && !c.missing:
			return nil
		default:
			empty = append(empty, c)
		}
	}
	if len(empty) == 0 || len(have)+len(empty) != len(form.Members) {
		return nil
	}
	for _, c := range empty {
		i := slices.IndexFunc(form.Members, func(m Member) bool { return !have[m.ID] && m.Path == c.path })
		if i < 0 {
			i = slices.IndexFunc(form.Members, func(m Member) bool { return !have[m.ID] })
		}
		have[form.Members[i].ID] = true
		if err := l.found(c, *form, form.Members[i].ID); err != nil {
			return err
		}
	}
	l.created = true
	return nil
}
