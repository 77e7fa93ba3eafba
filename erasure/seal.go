package erasure

import (
	"context"
	"log/slog"
)

// seal writes the directory stripes and the footer of a segment whose stripes are all durable, and cuts its files to
// length. When that fails the segment gets a verdict instead.
func (l *Log) seal(o *openSegment) {
	f, err := l.trySeal(o)
	if err != nil {
		o.fail(err)
		l.endWithVerdict(o)
		return
	}
	s := o.segment
	s.mu.Lock()
	s.open = false
	s.setFooter(f)
	s.mu.Unlock()
	o.closeHandles()
	close(o.settled)
	l.log.LogAttrs(context.Background(), slog.LevelDebug, "segment sealed", slog.Uint64("segment", uint64(s.id)), slog.Uint64("stripes", uint64(f.stripes)))
}

// setFooter makes s the sealed segment that f describes. The caller holds s.mu, or is the only one that knows s.
func (s *segment) setFooter(f footer) {
	s.sealed = true
	s.surveyed, s.stripes, s.tables = false, nil, nil
	s.count, s.records, s.payload, s.stored = f.stripes, f.records, f.payload, f.stored
	s.firstSeq, s.lastSeq, s.digest = f.firstSeq, f.lastSeq, f.digest
	s.dirBlock, s.dirStripes = f.dirBlock, f.dirStripes
}

// directoryPayloads cuts the directory of a segment into payloads of about limit bytes. counts says how many entries each has.
func directoryPayloads(stripes []stripeInfo, tables [][]byte, limit int) (payloads [][]byte, counts []uint32) {
	var b []byte
	var n uint32
	for i, st := range stripes {
		if n > 0 && len(b)+dirEntryBytes+len(tables[i]) > limit {
			payloads, counts = append(payloads, b), append(counts, n)
			b, n = nil, 0
		}
		b = appendDirEntry(b, dirEntry{st, tables[i]})
		n++
	}
	return append(payloads, b), append(counts, n)
}

func (l *Log) trySeal(o *openSegment) (footer, error) {
	s := o.segment
	s.mu.Lock()
	stripes, tables := s.stripes, s.tables
	f := footer{class: s.class, k: uint8(s.k), m: uint8(s.m), store: l.store, segment: s.id, nonce: s.nonce,
		stripes: s.count, records: s.records, payload: s.payload, firstSeq: s.firstSeq, lastSeq: s.lastSeq, digest: s.digest}
	s.mu.Unlock()
	payloads, counts := directoryPayloads(stripes, tables, l.opt.StripeBytes)
	f.dirBlock, f.dirStripes = o.next.block, uint32(len(payloads))
	end := int64(o.next.block) * blockBytes
	for _, p := range payloads {
		end += storedBytes(shardBytes(uint32(len(p)), s.k))
	}
	f.stored = end + blockBytes
	// A footer is written when all before it is durable everywhere, and the files stay longer than it until every directory
	// has it: a footer at the end of any file proves that all shards were durable.
	if err := l.eachShard(o, func(i int) error {
		if o.allocated > f.stored {
			return nil
		}
		return o.handles[i].Allocate(o.allocated, f.stored+blockBytes)
	}); err != nil {
		return f, err
	}
	at := o.next
	for i, p := range payloads {
		h := header{class: s.class, flags: flagDir, store: l.store, segment: s.id, nonce: s.nonce, stripe: at.number, seq: f.lastSeq,
			payload: uint32(len(p)), records: counts[i], shard: shardBytes(uint32(len(p)), s.k), prev: o.prev}
		bufs, err := l.encode(o, &h, func(w *scatter) { w.write(p) })
		if err != nil {
			return f, err
		}
		offset := at.offset()
		if err := l.eachShard(o, func(i int) error {
			_, err := o.handles[i].WriteAt(bufs[i], offset)
			return err
		}); err != nil {
			return f, err // bufs may still be in use: they are left to the collector
		}
		for _, b := range bufs {
			putBuf(b)
		}
		o.prev, f.dirDigest = h.digest, h.digest
		at.number++
		at.block += uint32(h.stored() / blockBytes)
	}
	if err := l.eachShard(o, func(i int) error { return l.syncFile(o.handles[i], o.path(i)) }); err != nil {
		return f, err
	}
	if err := l.eachShard(o, func(i int) error {
		foot, b := f, make([]byte, blockBytes)
		foot.index = uint8(i)
		foot.encode(b)
		if _, err := o.handles[i].WriteAt(b, f.stored-blockBytes); err != nil {
			return err
		}
		return l.syncFile(o.handles[i], o.path(i))
	}); err != nil {
		return f, err
	}
	for _, d := range o.dirs {
		l.spend(d, f.stored-o.allocated)
	}
	return f, l.eachShard(o, func(i int) error {
		if err := o.handles[i].Truncate(f.stored); err != nil {
			return err
		}
		return l.syncFile(o.handles[i], o.path(i))
	})
}

// eachShard runs fn for every shard of the segment, each in the control lane of its directory, or in that of a snapshot.
func (l *Log) eachShard(o *openSegment, fn func(i int) error) error {
	tasks := make([]task, len(o.dirs))
	for i, d := range o.dirs {
		tasks[i] = task{d, func() error { return fn(i) }}
	}
	lane := laneControl
	if o.class == Snapshot {
		lane = o.lane
	}
	return firstError(runAll(lane, tasks))
}

// Close syncs what was appended, seals the open segments, so that the next Open needs no verdicts, and releases the
// directories. The context bounds only the waiting before that begins. Nothing may be in use when it is called, and nothing
// may be used afterwards.
func (l *Log) Close(ctx context.Context) error {
	var err error
	if l.writable(TierCompact) == nil {
		err = l.Sync(ctx)
	}
	if !l.closed.CompareAndSwap(false, true) {
		return ErrClosed
	}
	l.signalRoom()
	close(l.stop)
	l.background.Wait()
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	l.dataMu.Lock()
	defer l.dataMu.Unlock()
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	drained := make(chan struct{})
	l.pipe <- pipeItem{barrier: drained}
	<-drained
	for _, o := range append(l.retiring, l.data, l.meta) {
		l.closeSegment(o)
	}
	l.retiring, l.data, l.meta = nil, nil, nil
	close(l.pipe)
	l.release()
	return err
}

// closeSegment seals what is wholly durable and leaves the rest to the next recovery.
func (l *Log) closeSegment(o *openSegment) {
	if o == nil {
		return
	}
	o.jobs.Wait()
	o.mu.Lock()
	whole := len(o.unsynced) == 0 && !o.ended
	o.mu.Unlock()
	if whole && o.healthy() && l.poison.Load() == nil {
		l.seal(o)
		return
	}
	o.closeHandles()
}

// release gives everything back that Open took.
func (l *Log) release() {
	l.files.close()
	for _, d := range l.dirs() {
		d.release(ErrClosed)
	}
	l.metrics.unregister()
}
