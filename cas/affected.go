package cas

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

const (
	// lostChunksMax bounds the lost chunks that are known one by one. Past it they are counted, and the objects that name only
	// such are not listed.
	lostChunksMax = damagedMax
	// listsKnownMax bounds how many list chunks are remembered while manifests are walked, so that those that many objects share
	// are walked once.
	listsKnownMax = 1 << 16
)

// A lostSet holds the chunks that are beyond repair. A stray one is in a segment that is not there: it is lost if anything
// names it, and otherwise a row that compaction is about to remove, or that a crash left.
type lostSet struct {
	ids     map[index.ID]bool // true: stray
	total   int64             // without strays
	strays  int64
	more    int64 // of both, not remembered
	unknown int64 // out of reach: perhaps lost
}

func (l *lostSet) add(id index.ID) { l.put(id, false) }

func (l *lostSet) addStray(id index.ID) { l.put(id, true) }

func (l *lostSet) put(id index.ID, stray bool) {
	if l.ids == nil {
		l.ids = map[index.ID]bool{}
	}
	if was, ok := l.ids[id]; ok {
		if was && !stray {
			l.ids[id] = false
			l.strays--
			l.total++
		}
		return
	}
	if stray {
		l.strays++
	} else {
		l.total++
	}
	if len(l.ids) >= lostChunksMax {
		l.more++
		return
	}
	l.ids[id] = stray
}

func (l *lostSet) has(id index.ID) bool {
	_, ok := l.ids[id]
	return ok
}

// named notes that something names a chunk, and tells whether it is lost.
func (l *lostSet) named(id index.ID) bool {
	stray, ok := l.ids[id]
	if stray {
		l.add(id)
	}
	return ok
}

// findLoss tells which chunks are beyond repair, and which objects need them.
func (run *scrubRun) findLoss(ctx context.Context) error {
	if err := run.findChunks(ctx); err != nil {
		return err
	}
	return run.trace(ctx, false)
}

// findChunks tells which chunks are beyond repair. A chunk is suspect when its record was not
// found good in a segment with loss, or when its segment is not there; it is lost when it cannot be read by itself either.
func (run *scrubRun) findChunks(ctx context.Context) error {
	s := run.s
	live := map[erasure.SegmentID]bool{}
	var newest erasure.SegmentID
	for _, info := range s.log.Segments() {
		live[info.ID] = true
		newest = max(newest, info.ID)
	}
	checked := int64(0)
	err := s.idx.IterChunks(func(c index.Chunk) error {
		if checked++; checked%4096 == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if run.op != nil {
				run.op.progress("chunks", checked, s.idx.Totals().Chunks, "items")
			}
		}
		l := erasure.Location(c.Location)
		good, lossy := run.lossy[l.Segment()]
		if !lossy && (live[l.Segment()] || l.Segment() > newest) || good.has(l.Ordinal()) {
			return nil
		}
		return run.tryChunk(ctx, c.ID)
	})
	if err != nil {
		return s.indexError(err)
	}
	for _, id := range s.damaged.list() { // known before; some may have come back
		if !run.lost.has(id) {
			if err := run.tryChunk(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// trace tells which objects need what is lost. With probe it looks for what is lost by itself, too: whether everything that the manifests name is
// in the chunk map, in a segment that is there, and of the right size.
func (run *scrubRun) trace(ctx context.Context, probe bool) error {
	if !probe && run.lost.total+run.lost.strays == 0 {
		return nil
	}
	if err := run.affected(ctx, probe); err != nil {
		return err
	}
	for id, stray := range run.lost.ids {
		if !stray {
			run.s.damaged.add(id) // so that the next upload stores it anew
		}
	}
	return nil
}

// tryChunk notes whether a chunk can be had.
func (run *scrubRun) tryChunk(ctx context.Context, id index.ID) error {
	stored := getBuffer(0)
	defer putBuffer(stored)
	_, err := run.s.fetchChunk(ctx, ref{kind: refList, id: id}, stored, &run.plain)
	switch {
	case err == nil:
		run.s.damaged.remove(id)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isCorruptIndex(err):
		return err
	case errors.Is(err, erasure.ErrNotFound):
		run.lost.addStray(id)
	case errors.Is(err, ErrCorrupt):
		run.lost.add(id)
	default:
		run.lost.unknown++
	}
	return nil
}

// affected lists the versions and parts that need lost chunks, in one pass over the catalog.
func (run *scrubRun) affected(ctx context.Context, probe bool) error {
	w := &manifestWalk{s: run.s, lost: &run.lost, known: map[index.ID]int64{}}
	if probe {
		w.records = map[erasure.SegmentID]uint32{}
		for _, info := range run.s.log.Segments() {
			if info.Sealed || info.Ended {
				w.records[info.ID] = info.Records
			}
		}
	}
	bytes, done := 0, int64(0)
	step := func() {
		if done++; run.op != nil {
			run.op.progress("manifests", done, 0, "items")
		}
		if probe {
			run.r.Objects++
		}
	}
	report := func(o LostObject) {
		run.r.LostTotal++
		size := len(o.Bucket) + len(o.Key) + len(o.VersionID) + len(o.UploadID) + 32
		if len(run.r.Lost) < listedMax && bytes+size <= lostBytesMax {
			run.r.Lost = append(run.r.Lost, o)
			bytes += size
		}
		if probe {
			run.add(Finding{Kind: findingManifest, Lost: true, Detail: fmt.Sprintf("%q/%q, upload %q part %d: %d chunks of it cannot be had", o.Bucket, o.Key, o.UploadID, o.Part, o.Chunks)})
		}
	}
	err := run.s.scanTable(ctx, index.Objects, nil, nil, func(e index.Entry) error {
		step()
		bucket, key, csn, err := index.ParseObjectKey(e.Key)
		if err != nil {
			return err
		}
		var row versionRow
		if err := decodeRow(index.Objects, e.Key, e.Value, &row); err != nil {
			return err
		}
		n, err := w.row(ctx, index.Objects, e, &row.Content, row.PartTable)
		if n > 0 {
			report(LostObject{Bucket: bucket, Key: key, VersionID: (&version{s: run.s, csn: csn, row: row}).id(), Chunks: n})
		}
		return err
	})
	if err != nil {
		return err
	}
	parts := map[string][]LostObject{} // by upload
	listed := 0
	err = run.s.scanTable(ctx, index.Parts, nil, nil, func(e index.Entry) error {
		step()
		id, number, err := index.ParsePartKey(e.Key)
		if err != nil {
			return err
		}
		var row partRow
		if err := decodeRow(index.Parts, e.Key, e.Value, &row); err != nil {
			return err
		}
		n, err := w.row(ctx, index.Parts, e, &row.Content, nil)
		if n > 0 && listed < listedMax {
			listed++
			parts[id] = append(parts[id], LostObject{UploadID: id, Part: number, Chunks: n})
		} else if n > 0 {
			run.r.LostTotal++
		}
		return err
	})
	if err != nil || len(parts) == 0 {
		return err
	}
	return run.s.scanTable(ctx, index.Uploads, nil, nil, func(e index.Entry) error {
		bucket, key, id, err := index.ParseUploadKey(e.Key)
		for _, o := range parts[id] {
			o.Bucket, o.Key = bucket, key
			report(o)
		}
		return err
	})
}

// A manifestWalk counts the lost chunks below manifests.
type manifestWalk struct {
	s       *Store
	lost    *lostSet
	known   map[index.ID]int64           // lost chunks below a list, of lists that were walked
	records map[erasure.SegmentID]uint32 // of segments that do not grow any more; nil: every chunk that is not in lost is taken for good
	bad     []index.ID                   // found by probing below the row in hand
}

// row counts the lost chunks of an object or part, whose row is e. A row that went while it was looked at has none: compaction may have
// taken its chunks.
func (w *manifestWalk) row(ctx context.Context, t index.Table, e index.Entry, c *content, partTable []byte) (n int64, err error) {
	w.bad = w.bad[:0]
	if c.Root != nil {
		if n, err = w.node(ctx, c.Root, 1); err != nil {
			return 0, err
		}
	}
	if len(partTable) == len(index.ID{}) {
		lost, err := w.chunk(ctx, ref{kind: refList, id: index.ID(partTable)})
		if err != nil {
			return 0, err
		}
		if lost {
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	there := false
	err = w.s.view(func(v *index.View) error {
		now, ok, err := v.Get(t, e.Key)
		there = ok && now.Rev == e.Rev
		return err
	})
	if err != nil || !there {
		return 0, err
	}
	for _, id := range w.bad {
		w.lost.add(id)
	}
	return n, nil
}

// chunk tells whether a chunk that a manifest names is lost.
func (w *manifestWalk) chunk(ctx context.Context, r ref) (lost bool, err error) {
	if w.lost.named(r.id) {
		return true, nil
	}
	if w.records == nil {
		return false, nil
	}
	c, ok, err := w.s.chunks.LookupChunk(r.id)
	if err != nil {
		return false, w.s.indexError(err)
	}
	l := erasure.Location(c.Location)
	records, settled := w.records[l.Segment()]
	if ok && w.s.log.IsLive(l.Segment()) && (!settled || l.Ordinal() < records) && (r.kind != refChunk || int64(c.Size) == r.size) {
		return false, nil
	}
	var stored, opened []byte
	_, err = w.s.fetchChunk(ctx, r, &stored, &opened) // compaction may just have moved it
	return w.outcome(ctx, r.id, err)
}

// outcome tells whether an error means that a chunk is lost.
func (w *manifestWalk) outcome(ctx context.Context, id index.ID, err error) (lost bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case isCorruptIndex(err):
		return false, err
	case errors.Is(err, ErrCorrupt):
		if len(w.bad) < lostChunksMax {
			w.bad = append(w.bad, id)
		}
		return true, nil
	default:
		w.lost.unknown++
		return false, nil
	}
}

// node counts the lost chunks below a node. One that cannot be read as a node counts as one lost chunk.
func (w *manifestWalk) node(ctx context.Context, node []byte, depth int) (lost int64, err error) {
	_, refs, err := decodeNode(node)
	if err != nil || depth > nodeLevelsMax {
		return 1, nil //nolint:nilerr // it is damage, and counted
	}
	for _, r := range refs {
		if r.kind == refZero {
			continue
		}
		n := int64(0)
		bad, err := w.chunk(ctx, r)
		switch {
		case err != nil:
			return lost, err
		case bad:
			n = 1
		case r.kind == refList:
			if n, err = w.list(ctx, r, depth); err != nil {
				return lost, err
			}
		}
		lost += n
	}
	return lost, nil
}

func (w *manifestWalk) list(ctx context.Context, r ref, depth int) (int64, error) {
	if n, ok := w.known[r.id]; ok {
		return n, nil
	}
	b, err := w.s.readChunk(ctx, r, false)
	if err != nil {
		bad, err := w.outcome(ctx, r.id, err)
		if bad {
			return 1, err
		}
		return 0, err
	}
	n, err := w.node(ctx, b, depth+1)
	if err != nil {
		return 0, err
	}
	if n > 0 && w.records != nil {
		return n, nil // it may be of a row that is going
	}
	if len(w.known) >= listsKnownMax {
		clear(w.known)
	}
	w.known[r.id] = n
	return n, nil
}

// Rows and bytes that scanTable reads in one view.
const (
	scanRows  = 256
	scanBytes = 4 << 20
)

// scanTable calls fn with the rows of a range, in order. It reads them in many short views, none of which is open while fn runs, so it
// may see a row that was written behind an earlier one.
func (s *Store) scanTable(ctx context.Context, t index.Table, lo, hi []byte, fn func(index.Entry) error) error {
	batch := make([]index.Entry, 0, scanRows)
	for more := true; more; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		batch, more = batch[:0], false
		err := s.view(func(v *index.View) error {
			it := v.Iter(t, lo, hi)
			defer it.Close()
			for bytes := 0; it.Next(); {
				if len(batch) == scanRows || bytes > scanBytes {
					more = true
					return nil
				}
				batch = append(batch, it.Entry())
				bytes += len(it.Entry().Key) + len(it.Entry().Value)
			}
			return it.Err()
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", t, err)
		}
		if more {
			lo = append(slices.Clone(batch[len(batch)-1].Key), 0) // the next possible key
		}
		for _, e := range batch {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}
