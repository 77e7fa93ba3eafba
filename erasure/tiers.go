package erasure

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// A Tier says for what space is asked. When room gets scarce, uploads stop first, then deletes and what else the store writes
// of itself, and last what compaction copies to get space back. Dropping takes none.
//
// Each tier leaves some bytes of every file system free, its floor. Whoever appends is asked once, by Append, Commit and Room.
// What was let in finds a place down to the floor of compaction, but only when the directories above a higher floor are too few:
// it is bounded by the open stripes and the floating records, which lie between the floors.
type Tier uint8

const (
	TierUpload  Tier = iota // what clients store
	TierDelete              // what clients remove; verdicts, snapshots, receipts
	TierCompact             // copies of live records, so that segments can be dropped

	tiers = 3
)

// String names the tier.
func (t Tier) String() string {
	switch t {
	case TierUpload:
		return "upload"
	case TierDelete:
		return "delete"
	default:
		return "compact"
	}
}

const (
	sealReserveBytes       = 4 << 20        // for directory stripes, footers and the file system's own
	checkpointReserveBytes = 64 << 20       // for a checkpoint of the index
	deleteReserveSegments  = 8              // metadata segments that deletes may fill
	admissionBytes         = 4 * blockBytes // in each directory, for a commit of a few records
)

// Floors are at most these parts of a file system, in per cent, so that small disks can be used too.
var floorMaxPercent = [tiers]int64{TierUpload: 5, TierDelete: 3, TierCompact: 1}

// floor is how many bytes a tier leaves free in a file system of total bytes. Compaction has two data segments' shares and a
// checkpoint of the index to itself, deletes some metadata segments more.
func (l *Log) floor(t Tier, total int64) int64 {
	k := int64(l.code().K)
	share := (l.opt.SegmentBytes + int64(l.opt.StripeBytes)) / k
	share += share / 32 // headers, padding, directory stripes
	n := int64(sealReserveBytes)
	if t < TierCompact {
		n += 2*share + l.opt.UnsyncedBytes/k + checkpointReserveBytes
	}
	if t < TierDelete {
		n += deleteReserveSegments*l.opt.MetadataSegmentBytes + checkpointReserveBytes
	}
	return min(n, total/100*floorMaxPercent[t])
}

// A spaceSeen is what is known of the room in a directory: asked now and then, and counted down in between.
type spaceSeen struct {
	mu          sync.Mutex
	known       bool
	free, total int64
	low         bool // too little for uploads
}

func (s *spaceSeen) get() (free, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.total
}

func (s *spaceSeen) tooLow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.low
}

// look asks a directory for its room.
func (l *Log) look(d *dir) {
	if !d.readable() {
		return
	}
	info, err := d.space()
	d.seen.mu.Lock()
	d.seen.known, d.seen.free, d.seen.total = err == nil, info.Free, info.Total
	d.seen.mu.Unlock()
	if err != nil {
		return
	}
	l.judgeSpace(d)
	if st, _ := d.status(); st == dirFull && info.Free >= max(fullFreeBytes, min(2*l.step(Data), info.Total/100)) {
		d.refreshFull()
	}
}

const (
	lookInterval = time.Second            // between two looks at the room in the directories
	lookAgain    = 100 * time.Millisecond // likewise, before somebody is refused
)

// lookAfter asks all directories when they were not asked for a while, and tells whether it did.
func (l *Log) lookAfter(interval time.Duration) bool {
	l.mu.Lock()
	look := time.Since(l.spaceLookup) > interval
	if look {
		l.spaceLookup = time.Now()
	}
	l.mu.Unlock()
	if look {
		l.lookAll()
	}
	return look
}

// lookAll asks all directories.
func (l *Log) lookAll() {
	var wg sync.WaitGroup
	for _, d := range l.dirs() {
		wg.Go(func() { l.look(d) })
	}
	wg.Wait()
}

// spend counts what was allocated in a directory.
func (l *Log) spend(d *dir, n int64) {
	d.seen.mu.Lock()
	d.seen.free -= n
	d.seen.mu.Unlock()
	l.judgeSpace(d)
}

// judgeSpace takes note whether a directory has room for uploads.
func (l *Log) judgeSpace(d *dir) {
	room := l.roomIn(d, TierUpload)
	need := l.admission(TierUpload, 0)(l.code().K)
	d.seen.mu.Lock()
	was, free := d.seen.low, d.seen.free
	d.seen.low = room < need
	d.seen.mu.Unlock()
	if room < need && !was {
		d.log.LogAttrs(context.Background(), slog.LevelWarn, "data directory is full", slog.String("dir", d.path), slog.Int64("free", free),
			slog.String("left", "what is kept for deletes and compaction"))
	}
}

// roomIn is how many bytes a tier may still take in a directory. One that was not asked yet has all the room there is.
func (l *Log) roomIn(d *dir, t Tier) int64 {
	d.seen.mu.Lock()
	known, free, total := d.seen.known, d.seen.free, d.seen.total
	d.seen.mu.Unlock()
	if !known {
		return math.MaxInt64
	}
	return free - l.floor(t, total)
}

// withRoom returns the directories that may take a segment in which a shard file takes need(k) bytes soon, as far as a tier goes; nil
// when they are too few.
func (l *Log) withRoom(t Tier, need func(k int) int64) []*dir {
	code, c := l.code(), l.takers()
	for k := code.K; ; {
		var roomy []*dir
		for _, d := range c {
			if l.roomIn(d, t) >= need(k) {
				roomy = append(roomy, d)
			}
		}
		if len(roomy) < code.M+1 {
			return nil
		}
		have := min(len(roomy), code.K+code.M) - code.M
		if have >= k {
			return roomy
		}
		k = have // fewer directories take more each
	}
}

// roomiest is withRoom for the first tier that has directories enough.
func (l *Log) roomiest(need func(k int) int64) []*dir {
	for t := range Tier(tiers) {
		if c := l.withRoom(t, need); c != nil {
			return c
		}
	}
	return nil
}

func needFor(bs []*builder) func(k int) int64 {
	return func(k int) int64 { return roundUp(storedFor(bs, k), blockBytes) }
}

// admission is what must be free before n bytes are let in. Uploads also leave room for the stripes of bulk that are not placed yet, and
// for floating records; the others come after them.
func (l *Log) admission(t Tier, n int) func(k int) int64 {
	if t == TierUpload {
		l.mu.Lock()
		n = max(n, 2*l.opt.StripeBytes) + l.floatBytes
		l.mu.Unlock()
	}
	return func(k int) int64 { return int64(n/k) + admissionBytes }
}

// Room returns nil when the log takes writes of a tier, else ErrNoSpace, ErrReadOnly, ErrClosed or an error that matches ErrUncertain.
func (l *Log) Room(t Tier) error { return l.admits(t, 0) }

// admits is Room for n bytes.
func (l *Log) admits(t Tier, n int) error {
	if err := l.stopped(); err != nil {
		return err
	}
	if err := l.membership(); err != nil {
		return err
	}
	if !l.recovered.Load() {
		return fmt.Errorf("%w: not recovered yet", ErrReadOnly)
	}
	need := l.admission(t, n)
	if l.withRoom(t, need) == nil && (!l.lookAfter(lookAgain) || l.withRoom(t, need) == nil) {
		if err := l.membership(); err != nil { // a directory went out of service meanwhile
			return err
		}
		return fmt.Errorf("%w for %s", ErrNoSpace, t)
	}
	return nil
}

// growth is how much longer the files of an open segment are made when they must be need bytes longer: by the step when that leaves
// the floor of uploads alone, else by no more than need. It is ErrNoSpace when a new segment on other directories should be
// taken, or nobody has room.
func (l *Log) growth(o *openSegment, bs []*builder, need int64) (int64, error) {
	step := l.step(o.class)
	room := func(t Tier) int64 {
		least := int64(math.MaxInt64)
		for _, d := range o.dirs {
			least = min(least, l.roomIn(d, t))
		}
		return least
	}
	more := roundUp(need, blockBytes)
	for t := range Tier(tiers) {
		switch r := room(t); {
		case t == TierUpload && r >= roundUp(need, step):
			return roundUp(need, step), nil
		case r >= more:
			return more, nil
		case l.withRoom(t, needFor(bs)) != nil:
			return 0, ErrNoSpace
		}
	}
	return 0, ErrNoSpace
}
