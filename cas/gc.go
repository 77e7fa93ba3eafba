package cas

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// Bounds of a cycle.
const (
	gcGroupSegments = 64       // segments that are dropped by one mutation
	gcGroupBytes    = 64 << 20 // bytes copied after which a group is finished
	gcCopyBytes     = 32 << 20 // bytes copied between two syncs
	gcStoreGarbage  = 0.10     // of the store, over which more segments than those past the threshold are compacted
	gcCopyRecords   = 16 << 10 // records copied between two syncs
	gcRemoveRows    = 4096     // rows of the chunk map removed at once
	gcCatalogRow    = 400      // bytes that a row of the catalog takes in a snapshot, estimated
)

// A cycle is one run of mark and compact.
type cycle struct {
	s          *Store
	background bool
	req        GCRequest
	op         *operation
	m          *marking
	rep        GCReport
	pace       pacer
	covered    uint64       // mutations up to this CSN are in two snapshots that can be read
	lost       bool         // one of the snapshots that the catalog names cannot be read
	before     uint64       // sequence of the last checkpoint
	copies     []relocation // appended, not yet proven
	copying    int64        // bytes of these
	moved      int64        // bytes copied for the group in hand
}

// GC marks what is named and reclaims segments that are mostly garbage. Clients go on meanwhile. It can be interrupted at any
// point and repeated: a segment is dropped only when all of it that is named lies elsewhere, durably and proven. Errors: ErrConflict
// while another cycle runs, ErrReadOnly, ErrCorrupt when what is named cannot be told.
func (s *Store) GC(ctx context.Context, req GCRequest) (GCReport, error) {
	return s.collect(ctx, req, false)
}

func (s *Store) collect(ctx context.Context, req GCRequest, background bool) (GCReport, error) {
	if req.Threshold < 0 || req.Threshold > 1 {
		return GCReport{}, fmt.Errorf("cas: garbage threshold %g is not between 0 and 1", req.Threshold)
	}
	op, ctx, err := s.beginOperation(ctx, "gc", "")
	if err != nil {
		return GCReport{}, err
	}
	defer op.end()
	op.tell = req.Progress
	req.Threshold = cmp.Or(req.Threshold, s.opts.GCThreshold)
	c := &cycle{s: s, req: req, op: op, background: background, pace: pacer{rate: req.Rate, busy: s.clientsBusy}}
	c.rep = GCReport{Began: s.opts.Clock(), DryRun: req.DryRun, Segments: []GCSegment{}}
	err = c.run(ctx)
	c.rep.Ended = s.opts.Clock()
	if err != nil {
		c.rep.Reason = err.Error()
		err = fmt.Errorf("gc: %w", err)
	}
	s.metrics.collected(&c.rep, err)
	if !req.DryRun {
		rep := c.rep
		s.lastGC.Store(&rep)
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	s.opts.Logger.LogAttrs(ctx, level, "space reclaimed", slog.Bool("dry_run", req.DryRun), slog.Int64("segments_dropped", c.rep.Dropped), slog.Int64("reclaimed_bytes", c.rep.ReclaimedBytes),
		slog.Int64("copied_bytes", c.rep.CopiedBytes), slog.Int64("garbage_bytes", c.rep.GarbageBytes), slog.Int("snapshots", c.rep.Snapshots), slog.String("reason", c.rep.Reason))
	return c.rep, err
}

func (c *cycle) run(ctx context.Context) error {
	s := c.s
	if err := s.complete(); err != nil {
		return err
	}
	if s.undecided {
		return fmt.Errorf("%w: where the log ends is not decided", ErrReadOnly)
	}
	if !c.req.DryRun {
		if err := s.commitState(erasure.TierCompact); err != nil {
			return err
		}
		if !c.background { // who asks for space by hand wants that of the open segments, too
			if err := s.log.Roll(ctx); err != nil {
				return logError("seal open segments", err)
			}
		}
		// The newest stripe of the log belongs to a segment that cannot be dropped: let it be one that is open.
		if err := s.noteCycle(ctx, c.rep.Began); err != nil {
			return err
		}
		s.freed.Store(0)
		if err := c.dropLeftOver(ctx); err != nil {
			return err
		}
		if _, err := s.dropSnapshots(ctx); err != nil { // what is left of those that failed
			return err
		}
		if err := c.removeStrayRows(ctx); err != nil {
			return err
		}
		n, err := s.expireUploads(ctx)
		if c.rep.UploadsExpired = n; err != nil {
			return err
		}
	}
	if err := c.checkpoint(ctx); err != nil {
		return err
	}
	if err := c.arm(ctx); err != nil {
		return err
	}
	defer c.disarm()
	if err := c.mark(ctx); err != nil {
		return err
	}
	victims, err := c.plan(ctx)
	if err != nil || c.req.DryRun {
		return err
	}
	return c.compact(ctx, victims)
}

// checkpoint writes all that is published into the index file: the scan reads it, and victims lie before it.
func (c *cycle) checkpoint(ctx context.Context) error {
	c.op.progress("checkpoint", 0, 0, "items")
	if c.s.sabotage.noCheckpoint {
		c.before = c.s.log.Position().Seq
		return nil
	}
	if err := c.s.checkpointNow(ctx); err != nil {
		return err
	}
	pos, _, err := decodePosition(c.s.idx.Position().Log)
	c.before = pos.Seq
	return err
}

func (c *cycle) arm(ctx context.Context) error {
	s := c.s
	c.m = newMarking(s, s.log.Segments())
	s.pins.gate.Lock()
	s.pins.cycle = c.m
	s.pins.gate.Unlock()
	s.sabotage.reached("armed")
	return nil
}

func (c *cycle) disarm() {
	c.s.pins.gate.Lock()
	c.s.pins.cycle = nil
	c.s.pins.gate.Unlock()
}

func (c *cycle) mark(ctx context.Context) error {
	sizes, err := c.s.idx.Sizes()
	if err != nil {
		return c.s.indexError(err)
	}
	total := int64(sizes.Rows[index.Objects] + sizes.Rows[index.Parts])
	if !c.s.sabotage.noHeld {
		if err := c.m.heldAll(ctx); err != nil {
			return err
		}
	}
	clear(c.m.missing) // of uploads that cannot be finished any more
	var rows int64
	err = c.m.scan(ctx, func() {
		if rows++; rows == 1 {
			c.s.sabotage.reached("scanning")
		}
		c.op.progress("mark", rows, max(total, rows), "items")
	})
	if err != nil {
		return err
	}
	if n := len(c.m.missing); n > 0 {
		c.s.opts.Logger.Error("manifests name chunks that do not exist; a deep scrub lists the objects", slog.Int("chunks", n))
	}
	return nil
}

// plan chooses victims, the most garbage first, and reports on every other segment.
func (c *cycle) plan(ctx context.Context) (victims []*segmentMarks, err error) {
	all := c.m.segments()
	var stored int64
	code := c.s.log.Code()
	for _, g := range all {
		c.rep.SegmentsTotal++
		c.rep.ChunksLive += g.count()
		stored += g.info.StoredBytes
		if g.sum, err = c.s.summary(ctx, g.info); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			g.skipped = "its directory cannot be read: " + err.Error()
		}
		g.recode = c.req.Recode && (g.info.K != code.K || g.info.M != code.M)
	}
	c.rep.StoredBytes = stored
	if err := c.lookAtSnapshots(ctx, all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *segmentMarks) int {
		return cmp.Or(-cmp.Compare(a.fraction(c.covered), b.fraction(c.covered)), cmp.Compare(a.info.ID, b.info.ID))
	})
	if err := c.snapshotIfWorthIt(ctx, all); err != nil {
		return nil, err
	}
	var garbage int64
	for _, g := range all {
		garbage += g.garbage(c.covered)
	}
	c.rep.GarbageBytes = garbage
	for _, g := range all {
		switch {
		case g.skipped != "":
		case !c.req.DryRun && !g.info.Sealed && !g.info.Ended: // a dry run goes on as if they had been sealed
			g.skipped = "open"
		case !c.req.DryRun && g.info.LastSeq >= c.before:
			g.skipped = "newer than the last checkpoint"
		case (g.info.Sealed || g.info.Ended) && g.beyond.Load():
			g.skipped = "more lies there than was known when the cycle began"
		case g.info.ShardsAbsent > g.info.M:
			g.skipped = fmt.Sprintf("%d of its shard files are absent", g.info.ShardsAbsent)
		case g.sum.lastCSN > c.covered:
			g.skipped = "holds mutations that are not in two snapshots"
		case g.recode, g.fraction(c.covered) >= c.req.Threshold, stored > 0 && float64(garbage) > gcStoreGarbage*float64(stored) && g.fraction(c.covered) >= gcStoreGarbage:
			garbage -= g.garbage(c.covered)
			victims = append(victims, g)
		default:
			g.skipped = fmt.Sprintf("%.0f%% garbage", 100*g.fraction(c.covered))
		}
		if c.req.DryRun && g.skipped == "" {
			c.rep.Dropped++
			c.rep.ReclaimedBytes += g.info.StoredBytes
		}
		if len(c.rep.Segments) < listedMax {
			c.rep.Segments = append(c.rep.Segments, GCSegment{ID: uint64(g.info.ID), Class: g.info.Class.String(), Code: fmt.Sprintf("%d+%d", g.info.K, g.info.M),
				StoredBytes: g.info.StoredBytes, LiveBytes: g.live.Load() + g.kept(c.covered), Skipped: g.skipped, Dropped: c.req.DryRun && g.skipped == ""})
		}
	}
	return victims, nil
}

// kept is how many bytes of mutations must stay.
func (g *segmentMarks) kept(covered uint64) int64 {
	if g.sum.lastCSN > covered {
		return g.sum.mutationBytes
	}
	return 0
}

// garbage estimates what dropping the segment gives back, in bytes on disk: what copies of its live records would take is
// taken off.
func (g *segmentMarks) garbage(covered uint64) int64 {
	if g.info.K == 0 {
		return 0
	}
	live := (g.live.Load() + g.kept(covered)) * int64(g.info.K+g.info.M) / int64(g.info.K)
	return max(0, g.info.StoredBytes-live)
}

func (g *segmentMarks) fraction(covered uint64) float64 {
	if g.info.StoredBytes == 0 {
		return 1
	}
	return float64(g.garbage(covered)) / float64(g.info.StoredBytes)
}

// A segmentSummary is what a cycle wants to know of a segment that changes no more.
type segmentSummary struct {
	lastCSN       uint64 // of its mutations; 0 without any
	mutationBytes int64
}

// summary reads the record tables of a segment once.
func (s *Store) summary(ctx context.Context, info erasure.SegmentInfo) (sum segmentSummary, err error) {
	if sum, ok := s.summaries[info.ID]; ok {
		return sum, nil
	}
	err = s.log.ReadSegment(ctx, info.ID, nil, func(r erasure.Replayed) error {
		if r.Kind != kindMutation {
			return nil
		}
		csn := mutationCSN(r.Label)
		if csn == 0 {
			return fmt.Errorf("cas: mutation under label %x: %w", r.Label, ErrCorrupt)
		}
		sum.lastCSN = max(sum.lastCSN, csn)
		sum.mutationBytes += int64(r.Location.BodyBytes())
		return nil
	})
	if err == nil && (info.Sealed || info.Ended) {
		if s.summaries == nil {
			s.summaries = map[erasure.SegmentID]segmentSummary{}
		}
		s.summaries[info.ID] = sum
	}
	return sum, err
}
