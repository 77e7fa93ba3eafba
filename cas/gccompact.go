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

// A relocation is a record that was copied.
type relocation struct {
	g       *segmentMarks
	ordinal uint32
	old     index.Chunk
	handle  *erasure.Handle
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
