package cas

import (
	"context"
	"time"
)

// restMax bounds how long a pacer rests at once in favour of clients.
const restMax = time.Second

// A pacer holds a long operation to a rate and makes it give way to clients: while any client reads or writes, the operation
// rests after each piece of work as long as that took, at most restMax, so that it takes at most half of disks and
// processors. It is used by one goroutine.
type pacer struct {
	rate int64       // bytes a second; 0 means no limit
	busy func() bool // clients are at work; may be nil
	free time.Time   // when the bytes that were let through so far have had their time
	last time.Time   // when wait returned last
}

// pacerSlack is how much of its time a pacer that fell behind may make up for.
const pacerSlack = 100 * time.Millisecond

// wait returns when it is time for the next n bytes. Its error is the context's cause.
func (p *pacer) wait(ctx context.Context, n int) error {
	now := time.Now()
	var pause time.Duration
	if p.rate > 0 {
		if earliest := now.Add(-pacerSlack); p.free.Before(earliest) {
			p.free = earliest
		}
		pause = p.free.Sub(now)
		p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	}
	if p.busy != nil && p.busy() && !p.last.IsZero() {
		pause = max(pause, min(now.Sub(p.last), restMax))
	}
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	p.last = time.Now()
	return context.Cause(ctx)
}

// clientsBusy tells whether a client is reading or writing bytes.
func (s *Store) clientsBusy() bool { return s.clients.Load() > 0 }
