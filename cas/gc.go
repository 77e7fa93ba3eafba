package cas

import (
	"cmp"
	"context"
	"errors"
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

// A relocation is a record that was copied.
type relocation struct {
	g       *segmentMarks
	ordinal uint32
	old     index.Chunk
	handle  *erasure.Handle
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

// compact copies what lives in the victims elsewhere and drops them, a group at a time.
func (c *cycle) compact(ctx context.Context, victims []*segmentMarks) error {
	total := int64(len(victims))
	for done := 0; done < len(victims); {
		var group []*segmentMarks
		var full error // no room for more copies before some of the group is dropped
		c.moved = 0
		for full == nil && done < len(victims) && len(group) < gcGroupSegments && c.moved < gcGroupBytes {
			g := victims[done]
			if len(group) > 0 && g.uncopied() > 0 && (c.moved == 0 || c.s.log.Room(erasure.TierUpload) != nil) {
				break // what needs no copies goes first: it makes room for them; and where room is scarce, one at a time
			}
			done++
			c.op.progress("compact", int64(done), total, "items")
			switch err := c.copyOut(ctx, g); {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errSegmentUnreadable):
				c.skip(g, err.Error())
				c.s.opts.Logger.Error("segment is not compacted", slog.Uint64("segment", uint64(g.info.ID)), slog.Any("error", err))
			case errors.Is(err, ErrNoSpace) && len(group) > 0:
				full = err
				done-- // it is tried again, with the room that dropping the others gives
			case err != nil:
				return err
			default:
				group = append(group, g)
			}
		}
		if err := c.settle(ctx); err != nil {
			return err
		}
		if err := c.retire(ctx, group); err != nil {
			return err
		}
		if err := c.drop(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (c *cycle) skip(g *segmentMarks, why string) {
	g.skipped = why
	for i := range c.rep.Segments {
		if c.rep.Segments[i].ID == uint64(g.info.ID) {
			c.rep.Segments[i].Skipped = why
		}
	}
}

// errSegmentUnreadable stops a cycle for one segment.
var errSegmentUnreadable = errors.New("cas: a live record cannot be read")

func isChunkKind(kind uint8) bool { return kind == kindChunk || kind == kindList }

// copyOut appends every marked record of a segment anew that has no copy yet.
func (c *cycle) copyOut(ctx context.Context, g *segmentMarks) error {
	if g.uncopied() == 0 {
		return nil
	}
	dense := g.live.Load()*2 > g.info.PayloadBytes
	err := c.s.log.ReadSegment(ctx, g.info.ID, func(kind uint8) bool { return dense && isChunkKind(kind) }, func(r erasure.Replayed) error {
		if !isChunkKind(r.Kind) || !g.isMarked(r.Location.Ordinal()) || g.isCopied(r.Location.Ordinal()) {
			return nil
		}
		return c.copyRecord(ctx, g, r)
	})
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, erasure.ErrCorrupt) || errors.Is(err, erasure.ErrUnavailable):
		return fmt.Errorf("%w: %w", errSegmentUnreadable, err)
	}
	return err
}

func (c *cycle) copyRecord(ctx context.Context, g *segmentMarks, r erasure.Replayed) error {
	l, err := decodeChunkLabel(r.Label)
	if err != nil {
		return fmt.Errorf("%w: %w", errSegmentUnreadable, err)
	}
	row, ok, err := c.s.chunks.LookupChunk(l.id)
	if err != nil {
		return c.s.indexError(err)
	}
	if ok && row.Location != r.Location { // stored anew since: the row names the other one
		g.setCopied(r.Location.Ordinal())
		return nil
	}
	if !ok {
		return fmt.Errorf("%w: chunk %x is marked and not in the chunk map", errSegmentUnreadable, l.id[:8])
	}
	body := r.Body
	if body == nil {
		if body, err = c.s.log.Read(ctx, r.Location, make([]byte, 0, r.Location.BodyBytes())); err != nil {
			return fmt.Errorf("%w: chunk %x: %w", errSegmentUnreadable, l.id[:8], err)
		}
	} else if g.info.Class == erasure.Metadata || r.Kind == kindList {
		body = slices.Clone(body) // the log keeps it until it is written
	}
	if err := c.s.verifyChunk(l, body); err != nil {
		return fmt.Errorf("%w: %w", errSegmentUnreadable, err)
	}
	if err := c.pace.wait(ctx, len(body)); err != nil {
		return err
	}
	class := erasure.Data
	if r.Kind == kindList || g.info.Class == erasure.Metadata {
		class = erasure.Metadata
	}
	h, err := c.s.log.Append(ctx, erasure.Record{Kind: r.Kind, Label: slices.Clone(r.Label), Body: body}, class, erasure.TierCompact)
	if err != nil {
		return logError("append copy", err)
	}
	c.copies = append(c.copies, relocation{g: g, ordinal: r.Location.Ordinal(), old: row, handle: h})
	c.copying += int64(len(body))
	c.moved += int64(len(body))
	c.rep.CopiedBytes += int64(len(body))
	c.rep.CopiedChunks++
	c.s.sabotage.reached("copying")
	if err := c.m.turn(ctx); err != nil { // clients go on naming
		return err
	}
	if c.copying >= gcCopyBytes || len(c.copies) >= gcCopyRecords {
		return c.settle(ctx)
	}
	return nil
}

// verifyChunk proves the stored body of a chunk record by its ID.
func (s *Store) verifyChunk(l chunkLabel, body []byte) error {
	plain, err := s.codec.decode(l.enc, body, l.size, nil)
	if err == nil && s.domain.hash.id(plain) != l.id {
		err = fmt.Errorf("its bytes do not hash to its ID: %w", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("chunk %x: %w", l.id[:8], err)
	}
	return nil
}

// settle makes the copies durable, reads them back past the page cache, and only then lets go of the originals. The log told the chunk
// map about each of them when it became durable; a copy that cannot be read back is taken out of there again.
func (c *cycle) settle(ctx context.Context) error {
	if len(c.copies) == 0 {
		return nil
	}
	if err := c.s.log.Sync(ctx); err != nil {
		return logError("sync copies", err)
	}
	if err := c.s.sabotage.confuse(c); err != nil {
		return err
	}
	// What the map says now is what counts: the copy, or what an upload stored meanwhile in place of a damaged chunk.
	rows, locs := make([]index.Chunk, len(c.copies)), make([]erasure.Location, len(c.copies))
	for i := range c.copies {
		r := &c.copies[i]
		row, ok, err := c.s.chunks.LookupChunk(r.old.ID)
		if err != nil {
			return c.s.indexError(err)
		}
		if !ok || row.Location == r.old.Location || !r.handle.Durable() {
			return fmt.Errorf("cas: copy of chunk %x is not in the chunk map", r.old.ID[:8])
		}
		rows[i], locs[i] = row, row.Location
	}
	err := c.s.log.ReadBackAll(ctx, locs, func(i int, body []byte, err error) error {
		r, row := &c.copies[i], &rows[i]
		if err == nil {
			err = c.s.verifyChunk(chunkLabel{enc: encoding(row.Encoding), size: row.Size, id: row.ID}, body)
		}
		if err != nil && !c.s.sabotage.noReadBack {
			return fmt.Errorf("cas: copy of chunk %x cannot be read back: %w", r.old.ID[:8], err)
		}
		r.g.setCopied(r.ordinal)
		return nil
	})
	if err != nil {
		return errors.Join(err, c.takeBack())
	}
	c.copies, c.copying = c.copies[:0], 0
	return nil
}

// takeBack puts the originals of all that is not settled back into the chunk map.
func (c *cycle) takeBack() error {
	rows := make([]index.Chunk, len(c.copies))
	for i := range c.copies {
		rows[i] = c.copies[i].old
	}
	c.copies, c.copying = nil, 0
	return c.s.indexError(c.s.chunks.PutChunks(rows))
}

// retire takes the segments of a group out of what may be named: from here on a dedup hit there is none. It copies what was
// marked meanwhile until nothing is left.
func (c *cycle) retire(ctx context.Context, group []*segmentMarks) error {
	if len(group) == 0 {
		return nil
	}
	p := &c.s.pins
	for {
		if err := c.m.drain(ctx); err != nil {
			return err
		}
		for _, g := range group {
			if err := c.copyOut(ctx, g); err != nil {
				return err
			}
		}
		if err := c.settle(ctx); err != nil {
			return err
		}
		c.s.sabotage.reached("deciding")
		p.gate.Lock()
		if err := c.s.failure(); err != nil { // uploads whose outcome nobody knows have let go of what they name
			p.gate.Unlock()
			return fmt.Errorf("%w: %w", ErrReadOnly, err)
		}
		if i := slices.IndexFunc(group, func(g *segmentMarks) bool { return g.beyond.Load() }); i >= 0 {
			p.gate.Unlock()
			return fmt.Errorf("cas: more lies in segment %016x than was known when the cycle began", uint64(group[i].info.ID))
		}
		done := c.m.idle() && !slices.ContainsFunc(group, func(g *segmentMarks) bool { return g.uncopied() > 0 })
		if done {
			if p.retired == nil {
				p.retired = map[erasure.SegmentID]struct{}{}
			}
			for _, g := range group {
				p.retired[g.info.ID] = struct{}{}
			}
		}
		p.gate.Unlock()
		if done {
			return nil
		}
	}
}

// drop takes the segments of a group out of the store.
func (c *cycle) drop(ctx context.Context, group []*segmentMarks) error {
	if len(group) == 0 {
		return nil
	}
	ids := make([]erasure.SegmentID, len(group))
	for i, g := range group {
		ids[i] = g.info.ID
	}
	if err := c.s.dropSegments(ctx, ids, nil); err != nil {
		return err
	}
	for _, g := range group {
		c.rep.Dropped++
		c.rep.ReclaimedBytes += g.info.StoredBytes
		delete(c.s.summaries, g.info.ID)
		for i := range c.rep.Segments {
			if c.rep.Segments[i].ID == uint64(g.info.ID) {
				c.rep.Segments[i].Dropped = true
			}
		}
	}
	return nil
}

// forgetChunks removes the rows of the chunk map that lead into a segment. Only a durable drop allows that: until then the segment counts,
// and an index that lacks its rows would not be what the log says. An upload that hit such a row after a rebuild would be lost when an
// older copy of the index came back.
func (s *Store) forgetChunks(ctx context.Context, id erasure.SegmentID) error {
	var batch []index.Chunk
	flush := func() error {
		err := s.idx.RemoveChunks(batch)
		batch = batch[:0]
		return s.indexError(err)
	}
	err := s.log.ReadSegment(ctx, id, nil, func(r erasure.Replayed) error {
		if !isChunkKind(r.Kind) {
			return nil
		}
		row, err := chunkRow(r.Placed)
		if err != nil {
			return err
		}
		if batch = append(batch, row); len(batch) >= gcRemoveRows {
			return flush()
		}
		return nil
	})
	return errors.Join(err, flush())
}

// dropSegments drops segments of which nothing is named: checkpoint, mutation, rows of the chunk map, unlink. more adds to the mutation.
func (s *Store) dropSegments(ctx context.Context, ids []erasure.SegmentID, more func(*tx)) error {
	s.sabotage.reached("retired")
	if !s.sabotage.noCheckpoint {
		if err := s.checkpointNow(ctx); err != nil {
			return err
		}
	}
	now := s.opts.Clock().UnixNano()
	err := s.updateIn(ctx, erasure.TierCompact, nil, func(index.Reader) (*tx, error) {
		t := &tx{}
		for _, id := range ids {
			t.put(index.Segments, segmentKey(uint64(id)), segmentRow{Dropped: now})
			t.remove(index.Verdicts, segmentKey(uint64(id)))
		}
		if more != nil {
			more(t)
		}
		return t, nil
	})
	if err != nil {
		return fmt.Errorf("drop %d segments: %w", len(ids), err)
	}
	s.sabotage.reached("dropping")
	for _, id := range ids {
		if err := s.forgetChunks(ctx, id); err != nil && !errors.Is(err, erasure.ErrNotFound) {
			// Rows that lead into a segment that is not live name nothing; the next cycle removes them.
			s.strayRows.Store(true)
			s.opts.Logger.Warn("rows of a dropped segment stay in the chunk map for now", slog.Uint64("segment", uint64(id)), slog.Any("error", err))
		}
	}
	if err := s.log.Drop(ctx, ids); err != nil {
		return fmt.Errorf("drop %d segments: %w", len(ids), err)
	}
	s.pins.gate.Lock()
	for _, id := range ids {
		delete(s.pins.retired, id)
	}
	s.pins.gate.Unlock()
	return nil
}

// dropLeftOver finishes what an earlier cycle of this process left behind.
func (c *cycle) dropLeftOver(ctx context.Context) error {
	p := &c.s.pins
	p.gate.RLock()
	ids := make([]erasure.SegmentID, 0, len(p.retired))
	for id := range p.retired {
		ids = append(ids, id)
	}
	p.gate.RUnlock()
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return c.s.dropSegments(ctx, ids, nil)
}

// removeStrayRows removes the rows of the chunk map that lead into dropped segments: a crash after a drop leaves some.
func (c *cycle) removeStrayRows(ctx context.Context) error {
	if !c.s.strayRows.Load() {
		return nil
	}
	var batch []index.Chunk
	var seen, removed int64
	total := c.s.idx.Totals().Chunks
	err := c.s.idx.IterChunks(func(row index.Chunk) error {
		if seen++; seen%gcRemoveRows == 0 {
			c.op.progress("chunk map", seen, max(seen, total), "items")
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if c.s.log.Dropped(erasure.Location(row.Location).Segment()) {
			batch = append(batch, row)
			removed++
		}
		if len(batch) < gcRemoveRows {
			return nil
		}
		err := c.s.idx.RemoveChunks(batch)
		batch = batch[:0]
		return err
	})
	if err == nil {
		err = c.s.idx.RemoveChunks(batch)
	}
	if err != nil {
		return c.s.indexError(err)
	}
	c.s.strayRows.Store(false)
	if removed > 0 {
		c.s.opts.Logger.Info("rows of dropped segments removed from the chunk map", slog.Int64("rows", removed))
	}
	return nil
}

// sabotage is what tests do to a cycle: bugs that must be caught, and places where something else happens. It is zero otherwise.
type sabotage struct {
	at            func(where string)
	noPin         bool // dedup hits are not marked
	noBarrier     bool // what mutations publish is not queued
	noHeld        bool // what uploads in flight hold is not marked
	noCheckpoint  bool // segments are dropped before the checkpoint
	wrongLocation bool // the chunk map is told of the copy of another chunk
	noReadBack    bool // copies are not read back
}

// confuse exchanges the locations of copies in the chunk map.
func (b *sabotage) confuse(c *cycle) error {
	if !b.wrongLocation || len(c.copies) < 2 {
		return nil
	}
	rows := make([]index.Chunk, len(c.copies))
	for i := range c.copies {
		row, _, err := c.s.chunks.LookupChunk(c.copies[i].old.ID)
		if err != nil {
			return err
		}
		row.ID = c.copies[(i+1)%len(c.copies)].old.ID
		rows[i] = row
	}
	return c.s.chunks.PutChunks(rows)
}

func (b *sabotage) reached(where string) {
	if b.at != nil {
		b.at(where)
	}
}
