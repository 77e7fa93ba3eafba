package erasure

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// What was written is synced and read back when it comes to this many bytes or shards, and at the end.
const (
	writesBytesMax = 32 << 20
	writesMax      = 256
)

// A shardWrite is a shard that was rewritten and is not yet known to be on the disk.
type shardWrite struct {
	shard   int
	off     int64
	n       int64
	sum     id16     // of header, data and padding
	finding *Finding // what it repairs; nil: part of the damage of a file
}

// begin gives every missing shard file of a segment that takes no more stripes a directory and a temporary name.
func (c *scrubber) begin(ctx context.Context) {
	if !c.repair || c.view.open {
		return
	}
	var taken []*dir
	for i := range c.files {
		if d := c.files[i].d; d != nil && !c.files[i].missing {
			taken = append(taken, d)
		}
	}
	for i := range c.files {
		f := &c.files[i]
		if !f.missing {
			continue
		}
		d := c.home(ctx, f.d, taken)
		if d == nil {
			continue
		}
		taken = append(taken, d)
		name := shardName(c.s.id, c.s.class, i)
		for _, old := range c.l.dirs() { // what an earlier attempt left behind
			if old.readable() {
				c.l.removeTemp(old, filepath.Join(old.segments(), name+tmpExtension))
			}
		}
		path := filepath.Join(d.segments(), name+tmpExtension)
		if file, err := c.create(d, path); err == nil {
			f.held, f.d, f.path, f.f, f.fresh = f.d, d, path, file, true
		}
	}
}

// create makes a new file. One that opens after it was given up is closed.
func (c *scrubber) create(d *dir, path string) (File, error) {
	var file File
	var mu sync.Mutex
	late := false
	err := c.heal(d, func() error {
		h, err := c.l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if late {
			return h.Close()
		}
		file = h
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	late = true
	return file, err
}

// home chooses the directory for a missing shard file: the one that held it, else, of those that hold no other shard of the
// segment, one that is to be healed, else the one with the most room. Each is asked who it is first: an unmounted disk leaves
// an empty directory behind.
func (c *scrubber) home(ctx context.Context, held *dir, taken []*dir) *dir {
	need := c.need()
	var best *dir
	var most int64
	for _, d := range c.l.candidates() {
		if slices.Contains(taken, d) || !c.vacant(ctx, d) {
			continue
		}
		free, err := d.free()
		if err != nil || free < need+fullFreeBytes {
			continue
		}
		if d == held {
			return d
		}
		if d.healing() {
			free += 1 << 62
		}
		if best == nil || free > most {
			best, most = d, free
		}
	}
	return best
}

// need is the length of a shard file of the segment.
func (c *scrubber) need() int64 {
	if c.view.sealed || len(c.view.stripes) == 0 {
		return c.view.foot.stored
	}
	return int64(c.view.stripes[len(c.view.stripes)-1].next()) * blockBytes
}

// vacant tells whether d is still the directory it was and holds no shard file of the segment.
func (c *scrubber) vacant(ctx context.Context, d *dir) bool {
	if !c.l.present(ctx, d) {
		return false
	}
	err, _ := d.guard(ctx, func() error {
		for i := range c.s.n() {
			_, err := c.l.fs.Stat(filepath.Join(d.segments(), shardName(c.s.id, c.s.class, i)))
			if !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, fs.ErrExist)
			}
		}
		return nil
	})
	return err == nil
}

// removeTemp removes a file that never got its name.
func (l *Log) removeTemp(d *dir, path string) {
	_, _ = d.guard(context.Background(), func() error { return l.fs.Remove(path) }) // the next start, or attempt, removes what stays
}

// heal runs a change of a directory. It is not cut short by a context: that would leave it half done.
func (c *scrubber) heal(d *dir, fn func() error) error {
	if !d.readable() {
		return errOffline
	}
	err, abandoned := d.guard(context.Background(), fn)
	if err != nil && !abandoned {
		d.failed(err)
	}
	return err
}

// writable returns the shard file open for writing, or nil.
func (c *scrubber) writable(i int) File {
	f := &c.files[i]
	switch {
	case !c.repair || f.failed || !f.readable():
		return nil
	case f.fresh:
		return f.f
	case f.missing:
		return nil
	case f.w == nil:
		w, _, err := c.l.openFile(context.Background(), f.d, f.path, os.O_RDWR)
		if err != nil {
			f.fail(err.Error())
			return nil
		}
		f.w = w
	}
	return f.w
}

// put rewrites a shard. flush tells what has become of it, and reports the finding; when put returns false nothing was
// written.
func (c *scrubber) put(st *scrubbedStripe, i int, found *Finding) bool {
	w := c.writable(i)
	if w == nil {
		return false
	}
	buf := st.encoded(i)
	f := &c.files[i]
	if err := c.heal(f.d, func() error { _, err := w.WriteAt(buf, st.offset()); return err }); err != nil {
		f.fail(err.Error())
		return false
	}
	c.writes = append(c.writes, shardWrite{i, st.offset(), st.stored(), sum128(buf), found})
	c.writeBytes += st.stored()
	return true
}

// encoded returns shard i as it should be, header and padding included. It is not from the pool: a write that hangs keeps it.
func (st *scrubbedStripe) encoded(i int) []byte {
	buf := make([]byte, st.stored())
	h := st.h
	h.index, h.sum = uint8(i), sum128(st.truth[i])
	h.encode(buf)
	copy(buf[headerBytes:], st.truth[i])
	return buf
}

// flush syncs what was rewritten, reads it back past the page cache, and reports what it repaired. A file that does not give back
// what was written is not trusted any further.
func (c *scrubber) flush() {
	bad := make([]string, len(c.files))
	var wg sync.WaitGroup
	for i := range c.files {
		mine := func(w shardWrite) bool { return w.shard == i }
		if !slices.ContainsFunc(c.writes, mine) {
			continue
		}
		wg.Go(func() {
			f := &c.files[i]
			w := f.w
			if f.fresh {
				w = f.f
			}
			if err := c.heal(f.d, func() error { return w.Sync() }); err != nil {
				bad[i] = err.Error()
				return
			}
			for _, sw := range c.writes {
				if sw.shard != i {
					continue
				}
				b := make([]byte, sw.n)
				if err, _ := c.readFile(context.Background(), i, b, sw.off); err != nil {
					bad[i] = err.Error()
				} else if sum128(b) != sw.sum {
					bad[i] = "what was written does not read back"
				}
			}
		})
	}
	wg.Wait()
	for i, why := range bad {
		if why != "" {
			c.files[i].fail(why)
		}
	}
	for _, sw := range c.writes {
		f := &c.files[sw.shard]
		if bad[sw.shard] == "" {
			f.fixed++
			if !f.fresh {
				c.healed(1)
			}
		}
		if sw.finding != nil {
			if sw.finding.Repaired = bad[sw.shard] == ""; !sw.finding.Repaired {
				sw.finding.Detail += "; not repaired: " + bad[sw.shard]
			}
			c.report(*sw.finding)
		}
	}
	c.writes, c.writeBytes = nil, 0
}

func (c *scrubber) healed(shards int64) {
	c.res.ShardsRepaired += shards
	c.l.metrics.healed.Add(float64(shards))
}

// putFooter writes the footer of a shard file, cuts the file behind it, and reads it back.
func (c *scrubber) putFooter(i int, foot footer) bool {
	w := c.writable(i)
	if w == nil {
		return false
	}
	b := make([]byte, blockBytes)
	foot.encode(b)
	f := &c.files[i]
	err := c.heal(f.d, func() error {
		if _, err := w.WriteAt(b, foot.stored-blockBytes); err != nil {
			return err
		}
		if err := w.Truncate(foot.stored); err != nil {
			return err
		}
		return w.Sync()
	})
	if err == nil {
		got := make([]byte, blockBytes)
		if err, _ = c.readFile(context.Background(), i, got, foot.stored-blockBytes); err == nil {
			var back footer
			if back, err = decodeFooter(got); err == nil && back != foot {
				err = errNotFooter
			}
		}
	}
	if f.footer = err == nil; err != nil {
		f.fail(err.Error())
	}
	return err == nil
}

// publish gives the new shard files their names, durably, and lets readers use them. A file that lacks a stripe is good enough
// only when the one that is missing cannot come back: else that one would be passed over for it.
func (c *scrubber) publish() {
	for i := range c.files {
		f := &c.files[i]
		if !f.fresh || f.failed || f.fixed == 0 && f.bad > 0 || c.view.sealed && !f.footer || c.gap && c.l.outOfService() > 0 {
			continue
		}
		name := filepath.Join(f.d.segments(), shardName(c.s.id, c.s.class, i))
		if err := c.name(f, name); err != nil {
			f.fail(err.Error())
			continue
		}
		if !c.rehome(i, f.held, f.d) {
			f.failed = true
			continue
		}
		f.published = true
		c.res.FilesRebuilt++
		c.healed(f.fixed)
		c.l.log.LogAttrs(context.Background(), slog.LevelWarn, "shard file rebuilt", slog.String("path", name), slog.Int64("shards", f.fixed))
	}
}

// name gives a new shard file its name, durably, and makes sure that it is the one that is there.
func (c *scrubber) name(f *scrubFile, name string) error {
	if err := c.heal(f.d, func() error {
		if err := c.l.fs.Rename(f.path, name); err != nil {
			return err
		}
		if err := c.l.fs.SyncDir(f.d.segments()); err != nil {
			return err
		}
		return c.l.syncFile(f.f, name)
	}); err != nil {
		return err
	}
	f.fresh, f.path = false, name
	return nil
}

// rehome makes d the directory of a shard whose file was somewhere else, or nowhere, when the scrub began.
func (c *scrubber) rehome(shard int, old, d *dir) bool {
	if old != d && !c.s.setDir(shard, old, d) {
		return false
	}
	if old != d && d.closing.Load() { // who makes it leave looks for shard files after it has said so
		c.s.setDir(shard, d, old)
		return false
	}
	c.l.files.forget(fileKey{c.s.id, shard, old}) // readers may have the file that was removed
	return true
}
