package cas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casd/casd/erasure"
)

const (
	healInterval    = 5 * time.Second // between looks for damage that nobody reported
	healReceiptGap  = time.Hour       // receipts of healing are at most this frequent, but for the first and that of a loss
	healBackoffMin  = time.Minute     // after a segment could not be healed
	healBackoffMax  = time.Hour
	healBackoffLost = 24 * time.Hour // after what can be healed was, and the rest is beyond repair
	healWaitingMax  = 1 << 12        // segments that are remembered as suspect; the next scrub finds the others
)

// A healer repairs, in the background, segments in which a read met damage and those with shard files that a directory which came
// back, or a new one, can take: the newest damage first. What it still has to do is told by the log, so it goes on after a
// restart.
type healer struct {
	s     *Store
	kick  chan struct{}
	calls chan healCall

	// Used by the healer's goroutine only.
	failures map[erasure.SegmentID]healFailure
	receipt  Receipt   // of what was healed since the last one was kept
	run      *scrubRun // nil: nothing
	episode  int64     // losses found since then
	early    error     // why their search ended early
	kept     time.Time // when the last receipt was kept
	dirs     string    // and their states, as of the last look

	mu      sync.Mutex
	suspect map[erasure.SegmentID]struct{}
	left    int // segments in need of healing, as of the last look
}

// A healFailure says when a segment is tried again.
type healFailure struct {
	again time.Time
	pause time.Duration
	lost  bool
}

// A healCall asks for a round, and to be told when it is over.
type healCall struct {
	ctx  context.Context
	done chan<- error
}

func newHealer(s *Store) *healer {
	return &healer{s: s, kick: make(chan struct{}, 1), calls: make(chan healCall), failures: map[erasure.SegmentID]healFailure{}, suspect: map[erasure.SegmentID]struct{}{}}
}

// poke makes the healer look now.
func (h *healer) poke() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// suspects notes segments that want healing.
func (h *healer) suspects(ids ...erasure.SegmentID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if len(h.suspect) < healWaitingMax {
			h.suspect[id] = struct{}{}
		}
	}
}

// waiting returns how many segments wait to be healed, as of the last look.
func (h *healer) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.left, len(h.suspect))
}

// heal heals what wants healing now and can be healed, what is in back-off too, and returns when that is done. Its error is that
// of the context, or the first of a segment that could not be healed. What is beyond repair is no error.
func (s *Store) heal(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.healer.calls <- healCall{ctx, done}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.stopping:
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop heals until the store closes; with Options.OnDemand only when it is called.
func (h *healer) loop(ctx context.Context) {
	t := time.NewTicker(healInterval)
	defer t.Stop()
	tick, kick := t.C, h.kick
	if h.s.opts.OnDemand {
		tick, kick = nil, nil
	}
	for {
		select {
		case <-ctx.Done():
			h.keep(ctx)
			return
		case call := <-h.calls:
			maps.DeleteFunc(h.failures, func(_ erasure.SegmentID, f healFailure) bool { return !f.lost })
			call.done <- h.round(ctx, call.ctx)
		case <-kick:
			_ = h.round(ctx, ctx) // the log has it, and it is tried again
		case <-tick:
			_ = h.round(ctx, ctx)
		}
	}
}

// look forgets earlier failures when a directory has come or gone since the last look.
func (h *healer) look() {
	var b strings.Builder
	for _, d := range h.s.log.Dirs() {
		fmt.Fprintf(&b, "%s %s;", d.ID, d.State)
	}
	if b.String() != h.dirs {
		h.dirs = b.String()
		clear(h.failures)
	}
}

// next returns the newest segment that wants healing and is not in back-off, and how many there are.
func (h *healer) next() (id erasure.SegmentID, n int) {
	ids := h.s.log.Damaged()
	h.suspects(h.s.log.TakeSuspects()...)
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.suspect {
		if !slices.Contains(ids, s) {
			ids = append(ids, s)
		}
	}
	now := h.s.opts.Clock()
	for _, s := range ids {
		if f, ok := h.failures[s]; ok && now.Before(f.again) {
			if f.lost {
				delete(h.suspect, s)
			}
			continue
		}
		n++
		id = max(id, s)
	}
	h.left = n
	return id, n
}

// round heals until nothing is left that can be healed now, or either context ends. A receipt is kept if it is time.
func (h *healer) round(ctx, caller context.Context) (first error) {
	defer func() {
		if h.run != nil && (h.episode > 0 || h.kept.IsZero() || h.s.opts.Clock().Sub(h.kept) >= healReceiptGap) {
			h.keep(ctx)
		}
	}()
	h.look()
	id, n := h.next()
	if n == 0 {
		return nil
	}
	op, ctx, err := h.s.beginOperation(ctx, "heal", "")
	if err != nil {
		return err
	}
	defer op.end()
	if h.run == nil {
		h.receipt = h.s.newReceipt(ScrubHeal, true, true)
		h.run = h.s.newScrubRun(&h.receipt, &pacer{busy: h.s.clientsBusy})
	}
	for done := int64(0); n > 0; id, n = h.next() {
		op.progress("segments", done, done+int64(n), "items")
		if err := h.segment(ctx, id); err != nil {
			if first == nil {
				first = err
			}
		}
		done++
		if ctx.Err() != nil {
			h.early = context.Cause(ctx)
			return h.early
		}
		if caller.Err() != nil {
			return context.Cause(caller)
		}
	}
	if h.episode > 0 {
		h.early = h.run.findLoss(ctx)
	}
	return cmp.Or(first, h.early)
}

// segment heals one segment and decides when to look at it again.
func (h *healer) segment(ctx context.Context, id erasure.SegmentID) error {
	s := h.s
	unmended, lossy := h.run.list.unmended+h.run.list.unreadable, len(h.run.lossy)
	_, again := h.run.lossy[id]
	err := h.run.segment(ctx, id)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.metrics.healed.Inc()
	h.mu.Lock()
	delete(h.suspect, id)
	h.mu.Unlock()
	f := healFailure{pause: min(healBackoffMax, max(healBackoffMin, 2*h.failures[id].pause))}
	switch {
	case err != nil:
	case len(h.run.lossy) > lossy || again:
		h.episode++
		f.lost, f.pause = true, healBackoffLost
	case slices.Contains(s.log.Damaged(), id), h.run.list.unmended+h.run.list.unreadable > unmended:
		err = errNotHealed
	default:
		delete(h.failures, id)
		return nil
	}
	if len(h.failures) >= healWaitingMax {
		clear(h.failures) // they are tried too early
	}
	f.again = s.opts.Clock().Add(f.pause)
	h.failures[id] = f
	if err != nil {
		s.metrics.healFailures.Inc()
		s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "segment could not be healed, it is tried again", slog.Uint64("segment", uint64(id)), slog.Duration("in", f.pause), slog.Any("error", err))
	}
	return err
}

var errNotHealed = errors.New("cas: some shards could not be rewritten")

// keep writes the receipt of what was healed, if anything was.
func (h *healer) keep(ctx context.Context) {
	if h.run == nil {
		return
	}
	if r := &h.receipt; r.ShardsRepaired+r.FilesRebuilt > 0 || h.episode > 0 {
		h.run.finish(h.early)
		h.s.keepReceipt(context.WithoutCancel(ctx), r)
	}
	h.run, h.episode, h.early, h.kept = nil, 0, nil, h.s.opts.Clock()
}
