package erasure

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// The kinds of damage that a scrub finds.
const (
	FindingMissingFile = "missing-file" // no present directory holds the shard file
	FindingShortFile   = "short-file"   // the shard file ends too early
	FindingHeader      = "header"       // a shard without a valid header
	FindingIdentity    = "identity"     // a valid shard that belongs elsewhere: of another store, segment, nonce, shard or stripe
	FindingChecksum    = "checksum"     // shard data or padding is not what was written
	FindingParity      = "parity"       // a shard that verifies but does not fit the others of its stripe
	FindingDirectory   = "directory"    // the directory stripes of a sealed segment say what cannot be, or are beyond repair
	FindingFooter      = "footer"       // the footer is bad, or not the end of the file
	FindingUnreadable  = "unreadable"   // the directory is offline or gives an error: what it holds is not known
	FindingLostStripe  = "lost-stripe"  // fewer than k shards of a stripe verify
)

var findingKinds = []string{FindingMissingFile, FindingShortFile, FindingHeader, FindingIdentity, FindingChecksum, FindingParity, FindingDirectory,
	FindingFooter, FindingUnreadable, FindingLostStripe}

// ScrubOptions say what a scrub does with a segment.
type ScrubOptions struct {
	// Repair rebuilds and rewrites what is bad or missing. It needs a log that was recovered; before, damage is only reported.
	Repair bool
	// Throttle is called before each read with the bytes that it will read over all directories. Its error ends the scrub.
	Throttle func(ctx context.Context, bytes int) error
	// Record is called for every record of every committed stripe that could be had, in order. Label and body are valid
	// during the call. Its error ends the scrub.
	Record func(p Placed, body []byte) error
	// Finding is called for every damage found, when it is known whether it was repaired.
	Finding func(Finding)
}

// A Finding is one damage.
type Finding struct {
	Dir      string // path of the data directory; empty when no present one is concerned
	File     string // name of the shard file; empty for a stripe as a whole
	Segment  SegmentID
	Stripe   uint32 // number in the segment; 0 for a file as a whole
	Shard    int    // -1 for a stripe as a whole
	Offset   int64  // in the shard file, bytes
	Kind     string // one of the constants
	Detail   string
	Repaired bool     // rewritten, synced, and read back
	Lost     bool     // beyond repair, whichever directory comes back
	Records  []Placed // when Lost: what the stripe held, as far as the segment's directory or its record table tells; some may still be read one by one
}

// ScrubResult sums up a scrub.
type ScrubResult struct {
	Stripes        int64            // directory stripes included
	Records        int64            // that verify
	BytesRead      map[string]int64 // by the path of the data directory
	ShardsBad      int64            // bad, missing or unreadable
	ShardsRepaired int64
	StripesLost    int64 // beyond repair, directory stripes not counted: these hold no records
	FilesRebuilt   int64 // shard files that were missing
}

// ScrubSegment reads every shard, parity too, of every committed stripe of a segment past the page cache, and checks headers
// against what is known of segment and stripe, checksums, parity, records, and, when the segment is sealed, directory
// stripes, footers and file lengths. Of an open segment these are the stripes that were durable when it began.
//
// With Repair, a bad shard is rewritten in place, and a missing shard file is written anew to a directory that holds no other
// shard of the segment. Both are synced and read back past the page cache; a new file gets its name only then. Nothing is
// rewritten that k valid shards do not prove, and nothing is deleted but the second copy of a shard file, see ResolveDuplicate. A file of an open segment is not written anew.
//
// It runs beside reads, commits and seals and takes no lock of theirs; scrubs of one segment wait for each other. In memory
// are one stripe with its parity, its payload, and one directory stripe. Damage is no error. Errors are ErrNotFound, also when the segment is dropped meanwhile,
// ErrUnavailable when no shard file tells who the segment is, ErrClosed, and those of the context, Throttle and Record.
func (l *Log) ScrubSegment(ctx context.Context, id SegmentID, o ScrubOptions) (ScrubResult, error) {
	if l.closed.Load() {
		return ScrubResult{}, ErrClosed
	}
	if err := l.surveyAll(ctx); err != nil {
		return ScrubResult{}, err
	}
	if err := l.scrubs.lock(ctx, id); err != nil {
		return ScrubResult{}, err
	}
	defer l.scrubs.unlock(id)
	s := l.use(id)
	if s == nil {
		return ScrubResult{}, fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(id))
	}
	defer s.gate.leave()
	if !s.known && l.hasEnd(s) && l.goal(s) == 0 {
		for _, d := range l.dirs() {
			d.trust(id)
		}
		return ScrubResult{}, nil // it never took a stripe
	}
	if !s.known {
		return ScrubResult{}, fmt.Errorf("%w: segment %016x", ErrUnavailable, uint64(id))
	}
	if o.Repair && l.recovered.Load() {
		if err := l.resolveAll(ctx, s, MoveOptions{Throttle: o.Throttle}); err != nil {
			return ScrubResult{}, err
		}
	}
	c := l.newScrubber(s, o)
	defer c.close()
	if c.view.count == 0 && !c.view.sealed && c.goal == 0 {
		if !c.view.open {
			for _, d := range l.dirs() {
				d.trust(id)
			}
		}
		return c.res, nil
	}
	c.open(ctx)
	c.begin(ctx)
	err := c.scan(ctx)
	c.flush()
	if err == nil {
		c.publish()
		c.reportFiles()
		c.verified()
	}
	if c.findings > 0 {
		l.log.LogAttrs(ctx, slog.LevelWarn, "segment is damaged", slog.Uint64("segment", uint64(id)), slog.Int64("findings", c.findings), slog.Int64("shards_bad", c.res.ShardsBad),
			slog.Int64("shards_repaired", c.res.ShardsRepaired), slog.Int64("files_rebuilt", c.res.FilesRebuilt), slog.Int64("stripes_lost", c.res.StripesLost))
	}
	return c.res, err
}

// A scrubber is one scrub of one segment.
type scrubber struct {
	l        *Log
	s        *segment
	o        ScrubOptions
	repair   bool
	res      ScrubResult
	findings int64
	view     segmentView
	goal     uint32 // stripes that count
	files    []scrubFile

	prev      id16 // digest of the stripe before the next one
	next      uint32
	chained   bool // prev is known
	gap       bool // some stripe could not be rebuilt
	dirDigest *id16
	dirGap    bool // the directory stripe before the next one is lost
	dirBad    bool // some directory stripe is beyond repair

	writes     []shardWrite // that are not synced and read back
	writeBytes int64
}

// A segmentView is what was known of a segment when its scrub began.
type segmentView struct {
	open, sealed bool
	stripes      []stripeInfo
	tables       [][]byte
	count        uint32
	foot         footer // of a sealed segment, but for dirDigest
}

func (l *Log) newScrubber(s *segment, o ScrubOptions) *scrubber {
	c := &scrubber{l: l, s: s, o: o, repair: o.Repair && l.recovered.Load(), chained: true, files: make([]scrubFile, s.n()),
		res: ScrubResult{BytesRead: map[string]int64{}}}
	goal := l.goal(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.view = segmentView{open: s.open, sealed: s.sealed, stripes: s.stripes[:len(s.stripes):len(s.stripes)], tables: s.tables[:len(s.tables):len(s.tables)], count: s.count,
		foot: footer{class: s.class, k: uint8(s.k), m: uint8(s.m), store: l.store, segment: s.id, nonce: s.nonce, stripes: s.count, records: s.records,
			payload: s.payload, stored: s.stored, firstSeq: s.firstSeq, lastSeq: s.lastSeq, digest: s.digest, dirBlock: s.dirBlock, dirStripes: s.dirStripes}}
	c.goal = s.count
	if !s.open && !s.sealed {
		c.goal = max(goal, s.count)
	}
	return c
}

// scan goes through the segment.
func (c *scrubber) scan(ctx context.Context) error {
	if !c.view.sealed {
		for i, st := range c.view.stripes {
			e := dirEntry{stripeInfo: st}
			if i < len(c.view.tables) {
				e.tableBytes = c.view.tables[i]
			}
			if err := c.entry(ctx, e); err != nil {
				return err
			}
		}
		c.lostUpTo(c.goal)
		return ctx.Err()
	}
	block := c.view.foot.dirBlock
	for range c.view.foot.dirStripes {
		entries, end, err := c.l.readDirectory(ctx, c.s, block)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // that it is damaged is found below
			if err := c.walked(ctx); err != nil {
				return err
			}
			break
		}
		block = end
		for _, e := range entries {
			if err := c.entry(ctx, e); err != nil {
				return err
			}
		}
	}
	c.lostUpTo(c.goal)
	if err := c.directory(ctx); err != nil {
		return err
	}
	return c.footers(ctx)
}

// walked checks the stripes from c.next on, found by their headers.
func (c *scrubber) walked(ctx context.Context) error {
	w, err := c.l.walk(ctx, c.s, c.goal, true)
	if err != nil {
		return err
	}
	for _, st := range w.stripes {
		if st.number >= c.next {
			if err := c.entry(ctx, dirEntry{stripeInfo: st}); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry checks a stripe and reports those before it that were not found.
func (c *scrubber) entry(ctx context.Context, e dirEntry) error {
	c.lostUpTo(e.number)
	err := c.stripe(ctx, e, false)
	c.next, c.prev, c.chained = e.number+1, e.digest, true
	return err
}

// lostUpTo reports the stripes from c.next up to number, of which not even k headers were found.
func (c *scrubber) lostUpTo(number uint32) {
	for ; c.next < number; c.next++ {
		c.chained, c.gap = false, true
		c.lost(Finding{Stripe: c.next, Lost: c.complete(), Detail: "fewer than k headers of it can be found"})
	}
}

// complete tells whether nothing is unknown: every shard file can be read or is proven to be missing.
func (c *scrubber) complete() bool {
	for i := range c.files {
		f := &c.files[i]
		if !f.readable() && (!f.missing || f.absent && c.l.outOfService() > 0) {
			return false
		}
	}
	return true
}

// lost reports a stripe as a whole.
func (c *scrubber) lost(f Finding) {
	f.Kind, f.Shard, f.Segment = FindingLostStripe, -1, c.s.id
	if f.Lost {
		c.res.StripesLost++
		c.l.metrics.corrupt.Inc()
	}
	c.report(f)
}

func (c *scrubber) report(f Finding) {
	c.l.metrics.findings.WithLabelValues(f.Kind).Inc()
	level := slog.LevelDebug // of a bad file there is one for each stripe; the end of the scrub sums up
	if f.Lost {
		level = slog.LevelError
	}
	c.findings++
	c.l.log.LogAttrs(context.Background(), level, "scrub found damage", slog.Uint64("segment", uint64(f.Segment)), slog.String("dir", f.Dir), slog.String("file", f.File),
		slog.Uint64("stripe", uint64(f.Stripe)), slog.Int64("offset", f.Offset), slog.String("kind", f.Kind), slog.String("detail", f.Detail), slog.Bool("repaired", f.Repaired))
	if c.o.Finding != nil {
		c.o.Finding(f)
	}
}

// shardFinding begins a finding about one shard file.
func (c *scrubber) shardFinding(shard int, kind, detail string) Finding {
	f := Finding{Segment: c.s.id, Shard: shard, File: shardName(c.s.id, c.s.class, shard), Kind: kind, Detail: detail}
	if d := c.files[shard].d; d != nil {
		f.Dir = d.path
	}
	return f
}

// scrubLocks let one scrub at a time into a segment.
type scrubLocks struct {
	mu   sync.Mutex
	busy map[SegmentID]chan struct{} // closed when the scrub ends
}

func (k *scrubLocks) lock(ctx context.Context, id SegmentID) error {
	for {
		k.mu.Lock()
		ch := k.busy[id]
		if ch == nil {
			if k.busy == nil {
				k.busy = map[SegmentID]chan struct{}{}
			}
			k.busy[id] = make(chan struct{})
			k.mu.Unlock()
			return nil
		}
		k.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *scrubLocks) unlock(id SegmentID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.busy[id])
	delete(k.busy, id)
}

// Damaged returns the segments with shard files that no present directory holds although one that is online could take them
// and enough others are there to rebuild them from, the newest first. Open segments are not among them.
func (l *Log) Damaged() []SegmentID {
	online := l.candidates()
	var ids []SegmentID
	for _, s := range slices.Backward(l.liveSegments()) {
		s.mu.Lock()
		skip := s.open || !s.sealed && s.count == 0
		s.mu.Unlock()
		if skip || !s.known || s.absent() == 0 || s.absent() > s.m {
			continue
		}
		if slices.ContainsFunc(online, func(d *dir) bool { return !s.holds(d) }) {
			ids = append(ids, s.id)
		}
	}
	return ids
}

// suspectsMax bounds the segments that TakeSuspects remembers. The next scrub finds the others.
const suspectsMax = 1 << 16

// A suspectSet holds segments in which a read found damage.
type suspectSet struct {
	mu  sync.Mutex
	ids map[SegmentID]struct{}
}

func (q *suspectSet) add(id SegmentID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ids == nil {
		q.ids = map[SegmentID]struct{}{}
	}
	if len(q.ids) < suspectsMax {
		q.ids[id] = struct{}{}
	}
}

func (q *suspectSet) remove(ids []SegmentID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		delete(q.ids, id)
	}
}

// TakeSuspects returns, by number, the segments in which a read since the last call found a shard bad on a directory that
// is present, or Open a shard file that is older than its segment; at most 65,536 of them. A scrub with Repair heals them.
func (l *Log) TakeSuspects() []SegmentID {
	l.suspects.mu.Lock()
	defer l.suspects.mu.Unlock()
	var ids []SegmentID
	for id := range l.suspects.ids {
		ids = append(ids, id)
	}
	l.suspects.ids = nil
	slices.Sort(ids)
	return ids
}
