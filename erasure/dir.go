package erasure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A dirState is the state of a data directory, as DirInfo.State gives it.
type dirState string

const (
	dirOnline  dirState = "online"
	dirAbsent  dirState = "absent"  // not given, missing, or empty when it should not be
	dirOffline dirState = "offline" // failed a write, an fsync, too many reads, or hung; stays so until it is readmitted
	dirFull    dirState = "full"    // had no space when it was last asked; readable, takes no new segments
)

const (
	readErrorsMax  = 8       // consecutive failed reads after which a directory is offline
	fullFreeBytes  = 1 << 20 // free space below which a directory that was full stays so, and nothing is moved or rebuilt into one
	segmentsFolder = "segments"
)

// Lanes of a directory: each runs its jobs one after the other, so that a lone metadata commit never waits behind the
// fsync of bulk data.
const (
	laneMetadata = iota
	laneData
	laneControl    // creating, preallocating, sealing
	laneBackground // removing files, writing snapshots
	laneCount
)

// A dir is one life of a member of the store, present or not. When a directory that was away comes back, a new dir takes the
// place of the old one, which stays offline: nothing that was begun before can touch the directory again.
type dir struct {
	id      string
	path    string
	fs      FS
	log     *slog.Logger
	timeout time.Duration
	device  uint64
	lock    io.Closer
	lanes   [laneCount]*lane

	readErrors atomic.Int32 // consecutive
	busy       atomic.Int64 // operations that have not returned, given up or not
	closing    atomic.Bool  // it leaves the store and takes nothing new
	seen       spaceSeen

	mu         sync.Mutex // guards what follows
	state      dirState
	reason     string
	hung       bool
	role       string                 // StateDraining, StateHealing or empty
	unverified map[SegmentID]struct{} // of a directory that came back: segments not scrubbed since; nil: it is trusted
}

func (d *dir) start() {
	for i := range d.lanes {
		d.lanes[i] = newLane(d)
	}
}

func (d *dir) segments() string { return filepath.Join(d.path, segmentsFolder) }

// readable tells whether reads may be tried.
func (d *dir) readable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state == dirOnline || d.state == dirFull
}

// answers tells whether an operation comes to an end, well or not.
func (d *dir) answers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state != dirAbsent && !d.hung
}

func (d *dir) status() (dirState, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, d.reason
}

// setOffline takes the directory out of service until it is readmitted.
func (d *dir) setOffline(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hung = d.hung || errors.Is(cause, errHung)
	if d.state == dirAbsent || d.state == dirOffline {
		return
	}
	d.state, d.reason = dirOffline, cause.Error()
	d.log.LogAttrs(context.Background(), slog.LevelError, "data directory is offline", slog.String("dir", d.path), slog.String("cause", d.reason))
}

func (d *dir) setFull() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == dirOnline {
		d.state, d.reason = dirFull, "no space left"
		d.log.LogAttrs(context.Background(), slog.LevelWarn, "data directory is full", slog.String("dir", d.path))
	}
}

// refreshFull makes a full directory one that has room again.
func (d *dir) refreshFull() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == dirFull {
		d.state, d.reason = dirOnline, ""
	}
}

// free asks how many bytes may still be written.
func (d *dir) free() (int64, error) {
	info, err := d.space()
	return info.Free, err
}

// space asks about the file system.
func (d *dir) space() (FSInfo, error) {
	ch := make(chan FSInfo, 1)
	err, _ := d.guard(context.Background(), func() error {
		info, err := d.fs.Statfs(d.path)
		ch <- info
		return err
	})
	if err != nil {
		return FSInfo{}, err
	}
	return <-ch, nil
}

// failed takes note of the failure of a write, an fsync or another change.
func (d *dir) failed(err error) {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		d.setFull()
	case isShortage(err):
	default:
		d.setOffline(err)
	}
}

// isShortage tells whether an error says that this process or machine is short of descriptors or memory, which is
// nothing that a directory should be put out of service for. What failed so is not believed to have happened.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// readFailed takes note of a failed read.
func (d *dir) readFailed(err error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrClosed) || isShortage(err) {
		return // the file is damaged, or the process is short of something, but the directory is well
	}
	if d.readErrors.Add(1) >= readErrorsMax {
		d.setOffline(fmt.Errorf("%d reads failed in a row: %w", readErrorsMax, err))
	}
}

// guard runs fn in a goroutine of its own and waits for it as long as the directory may take. After a time-out the
// directory is offline and fn may still be running: what it uses must not be used again.
func (d *dir) guard(ctx context.Context, fn func() error) (err error, abandoned bool) {
	ch := make(chan error, 1)
	d.busy.Add(1)
	go func() {
		defer d.busy.Add(-1)
		ch <- fn()
	}()
	err, ok := await(ch, d.timeout, ctx.Done())
	switch {
	case ok:
		return err, false
	case ctx.Err() != nil:
		return ctx.Err(), true
	default:
		d.setOffline(errHung)
		return errHung, true
	}
}

// A job is one piece of work for a lane. Exactly one call of done follows.
type job struct {
	run  func() error
	done func(err error, abandoned bool) // abandoned: run may still be using its buffers
	once atomic.Bool
}

func (j *job) finish(err error, abandoned bool) {
	if j.once.CompareAndSwap(false, true) {
		j.done(err, abandoned)
	}
}

// A lane runs jobs of one directory in order. Its queue is bounded by what its users may have in flight. When a job takes longer
// than the time-out, the directory is offline, and that job and all behind it fail at once.
type lane struct {
	d       *dir
	mu      sync.Mutex
	wake    *sync.Cond
	queue   []*job
	running *job
	dead    error // set once: hung or closed
}

func newLane(d *dir) *lane {
	ln := &lane{d: d}
	ln.wake = sync.NewCond(&ln.mu)
	go ln.work()
	return ln
}

// do queues run and calls done when it has ended, in a goroutine of the lane.
func (ln *lane) do(run func() error, done func(err error, abandoned bool)) {
	j := &job{run: run, done: done}
	ln.mu.Lock()
	if dead := ln.dead; dead != nil {
		ln.mu.Unlock()
		j.finish(dead, false)
		return
	}
	ln.queue = append(ln.queue, j)
	ln.wake.Signal()
	ln.mu.Unlock()
}

func (ln *lane) work() {
	for {
		ln.mu.Lock()
		for len(ln.queue) == 0 && ln.dead == nil {
			ln.wake.Wait()
		}
		if ln.dead != nil {
			ln.mu.Unlock()
			return
		}
		j := ln.queue[0]
		ln.queue[0] = nil
		ln.queue = ln.queue[1:]
		ln.running = j
		ln.mu.Unlock()

		var err error
		if !ln.d.readable() {
			err = errOffline
		} else {
			p := newPatience(ln.d.timeout, func() { ln.hang(j) })
			ln.d.busy.Add(1)
			err = j.run()
			ln.d.busy.Add(-1)
			p.stop()
			if err != nil && !j.once.Load() {
				ln.d.failed(err)
			}
		}
		ln.mu.Lock()
		ln.running = nil
		ln.mu.Unlock()
		j.finish(err, false)
	}
}

// hang gives up on the lane when it is still at j.
func (ln *lane) hang(j *job) {
	ln.mu.Lock()
	if ln.running != j || ln.dead != nil {
		ln.mu.Unlock()
		return
	}
	ln.mu.Unlock()
	ln.d.setOffline(errHung)
	ln.stop(errHung)
}

// stop fails everything in the lane and everything that comes.
func (ln *lane) stop(cause error) {
	ln.mu.Lock()
	if ln.dead == nil {
		ln.dead = cause
	}
	queue, running := ln.queue, ln.running
	ln.queue = nil
	ln.wake.Broadcast()
	ln.mu.Unlock()
	if running != nil {
		running.finish(cause, true)
	}
	for _, j := range queue {
		j.finish(cause, false)
	}
}

// closeFile closes a file in the background, because closing may hang too: in the control lane, behind what is queued there, or,
// when the directory is out of service, beside it.
func (d *dir) closeFile(f File) {
	var once sync.Once
	closeOnce := func() error {
		once.Do(func() { f.Close() })
		return nil
	}
	d.lanes[laneControl].do(closeOnce, func(err error, _ bool) {
		if err != nil {
			d.busy.Add(1)
			go func() {
				defer d.busy.Add(-1)
				closeOnce()
			}()
		}
	})
}

// release stops the lanes and gives up the lock. Nothing may be in use, or the directory is out of service.
func (d *dir) release(cause error) {
	if d.lanes[0] != nil {
		if d.readable() {
			runAll(laneControl, []task{{d, func() error { return nil }}}) // lets closing end
		}
		for _, ln := range d.lanes {
			ln.stop(cause)
		}
	}
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}

// healing tells whether the directory may lack shard files that it should have, or hold some that nobody has verified.
func (d *dir) healing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.role == StateHealing || d.unverified != nil
}

// draining tells whether the directory is being emptied.
func (d *dir) draining() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.role == StateDraining
}

// shown is the state as DirInfo gives it.
func (d *dir) shown() (state, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.state == dirOffline || d.state == dirAbsent:
	case d.role == StateHealing:
		return StateHealing, cmp.Or(d.reason, "takes the place of a directory that was lost")
	case d.unverified != nil:
		return StateHealing, cmp.Or(d.reason, fmt.Sprintf("came back; %d segments are to be verified", len(d.unverified)))
	case d.role == StateDraining:
		return StateDraining, cmp.Or(d.reason, "takes no new segments")
	case d.state == dirOnline && d.seen.tooLow():
		return string(dirFull), "only what is kept for deletes and compaction is left"
	}
	return string(d.state), d.reason
}

// A task is work for one directory.
type task struct {
	d   *dir
	run func() error
}

// runAll runs tasks in parallel on the given lane of their directories and waits. It returns one error for each task.
func runAll(lane int, tasks []task) []error {
	errs := make([]error, len(tasks))
	var wg sync.WaitGroup
	for i, t := range tasks {
		wg.Add(1)
		t.d.lanes[lane].do(t.run, func(err error, _ bool) {
			errs[i] = err
			wg.Done()
		})
	}
	wg.Wait()
	return errs
}

// firstError returns the first error that is not nil.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
