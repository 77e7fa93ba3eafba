package cas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// prepareFunc makes a transaction from what it reads. It is pure: it runs outside against the published state, and again
// in the committer when what it read has changed since. Its error is the outcome.
type prepareFunc func(r index.Reader) (*tx, error)

// A request is a transaction on its way through the committer.
type request struct {
	prepare prepareFunc
	tx      *tx
	deps    []*erasure.Handle
	tier    erasure.Tier
	done    chan error
}

// prepareTx runs a prepareFunc and notes what it read.
func prepareTx(prepare prepareFunc, r index.Reader) (*tx, error) {
	var reads tx
	t, err := prepare(recorder{r, &reads})
	if err != nil {
		return nil, err
	}
	t.reads = reads.reads
	return t, nil
}

// update prepares a transaction, has it committed, and returns when it is durable and visible, or refused.
// It is let in when there is room for deletes.
func (s *Store) update(ctx context.Context, deps []*pendingChunk, prepare prepareFunc) error {
	return s.updateIn(ctx, erasure.TierDelete, deps, prepare)
}

// updateIn is update for a tier.
func (s *Store) updateIn(ctx context.Context, tier erasure.Tier, deps []*pendingChunk, prepare prepareFunc) error {
	req, err := s.begin(ctx, tier, deps, prepare)
	if err != nil {
		return err
	}
	return <-req.done
}

// begin is update up to the point where the committer has the transaction. From there on its outcome does not depend on
// the caller any more; it comes over done.
func (s *Store) begin(ctx context.Context, tier erasure.Tier, deps []*pendingChunk, prepare prepareFunc) (*request, error) {
	if err := s.commitState(tier); err != nil {
		return nil, err
	}
	req := &request{prepare: prepare, tier: tier, done: make(chan error, 1)}
	for _, d := range deps {
		if d.durable.Load() {
			continue
		}
		h, err := d.wait()
		if err != nil {
			return nil, err
		}
		req.deps = append(req.deps, h)
	}
	err := s.view(func(v *index.View) (err error) {
		req.tx, err = prepareTx(prepare, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(req.tx.ops) == 0 { // nothing to change, and what it read is durable
		req.done <- nil
		return req, nil
	}
	s.submitters.RLock()
	defer s.submitters.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	t := time.NewTimer(busyTimeout)
	defer t.Stop()
	select {
	case s.queue <- req:
		return req, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-t.C:
		return nil, fmt.Errorf("%w: commit queue is full", ErrBusy)
	}
}

// A committer decides transactions in order, makes them durable in batches and publishes them. It runs in one goroutine.
type committer struct {
	s    *Store
	csn  uint64 // of the last mutation that is durable and published
	last int64  // its time

	owed []erasure.Verdict // on segments of the last run, which could not be written yet: they precede every other mutation

	// Of the batch in hand.
	stage *index.Stage
	next  uint64
	now   int64
	muts  []erasure.Record
	bytes int
	tier  erasure.Tier // the highest of what is in it
	acks  []ack
	named []index.Op // writes of rows that may name chunks
}

type ack struct {
	req *request
	csn uint64 // 0 when refused, or when there was nothing to change
	err error
}

// run ends when the queue is closed and empty.
func (c *committer) run() {
	ticker := time.NewTicker(c.s.opts.CheckpointInterval)
	defer ticker.Stop()
	for {
		select {
		case req, ok := <-c.s.queue:
			if !ok {
				return
			}
			c.batch(req)
			c.s.checkpointIfDue(c.csn, false)
		case <-ticker.C:
			c.s.checkpointIfDue(c.csn, true)
		case reply := <-c.s.freezeNow:
			reply <- c.s.freezeFor(c.csn)
		}
	}
}

// batch commits req and whatever else waits.
func (c *committer) batch(req *request) {
	err := c.s.waitForOverlay(c.csn)
	if err == nil {
		err = c.open()
	}
	if err == nil && len(c.owed) > 0 {
		if _, err = c.apply(verdictTx(c.owed), erasure.TierDelete); err != nil {
			c.stage.Discard()
		}
	}
	if err != nil {
		c.refuse(req, err)
		return
	}
	var deps []*erasure.Handle
	for req != nil {
		deps = append(deps, req.deps...)
		c.execute(req)
		if req = nil; len(c.acks) < batchRequestsMax && c.bytes < batchBytesMax {
			select {
			case req = <-c.s.queue: // nil when closed
			default:
			}
		}
	}
	c.finish(c.commit(deps))
}

// refuse answers req and everyone who waits behind it: who waits longer only waits in vain.
func (c *committer) refuse(req *request, err error) {
	c.s.indexError(err)
	for req != nil {
		req.done <- err
		select {
		case req = <-c.s.queue: // nil when closed
		default:
			req = nil
		}
	}
}

func (c *committer) open() (err error) {
	if err := c.s.failure(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	c.stage, err = c.s.idx.Stage()
	c.next, c.now = c.csn, max(c.s.opts.Clock().UnixNano(), c.last)
	c.muts, c.bytes, c.tier, c.acks, c.named = c.muts[:0], 0, erasure.TierUpload, c.acks[:0], c.named[:0]
	return err
}

// execute decides one transaction against the staged state.
func (c *committer) execute(req *request) {
	ok, err := req.tx.holds(c.stage)
	if err == nil && !ok {
		c.s.metrics.conflicts.Inc()
		req.tx, err = prepareTx(req.prepare, c.stage)
	}
	var csn uint64
	if err == nil && len(req.tx.ops) > 0 {
		csn, err = c.apply(req.tx, req.tier)
	}
	c.acks = append(c.acks, ack{req, csn, c.s.indexError(err)})
}

// apply gives a transaction its CSN and stages its effects.
func (c *committer) apply(t *tx, tier erasure.Tier) (uint64, error) {
	csn := c.next + 1
	ops, err := t.effects(c.stage, csn, c.now)
	if err != nil {
		return 0, err
	}
	label, body, err := encodeMutation(mutation{CSN: csn, Time: c.now, Ops: ops})
	if err != nil {
		return 0, err
	}
	if len(body) > erasure.MaxBodyBytes {
		return 0, fmt.Errorf("cas: transaction of %d bytes: %w", len(body), ErrTooLarge)
	}
	if err := c.stage.Apply(csn, ops); err != nil {
		return 0, err
	}
	c.next = csn
	for _, op := range ops {
		if !op.Delete && slices.Contains(namingTables, op.Table) {
			c.named = append(c.named, op)
		}
	}
	c.muts = append(c.muts, erasure.Record{Kind: kindMutation, Label: label, Body: body})
	c.bytes += len(body)
	c.tier = max(c.tier, tier)
	return csn, nil
}

// applyVerdicts stages the log's word on segments that failed.
func (c *committer) applyVerdicts() error {
	vs := c.s.log.TakeVerdicts()
	if len(vs) == 0 {
		return nil
	}
	_, err := c.apply(verdictTx(vs), erasure.TierDelete)
	return err
}

func verdictTx(vs []erasure.Verdict) *tx {
	t := &tx{}
	for _, v := range vs {
		t.put(index.Verdicts, segmentKey(uint64(v.Segment)), verdictRow{Stripes: v.Stripes, Digest: v.Digest[:]})
	}
	return t
}

// errClean marks a commit that failed before anything of it reached the log.
var errClean = errors.New("cas: nothing was written")

// commit makes the batch durable, over as many segments as fail under it.
func (c *committer) commit(deps []*erasure.Handle) error {
	if err := c.applyVerdicts(); err != nil {
		return fmt.Errorf("%w: %w", errClean, err)
	}
	if len(c.muts) == 0 {
		return nil // nothing but refusals, which rest on what is published
	}
	c.s.metrics.batch.Observe(float64(len(c.muts)))
	tries := len(c.s.log.Dirs()) + 1 // each failed try takes a directory out
	for range tries {
		err := c.s.log.Commit(c.s.ctx, c.muts, deps, c.tier)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, erasure.ErrRetry):
			if err := c.applyVerdicts(); err != nil {
				return err
			}
		case errors.Is(err, erasure.ErrUncertain):
			return err
		default:
			return fmt.Errorf("%w: %w", errClean, logError("commit", err))
		}
	}
	return fmt.Errorf("%w: segments kept failing", erasure.ErrUncertain)
}

// finish publishes the batch, or takes it back, and answers everyone.
func (c *committer) finish(err error) {
	switch {
	case err == nil:
		c.s.pins.publish(c.stage, c.named)
		if c.next != c.csn {
			c.owed = nil
		}
		c.csn, c.last = c.next, c.now
		c.s.lastTime.Store(c.last)
	case errors.Is(err, errClean):
		c.stage.Discard()
	default:
		// Whether the mutations count will be known only after a restart: nobody may be told that they failed.
		c.stage.Discard()
		c.s.fail(err)
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	for _, a := range c.acks {
		switch {
		case err != nil: // a refusal too: it may rest on what was staged
			a.req.done <- err
		case a.err != nil:
			a.req.done <- a.err
		default:
			if a.csn != 0 && a.req.tx.committed != nil {
				a.req.tx.committed(a.csn, c.now)
			}
			if a.csn != 0 {
				c.s.freed.Add(a.req.tx.freed)
			}
			a.req.done <- nil
		}
	}
	clear(c.muts)
	clear(c.acks)
	clear(c.named)
	c.stage = nil
}

// logError gives errors of the log the names that callers of this package branch on.
func logError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, erasure.ErrReadOnly):
		return fmt.Errorf("%s: %w: %w", op, ErrReadOnly, err)
	case errors.Is(err, erasure.ErrNoSpace):
		return fmt.Errorf("%s: %w: %w", op, ErrNoSpace, err)
	case errors.Is(err, erasure.ErrCorrupt):
		return fmt.Errorf("%s: %w: %w", op, ErrCorrupt, err)
	case errors.Is(err, erasure.ErrClosed):
		return fmt.Errorf("%s: %w: %w", op, ErrClosed, err)
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// fail stops all writing until a restart.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.opts.Logger.LogAttrs(context.Background(), slog.LevelError, "writing stops until a restart", slog.Any("error", err))
	}
}

func (s *Store) failure() error {
	if e := s.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// busyTimeout is how long a transaction waits for room before its client is asked to slow down.
const busyTimeout = 10 * time.Second
