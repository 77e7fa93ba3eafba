package erasure

import (
	"sync"
	"time"
)

// patienceSlices is in how many slices a time-out passes.
const patienceSlices = 4

// A patience is a time-out that passes in slices, each of which begins when the end of the one before was noticed. When the whole process
// stands still for long (SIGSTOP, a virtual machine that moves, a computer that sleeps), every timer is due at once afterwards. That must not
// look as if every directory hung: a pause, however long, costs one slice.
type patience struct {
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	left  int // slices
	slice time.Duration
	over  func()
}

// newPatience calls over, in a goroutine of its own, when d has passed before stop is called.
func newPatience(d time.Duration, over func()) *patience {
	p := &patience{left: patienceSlices, slice: d / patienceSlices, over: over}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.slice, p.pass)
	return p
}

func (p *patience) pass() {
	p.mu.Lock()
	if p.left == 0 {
		p.mu.Unlock()
		return
	}
	if p.left--; p.left > 0 {
		p.timer.Reset(p.slice)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.over()
}

// stop ends the wait. It may come too late.
func (p *patience) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = 0
	p.timer.Stop()
}

// await returns what ch yields, or false when d passes, or done is closed, before.
func await[T any](ch <-chan T, d time.Duration, done <-chan struct{}) (v T, ok bool) {
	late := make(chan struct{})
	p := newPatience(d, func() { close(late) })
	defer p.stop()
	select {
	case v = <-ch:
		return v, true
	case <-done:
	case <-late:
	}
	select {
	case v = <-ch: // it was just in time
		return v, true
	default:
		return v, false
	}
}
