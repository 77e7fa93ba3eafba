package erasure

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"
)

// An openSegment is a segment that takes stripes. What says so is guarded by the lock of its class: dataMu or metaMu.
type openSegment struct {
	*segment
	dirs    []*dir // of the shards: while the segment is open they stay where they are
	handles []File
	lane    int

	next      stripeInfo // number, block and ordinal of the next stripe; class lock
	full      int64      // payload that was put in; class lock
	allocated int64      // length of each file; class lock
	prev      id16       // digest of the last stripe that was encoded; only the encoder uses it

	jobs   sync.WaitGroup // lane jobs in flight
	broken atomic.Pointer[error]

	syncMu   sync.Mutex // one sync at a time
	mu       sync.Mutex // guards what follows
	unsynced []*closedStripe
	synced   uint32 // stripes that are durable and delivered, or being delivered
	ended    bool
}

// A closedStripe is a stripe that has its place in a segment.
type closedStripe struct {
	stripeInfo
	b       *builder
	entries []byte // record table
	flight  *flight
}

// fail takes note that something in the segment could not be written.
func (o *openSegment) fail(err error) { o.broken.CompareAndSwap(nil, &err) }

// path is that of a shard file.
func (o *openSegment) path(shard int) string { return o.segment.path(o.dirs[shard], shard) }

// healthy tells whether every shard of the segment can be written as far as is known.
func (o *openSegment) healthy() bool {
	if o.broken.Load() != nil {
		return false
	}
	for _, d := range o.dirs {
		if !d.readable() {
			return false
		}
	}
	return true
}

// step is how much is preallocated at once in each shard file.
func (l *Log) step(c Class) int64 {
	if c != Data {
		return roundUp(min(4<<20, l.opt.MetadataSegmentBytes), blockBytes)
	}
	return roundUp(min(32<<20, l.opt.SegmentBytes), blockBytes)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// storedFor is how much the stripes of bs take in each shard file when there are k data shards.
func storedFor(bs []*builder, k int) (n int64) {
	for _, b := range bs {
		n += storedBytes(shardBytes(uint32(b.payload), k))
	}
	return n
}

// reserve makes the files long enough for the stripes of bs. ErrNoSpace leaves everything as it was; errSegmentFailed
// asks for repair.
func (l *Log) reserve(o *openSegment, bs []*builder) error {
	end := int64(o.next.block)*blockBytes + storedFor(bs, o.k)
	if end <= o.allocated {
		return nil
	}
	more, err := l.growth(o, bs, end-o.allocated)
	if err != nil {
		return err
	}
	size := o.allocated + more
	tasks := make([]task, len(o.dirs))
	for i, d := range o.dirs {
		tasks[i] = task{d, func() error { return o.handles[i].Allocate(o.allocated, size) }}
		l.spend(d, more)
	}
	err = firstError(runAll(laneControl, tasks))
	switch {
	case err == nil:
		o.allocated = size
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		if o.healthy() {
			return ErrNoSpace
		}
	}
	o.fail(err)
	return errSegmentFailed
}

// place gives the stripe of b its place in the segment, which has room for it. The caller holds the lock of the class.
func (o *openSegment) place(b *builder) *closedStripe {
	cs := &closedStripe{b: b, stripeInfo: o.next}
	for _, r := range b.recs {
		cs.entries = appendTableEntry(cs.entries, tableEntry{r.kind, r.label, uint32(len(r.body))})
	}
	cs.payload = uint32(b.payload)
	cs.shard = shardBytes(cs.payload, o.k)
	cs.records = uint32(len(b.recs))
	cs.table = uint32(len(cs.entries))
	cs.tableSum = xxh3.Hash(cs.entries)
	o.next.number++
	o.next.block = cs.stripeInfo.next()
	o.next.ordinal += cs.records
	o.full += int64(b.payload)
	return cs
}

// put gives the stripe of b its place and its sequence.
func (l *Log) put(o *openSegment, b *builder) *closedStripe {
	cs := o.place(b)
	cs.flight = &flight{}
	l.mu.Lock()
	l.seq++
	cs.seq = l.seq
	cs.flight.pos = Position{Seq: cs.seq, Segment: o.id, Stripe: cs.number}
	l.inFlight = append(l.inFlight, cs.flight)
	l.mu.Unlock()
	o.mu.Lock()
	o.unsynced = append(o.unsynced, cs)
	o.mu.Unlock()
	return cs
}

// headerOf returns the header of a stripe, as far as it is known before the stripe is encoded.
func (l *Log) headerOf(o *openSegment, cs *closedStripe) header {
	return header{class: o.class, store: l.store, segment: o.id, nonce: o.nonce, stripe: cs.number, seq: cs.seq,
		payload: cs.payload, table: cs.table, tableSum: cs.tableSum, records: cs.records, ordinal: cs.ordinal, shard: cs.shard, prev: o.prev}
}

// fill returns what writes the payload of the stripe.
func (cs *closedStripe) fill(o *openSegment) func(*scatter) {
	return func(w *scatter) {
		w.write(cs.entries)
		for i, r := range cs.b.recs {
			fh := frameHeader(o.id, cs.ordinal+uint32(i), r.body)
			w.write(fh[:])
			w.write(r.body)
		}
	}
}

// write encodes a stripe and queues its shards. done is called when the last of them is written or given up. Stripes of one
// segment are written in order by one goroutine at a time.
func (l *Log) write(o *openSegment, cs *closedStripe, done func()) error {
	h := l.headerOf(o, cs)
	bufs, err := l.encode(o, &h, cs.fill(o))
	if err != nil {
		o.fail(err)
		done()
		return err
	}
	cs.digest, o.prev = h.digest, h.digest
	cs.flight.pos.Digest = h.digest
	l.metrics.stripes[o.class].Inc()
	left := atomic.Int32{}
	left.Store(int32(len(bufs)))
	for i, buf := range bufs {
		o.jobs.Add(1)
		o.dirs[i].lanes[o.lane].do(func() error {
			_, err := o.handles[i].WriteAt(buf, cs.offset())
			return err
		}, func(err error, abandoned bool) {
			if err != nil {
				o.fail(err)
			}
			if !abandoned {
				putBuf(buf)
			}
			if left.Add(-1) == 0 {
				done()
			}
			o.jobs.Done()
		})
	}
	return nil
}

// startSync queues an fsync behind everything that was queued for the segment. The channel yields nil when all n shard
// files are durable and still in their places.
func (l *Log) startSync(o *openSegment) <-chan error {
	result := make(chan error, 1)
	var left atomic.Int32
	left.Store(int32(len(o.handles)))
	began := time.Now()
	for i, d := range o.dirs {
		o.jobs.Add(1)
		d.lanes[o.lane].do(func() error { return l.syncFile(o.handles[i], o.path(i)) }, func(err error, _ bool) {
			if err != nil {
				o.fail(fmt.Errorf("%s: %w", o.path(i), err))
			}
			if left.Add(-1) == 0 {
				l.metrics.fsync.Observe(time.Since(began).Seconds())
				if p := o.broken.Load(); p != nil {
					result <- *p
				} else {
					result <- nil
				}
			}
			o.jobs.Done()
		})
	}
	return result
}

// syncFile makes a shard file durable and checks that it is still the one at path: writes and fsyncs to removed files succeed.
func (l *Log) syncFile(f File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := l.fs.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnlinked, err)
	}
	if fi.Links == 0 || fi.Inode != at.Inode || fi.Device != at.Device {
		return errUnlinked
	}
	return nil
}

// finish takes note that the first upTo stripes of the segment are durable, and delivers those that are new.
func (l *Log) finish(o *openSegment, upTo uint32) error {
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		return errSegmentFailed
	}
	var done []*closedStripe
	for len(o.unsynced) > 0 && o.unsynced[0].number < upTo {
		done = append(done, o.unsynced[0])
		o.unsynced = o.unsynced[1:]
	}
	o.synced = max(o.synced, upTo)
	l.pause("finish")
	// Still under o.mu: whoever ends the segment now must count these stripes, or have ended it before they were taken.
	o.segment.mu.Lock()
	for _, cs := range done {
		o.segment.stripes = append(o.segment.stripes, cs.stripeInfo)
		o.segment.tables = append(o.segment.tables, cs.entries)
		o.segment.add(cs.stripeInfo)
	}
	o.segment.mu.Unlock()
	o.mu.Unlock()
	if len(done) == 0 {
		return nil
	}
	slot := &l.openMarks[classIndex(o.class)]
	if m, ok := slot.Load().(mark); ok && m.segment == o.id {
		slot.CompareAndSwap(m, mark{o.id, upTo})
	}
	if o.class == Data {
		from, to := done[0].offset(), done[len(done)-1].offset()+done[len(done)-1].stored()
		for _, f := range o.handles {
			f.Drop(from, to-from)
		}
	}
	l.deliver(o, done)
	return nil
}

// deliver reports durable records, then moves the low-water mark, then frees the memory.
func (l *Log) deliver(o *openSegment, done []*closedStripe) {
	l.deliverMu.Lock()
	var placed []Placed
	for _, cs := range done {
		frame := cs.table
		for i, r := range cs.b.recs {
			p := place{o.id, cs.block, cs.shard, frame, uint32(len(r.body)), cs.ordinal + uint32(i)}
			placed = append(placed, Placed{Kind: r.kind, Label: r.label, Location: p.location(), Seq: cs.seq})
			frame += frameBytes + uint32(len(r.body))
		}
	}
	if l.opt.OnDurable != nil {
		l.opt.OnDurable(placed)
	}
	i := 0
	var freed int64
	for _, cs := range done {
		for _, r := range cs.b.recs {
			if r.h != nil {
				loc := placed[i].Location
				r.h.loc.Store(&loc)
			}
			i++
		}
		freed += int64(cs.b.bulk)
		cs.b.release()
	}
	l.mu.Lock()
	for _, cs := range done {
		cs.flight.done = true
	}
	l.advance()
	l.unsynced -= freed
	l.mu.Unlock()
	l.deliverMu.Unlock()
	if freed > 0 {
		l.signalRoom()
	}
}

// advance moves the low-water mark over what is done. The caller holds l.mu.
func (l *Log) advance() {
	for len(l.inFlight) > 0 && (l.inFlight[0].done || l.inFlight[0].void) {
		if l.inFlight[0].done {
			l.position = l.inFlight[0].pos
		}
		l.inFlight[0] = nil
		l.inFlight = l.inFlight[1:]
	}
}
