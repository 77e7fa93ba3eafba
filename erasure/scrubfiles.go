package erasure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// A scrubFile is one shard file during a scrub.
type scrubFile struct {
	d         *dir // that holds it, or will; nil: none
	held      *dir // of a fresh one: which directory should have held it; nil: none
	path      string
	f         File   // nil: could not be opened
	w         File   // open for writing, once needed
	size      int64  // when it was opened
	missing   bool   // no present directory holds it
	fresh     bool   // it is written anew under a temporary name
	failed    bool   // it could not be written, or read back
	why       string // it failed
	short     int64  // offset at which it ended too early; -1: it did not
	unread    string // why it could not be read, if it could not
	bad       int64  // shards that are bad or missing
	fixed     int64  // of these, rewritten and read back
	footer    bool   // it was given its footer
	absent    bool   // no present directory held it when the log was opened
	published bool   // it was written anew and has its name
}

func (f *scrubFile) readable() bool { return f.f != nil && f.d.readable() }

// fail takes note that the file could not be written, or read back.
func (f *scrubFile) fail(why string) {
	if !f.failed {
		f.failed, f.why = true, why
	}
}

func (f *scrubFile) shorten(off int64) {
	if f.short < 0 {
		f.short = min(off, f.size)
	}
}

// open opens the shard files.
func (c *scrubber) open(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range c.files {
		f := &c.files[i]
		f.short = -1
		if f.d = c.s.dirOf(i); f.d == nil {
			f.missing, f.absent = true, true
			continue
		}
		f.path = c.s.path(f.d, i)
		wg.Go(func() {
			if !f.d.readable() {
				_, f.unread = f.d.status()
				return
			}
			var err error
			f.f, f.size, err = c.l.openFile(ctx, f.d, f.path, os.O_RDONLY)
			switch {
			case errors.Is(err, fs.ErrNotExist) && c.l.present(ctx, f.d):
				f.missing = true
			case err != nil:
				f.unread = err.Error()
				f.d.readFailed(err)
			}
		})
	}
	wg.Wait()
}

// present tells whether a directory is still what it was when the log was opened. That nothing is found where a disk was
// unmounted proves nothing. A directory that has gone from its place is offline from now on.
func (l *Log) present(ctx context.Context, d *dir) bool {
	err, abandoned := d.guard(ctx, func() error {
		form, err := readFormat(l.fs, d.path)
		if err == nil && form.Dir != d.id {
			return &DirError{Path: d.path, Reason: "is another directory now"}
		}
		return err
	})
	var other *DirError
	if !abandoned && (errors.Is(err, fs.ErrNotExist) || errors.As(err, &other)) {
		d.setOffline(fmt.Errorf("is not in its place any more: %w", err))
	}
	return err == nil
}

// openFile opens a file of a directory and tells its size. A file that opens after it was given up is closed.
func (l *Log) openFile(ctx context.Context, d *dir, path string, flag int) (File, int64, error) {
	var mu sync.Mutex
	var file File
	var size int64
	late := false
	err, _ := d.guard(ctx, func() error {
		f, err := l.fs.OpenFile(path, flag)
		if err != nil {
			return err
		}
		fi, err := f.Stat()
		if err != nil {
			f.Close()
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if late {
			return f.Close()
		}
		file, size = f, fi.Size
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	late = true
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return file, size, err
}

// readFile fills b from a shard file past the page cache. abandoned says that b may still be written to.
func (c *scrubber) readFile(ctx context.Context, shard int, b []byte, off int64) (err error, abandoned bool) {
	f := &c.files[shard]
	if !f.readable() {
		return errOffline, false
	}
	file := f.f
	err, abandoned = f.d.guard(ctx, func() error { return readPastCache(file, b, off) })
	if abandoned {
		return err, true
	}
	if err != nil {
		f.d.readFailed(err)
		return err, false
	}
	f.d.readErrors.Store(0)
	return nil, false
}

// readPastCache fills b from the disk, and leaves the page cache as it would be without it.
func readPastCache(f File, b []byte, off int64) error {
	f.Drop(off, int64(len(b)))
	n, err := f.ReadAt(b, off)
	f.Drop(off, int64(len(b)))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *scrubber) count(shard int, n int64) {
	c.res.BytesRead[c.files[shard].d.path] += n
	c.l.metrics.scrubbed.Add(float64(n))
}

// close closes everything where it may hang, and removes what was not published.
func (c *scrubber) close() {
	for i := range c.files {
		f := &c.files[i]
		for _, h := range []File{f.f, f.w} {
			if h != nil {
				f.d.closeFile(h)
			}
		}
		if f.fresh {
			c.l.removeTemp(f.d, f.path)
		}
	}
}

// footers checks that every shard file of a sealed segment ends with its footer, and rewrites those that do not.
func (c *scrubber) footers(ctx context.Context) error {
	foot := c.view.foot
	if err := c.throttle(ctx, blockBytes); err != nil {
		return err
	}
	n := c.s.n()
	found := make([][]byte, n)
	for i := range n {
		f := &c.files[i]
		if f.fresh || !f.readable() {
			continue
		}
		b := make([]byte, blockBytes)
		err, _ := c.readFile(ctx, i, b, foot.stored-blockBytes)
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			f.shorten(f.size)
		case err != nil:
			c.report(c.shardFinding(i, FindingUnreadable, err.Error()))
		default:
			found[i] = b
			c.count(i, blockBytes)
		}
	}
	known := c.footerTruth(&foot, found)
	for i := range n {
		f := &c.files[i]
		want := foot
		want.index = uint8(i)
		var detail string
		switch {
		case f.fresh:
		case found[i] != nil && f.size == foot.stored:
			got, err := decodeFooter(found[i])
			if err == nil && (got == want || !known) {
				continue
			}
			if detail = "not that of the segment"; err != nil {
				detail = err.Error()
			}
		case found[i] != nil:
			detail = fmt.Sprintf("the file goes on for %d bytes behind it", f.size-foot.stored)
		case f.short < 0:
			continue // not to be had
		}
		var ff *Finding
		if detail != "" {
			x := c.shardFinding(i, FindingFooter, detail)
			x.Stripe, x.Offset = foot.stripes+foot.dirStripes, foot.stored-blockBytes
			ff = &x
		}
		done := known && c.putFooter(i, want)
		if ff != nil {
			ff.Repaired = done
			c.report(*ff)
		}
	}
	return nil
}

// footerTruth completes the footer that all files should have: from the directory stripes, or, when these are damaged, if k
// footers say the same.
func (c *scrubber) footerTruth(foot *footer, found [][]byte) bool {
	if c.dirDigest != nil {
		foot.dirDigest = *c.dirDigest
		return true
	}
	votes := map[id16]int{}
	for _, b := range found {
		if b == nil {
			continue
		}
		got, err := decodeFooter(b)
		if err != nil {
			continue
		}
		want := *foot
		want.dirDigest = got.dirDigest
		if got.shared() != want {
			continue
		}
		if votes[got.dirDigest]++; votes[got.dirDigest] >= c.s.k {
			foot.dirDigest = got.dirDigest
			return true
		}
	}
	return false
}

// reportFiles reports what is wrong with whole files.
func (c *scrubber) reportFiles() {
	for i := range c.files {
		f := &c.files[i]
		whole := !f.failed && f.fixed == f.bad
		var ff Finding
		switch {
		case f.missing:
			ff = c.shardFinding(i, FindingMissingFile, "no present directory holds it")
			if ff.Repaired = f.published; f.published {
				ff.Detail = "written anew"
			}
		case f.short >= 0:
			ff = c.shardFinding(i, FindingShortFile, fmt.Sprintf("ends at %d", f.size))
			ff.Offset, ff.Repaired = f.short, whole && (f.footer || !c.view.sealed)
		case f.unread != "":
			ff = c.shardFinding(i, FindingUnreadable, f.unread)
		case f.d != nil && !f.d.readable():
			_, why := f.d.status()
			ff = c.shardFinding(i, FindingUnreadable, why)
		default:
			continue
		}
		c.report(ff)
	}
}
