package erasure

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// floatingMax bounds the floating records in memory, bytes.
const floatingMax = 16 << 20

// Append places r in the log, for a tier.
//
// Class Data is for bulk. The record is copied, written in the background and durable after a Commit that depends on it, or
// a Sync. Append waits while more than Options.UnsyncedBytes are not durable; the context ends the wait.
//
// Class Metadata is for floating records: they stay in memory and go with the next Commit or Sync into whichever segment
// that takes. Append syncs when more than 16 MiB of them float.
//
// Errors are those of Room, ErrTooLarge and those of the context.
func (l *Log) Append(ctx context.Context, r Record, c Class, t Tier) (*Handle, error) {
	if err := checkRecord(r); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch c {
	case Data:
		return l.appendBulk(ctx, r, t)
	case Metadata:
		return l.appendFloating(ctx, r, t)
	default:
		return nil, fmt.Errorf("erasure: class %v takes no appends", c)
	}
}

func (l *Log) appendFloating(ctx context.Context, r Record, t Tier) (*Handle, error) {
	if err := l.writable(t); err != nil {
		return nil, err
	}
	h := &Handle{class: Metadata}
	rec := ownRecord(r, roleFloating, h)
	l.mu.Lock()
	over := l.floatBytes > 0 && l.floatBytes+len(r.Body) > floatingMax
	l.mu.Unlock()
	if over {
		if err := l.Sync(ctx); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	l.floating = append(l.floating, rec)
	l.floatBytes += len(r.Body)
	l.mu.Unlock()
	return h, nil
}

// takeFloating removes the floating records from memory; unfloat brings them back.
func (l *Log) takeFloating() []*record {
	l.mu.Lock()
	defer l.mu.Unlock()
	recs := l.floating
	l.floating, l.floatBytes = nil, 0
	return recs
}

func (l *Log) unfloat(recs []*record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floating = append(recs[:len(recs):len(recs)], l.floating...)
	for _, r := range recs {
		l.floatBytes += len(r.body)
	}
}

// Commit makes muts durable, in order, after every floating record, together with deps. When it returns nil, all of them
// are on every shard file of their stripes and were delivered to OnDurable. One caller at a time; another one waits. The tier is
// that of the most important of muts.
//
// It returns ErrRetry when a segment failed: call TakeVerdicts, put the verdicts before the same muts, and call Commit
// again. Nothing else may be committed in between. After ErrNoSpace, ErrReadOnly or an error of the context nothing of muts
// was or will be applied. After an error that matches ErrUncertain nobody knows until a restart.
func (l *Log) Commit(ctx context.Context, muts []Record, deps []*Handle, t Tier) error {
	for _, r := range muts {
		if err := checkRecord(r); err != nil {
			return err
		}
	}
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if err := ctx.Err(); err != nil && !l.retryDue {
		return err
	}
	if l.retryDue {
		t = TierCompact // what may be on disk already must come to an end
	}
	if err := l.writable(t); err != nil {
		return l.refuse(err)
	}
	l.mu.Lock()
	untaken := len(l.untaken)
	l.mu.Unlock()
	if untaken > 0 {
		return ErrRetry // a segment failed meanwhile; nothing was written
	}
	recs := make([]*record, len(muts))
	bytes := 0
	for i, r := range muts {
		bytes += len(r.Body)
		recs[i] = &record{kind: r.Kind, role: roleMutation, label: r.Label, body: r.Body}
	}
	bulk := false
	for _, h := range deps {
		bulk = bulk || h != nil && h.class == Data && !h.Durable()
	}
	var wrote bool
	var err error
	if bulk {
		wrote, err = l.commitData(recs)
	} else {
		wrote, err = l.commitMetadata(recs)
	}
	switch {
	case err == nil:
		l.retryDue = false
		l.metrics.commitRecords.Observe(float64(len(muts)))
		l.metrics.commitBytes.Observe(float64(bytes))
		l.mu.Lock()
		l.taken = nil
		l.mu.Unlock()
		return nil
	case errors.Is(err, errSegmentFailed):
		l.retryDue = l.retryDue || wrote
		l.repair()
		if err := l.WriteState(); err != nil {
			return l.refuse(err)
		}
		return ErrRetry
	default:
		return l.refuse(err)
	}
}

// refuse returns err when nothing of the commit can ever be applied, and poisons the log when an earlier attempt wrote it.
// The caller holds commitMu.
func (l *Log) refuse(err error) error {
	if !l.retryDue {
		return err
	}
	return l.poisonWith(err)
}

// writable returns why nothing of a tier can be appended now, or nil.
func (l *Log) writable(t Tier) error {
	return l.Room(t)
}

// commitData puts recs behind all bulk in the data segment. wrote tells whether any of them may be on disk.
func (l *Log) commitData(recs []*record) (wrote bool, err error) {
	for {
		o, target, err := l.putBehindBulk(recs)
		switch {
		case err == nil && o == nil:
			return false, nil
		case err == nil:
			return true, l.syncData(o, target)
		case !errors.Is(err, errRolled):
			return false, err
		}
	}
}

// putBehindBulk places the bulk, the floating records and recs, all in one segment whose predecessors are durable. On error
// nothing of recs was placed.
func (l *Log) putBehindBulk(recs []*record) (*openSegment, uint32, error) {
	if err := l.lockBehindRetiring(); err != nil {
		return nil, 0, err
	}
	defer l.dataMu.Unlock()
	before := len(l.retiring)
	if err := l.placePending(); err != nil { // there are some when no room was found for them at first
		return nil, 0, err
	}
	if l.data != nil && l.dataFull() {
		l.retireData()
	}
	if len(l.retiring) > before {
		return nil, 0, errRolled
	}
	floats, err := l.takeSettledFloating()
	if err != nil {
		return nil, 0, err
	}
	bulk := l.bulk
	var sp savepoint
	if bulk != nil {
		sp = bulk.save()
	}
	bs := pack(bulk, append(floats[:len(floats):len(floats)], recs...), l.opt.StripeBytes)
	if len(bs) > 0 {
		if err := l.dataRoom(bs); err != nil {
			if bulk != nil {
				bulk.rollback(sp)
			}
			l.unfloat(floats)
			return nil, 0, err
		}
	}
	l.bulk = nil
	for _, b := range bs {
		l.putBulk(b)
	}
	if l.data == nil { // nothing to write, and what the caller depends on was delivered meanwhile
		return nil, 0, nil
	}
	return l.data, l.data.next.number, nil
}

// takeSettledFloating is takeFloating for a commit that goes into the data segment: it waits for a flush of floating
// records into the metadata segment, and refuses when that failed, since those records are then in neither place. The
// caller holds dataMu.
func (l *Log) takeSettledFloating() ([]*record, error) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.meta != nil && !l.meta.healthy() {
		return nil, errSegmentFailed
	}
	return l.takeFloating(), nil
}

// lockBehindRetiring takes dataMu when every retiring segment is durable and delivered.
func (l *Log) lockBehindRetiring() error {
	var settled []*openSegment
	for {
		l.dataMu.Lock()
		i := slices.IndexFunc(l.retiring, func(o *openSegment) bool { return !slices.Contains(settled, o) })
		if i < 0 {
			return nil
		}
		o := l.retiring[i]
		last := o.next.number
		l.dataMu.Unlock()
		if err := l.syncData(o, last); err != nil {
			return err
		}
		settled = append(settled, o)
	}
}

// commitMetadata writes the floating records and recs into the metadata segment. wrote tells whether any of recs may be on disk.
func (l *Log) commitMetadata(recs []*record) (wrote bool, err error) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	floats := l.takeFloating()
	bs := pack(nil, append(floats[:len(floats):len(floats)], recs...), l.opt.StripeBytes)
	if len(bs) == 0 {
		return false, nil
	}
	if err := l.metadataRoom(bs); err != nil {
		l.unfloat(floats)
		return false, err
	}
	o := l.meta
	stripes := make([]*closedStripe, len(bs))
	for i, b := range bs {
		stripes[i] = l.put(o, b) // all of them first: what has a place is not lost when a write fails
	}
	for _, cs := range stripes {
		if err := l.write(o, cs, func() {}); err != nil {
			return true, errSegmentFailed
		}
	}
	if err := <-l.startSync(o); err != nil {
		return true, errSegmentFailed
	}
	return true, l.finish(o, o.next.number)
}

// flushFloating makes the floating records durable in the metadata segment.
func (l *Log) flushFloating() error {
	_, err := l.commitMetadata(nil)
	return err
}

// metadataRoom sees that the metadata segment exists and has room for bs. The caller holds metaMu.
func (l *Log) metadataRoom(bs []*builder) error {
	if o := l.meta; o != nil {
		if !o.healthy() {
			return errSegmentFailed
		}
		full := int64(o.next.block)*blockBytes >= l.opt.MetadataSegmentBytes || o.next.ordinal > 1<<31
		if !full {
			err := l.reserve(o, bs)
			if !errors.Is(err, ErrNoSpace) {
				return err
			}
			if l.roomiest(needFor(bs)) == nil {
				return ErrNoSpace
			}
		}
		l.meta = nil
		l.background.Go(func() { l.seal(o) })
	}
	o, err := l.createSegment(Metadata, bs)
	if err != nil {
		return err
	}
	l.meta = o
	return nil
}
