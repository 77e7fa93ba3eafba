package erasure

import (
	"context"
	"errors"
	"slices"
)

// encodedMax bounds the bulk stripes that are encoded and not yet written, so that a slow disk holds up encoding and not memory.
const encodedMax = 4

// A pipeItem is work for the encoder of bulk: a stripe, or an fsync that comes after all stripes before it.
type pipeItem struct {
	o       *openSegment
	stripe  *closedStripe
	sync    chan<- error
	barrier chan<- struct{}
}

// encodeBulk is the goroutine that encodes bulk stripes in order.
func (l *Log) encodeBulk() {
	slots := make(chan struct{}, encodedMax)
	for it := range l.pipe {
		switch {
		case it.barrier != nil:
			close(it.barrier)
		case it.sync != nil:
			res := l.startSync(it.o)
			go func() { it.sync <- <-res }()
		default:
			slots <- struct{}{}
			_ = l.write(it.o, it.stripe, func() { <-slots }) // an error is kept in the segment and comes out of its sync
		}
	}
}

// appendBulk copies r into the open bulk stripe, and closes that when it is full.
func (l *Log) appendBulk(ctx context.Context, r Record, t Tier) (*Handle, error) {
	if err := l.waitForRoom(ctx, int64(len(r.Body)), t); err != nil {
		return nil, err
	}
	h := &Handle{class: Data}
	l.pause("append")
	l.dataMu.Lock()
	defer l.dataMu.Unlock()
	if err := l.stopped(); err != nil { // since it was asked for room
		l.mu.Lock()
		l.unsynced -= int64(len(r.Body))
		l.mu.Unlock()
		return nil, err
	}
	if l.bulk != nil && len(l.bulk.recs) > 0 && l.bulk.payload+tableEntryBytes+frameBytes+len(r.Label)+len(r.Body) > l.opt.StripeBytes {
		l.closeBulk()
	}
	if l.bulk == nil {
		l.bulk = &builder{}
	}
	l.bulk.addCopy(&record{kind: r.Kind, label: append([]byte(nil), r.Label...), h: h}, r.Body, l.opt.StripeBytes)
	if l.bulk.payload >= l.opt.StripeBytes {
		l.closeBulk()
	}
	return h, nil
}

// stopped returns why the log takes nothing any more, for good.
func (l *Log) stopped() error {
	if p := l.poison.Load(); p != nil {
		return *p
	}
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// waitForRoom counts n bytes as unsynced once there is room for them. One record always fits when nothing else is unsynced.
func (l *Log) waitForRoom(ctx context.Context, n int64, t Tier) error {
	for {
		if !l.recovered.Load() {
			return l.writable(t)
		}
		if err := l.admits(t, 2*int(n)); err != nil {
			return err
		}
		l.mu.Lock()
		if l.unsynced == 0 || l.unsynced+n <= l.opt.UnsyncedBytes {
			l.unsynced += n
			half := l.unsynced > l.opt.UnsyncedBytes/2
			l.mu.Unlock()
			if half {
				l.kickSync()
			}
			return nil
		}
		room := l.room
		l.mu.Unlock()
		l.kickSync()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Log) kickSync() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// syncLoop syncs bulk in the background when half of what may be unsynced is.
func (l *Log) syncLoop() {
	defer l.background.Done()
	for {
		select {
		case <-l.stop:
			return
		case <-l.kick:
			if err := l.Sync(context.Background()); err != nil {
				l.signalRoom() // who waits sees the state of the log
			}
		}
	}
}

// closeBulk moves the open bulk stripe into the data segment. What finds no place stays pending: the next sync says why.
// The caller holds dataMu.
func (l *Log) closeBulk() {
	if l.bulk != nil && len(l.bulk.recs) > 0 {
		l.pending = append(l.pending, l.bulk)
	}
	l.bulk = nil
	_ = l.placePending()
}

// placePending puts pending stripes into the data segment, rolling over to a new one where it is full. The caller holds dataMu.
func (l *Log) placePending() error {
	for len(l.pending) > 0 {
		if l.data != nil && l.dataFull() {
			l.retireData()
		}
		bs := l.pending[:1]
		if err := l.dataRoom(bs); err != nil {
			if errors.Is(err, errRolled) {
				continue
			}
			return err
		}
		l.putBulk(bs[0])
		l.pending = slices.Delete(l.pending, 0, 1)
	}
	return nil
}

func (l *Log) dataFull() bool {
	return l.data.full >= l.opt.SegmentBytes || l.data.next.ordinal > 1<<31
}

// putBulk gives b its place in the data segment, which has room for it, and has it written.
func (l *Log) putBulk(b *builder) {
	cs := l.put(l.data, b)
	l.pipe <- pipeItem{o: l.data, stripe: cs}
}

// errRolled says that the data segment could not grow and was retired.
var errRolled = errors.New("erasure: data segment was retired")

// dataRoom sees that the data segment exists and has room for bs. The caller holds dataMu.
func (l *Log) dataRoom(bs []*builder) error {
	if l.data == nil {
		o, err := l.createSegment(Data, bs)
		if err != nil {
			return err
		}
		l.data = o
		return nil
	}
	if !l.data.healthy() {
		return errSegmentFailed
	}
	err := l.reserve(l.data, bs)
	if !errors.Is(err, ErrNoSpace) {
		return err
	}
	if l.roomiest(needFor(bs)) == nil {
		return ErrNoSpace
	}
	l.retireData()
	return errRolled
}

// retireData ends the data segment: it is synced and then sealed in the background. The caller holds dataMu.
func (l *Log) retireData() {
	o := l.data
	l.data = nil
	l.retiring = append(l.retiring, o)
	last := o.next.number
	l.background.Go(func() {
		if err := l.syncData(o, last); err != nil {
			l.kickSync() // which repairs
			return
		}
		l.dataMu.Lock()
		i := slices.Index(l.retiring, o)
		if i >= 0 {
			l.retiring = slices.Delete(l.retiring, i, i+1)
		}
		l.dataMu.Unlock()
		if i >= 0 { // else repair was faster and ended it
			l.seal(o)
		}
	})
}

// syncData makes the first target stripes of a data segment durable and delivers them. It returns errSegmentFailed when
// they are not.
func (l *Log) syncData(o *openSegment, target uint32) error {
	o.syncMu.Lock()
	defer o.syncMu.Unlock()
	res := make(chan error, 1)
	l.dataMu.Lock() // under which repair ends segments: the files of an ended one are closed
	o.mu.Lock()
	synced, ended := o.synced, o.ended
	o.mu.Unlock()
	if synced >= target || ended {
		l.dataMu.Unlock()
		if synced >= target {
			return nil
		}
		return errSegmentFailed
	}
	upTo := o.next.number
	l.pipe <- pipeItem{o: o, sync: res}
	l.dataMu.Unlock()
	if err := <-res; err != nil {
		return errSegmentFailed
	}
	return l.finish(o, upTo)
}

// Sync makes everything that was appended before durable. It waits for the disks, whatever ctx says, once it has begun to write.
func (l *Log) Sync(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.writable(TierCompact); err != nil { // what was let in finds a place
			return err
		}
		err := l.syncAll()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errSegmentFailed):
			l.repair()
		default:
			return err
		}
	}
}

// syncAll makes one attempt at what Sync does.
func (l *Log) syncAll() error {
	type goal struct {
		o    *openSegment
		upTo uint32
	}
	var goals []goal
	// The floating records first: a commit that takes them into the data segment has given them their place there before the goals are
	// looked up. The other way round they would be in neither.
	floating := l.flushFloating()
	if errors.Is(floating, errSegmentFailed) {
		return floating
	}
	l.pause("sync")
	l.dataMu.Lock()
	if l.bulk != nil && len(l.bulk.recs) > 0 {
		l.pending = append(l.pending, l.bulk)
		l.bulk = nil
	}
	err := l.placePending()
	for _, o := range l.retiring {
		goals = append(goals, goal{o, o.next.number})
	}
	if l.data != nil {
		goals = append(goals, goal{l.data, l.data.next.number})
	}
	l.dataMu.Unlock()
	for _, g := range goals {
		if e := l.syncData(g.o, g.upTo); e != nil {
			return e
		}
	}
	if err != nil {
		return err
	}
	return floating
}
