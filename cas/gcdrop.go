package cas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

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
