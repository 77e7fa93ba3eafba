package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

const (
	// checkOpenMax bounds the rows, and the chunks, that a check has to look at again later.
	checkOpenMax = 1 << 14
)

// Check proves that the index is what the log says, beside clients. It builds a second index from the log, in a file beside the first
// that it removes at its end, and compares every row of the catalog and every row of the chunk map; so it needs about as
// much room as the index has, and memory that does not grow with the store. The file of the index is proven too. A difference is no
// error. It does not run beside GC, which removes what it reads: ErrConflict.
//
// The log is replayed up to CSN C, the newest when it begins. A row of the index is the log's when the shadow has the same row
// with the same revision; one with a revision over C is left to the next check. A row of the shadow that the index does not
// have was either deleted since, or is missing: the shadow is brought up to date, which tells. No read transaction is held open for long.
func (s *Store) Check(ctx context.Context, req CheckRequest) (CheckReport, error) {
	if req.Rate < 0 {
		return CheckReport{}, fmt.Errorf("cas: a check rate of %d bytes a second", req.Rate)
	}
	op, ctx, err := s.beginOperation(ctx, "check", "gc")
	if err != nil {
		return CheckReport{}, err
	}
	defer op.end()
	op.tell = req.Progress
	rep, _, err := s.check(ctx, op, &pacer{rate: req.Rate, busy: s.clientsBusy}, true)
	return rep, err
}

// check runs a check. With trace it tells which objects need what is lost.
func (s *Store) check(ctx context.Context, op *operation, pace *pacer, trace bool) (rep CheckReport, lost *lostSet, err error) {
	if err := s.complete(); err != nil {
		return rep, nil, err
	}
	c := &checker{s: s, op: op, pace: pace, rep: CheckReport{Began: s.opts.Clock().UTC(), Differences: []string{}, Lost: []LostObject{}}}
	if c.sh, err = s.newShadow(); err != nil {
		return rep, nil, fmt.Errorf("check: %w", err)
	}
	defer func() {
		if e := c.sh.close(); err == nil && e != nil {
			err = fmt.Errorf("check: %w", e)
		}
	}()
	err = c.run(ctx)
	if err == nil && trace {
		err = c.trace(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return c.rep, nil, fmt.Errorf("check: %w", err)
	}
	c.finish()
	return c.rep, &c.lost, nil
}

// A checker is one check.
type checker struct {
	s       *Store
	op      *operation
	pace    *pacer
	sh      *shadow
	rep     CheckReport
	open    []openRow  // rows of the shadow that the index does not have, perhaps since they were deleted meanwhile
	missing []index.ID // chunks that the log has and the map had not
	skipped int64      // of these, not remembered
	lost    lostSet
	damage  error // of the log
}

// An openRow was not in the index at a CSN.
type openRow struct {
	table index.Table
	key   []byte
	csn   uint64
}

func (c *checker) differ(format string, args ...any) {
	c.rep.DifferencesTotal++
	if len(c.rep.Differences) < listedMax {
		c.rep.Differences = append(c.rep.Differences, clip(fmt.Sprintf(format, args...)))
	}
}

func (c *checker) run(ctx context.Context) error {
	if err := c.replay(ctx); err != nil {
		return err
	}
	for t := index.Buckets; t <= index.Meta; t++ {
		if err := c.table(ctx, t); err != nil {
			return err
		}
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	if err := c.chunkMap(ctx); err != nil {
		return err
	}
	c.op.progress("file", 0, 0, "items")
	if err := c.s.idx.Verify(ctx); err != nil {
		if !isCorruptIndex(err) {
			return err
		}
		c.s.idx.Distrust() // the next start proves the file, and builds it anew
		c.differ("the file of the index: %v", err)
	}
	return nil
}

// trace tells which objects need what is lost.
func (c *checker) trace(ctx context.Context) error {
	r := Receipt{}
	run := c.s.newScrubRun(&r, c.pace)
	run.op, run.lost = c.op, c.lost
	err := run.trace(ctx, false)
	c.rep.Lost, c.rep.LostTotal = append(c.rep.Lost, r.Lost...), r.LostTotal
	return err
}

// liveCSN is that of the newest published mutation.
func (c *checker) liveCSN() (csn uint64, err error) {
	err = c.s.view(func(v *index.View) error { csn = v.CSN(); return nil })
	return csn, err
}

// replay builds the shadow and compares the chunk records of the log with the chunk map as they come.
func (c *checker) replay(ctx context.Context) (err error) {
	if c.rep.CSN, err = c.liveCSN(); err != nil {
		return err
	}
	if err := c.sh.begin(ctx, c.op); err != nil {
		return err
	}
	var total, done int64
	for _, info := range c.s.log.Segments() {
		total += int64(info.Records)
	}
	c.rep.Mutations, err = c.sh.replay(ctx, c.rep.CSN, c.pace, func(p erasure.Placed) error {
		if done++; done%1024 == 0 {
			c.op.progress("log", done, total, "items")
		}
		return c.record(p)
	})
	if err != nil && isDamage(err) {
		c.damage = err
		c.differ("the log: %v", err)
		err = nil
	}
	if err == nil && c.sh.csn < c.rep.CSN {
		c.differ("the index has mutations up to %d, the log can be replayed up to %d", c.rep.CSN, c.sh.csn)
	}
	return err
}

// record compares a chunk record with the chunk map.
func (c *checker) record(p erasure.Placed) error {
	if p.Kind != kindChunk && p.Kind != kindList {
		return nil
	}
	row, err := chunkRow(p)
	if err != nil {
		c.differ("record %d of segment %016x: %v", p.Location.Ordinal(), uint64(p.Location.Segment()), err)
		return nil
	}
	have, ok, err := c.s.chunks.LookupChunk(row.ID)
	switch {
	case err != nil:
		return c.s.indexError(err)
	case !ok && len(c.missing) < checkOpenMax: // it may be on its way into the map
		c.missing = append(c.missing, row.ID)
	case !ok:
		c.skipped++
	case have.Location != row.Location: // another copy, or wrong: seen when the map is read
	case have != row:
		c.differ("chunk map: %x has size %d and encoding %d, the log says %d and %d", row.ID[:8], have.Size, have.Encoding, row.Size, row.Encoding)
	default:
		return c.sh.chunk(row)
	}
	return nil
}

// table compares one table of the catalog, in portions that are each one view of the index.
func (c *checker) table(ctx context.Context, t index.Table) error {
	for lo := []byte{}; lo != nil; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if len(c.open) >= checkOpenMax {
			if err := c.settle(ctx); err != nil {
				return err
			}
		}
		batch := make([]index.Entry, 0, scanRows)
		var next []byte // nil: to the end
		var csn uint64
		size := 0
		err := c.s.view(func(v *index.View) error {
			csn = v.CSN()
			it := v.Iter(t, lo, nil)
			defer it.Close()
			for it.Next() {
				batch = append(batch, it.Entry())
				if size += len(it.Entry().Key) + len(it.Entry().Value); len(batch) == scanRows || size > scanBytes {
					next = append(slices.Clone(it.Entry().Key), 0)
					break
				}
			}
			return it.Err()
		})
		if err != nil {
			return err
		}
		if err := c.portion(t, lo, next, csn, batch); err != nil {
			return err
		}
		if err := c.pace.wait(ctx, size); err != nil {
			return err
		}
		c.op.progress("catalog", c.rep.Rows, 0, "items")
		lo = next
	}
	return nil
}

// portion compares the rows of a range of the index, as of a CSN, with those of the shadow.
func (c *checker) portion(t index.Table, lo, hi []byte, csn uint64, rows []index.Entry) error {
	v, err := c.sh.idx.View()
	if err != nil {
		return err
	}
	defer v.Close()
	it := v.Iter(t, lo, hi)
	defer it.Close()
	more := it.Next()
	for _, row := range rows {
		c.rep.Rows++
		if t == index.Objects {
			c.rep.Objects++
		}
		for more && bytes.Compare(it.Entry().Key, row.Key) < 0 {
			c.absent(t, it.Entry().Key, csn)
			more = it.Next()
		}
		if !more || !bytes.Equal(it.Entry().Key, row.Key) {
			c.compare(t, row, index.Entry{}, csn)
			continue
		}
		c.compare(t, row, it.Entry(), csn)
		more = it.Next()
	}
	for ; more; more = it.Next() {
		c.absent(t, it.Entry().Key, csn)
	}
	return it.Err()
}

// compare compares a row of the index with that of the shadow, which is zero when it has none.
func (c *checker) compare(t index.Table, have, want index.Entry, csn uint64) {
	switch {
	case have.Rev > csn:
		c.differ("%s: %s has revision %d of the future", t, words(t, have.Key), have.Rev)
	case have.Rev > c.sh.csn: // newer than what is compared
	case want.Key == nil:
		c.differ("%s: %s is not in the log", t, words(t, have.Key))
	case have.Rev != want.Rev:
		c.differ("%s: %s has revision %d, the log says %d", t, words(t, have.Key), have.Rev, want.Rev)
	case !bytes.Equal(have.Value, want.Value):
		c.differ("%s: %s has another value than the log says", t, words(t, have.Key))
	}
}

// absent notes a row of the shadow that the index does not have.
func (c *checker) absent(t index.Table, key []byte, csn uint64) {
	if csn <= c.sh.csn {
		c.differ("%s: %s is missing", t, words(t, key))
		return
	}
	c.open = append(c.open, openRow{t, bytes.Clone(key), csn})
}

// settle brings the shadow up to date and tells which open rows were deleted and which are missing.
func (c *checker) settle(ctx context.Context) error {
	defer func() { c.open = c.open[:0] }()
	if len(c.open) == 0 || c.damage != nil { // of a log with gaps it cannot be told
		return nil
	}
	csn, err := c.liveCSN()
	if err != nil {
		return err
	}
	n, err := c.sh.replay(ctx, csn, c.pace, nil)
	c.rep.Mutations += n
	if err != nil && isDamage(err) {
		c.damage = err
		c.differ("the log: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	v, err := c.sh.idx.View()
	if err != nil {
		return err
	}
	defer v.Close()
	for _, o := range c.open {
		e, ok, err := v.Get(o.table, o.key)
		if err != nil {
			return err
		}
		if ok && e.Rev <= o.csn { // it was there at that CSN, and nothing has touched it since
			c.differ("%s: %s is missing", o.table, words(o.table, o.key))
		}
	}
	return nil
}

// chunkMap looks at every row of the chunk map that is not known to be right, by reading its chunk.
func (c *checker) chunkMap(ctx context.Context) error {
	stored, opened := getBuffer(0), getBuffer(0)
	defer putBuffer(stored)
	defer putBuffer(opened)
	total := c.s.idx.Totals().Chunks
	err := c.s.idx.IterChunks(func(row index.Chunk) error {
		if c.rep.Chunks++; c.rep.Chunks%4096 == 0 {
			c.op.progress("chunks", c.rep.Chunks, total, "items")
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		if right, ok, err := c.sh.idx.LookupChunk(row.ID); err != nil || ok && right == row {
			return err
		}
		if err := c.pace.wait(ctx, int(row.Size)); err != nil {
			return err
		}
		_, err := c.s.fetchChunk(ctx, ref{kind: refList, id: row.ID}, stored, opened)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isCorruptIndex(err):
			return err
		case errors.Is(err, erasure.ErrNotFound) && c.s.log.Dropped(erasure.Location(row.Location).Segment()):
			c.rep.Chunks-- // left over from a crash after a drop; the next cycle of GC removes it
		case errors.Is(err, ErrCorrupt):
			c.lost.add(row.ID)
			c.s.damaged.add(row.ID) // so that the next upload stores it anew
			c.differ("chunk map: %x: %v", row.ID[:8], err)
		default:
			c.lost.unknown++
			c.differ("chunk map: %x cannot be looked at: %v", row.ID[:8], err)
		}
		return nil
	})
	if err != nil {
		return c.s.indexError(err)
	}
	for _, id := range c.missing {
		if _, ok, err := c.s.durableChunk(ctx, id); err != nil { // one that is durable comes into the map a moment later
			return err
		} else if !ok {
			c.lost.add(id)
			c.differ("chunk map: %x is missing, the log has it", id[:8])
		}
	}
	if c.skipped > 0 {
		c.differ("chunk map: %d more chunks of the log were not in it", c.skipped)
	}
	return nil
}

// words name a row for people.
func words(t index.Table, key []byte) string {
	switch t {
	case index.Objects:
		if bucket, name, csn, err := index.ParseObjectKey(key); err == nil {
			return fmt.Sprintf("%q/%q of mutation %d", bucket, name, csn)
		}
	case index.Uploads:
		if bucket, name, id, err := index.ParseUploadKey(key); err == nil {
			return fmt.Sprintf("upload %q of %q/%q", id, bucket, name)
		}
	case index.Parts:
		if id, n, err := index.ParsePartKey(key); err == nil {
			return fmt.Sprintf("part %d of upload %q", n, id)
		}
	case index.Domains, index.Segments, index.Verdicts:
		return fmt.Sprintf("%x", key)
	}
	return fmt.Sprintf("%q", key)
}

func (c *checker) finish() {
	c.rep.Ended = c.s.opts.Clock().UTC()
	switch {
	case c.rep.LostTotal > 0 || errors.Is(c.damage, erasure.ErrCorrupt) || errors.Is(c.damage, errGap):
		c.rep.Outcome = OutcomeLost
	case c.rep.DifferencesTotal > 0:
		c.rep.Outcome = OutcomeDamaged
	default:
		c.rep.Outcome = OutcomeWhole
	}
	brief := c.rep
	brief.Differences, brief.Lost = nil, nil
	c.s.lastCheck.Store(&brief)
	level := slog.LevelInfo
	if c.rep.DifferencesTotal > 0 {
		level = slog.LevelError
	}
	c.s.opts.Logger.LogAttrs(context.Background(), level, "check ended", slog.String("outcome", c.rep.Outcome), slog.Uint64("csn", c.rep.CSN), slog.Int64("rows", c.rep.Rows),
		slog.Int64("chunks", c.rep.Chunks), slog.Int64("differences", c.rep.DifferencesTotal))
}
