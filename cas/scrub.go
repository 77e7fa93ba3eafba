package cas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/casd/casd/erasure"
)

// Kinds of findings from above the log; see the constants of erasure for the others.
const (
	findingChunk    = "chunk"    // a record that verifies, but its chunk does not decode, or not hash to its ID
	findingMutation = "mutation" // a record that verifies, but is no mutation that this version reads
	findingManifest = "manifest" // a manifest names what does not exist
	findingIndex    = "index"    // the index is not what the log says
)

// Scrub reads the whole store past the page cache and repairs what it can. The receipt is durable when it returns, unless its Reason
// says why not. Damage is no error. When ctx ends, the receipt of what was done so far comes with its cause. Errors: ErrConflict while another one runs.
//
// Segments with known damage come first, the newest before the others. It gives way to clients: see pacer.
func (s *Store) Scrub(ctx context.Context, req ScrubRequest) (Receipt, error) {
	level := req.Level
	switch level {
	case "":
		level = ScrubChunks
	case ScrubShards, ScrubChunks, ScrubDeep:
	default:
		return Receipt{}, fmt.Errorf("cas: there is no scrub level %q", level)
	}
	if req.Rate < 0 {
		return Receipt{}, fmt.Errorf("cas: a scrub rate of %d bytes a second", req.Rate)
	}
	op, ctx, err := s.beginOperation(ctx, "scrub", "")
	if err != nil {
		return Receipt{}, err
	}
	defer op.end()
	op.tell = req.Progress
	r := s.newReceipt(level, !req.NoRepair, false)
	run := s.newScrubRun(&r, &pacer{rate: req.Rate, busy: s.clientsBusy})
	run.op = op
	err = run.all(ctx)
	run.finish(err)
	s.keepReceipt(context.WithoutCancel(ctx), &r)
	if cause := context.Cause(ctx); cause != nil {
		return r, fmt.Errorf("scrub: %w", cause)
	}
	return r, err
}

// A scrubRun is a scrub of many segments that becomes one receipt. It is used by one goroutine.
type scrubRun struct {
	s     *Store
	r     *Receipt
	list  findingList
	pace  *pacer
	op    *operation // nil: nobody watches
	total int64      // bytes of all shard files of the segments to be read
	base  int64      // of those that are done
	read  int64      // of the current one
	yield func() error

	lossy     map[erasure.SegmentID]*ordinals // segments with stripes or records beyond repair, and what of them was good
	spare     int                             // bytes that more of these may take
	mutations int64                           // beyond repair
	covered   uint64                          // mutations up to it are in as many snapshots as are kept
	blind     bool                            // something is beyond repair and nothing tells what it held
	lost      lostSet
	// uncompared is why index and log could not be compared, if they should have been.
	uncompared error
	plain      []byte
	current    *segmentRun
}

// A segmentRun is what a scrubRun notes of the segment in hand.
type segmentRun struct {
	good      ordinals
	lossy     bool
	mutations []erasure.Placed // in stripes that are beyond repair
	more      int64            // of these, not listed
}

const (
	// ordinalsBytesMax bounds what is remembered of the good records in segments with loss. Past it every chunk of such a segment is
	// read once more to tell which are lost.
	ordinalsBytesMax = 32 << 20
	// lostMutationsMax bounds the mutations of one segment that are looked at one by one.
	lostMutationsMax = 1 << 12
)

func (s *Store) newScrubRun(r *Receipt, pace *pacer) *scrubRun {
	return &scrubRun{s: s, r: r, pace: pace, lossy: map[erasure.SegmentID]*ordinals{}, spare: ordinalsBytesMax}
}

// all scrubs every live segment and what lies above.
func (run *scrubRun) all(ctx context.Context) error {
	s := run.s
	infos, err := s.scrubbable()
	if err != nil {
		return err
	}
	first := s.log.Damaged()
	if run.r.Repair {
		first = append(first, s.log.TakeSuspects()...)
	}
	size := map[erasure.SegmentID]int64{}
	for _, info := range infos {
		size[info.ID] = info.StoredBytes
		run.total += info.StoredBytes
	}
	slices.SortFunc(infos, func(a, b erasure.SegmentInfo) int {
		ad, bd := slices.Contains(first, a.ID), slices.Contains(first, b.ID)
		switch {
		case ad != bd && ad:
			return -1
		case ad != bd:
			return 1
		case ad:
			return int(int64(b.ID) - int64(a.ID))
		default:
			return int(int64(a.ID) - int64(b.ID))
		}
	})
	run.progress(0)
	for _, info := range infos {
		if err := run.segment(ctx, info.ID); err != nil {
			return err
		}
		run.base += size[info.ID]
		run.read = 0
		run.progress(0)
	}
	return run.above(ctx)
}

// above looks at what lies over the segments, when all of them were read.
func (run *scrubRun) above(ctx context.Context) error {
	if err := run.findChunks(ctx); err != nil {
		return err
	}
	deep := run.r.Level == ScrubDeep
	if deep {
		if err := run.compare(ctx); err != nil {
			return err
		}
	}
	return run.trace(ctx, deep)
}

// compare compares index and log. It waits until compaction lets it.
func (run *scrubRun) compare(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		op, sub, err := run.s.beginOperation(ctx, "check", "gc")
		if err == nil {
			defer op.end()
			rep, lost, err := run.s.check(sub, run.op, run.pace, false)
			if errors.Is(err, ErrIncomplete) { // manifests are walked all the same
				run.uncompared = err
				return nil
			}
			if err != nil {
				return err
			}
			for _, d := range rep.Differences {
				run.add(Finding{Kind: findingIndex, Detail: d})
			}
			more := rep.DifferencesTotal - int64(len(rep.Differences))
			run.list.total += more
			run.list.unmended += more
			for id := range lost.ids {
				run.lost.add(id)
			}
			run.lost.unknown += lost.unknown
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if run.op != nil {
			run.op.progress("waiting for gc", 0, 0, "items")
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// scrubbable are the live segments without snapshots that the catalog does not name: one is being written now, or was given up when a
// directory failed and came back with that directory. Nothing rests on them, and the next cycle of GC drops them.
func (s *Store) scrubbable() ([]erasure.SegmentInfo, error) {
	infos := s.log.Segments() // first: a snapshot is named later than it is there
	rows, err := s.snapshots()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(infos, func(info erasure.SegmentInfo) bool {
		return info.Class == erasure.Snapshot && !slices.ContainsFunc(rows, func(r snapshotRow) bool { return r.Segment == uint64(info.ID) })
	}), nil
}

func (run *scrubRun) progress(n int) {
	run.read += int64(n)
	if run.op != nil {
		run.op.progress("read", min(run.base+run.read, run.total), run.total, "bytes")
	}
}

func (run *scrubRun) throttle(ctx context.Context, n int) error {
	if run.yield != nil {
		if err := run.yield(); err != nil {
			return err
		}
	}
	run.progress(n)
	return run.pace.wait(ctx, n)
}

// segment scrubs one segment. A segment that is gone, or out of reach, is no error.
func (run *scrubRun) segment(ctx context.Context, id erasure.SegmentID) error {
	cur := &segmentRun{}
	run.current = cur
	snapshots, err := run.s.snapshots()
	if err != nil {
		return err
	}
	run.covered = coveredBy(snapshots)
	res, err := run.s.log.ScrubSegment(ctx, id, erasure.ScrubOptions{
		Repair: run.r.Repair, Throttle: run.throttle, Record: run.record, Finding: run.finding,
	})
	r := run.r
	r.Stripes += res.Stripes
	r.Records += res.Records
	r.ShardsBad += res.ShardsBad
	r.ShardsRepaired += res.ShardsRepaired
	r.StripesLost += res.StripesLost
	r.FilesRebuilt += res.FilesRebuilt
	for dir, n := range res.BytesRead {
		r.BytesRead[dir] += n
	}
	if cur.lossy {
		run.noteLoss(id, cur)
		run.lostMutations(ctx, id, cur)
	}
	switch {
	case err == nil:
		r.Segments++
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, erasure.ErrNotFound): // compaction was faster
		return nil
	case errors.Is(err, erasure.ErrUnavailable):
		run.add(Finding{Segment: uint64(id), Kind: erasure.FindingUnreadable, Detail: err.Error()})
		return nil
	default:
		return fmt.Errorf("segment %016x: %w", uint64(id), err)
	}
}

func (run *scrubRun) add(f Finding) { run.list.add(f) }

// finding takes what the log found.
func (run *scrubRun) finding(f erasure.Finding) {
	out := Finding{Dir: f.Dir, File: f.File, Segment: uint64(f.Segment), Stripe: f.Stripe, Offset: f.Offset, Kind: f.Kind, Detail: f.Detail,
		Repaired: f.Repaired, Lost: f.Lost}
	if f.Kind == erasure.FindingDirectory {
		// A directory stripe holds no records: what it lists is found by the headers. It goes when the segment is compacted.
		out.Lost = false
	}
	if out.Lost {
		chunks, mutations := 0, 0
		run.current.lossy = true
		for _, p := range f.Records {
			switch p.Kind {
			case kindChunk, kindList:
				chunks++
			case kindMutation:
				mutations++
				if len(run.current.mutations) < lostMutationsMax {
					p.Label = slices.Clone(p.Label)
					run.current.mutations = append(run.current.mutations, p)
				} else {
					run.current.more++
				}
			}
		}
		if len(f.Records) > 0 {
			out.Detail += fmt.Sprintf("; it held %d chunks and %d mutations", chunks, mutations)
		} else {
			run.blind = true
			out.Detail += "; nothing tells what it held"
		}
	}
	run.add(out)
}

// record proves the content of a record whose frame verifies. The log's errors are its own; only the store's end ends the scrub.
func (run *scrubRun) record(p erasure.Placed, body []byte) error {
	err := error(nil)
	kind := findingChunk
	if run.r.Level != ScrubShards {
		switch p.Kind {
		case kindChunk, kindList:
			run.r.Chunks++
			err = run.chunk(p, body)
		case kindMutation:
			kind = findingMutation
			_, err = decodeMutation(p.Label, body)
		}
	}
	if err == nil {
		run.current.good.add(p.Location.Ordinal())
		return nil
	}
	f := Finding{Segment: uint64(p.Location.Segment()), Kind: kind, Detail: fmt.Sprintf("record %d: %v", p.Location.Ordinal(), err)}
	switch needed, err := run.needed(p); {
	case err != nil:
		return err
	case needed:
		f.Lost, run.current.lossy = true, true
		if p.Kind == kindMutation {
			run.mutations++
		}
	default:
		f.Detail += "; nothing rests on this copy"
	}
	run.add(f)
	return nil
}

// chunk decodes a chunk record and compares it with its ID.
func (run *scrubRun) chunk(p erasure.Placed, body []byte) error {
	l, err := decodeChunkLabel(p.Label)
	if err != nil {
		return err
	}
	if l.domain != run.s.domain.number {
		return fmt.Errorf("dedup domain %d is unknown: %w", l.domain, ErrCorrupt)
	}
	plain, err := run.s.codec.decode(l.enc, body, l.size, run.plain[:0])
	if err != nil {
		return err
	}
	if l.enc != encPlain {
		run.plain = plain
	}
	if run.s.domain.hash.id(plain) != l.id {
		return fmt.Errorf("its bytes do not hash to its ID: %w", ErrCorrupt)
	}
	return nil
}

// needed tells whether a record is the one that the chunk map has of its chunk, or a mutation that no snapshot covers.
func (run *scrubRun) needed(p erasure.Placed) (bool, error) {
	if p.Kind == kindMutation {
		return mutationCSN(p.Label) > run.covered, nil
	}
	l, err := decodeChunkLabel(p.Label)
	if err != nil {
		return true, nil //nolint:nilerr // nobody knows which chunk it was
	}
	c, ok, err := run.s.chunks.LookupChunk(l.id)
	if err != nil {
		return false, run.s.indexError(err)
	}
	return ok && c.Location == p.Location, nil
}

// noteLoss remembers what was good in a segment with loss.
func (run *scrubRun) noteLoss(id erasure.SegmentID, cur *segmentRun) {
	run.lossy[id] = nil
	if n := cur.good.bytes(); n <= run.spare {
		run.spare -= n
		run.lossy[id] = &cur.good
	}
}

// lostMutations tells which mutations of stripes beyond repair cannot be read one by one either.
func (run *scrubRun) lostMutations(ctx context.Context, id erasure.SegmentID, cur *segmentRun) {
	run.mutations += cur.more
	for _, p := range cur.mutations {
		body, err := run.s.log.Read(ctx, p.Location, nil)
		if err == nil {
			_, err = decodeMutation(p.Label, body)
		}
		if err == nil || ctx.Err() != nil || mutationCSN(p.Label) <= run.covered {
			continue
		}
		run.mutations++
		run.s.opts.Logger.LogAttrs(ctx, slog.LevelError, "a mutation is lost in the log; the index still has what it did", slog.Uint64("segment", uint64(id)),
			slog.Uint64("csn", mutationCSN(p.Label)), slog.Any("error", err))
	}
}

// finish says how the scrub went.
func (run *scrubRun) finish(err error) {
	r := run.r
	r.Ended = run.s.opts.Clock().UTC()
	r.Findings, r.FindingsTotal = run.list.findings, run.list.total
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	r.LostChunks = run.lost.total
	if run.mutations > 0 {
		r.addReason(fmt.Sprintf("%d mutations are lost in the log; the index still has what they did, keep it", run.mutations))
	}
	r.Complete = err == nil && run.list.unreadable == 0 && run.lost.unknown == 0
	switch {
	case err != nil:
		r.addReason("it ended early: " + err.Error())
	case run.list.unreadable > 0:
		r.addReason("some of it could not be read")
	case run.lost.unknown > 0:
		r.addReason(fmt.Sprintf("%d chunks are out of reach", run.lost.unknown))
	}
	if run.uncompared != nil {
		r.Complete = false
		r.addReason("index and log were not compared: " + run.uncompared.Error())
	}
	if run.lost.more > 0 {
		r.Complete = false
		r.addReason(fmt.Sprintf("%d more chunks are lost, or in segments that are not there, and were not traced to objects", run.lost.more))
	}
	switch {
	case r.LostTotal > 0 || run.mutations > 0 || run.blind || run.lost.total > 0 && run.lost.more > 0:
		r.Outcome = OutcomeLost
	case run.list.unmended+run.list.lost+run.list.unreadable+run.lost.unknown+run.lost.total > 0:
		r.Outcome = OutcomeDamaged
	case run.list.total > 0:
		r.Outcome = OutcomeRepaired
	default:
		r.Outcome = OutcomeWhole
	}
	level := slog.LevelInfo
	if r.Outcome == OutcomeLost || r.Outcome == OutcomeDamaged {
		level = slog.LevelError
	}
	run.s.opts.Logger.LogAttrs(context.Background(), level, "scrub ended", slog.String("receipt", r.ID), slog.String("outcome", r.Outcome), slog.Bool("complete", r.Complete),
		slog.Bool("background", r.Background), slog.Int64("segments", r.Segments), slog.Int64("findings", r.FindingsTotal), slog.Int64("shards_repaired", r.ShardsRepaired),
		slog.Int64("files_rebuilt", r.FilesRebuilt), slog.Int64("lost_chunks", r.LostChunks), slog.Int64("lost_objects", r.LostTotal))
}

// ordinals is a set of numbers of records in a segment.
type ordinals struct{ words []uint64 }

func (o *ordinals) add(n uint32) {
	w := int(n / 64)
	for len(o.words) <= w {
		o.words = append(o.words, 0)
	}
	o.words[w] |= 1 << (n % 64)
}

func (o *ordinals) has(n uint32) bool {
	return o != nil && int(n/64) < len(o.words) && o.words[n/64]&(1<<(n%64)) != 0
}

func (o *ordinals) bytes() int { return 8 * cap(o.words) }
