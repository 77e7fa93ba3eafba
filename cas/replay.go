package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// Replay writes what it has applied into the overlay, and that into the index file whenever it holds this many entries.
const (
	replayChunksMax = 4096 // chunks put into the overlay at once
	replayOpsMax    = 4096 // mutations published at once
	replayEntries   = 1 << 18
)

// recover brings the index up to the log and makes the log writable. It returns a committer that goes on from there.
func (s *Store) recover(ctx context.Context) (*committer, error) {
	began := time.Now()
	from, last, err := decodePosition(s.idx.Position().Log)
	if err != nil {
		return nil, err
	}
	if from.Seq == 0 && s.idx.Position().CSN == 0 && !s.log.Created() {
		head, err := s.restoreCatalog(ctx)
		if err != nil {
			return nil, err
		}
		last = head.Time
	}
	damage := s.log.CheckPosition(from)
	ends := s.knownEnds(ctx, from.Seq) // the segment may have been dropped since
	switch again := s.log.CheckPosition(from); {
	case errors.Is(again, erasure.ErrDropped) && damage != nil:
		return nil, fmt.Errorf("cas: the index %s is older than what was dropped from the log: %w: %w", s.indexPath, index.ErrCorrupt, again)
	case errors.Is(damage, erasure.ErrAhead):
		// The record that dropped the segment may have been dropped since, too: then a snapshot has it.
		if dropped, err := s.droppedBySnapshot(ctx, from.Segment); err != nil {
			return nil, err
		} else if dropped {
			return nil, fmt.Errorf("cas: the index %s is older than what was dropped from the log: %w: %w", s.indexPath, index.ErrCorrupt, damage)
		}
		return nil, fmt.Errorf("the index %s covers more than the log holds: were all data directories given? "+
			"If the log is right, remove the index file and start again, and it is built anew: %w", s.indexPath, damage)
	case damage == nil:
		damage = ends
	}
	if damage != nil && !isDamage(damage) {
		return nil, damage
	}
	// First it is settled, and made durable, where the log ends: what is replayed may go into the index file.
	ended, err := s.log.Recover(ctx)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	s.undecided = errors.Is(s.log.WriteState(), erasure.ErrReadOnly)
	r := &replay{s: s, csn: s.idx.Position().CSN, last: last}
	defer r.discard()
	damage = errors.Join(damage, s.log.Replay(ctx, from.Seq, isMutation, r.add))
	if damage != nil && !isDamage(damage) {
		return nil, fmt.Errorf("replay: %w", damage)
	}
	if errors.Is(damage, errGap) {
		if newer, err := s.snapshotAfter(ctx, r.csn); err != nil {
			return nil, err
		} else if newer {
			return nil, fmt.Errorf("it is older than what was dropped since: %w: %w", index.ErrCorrupt, damage)
		}
	}
	if err := r.flush(); err != nil {
		return nil, err
	}
	if r.mutations > 0 || r.chunks > 0 {
		s.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "log replayed", slog.Uint64("after_csn", s.idx.Position().CSN), slog.Uint64("csn", r.csn),
			slog.Int("mutations", r.mutations), slog.Int("chunks", r.chunks), slog.Duration("took", time.Since(began)))
	}
	c := &committer{s: s, csn: r.csn, last: r.last}
	if damage != nil {
		// Part of what was acknowledged since the last checkpoint cannot be read. What is there is served; nothing may be
		// written behind a history that is not whole, and the index file stays as it is.
		s.incomplete, s.undecided = true, true
		s.fail(fmt.Errorf("the log cannot be replayed to its end: %w", damage))
		return c, nil
	}
	return c, c.settle(ended)
}

// settle writes the verdicts on the segments of the last run before anything is served. When there is no room for them now, they
// go before the first mutation that there is room for; until then every start comes to the same ones.
func (c *committer) settle(ended []erasure.Verdict) error {
	if len(ended) == 0 {
		return nil
	}
	if err := c.open(); err != nil {
		return err
	}
	if _, err := c.apply(verdictTx(ended), erasure.TierDelete); err != nil {
		c.stage.Discard()
		return err
	}
	err := c.commit(nil)
	c.finish(err)
	if errors.Is(err, errClean) && (errors.Is(err, ErrReadOnly) || errors.Is(err, ErrNoSpace)) {
		c.s.opts.Logger.Warn("the end of the last run cannot be written down now", slog.Int("segments", len(ended)), slog.Any("error", err))
		c.owed = ended
		return nil
	}
	if err != nil {
		return fmt.Errorf("write verdicts: %w", err)
	}
	return nil
}

// isDamage tells whether an error says that parts of the log cannot be had, as opposed to being misread or interrupted.
func isDamage(err error) bool {
	return errors.Is(err, erasure.ErrCorrupt) || errors.Is(err, erasure.ErrUnavailable) || errors.Is(err, errGap)
}

// restoreCatalog begins a new index with the newest snapshot.
func (s *Store) restoreCatalog(ctx context.Context) (snapshotHeader, error) {
	sizes, err := s.idx.Sizes()
	if err != nil {
		return snapshotHeader{}, err
	}
	rows := sizes.Chunks
	for _, n := range sizes.Rows {
		rows += n
	}
	if rows > 0 {
		return snapshotHeader{}, fmt.Errorf("building it anew was cut short: %w", index.ErrCorrupt)
	}
	return s.loadSnapshot(ctx)
}

// snapshotAfter tells whether there is a snapshot that begins behind a CSN.
func (s *Store) snapshotAfter(ctx context.Context, csn uint64) (bool, error) {
	for _, id := range s.log.LatestSnapshots() {
		head, err := s.readSnapshot(ctx, id, func(index.Table, []snapshotItem) error { return nil })
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil && head.CSN > csn {
			return true, nil
		}
	}
	return false, nil
}

func isMutation(kind uint8) bool { return kind == kindMutation }

// knownEnds tells the log every verdict and drop that was ever written: those in the index and those in the log behind it. They lie
// in later segments than the one they are about, so all must be known before records count.
func (s *Store) knownEnds(ctx context.Context, from uint64) error {
	var vs []erasure.Verdict
	v, err := s.idx.View()
	if err != nil {
		return err
	}
	defer v.Close()
	it := v.Iter(index.Verdicts, nil, nil)
	defer it.Close()
	for it.Next() {
		verdict, err := decodeVerdict(it.Entry().Key, it.Entry().Value)
		if err != nil {
			return err
		}
		vs = append(vs, verdict)
	}
	if err := it.Err(); err != nil {
		return err
	}
	dropped, err := droppedSegments(v)
	if err != nil {
		return err
	}
	s.log.SetDropped(dropped)
	if err := s.log.SetVerdicts(vs); err != nil {
		return err
	}
	found, err := s.log.FindEnds(ctx, from, kindMutation, endsOf)
	if err != nil {
		return fmt.Errorf("look for verdicts and drops: %w", err)
	}
	s.strayRows.Store(len(dropped)+len(found.Drops) > 0) // whether the last run came to remove them is not known
	return nil
}

// droppedBySnapshot tells whether a snapshot says that a segment was dropped.
func (s *Store) droppedBySnapshot(ctx context.Context, segment erasure.SegmentID) (dropped bool, err error) {
	key := segmentKey(uint64(segment))
	for _, id := range s.log.LatestSnapshots() {
		found := false
		_, err := s.readSnapshot(ctx, id, func(t index.Table, rows []snapshotItem) error {
			found = found || t == index.Segments && slices.ContainsFunc(rows, func(r snapshotItem) bool { return bytes.Equal(r.Key, key) })
			return nil
		})
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil && found {
			return true, nil
		}
	}
	return false, nil
}

// droppedSegments returns the segments that the catalog says were dropped.
func droppedSegments(v *index.View) (ids []erasure.SegmentID, err error) {
	it := v.Iter(index.Segments, nil, nil)
	defer it.Close()
	for it.Next() {
		n, err := parseSegmentKey(it.Entry().Key)
		if err != nil {
			return nil, fmt.Errorf("cas: dropped segment %x: %w", it.Entry().Key, err)
		}
		ids = append(ids, erasure.SegmentID(n))
	}
	return ids, it.Err()
}

// endsOf returns the verdicts and drops that a mutation record writes.
func endsOf(r erasure.Replayed) (e erasure.Ends, err error) {
	m, err := decodeMutation(r.Label, r.Body)
	if err != nil {
		return e, err
	}
	for _, op := range m.Ops {
		if op.Delete {
			continue
		}
		switch op.Table {
		case index.Verdicts:
			v, err := decodeVerdict(op.Key, op.Value)
			if err != nil {
				return e, err
			}
			e.Verdicts = append(e.Verdicts, v)
		case index.Segments: // a row says that the segment was dropped
			n, err := parseSegmentKey(op.Key)
			if err != nil {
				return e, fmt.Errorf("cas: dropped segment %x: %w", op.Key, err)
			}
			e.Drops = append(e.Drops, erasure.SegmentID(n))
		}
	}
	return e, nil
}

func decodeVerdict(key, value []byte) (v erasure.Verdict, err error) {
	var row verdictRow
	if err := decodeRow(index.Verdicts, key, value, &row); err != nil {
		return v, err
	}
	n, err := parseSegmentKey(key)
	if err != nil || len(row.Digest) != len(v.Digest) {
		return v, fmt.Errorf("cas: verdict %x: %w", key, ErrCorrupt)
	}
	v.Segment, v.Stripes = erasure.SegmentID(n), row.Stripes
	copy(v.Digest[:], row.Digest)
	return v, nil
}

// A replay applies records in log order. Chunks may come again, the newest wins; a mutation is applied once, whatever
// segments it is in.
type replay struct {
	s         *Store
	csn       uint64
	last      int64
	stage     *index.Stage
	staged    int
	bytes     int // of the bodies of what is staged
	batch     []index.Chunk
	mutations int
	chunks    int
	told      time.Time
}

func (r *replay) add(rec erasure.Replayed) error {
	switch rec.Kind {
	case kindChunk, kindList:
		c, err := chunkRow(rec.Placed)
		if err != nil {
			return err
		}
		r.batch = append(r.batch, c)
		r.chunks++
		if len(r.batch) >= replayChunksMax {
			return r.flush()
		}
	case kindMutation:
		m, err := decodeMutation(rec.Label, rec.Body)
		if err != nil {
			return err
		}
		r.last = max(r.last, m.Time)
		if m.CSN <= r.csn {
			return nil
		}
		if m.CSN != r.csn+1 {
			return fmt.Errorf("%w: %d follows %d; are data directories missing?", errGap, m.CSN, r.csn)
		}
		if r.stage == nil {
			if r.stage, err = r.s.idx.Stage(); err != nil {
				return err
			}
		}
		if err := r.stage.Apply(m.CSN, m.Ops); err != nil {
			return err
		}
		r.csn = m.CSN
		r.mutations++
		r.staged++
		if r.bytes += len(rec.Body); r.staged >= replayOpsMax || r.bytes >= replayBytesMax {
			return r.flush()
		}
	default:
		return fmt.Errorf("cas: record of kind %d is of a later version", rec.Kind)
	}
	return nil
}

// discard lets go of what a replay that was cut short had in hand: the index waits for an open stage when it is closed.
func (r *replay) discard() {
	if r.stage != nil {
		r.stage.Discard()
		r.stage = nil
	}
}

// flush publishes what was gathered and keeps the overlay within bounds.
func (r *replay) flush() error {
	if r.stage != nil {
		r.stage.Publish()
		r.stage, r.staged, r.bytes = nil, 0, 0
	}
	if len(r.batch) > 0 {
		if err := r.s.chunks.PutChunks(r.batch); err != nil {
			return err
		}
		r.batch = r.batch[:0]
	}
	r.s.opts.rebuild.tell(r.mutations + r.chunks)
	full := r.s.idx.OverlayEntries() >= replayEntries || r.s.idx.OverlayBytes() >= r.s.opts.OverlayBytesMax/4
	if !full || r.s.undecided {
		return nil
	}
	if time.Since(r.told) > 5*time.Second {
		r.told = time.Now()
		r.s.opts.Logger.Info("replaying the log", slog.Uint64("csn", r.csn), slog.Int("mutations", r.mutations), slog.Int("chunks", r.chunks))
	}
	// The log position stays where the replay began: one that is cut short begins there again, and skips the mutations
	// that it has.
	r.s.idx.Freeze(index.Position{CSN: r.csn, Log: r.s.idx.Position().Log})
	return r.s.idx.WriteFrozen(r.s.ctx)
}

// chunkRow is the chunk map's row for a durable record.
func chunkRow(p erasure.Placed) (index.Chunk, error) {
	l, err := decodeChunkLabel(p.Label)
	return index.Chunk{ID: l.id, Location: p.Location, Size: l.size, Encoding: uint8(l.enc)}, err
}

// openIndex opens the index, or begins a new one when it is missing or damaged: everything in it comes from the log.
func (s *Store) openIndex() error {
	o := index.Options{Path: s.indexPath, Logger: s.opts.Logger, Metrics: s.opts.Metrics}
	info, err := os.Stat(s.indexPath)
	if (errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0) && !s.log.Created() && s.opts.rebuild == nil {
		s.metrics.indexRebuilds.Inc()
		s.opts.Logger.Warn("the index is missing; it is built anew from the log", slog.String("file", s.indexPath))
	}
	if s.idx, err = index.Open(o); err == nil || !isCorruptIndex(err) {
		return err
	}
	if err := s.setIndexAside(err); err != nil {
		return err
	}
	s.idx, err = index.Open(o)
	return err
}

// setIndexAside makes room for a new index, for a reason.
func (s *Store) setIndexAside(reason error) error {
	s.metrics.indexRebuilds.Inc()
	aside := s.indexPath + ".damaged"
	s.opts.Logger.Error("the index is damaged; it is set aside and built anew from the log", slog.String("file", s.indexPath),
		slog.String("aside", aside), slog.Any("error", reason))
	if err := os.Rename(s.indexPath, aside); err != nil {
		return err
	}
	return index.Remove(s.indexPath) // what belongs to it
}
