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

// A snapshot is the whole catalog in a segment of its own, so that old mutations can go. It is fuzzy: a row is as it was at some moment
// after the start CSN, and the mutations behind the start CSN, applied in order, bring every row to the same state. Its records are of
// kind 4; a label is one byte, bodies are deterministic CBOR:
//
//	label  body
//	1      snapshotHeader: first
//	2      snapshotRows: any number, by table, then by key
//	3      snapshotEnd: last; without it the snapshot counts for nothing
//
// The chunk map is not in it: that comes from the directories of the segments.
const kindSnapshot uint8 = 4

const (
	snapshotLabelHeader = 1
	snapshotLabelRows   = 2
	snapshotLabelEnd    = 3

	snapshotVersion   = 1
	snapshotRowsMax   = 4096    // rows in a record, and in a read transaction
	snapshotBytesMax  = 1 << 20 // bytes of rows after which a record ends
	snapshotsKept     = 2
	snapshotLoadBytes = 16 << 20 // bytes of rows published at once when one is loaded
)

type snapshotHeader struct {
	Version int    `cbor:"1,keyasint"`
	CSN     uint64 `cbor:"2,keyasint"` // the state after this mutation, or later for some rows
	Time    int64  `cbor:"3,keyasint"` // no mutation up to CSN is newer
}

type snapshotRows struct {
	Table index.Table    `cbor:"1,keyasint"`
	Rows  []snapshotItem `cbor:"2,keyasint"`
}

type snapshotItem struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
	Rev   uint64
}

type snapshotEnd struct {
	Rows map[index.Table]uint64 `cbor:"1,keyasint"` // by table
}

// A snapshotRow is a row of Meta that names a snapshot that is complete and proven.
type snapshotRow struct {
	Segment uint64 `cbor:"1,keyasint"`
	CSN     uint64 `cbor:"2,keyasint"`
	Rows    uint64 `cbor:"3,keyasint"`
	Written int64  `cbor:"4,keyasint"`
}

// A segmentRow says that a segment was dropped. It stays for ever: a directory that was away may bring its files back.
type segmentRow struct {
	Dropped int64 `cbor:"1,keyasint"`
}

const snapshotPrefix = "snapshot/"

func snapshotKey(id uint64) []byte { return fmt.Appendf(nil, "%s%016x", snapshotPrefix, id) }

// snapshots returns the snapshots that the catalog names, the newest first.
func (s *Store) snapshots() (rows []snapshotRow, err error) {
	err = s.view(func(v *index.View) error {
		it := v.Iter(index.Meta, []byte(snapshotPrefix), []byte(snapshotPrefix[:len(snapshotPrefix)-1]+"0"))
		defer it.Close()
		for it.Next() {
			var row snapshotRow
			if err := decodeRow(index.Meta, it.Entry().Key, it.Entry().Value, &row); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return it.Err()
	})
	slices.SortFunc(rows, func(a, b snapshotRow) int { return -cmp.Compare(a.CSN, b.CSN) })
	return rows, err
}

// coveredBy is the CSN up to which mutations are in as many snapshots as are kept.
func coveredBy(rows []snapshotRow) uint64 {
	if len(rows) < snapshotsKept {
		return 0
	}
	return rows[snapshotsKept-1].CSN
}

// lookAtSnapshots finds out up to where the snapshots cover mutations. One that has been lost since it was written covers nothing: were
// mutations dropped for its sake, only the index would still know what was in them. So the snapshots are read to their end when
// mutations may go that no other than these hold; else a look at what of them is there has to do.
func (c *cycle) lookAtSnapshots(ctx context.Context, all []*segmentMarks) error {
	rows, err := c.s.snapshots()
	if err != nil {
		return err
	}
	rows = rows[:min(len(rows), snapshotsKept)]
	least := min(c.req.Threshold, gcStoreGarbage)
	rely := slices.ContainsFunc(all, func(g *segmentMarks) bool {
		return g.skipped == "" && g.sum.lastCSN > 0 && g.sum.lastCSN <= coveredBy(rows) && (g.recode || g.fraction(coveredBy(rows)) >= least)
	})
	infos := c.s.log.Segments()
	var sound []snapshotRow
	for _, row := range rows {
		id := erasure.SegmentID(row.Segment)
		i := slices.IndexFunc(infos, func(info erasure.SegmentInfo) bool { return info.ID == id })
		switch {
		case i < 0:
			err = fmt.Errorf("%w: segment %016x", erasure.ErrNotFound, row.Segment)
		case infos[i].ShardsAbsent > infos[i].M:
			err = fmt.Errorf("%w: %d of its shard files are absent", erasure.ErrUnavailable, infos[i].ShardsAbsent)
		case rely:
			err = c.s.proveSnapshot(ctx, row)
		default:
			err = nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.lost = true
			c.s.opts.Logger.Error("a snapshot cannot be read; it covers nothing any more", slog.Uint64("segment", row.Segment), slog.Any("error", err))
			continue
		}
		sound = append(sound, row)
	}
	c.covered = coveredBy(sound)
	return nil
}

// proveSnapshot reads a snapshot to its end.
func (s *Store) proveSnapshot(ctx context.Context, row snapshotRow) error {
	var rows uint64
	head, err := s.readSnapshot(ctx, erasure.SegmentID(row.Segment), func(_ index.Table, items []snapshotItem) error {
		rows += uint64(len(items))
		return nil
	})
	if err == nil && (head.CSN != row.CSN || rows != row.Rows) {
		err = fmt.Errorf("%w: %d rows after mutation %d where %d after %d belong", errBadSnapshot, rows, head.CSN, row.Rows, row.CSN)
	}
	return err
}

// snapshotIfWorthIt writes snapshots when they make it possible to drop more than they take, or when one was lost: what it covered may be
// gone from the log. A dry run goes on as if it had.
func (c *cycle) snapshotIfWorthIt(ctx context.Context, all []*segmentMarks) error {
	sizes, err := c.s.idx.Sizes()
	if err != nil {
		return c.s.indexError(err)
	}
	var catalog int64
	for _, n := range sizes.Rows {
		catalog += int64(n) * gcCatalogRow
	}
	code := c.s.log.Code()
	catalog = catalog*int64(code.K+code.M)/int64(max(code.K, 1)) + 64<<10
	const all64 = ^uint64(0)
	var gain int64
	for _, g := range all {
		done := (g.info.Sealed || g.info.Ended) && g.info.LastSeq < c.before
		if (done || c.req.DryRun) && g.skipped == "" && g.sum.lastCSN > c.covered && (g.recode || g.fraction(all64) >= c.req.Threshold) {
			gain += g.garbage(all64)
		}
	}
	if !c.lost && (gain == 0 || gain < snapshotsKept*catalog) {
		return nil
	}
	if c.req.DryRun {
		c.covered = all64
		return nil
	}
	for range snapshotsKept {
		_, err := c.s.writeSnapshot(ctx, c.op)
		if errors.Is(err, ErrNoSpace) { // what needs no snapshot gives room
			c.s.opts.Logger.Warn("no room for a snapshot; old mutations stay for now", slog.Any("error", err))
			if c.lost || c.rep.Snapshots == 0 { // the older ones may be what is needed
				return nil
			}
			_, err := c.s.dropSnapshots(ctx)
			return err
		}
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		c.rep.Snapshots++
	}
	rows, err := c.s.dropSnapshots(ctx)
	c.covered = coveredBy(rows)
	return err
}

// writeSnapshot writes the catalog as it is from now on, and makes it known.
func (s *Store) writeSnapshot(ctx context.Context, op *operation) (row snapshotRow, err error) {
	w, err := s.log.NewSnapshot(ctx)
	if err != nil {
		return row, logError("begin", err)
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	put := func(label byte, v any) error {
		body, err := cborEnc.Marshal(v)
		if err != nil {
			return err
		}
		return logError("write", w.Append(erasure.Record{Kind: kindSnapshot, Label: []byte{label}, Body: body}))
	}
	head := snapshotHeader{Version: snapshotVersion}
	if err := s.view(func(v *index.View) error { head.CSN = v.CSN(); return nil }); err != nil {
		return row, err
	}
	head.Time = s.lastTime.Load() // of a later mutation perhaps, which does no harm
	if err := put(snapshotLabelHeader, head); err != nil {
		return row, err
	}
	end := snapshotEnd{Rows: map[index.Table]uint64{}}
	var total int64
	for _, t := range index.Tables() {
		for lo := []byte{}; lo != nil; {
			if err := ctx.Err(); err != nil {
				return row, err
			}
			batch := snapshotRows{Table: t}
			if batch.Rows, lo, err = s.snapshotBatch(t, lo); err != nil {
				return row, err
			}
			if len(batch.Rows) == 0 {
				continue
			}
			end.Rows[t] += uint64(len(batch.Rows))
			total += int64(len(batch.Rows))
			op.progress("snapshot", total, 0, "items")
			if err := put(snapshotLabelRows, batch); err != nil {
				return row, err
			}
		}
	}
	if err := put(snapshotLabelEnd, end); err != nil {
		return row, err
	}
	id, err := w.Close(ctx)
	if err != nil {
		return row, logError("finish", err)
	}
	row = snapshotRow{Segment: uint64(id), CSN: head.CSN, Rows: uint64(total), Written: s.opts.Clock().UnixNano()}
	err = s.update(ctx, nil, func(index.Reader) (*tx, error) {
		t := &tx{}
		t.put(index.Meta, snapshotKey(row.Segment), row)
		return t, nil
	})
	if err == nil {
		s.opts.Logger.Info("snapshot written", slog.Uint64("segment", row.Segment), slog.Uint64("csn", row.CSN), slog.Uint64("rows", row.Rows))
	}
	return row, err
}

// snapshotBatch reads rows of a table from lo on and returns where to go on, nil at the end.
func (s *Store) snapshotBatch(t index.Table, lo []byte) (rows []snapshotItem, next []byte, err error) {
	err = s.view(func(v *index.View) error {
		it := v.Iter(t, lo, nil)
		defer it.Close()
		size := 0
		for it.Next() {
			e := it.Entry()
			rows = append(rows, snapshotItem{Key: e.Key, Value: e.Value, Rev: e.Rev})
			if size += len(e.Key) + len(e.Value); len(rows) >= snapshotRowsMax || size >= snapshotBytesMax {
				next = append(slices.Clone(e.Key), 0)
				break
			}
		}
		return it.Err()
	})
	return rows, next, err
}

// dropSnapshots drops all snapshots but those that are kept, also such that were never finished, and returns these.
func (s *Store) dropSnapshots(ctx context.Context) ([]snapshotRow, error) {
	rows, err := s.snapshots()
	if err != nil {
		return nil, err
	}
	kept := rows[:min(len(rows), snapshotsKept)]
	var ids []erasure.SegmentID
	for _, info := range s.log.Segments() {
		if info.Class == erasure.Snapshot && !slices.ContainsFunc(kept, func(r snapshotRow) bool { return r.Segment == uint64(info.ID) }) {
			ids = append(ids, info.ID)
		}
	}
	if len(ids) == 0 {
		return kept, nil
	}
	return kept, s.dropSegments(ctx, ids, func(t *tx) {
		for _, r := range rows[len(kept):] {
			t.remove(index.Meta, snapshotKey(r.Segment))
		}
	})
}

// errBadSnapshot is a snapshot that is not whole.
var errBadSnapshot = errors.New("cas: snapshot is not whole")

// readSnapshot reads a snapshot to its end. fn is called with its rows; what they were good for is known only when nil is returned.
func (s *Store) readSnapshot(ctx context.Context, id erasure.SegmentID, fn func(t index.Table, rows []snapshotItem) error) (head snapshotHeader, err error) {
	counts := map[index.Table]uint64{}
	var end *snapshotEnd
	first := true
	err = s.log.ReadSegment(ctx, id, func(uint8) bool { return true }, func(r erasure.Replayed) error {
		if r.Kind != kindSnapshot || len(r.Label) != 1 || end != nil || first != (r.Label[0] == snapshotLabelHeader) {
			return fmt.Errorf("%w: record %d is out of place", errBadSnapshot, r.Location.Ordinal())
		}
		first = false
		switch r.Label[0] {
		case snapshotLabelHeader:
			if err := cborDec.Unmarshal(r.Body, &head); err != nil {
				return fmt.Errorf("%w: header: %w", errBadSnapshot, err)
			}
			if head.Version != snapshotVersion {
				return fmt.Errorf("%w: version %d", errBadSnapshot, head.Version)
			}
		case snapshotLabelRows:
			var rows snapshotRows
			if err := cborDec.Unmarshal(r.Body, &rows); err != nil {
				return fmt.Errorf("%w: rows: %w", errBadSnapshot, err)
			}
			counts[rows.Table] += uint64(len(rows.Rows))
			return fn(rows.Table, rows.Rows)
		case snapshotLabelEnd:
			end = &snapshotEnd{}
			if err := cborDec.Unmarshal(r.Body, end); err != nil {
				return fmt.Errorf("%w: end: %w", errBadSnapshot, err)
			}
		default:
			return fmt.Errorf("%w: label %d", errBadSnapshot, r.Label[0])
		}
		return nil
	})
	switch {
	case err != nil:
		return head, err
	case end == nil:
		return head, fmt.Errorf("%w: it has no end", errBadSnapshot)
	}
	for _, t := range index.Tables() {
		if counts[t] != end.Rows[t] {
			return head, fmt.Errorf("%w: %d rows of table %d where %d belong", errBadSnapshot, counts[t], t, end.Rows[t])
		}
	}
	return head, nil
}

// loadSnapshot puts the newest snapshot that is whole into an index that is new. Without one the log goes back to its beginning.
func (s *Store) loadSnapshot(ctx context.Context) (head snapshotHeader, err error) {
	for _, id := range s.log.LatestSnapshots() {
		// All of it is read before anything of it is used.
		if head, err = s.readSnapshot(ctx, id, func(index.Table, []snapshotItem) error { return nil }); err != nil {
			if ctx.Err() != nil {
				return head, ctx.Err()
			}
			s.opts.Logger.Warn("snapshot is not used", slog.Uint64("segment", uint64(id)), slog.Any("error", err))
			continue
		}
		s.opts.Logger.Info("the catalog is read from a snapshot", slog.Uint64("segment", uint64(id)), slog.Uint64("csn", head.CSN))
		l := &snapshotLoader{s: s}
		if _, err := s.readSnapshot(ctx, id, l.rows); err != nil {
			l.discard()
			return head, fmt.Errorf("load snapshot: %w", err)
		}
		return head, l.finish(head.CSN)
	}
	return snapshotHeader{}, nil
}

// A snapshotLoader publishes the rows of a snapshot in portions. Until the end the index file does not say that it covers anything.
type snapshotLoader struct {
	s     *Store
	stage *index.Stage
	bytes int64
}

func (l *snapshotLoader) rows(t index.Table, rows []snapshotItem) (err error) {
	if l.stage == nil {
		if l.stage, err = l.s.idx.Stage(); err != nil {
			return err
		}
	}
	entries := make([]index.Entry, len(rows))
	for i, r := range rows {
		entries[i] = index.Entry{Key: r.Key, Value: r.Value, Rev: r.Rev}
		l.bytes += int64(len(r.Key) + len(r.Value))
	}
	if err := l.stage.Load(t, entries); err != nil {
		return err
	}
	if l.bytes < snapshotLoadBytes {
		return nil
	}
	l.stage.Publish()
	l.stage, l.bytes = nil, 0
	l.s.idx.Freeze(index.Position{})
	return l.s.idx.WriteFrozen(l.s.ctx)
}

func (l *snapshotLoader) discard() {
	if l.stage != nil {
		l.stage.Discard()
	}
}

func (l *snapshotLoader) finish(csn uint64) (err error) {
	if l.stage == nil {
		if l.stage, err = l.s.idx.Stage(); err != nil {
			return err
		}
	}
	if err := l.stage.SetCSN(csn); err != nil {
		l.stage.Discard()
		return err
	}
	l.stage.Publish()
	l.s.idx.Freeze(index.Position{CSN: csn})
	return l.s.idx.WriteFrozen(l.s.ctx)
}
