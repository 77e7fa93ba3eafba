package erasure

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Log is an open log. Its methods are safe for concurrent use, except where they say otherwise.
//
// Locks, in the order in which they are taken: members.changing, commitMu, openSegment.syncMu, dataMu, metaMu, placing, deliverMu,
// then any one of mu, segMu, members.mu, openSegment.mu, segment.mu. Of these only openSegment.mu is held while another one is
// taken: segment.mu.
// A scrub keeps its place in scrubs throughout, and takes segMu and segment.mu for a moment at a time, never across I/O.
type Log struct {
	opt         Options
	fs          FS
	log         *slog.Logger
	metrics     *metrics
	store       id16
	writer      id16
	created     bool
	joinedPaths sync.Map     // paths of the directories that were added since the log was opened
	parity      atomic.Int32 // smallest parity of the store's code and any live segment
	members     memberList
	holes       atomic.Bool  // some live segment lacks a shard file, as far as is known
	placing     sync.RWMutex // held for reading while directories are chosen for a new segment, until it is among segs
	codecs      codecs
	files       fileCache

	scrubs   scrubLocks
	suspects suspectSet

	duplicates duplicateSet

	segMu    sync.RWMutex
	segs     map[SegmentID]*segment
	maxID    SegmentID // highest segment number ever seen
	verdicts map[SegmentID]Verdict
	voids    voidSet
	retired  map[SegmentID]*segment // out of the live set, not dropped yet
	creating map[SegmentID]struct{} // numbers that were given to segments whose files are being made

	marksMu  sync.Mutex
	marks    map[SegmentID]uint32 // highest synced mark seen in any header
	markedID SegmentID            // highest segment in any mark
	seenSeq  uint64               // highest sequence in any header

	surveyMu sync.Mutex // one survey at a time; taken before everything else

	recovered  atomic.Bool     // writes may begin
	openMarks  [2]atomic.Value // mark of the open metadata and data segment, as headers carry it
	poison     atomic.Pointer[error]
	closed     atomic.Bool
	background sync.WaitGroup

	commitMu sync.Mutex
	retryDue bool // a Commit wrote mutations, failed, and asked for a retry; guarded by commitMu

	dataMu   sync.Mutex // guards data, retiring, bulk and pending
	data     *openSegment
	retiring []*openSegment // full, not yet synced to the end
	bulk     *builder       // the open bulk stripe
	pending  []*builder     // closed bulk stripes that wait for a segment
	pipe     chan pipeItem

	metaMu sync.Mutex // guards meta; held through a whole metadata commit
	meta   *openSegment

	mu          sync.Mutex // guards what follows
	seq         uint64     // last given
	inFlight    []*flight  // stripes with a sequence that are not delivered, in order
	position    Position
	unsynced    int64         // bytes of bulk records that are not durable
	room        chan struct{} // closed and replaced when unsynced shrinks or the log's state changes
	floating    []*record
	floatBytes  int
	untaken     []Verdict
	taken       []Verdict
	spaceLookup time.Time

	deliverMu sync.Mutex // one OnDurable at a time
	testPause func(where string)
	kick      chan struct{}
	stop      chan struct{}
}

// A flight is a stripe between the assignment of its sequence and its delivery.
type flight struct {
	pos  Position
	done bool
	void bool
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = OS
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 1<<30)
	o.MetadataSegmentBytes = cmp.Or(o.MetadataSegmentBytes, 16<<20)
	o.StripeBytes = cmp.Or(o.StripeBytes, 4<<20)
	o.UnsyncedBytes = cmp.Or(o.UnsyncedBytes, 64<<20)
	o.IOTimeout = cmp.Or(o.IOTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(o.Dirs) == 0:
		return o, fmt.Errorf("erasure: no data directory given")
	case o.StripeBytes < blockBytes || o.StripeBytes > 64<<20:
		return o, fmt.Errorf("erasure: stripe size %d is not between 4 KiB and 64 MiB", o.StripeBytes)
	case o.SegmentBytes < 1 || o.SegmentBytes > 1<<40, o.MetadataSegmentBytes < 1 || o.MetadataSegmentBytes > 1<<40:
		return o, fmt.Errorf("erasure: segment size is not between 1 and 2^40 bytes")
	case o.UnsyncedBytes < 0, o.IOTimeout < 0:
		return o, fmt.Errorf("erasure: negative bound")
	}
	return o, nil
}

func (l *Log) random() (id id16) {
	if _, err := io.ReadFull(l.opt.Rand, id[:]); err != nil {
		panic("erasure: no random numbers: " + err.Error())
	}
	return id
}

// StoreID returns the random identity of the store.
func (l *Log) StoreID() [16]byte { return l.store }

// Params returns the creation options of the layers above.
func (l *Log) Params() json.RawMessage { return l.members.get().Params }

// Creation returns the code that the store was created with.
func (l *Log) Creation() (k, m int) {
	form := l.members.get()
	return form.K, form.M
}

// Created tells whether this Open made the store.
func (l *Log) Created() bool { return l.created }

// Dirs describes every member directory, present or not.
func (l *Log) Dirs() []DirInfo {
	dirs, form := l.dirs(), l.members.get()
	shards, bytes := map[*dir]int{}, map[*dir]int64{}
	for _, s := range l.liveSegments() {
		_, n := s.extent()
		for i := range s.homes {
			if d := s.dirOf(i); d != nil {
				shards[d]++
				bytes[d] += n
			}
		}
	}
	infos := make([]DirInfo, 0, len(form.Members))
	for _, d := range dirs {
		l.look(d)
		st, reason := d.shown()
		info := DirInfo{Member: Member{ID: d.id, Path: d.path}, State: st, Reason: reason, Device: d.device, Shards: shards[d], Bytes: bytes[d]}
		if i := form.find(d.id); i >= 0 {
			info.Member.State = form.Members[i].State
		}
		if d.readable() {
			info.Free, info.Total = d.seen.get() // 0 when it cannot be asked
		}
		infos = append(infos, info)
	}
	for _, m := range form.Members {
		if m.State == StateJoining {
			infos = append(infos, DirInfo{Member: m, State: string(dirAbsent), Reason: "was not wholly added; add it again, or remove it"})
		}
	}
	return infos
}

// lookup returns a live segment, or nil.
func (l *Log) lookup(id SegmentID) *segment {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	return l.segs[id]
}

// liveSegments returns the live segments by number.
func (l *Log) liveSegments() []*segment {
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	segs := make([]*segment, 0, len(l.segs))
	for _, s := range l.segs {
		segs = append(segs, s)
	}
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.id, b.id) })
	return segs
}

// Segments describes the live segments by number. Of an open one it tells what is durable.
func (l *Log) Segments() []SegmentInfo {
	l.surveyAll(context.Background())
	segs := l.liveSegments()
	infos := make([]SegmentInfo, 0, len(segs))
	for _, s := range segs {
		s.mu.Lock()
		infos = append(infos, s.info())
		s.mu.Unlock()
	}
	return infos
}

// Stats are sums over the live segments.
type Stats struct {
	Segments     int
	Sealed       int
	PayloadBytes int64 // record tables and records, before parity and padding
	StoredBytes  int64 // on disk: headers, parity and padding included, preallocation not
	Records      int64
	Unsynced     int64 // bytes of bulk records that are not durable yet
}

// Stats sums up the live segments.
func (l *Log) Stats() Stats {
	var st Stats
	for _, s := range l.Segments() {
		st.Segments++
		if s.Sealed {
			st.Sealed++
		}
		st.PayloadBytes += s.PayloadBytes
		st.StoredBytes += s.StoredBytes
		st.Records += int64(s.Records)
	}
	l.mu.Lock()
	st.Unsynced = l.unsynced
	l.mu.Unlock()
	return st
}

// Position returns the low-water mark: every stripe with a sequence up to Seq is durable and was delivered (or was
// there when the log was opened, or is void).
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.position
}

// WriteState returns nil when the log takes writes of any tier, else ErrReadOnly, ErrNoSpace, ErrClosed or an error that matches ErrUncertain.
func (l *Log) WriteState() error {
	return l.Room(TierCompact)
}

// minParity is the smallest parity of the store's code and any live segment.
func (l *Log) minParity() int { return int(l.parity.Load()) }

// takers returns the directories that take new segments: the candidates, or, when these are too few, those that are being drained too.
// Writing goes before draining.
func (l *Log) takers() []*dir {
	c := l.candidates()
	if len(c) >= l.code().M+1 {
		return c
	}
	for _, d := range l.dirs() {
		if st, _ := d.status(); st == dirOnline && !d.closing.Load() && !slices.Contains(c, d) {
			c = append(c, d)
		}
	}
	return c
}

// candidates returns the directories that may take new shard files.
func (l *Log) candidates() []*dir {
	l.lookAfter(lookInterval)
	var c []*dir
	for _, d := range l.dirs() {
		if st, _ := d.status(); st == dirOnline && !d.closing.Load() && !d.draining() {
			c = append(c, d)
		}
	}
	return c
}

// poisonWith stops all writing until the log is opened again, because what is on disk is not known.
func (l *Log) poisonWith(cause error) error {
	err := fmt.Errorf("%w: %w", ErrUncertain, cause)
	if l.poison.CompareAndSwap(nil, &err) {
		l.log.LogAttrs(context.Background(), slog.LevelError, "log takes no more writes", slog.String("cause", cause.Error()))
	}
	l.signalRoom()
	return *l.poison.Load()
}

// pause is where tests let something else happen.
func (l *Log) pause(where string) {
	if l.testPause != nil {
		l.testPause(where)
	}
}

// signalRoom wakes everyone who waits for room in the unsynced bytes.
func (l *Log) signalRoom() {
	l.mu.Lock()
	close(l.room)
	l.room = make(chan struct{})
	l.mu.Unlock()
}
