package cas

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// progressInterval is the least time between two calls of a ProgressFunc, but for a change of phase.
const progressInterval = 250 * time.Millisecond

// operations are the long operations that run on a store: scrub, gc, check, heal, drain and so on. They, and what runs in the
// background for as long as the store is open, end before the store closes.
type operations struct {
	mu      sync.Mutex
	closed  bool
	running map[string]*operation // by group
	cancels map[int]context.CancelCauseFunc
	next    int
	wg      sync.WaitGroup
}

// An operation is one that runs.
type operation struct {
	o      *operations
	group  string
	leave  func()
	tell   ProgressFunc // may be nil; set before the first progress
	mu     sync.Mutex
	state  Progress
	told   time.Time
	ending sync.Once
}

// enter derives a context that ends with the store. It returns ErrClosed when the store is closing.
func (o *operations) enter(ctx context.Context) (context.Context, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, ErrClosed
	}
	if o.cancels == nil {
		o.cancels = map[int]context.CancelCauseFunc{}
	}
	id := o.next
	o.next++
	ctx, cancel := context.WithCancelCause(ctx)
	o.cancels[id] = cancel
	o.wg.Add(1)
	return ctx, func() {
		o.mu.Lock()
		delete(o.cancels, id)
		o.mu.Unlock()
		cancel(nil)
		o.wg.Done()
	}, nil
}

// background runs f until the store closes. f returns soon after its context ends.
func (s *Store) background(f func(context.Context)) {
	ctx, leave, err := s.operations.enter(context.Background())
	if err != nil {
		return
	}
	go func() {
		defer leave()
		f(ctx)
	}()
}

// beginOperation notes that an operation runs. Two of one group do not run at once, ErrConflict tells the second; an empty
// group stands for the name. The context ends with the caller's, and with ErrClosed as its cause when the store
// closes. The caller calls end, whatever happens.
func (s *Store) beginOperation(ctx context.Context, name, group string) (*operation, context.Context, error) {
	group = cmp.Or(group, name)
	ctx, leave, err := s.operations.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	op := &operation{o: &s.operations, group: group, leave: leave, state: Progress{Operation: name, Began: s.opts.Clock()}}
	op.o.mu.Lock()
	other := op.o.running[group]
	if other == nil {
		if op.o.running == nil {
			op.o.running = map[string]*operation{}
		}
		op.o.running[group] = op
	}
	op.o.mu.Unlock()
	if other != nil {
		leave()
		return nil, nil, fmt.Errorf("%w: %s runs since %s", ErrConflict, other.state.Operation, other.state.Began.UTC().Format(time.RFC3339))
	}
	return op, ctx, nil
}

// progress tells how far the operation is. It is called by one goroutine at a time.
func (op *operation) progress(phase string, done, total int64, unit string) {
	op.mu.Lock()
	changed := op.state.Phase != phase
	op.state.Phase, op.state.Done, op.state.Total, op.state.Unit = phase, done, total, unit
	p := op.state
	op.mu.Unlock()
	if op.tell == nil {
		return
	}
	if now := time.Now(); changed || now.Sub(op.told) >= progressInterval || total > 0 && done >= total {
		op.told = now
		op.tell(p)
	}
}

// end makes room for the next of its group. It may be called twice.
func (op *operation) end() {
	op.ending.Do(func() {
		op.o.mu.Lock()
		delete(op.o.running, op.group)
		op.o.mu.Unlock()
		op.leave()
	})
}

// list describes what runs, the oldest first.
func (o *operations) list() []Progress {
	o.mu.Lock()
	ops := slices.Collect(maps.Values(o.running))
	o.mu.Unlock()
	ps := make([]Progress, 0, len(ops))
	for _, op := range ops {
		op.mu.Lock()
		ps = append(ps, op.state)
		op.mu.Unlock()
	}
	slices.SortFunc(ps, func(a, b Progress) int {
		return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.Operation, b.Operation))
	})
	return ps
}

// isRunning tells whether an operation of a group runs.
func (o *operations) isRunning(group string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.running[group] != nil
}

// close ends everything that runs and waits for it. Nothing begins any more.
func (o *operations) close() {
	o.mu.Lock()
	o.closed = true
	for _, cancel := range o.cancels {
		cancel(ErrClosed)
	}
	o.mu.Unlock()
	o.wg.Wait()
}
