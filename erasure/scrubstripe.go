package erasure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/zeebo/xxh3"
)

// A scrubbedStripe is all that was read of a stripe.
type scrubbedStripe struct {
	stripeInfo
	dir    bool // a directory stripe
	h      header
	shards []scrubbedShard
	truth  [][]byte // the data of every shard as it should be; nil: beyond repair
	valid  int      // shards that agree
	pooled [][]byte
}

// A scrubbedShard is one shard as it was read.
type scrubbedShard struct {
	b      []byte // header, data and padding; nil when it could not be read
	h      header
	usable bool // header, identity and checksum are right
	err    error
	kind   string // of damage; empty: none, or of the whole file
	detail string
}

func (st *scrubbedStripe) data(i int) []byte {
	return st.shards[i].b[headerBytes : headerBytes+int(st.shard)]
}

func (st *scrubbedStripe) release() {
	for _, b := range st.pooled {
		putBuf(b)
	}
	st.pooled = nil
}

// stripe checks one stripe, rewrites what is bad, and hands over its records.
func (c *scrubber) stripe(ctx context.Context, e dirEntry, directory bool) error {
	if err := c.throttle(ctx, e.stored()); err != nil {
		return err
	}
	st := &scrubbedStripe{stripeInfo: e.stripeInfo, dir: directory, shards: make([]scrubbedShard, c.s.n())}
	defer st.release()
	c.readStripe(ctx, st)
	if err := ctx.Err(); err != nil {
		return err
	}
	c.res.Stripes++
	for i := range st.shards {
		c.judge(st, i)
	}
	c.vote(st)
	if st.valid >= c.s.k {
		if err := c.solve(ctx, st); err != nil {
			return err
		}
	}
	c.settle(ctx, st, e)
	if st.truth == nil {
		return nil
	}
	if directory {
		c.checkDirectory(st)
		return nil
	}
	return c.records(st, e)
}

func (c *scrubber) throttle(ctx context.Context, each int64) error {
	if c.s.gate.isShut() { // who drops it waits
		return fmt.Errorf("%w: segment %016x", ErrNotFound, uint64(c.s.id))
	}
	if err := ctx.Err(); err != nil || c.o.Throttle == nil {
		return err
	}
	n := 0
	for i := range c.files {
		if c.files[i].readable() && !c.files[i].fresh {
			n++
		}
	}
	return c.o.Throttle(ctx, int(each)*n)
}

// readStripe reads all shards in parallel.
func (c *scrubber) readStripe(ctx context.Context, st *scrubbedStripe) {
	left := make([]bool, len(st.shards))
	var wg sync.WaitGroup
	for i := range st.shards {
		sh := &st.shards[i]
		if c.files[i].fresh || !c.files[i].readable() {
			sh.err = errAbsent
			continue
		}
		sh.b = getBuf(int(st.stored()))
		wg.Go(func() { sh.err, left[i] = c.readFile(ctx, i, sh.b, st.offset()) })
	}
	wg.Wait()
	for i := range st.shards {
		sh := &st.shards[i]
		if sh.b == nil {
			continue
		}
		if !left[i] {
			st.pooled = append(st.pooled, sh.b)
		}
		if sh.err != nil {
			sh.b = nil
			continue
		}
		c.count(i, st.stored())
	}
}

// judge says what is wrong with one shard by itself.
func (c *scrubber) judge(st *scrubbedStripe, i int) {
	sh := &st.shards[i]
	wrong := func(kind, format string, args ...any) {
		sh.kind, sh.detail = kind, fmt.Sprintf(format, args...)
	}
	switch {
	case errors.Is(sh.err, io.ErrUnexpectedEOF):
		c.files[i].shorten(st.offset())
		return
	case sh.err != nil:
		if c.files[i].readable() && !errors.Is(sh.err, errAbsent) {
			wrong(FindingUnreadable, "%v", sh.err)
		}
		return
	}
	h, err := decodeHeader(sh.b)
	if err != nil {
		wrong(FindingHeader, "%v", err)
		return
	}
	s := c.s
	switch {
	case h.store != c.l.store:
		wrong(FindingIdentity, "of store %v", h.store)
	case h.segment != s.id || h.class != s.class:
		wrong(FindingIdentity, "of %v segment %016x", h.class, uint64(h.segment))
	case h.nonce != s.nonce || int(h.k) != s.k || int(h.m) != s.m:
		wrong(FindingIdentity, "of another segment of this number: nonce %v, code %d+%d", h.nonce, h.k, h.m)
	case int(h.index) != i:
		wrong(FindingIdentity, "shard %d", h.index)
	case h.stripe != st.number || h.directory() != st.dir:
		wrong(FindingIdentity, "of stripe %d", h.stripe)
	case infoOfHeader(h, st.block) != st.stripeInfo, c.chained && h.prev != c.prev:
		wrong(FindingIdentity, "of another stripe of this number: sequence %d, digest %v", h.seq, h.digest)
	case sum128(st.data(i)) != h.sum:
		wrong(FindingChecksum, "data does not match")
	default:
		sh.h, sh.usable = h, true
		if !allZero(sh.b[headerBytes+int(st.shard):]) {
			wrong(FindingChecksum, "padding is not zero")
		}
	}
}

// vote finds the header on which most usable shards agree; the others are not usable.
func (c *scrubber) vote(st *scrubbedStripe) {
	votes := map[header]int{}
	for _, sh := range st.shards {
		if sh.usable {
			h := sh.h.shared()
			if votes[h]++; votes[h] > st.valid {
				st.valid, st.h = votes[h], h
			}
		}
	}
	for i := range st.shards {
		if sh := &st.shards[i]; sh.usable && sh.h.shared() != st.h {
			sh.usable, sh.kind, sh.detail = false, FindingIdentity, "header differs from those of the other shards"
		}
	}
}

// solve finds out what every shard should be. Shards that agree should have one digest between them; when they do not, one or
// more was made from something else, and it tries to do without each, then without each two, and so on.
func (c *scrubber) solve(ctx context.Context, st *scrubbedStripe) error {
	var usable []int
	for i := range st.shards {
		if st.shards[i].usable {
			usable = append(usable, i)
		}
	}
	for out := 0; len(usable)-out >= c.s.k && st.truth == nil; out++ {
		for set := range subsets(usable, out) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.try(st, set) {
				break
			}
		}
	}
	if st.truth == nil {
		st.valid = 0
		return nil
	}
	for _, i := range usable {
		if sh := &st.shards[i]; !bytes.Equal(st.data(i), st.truth[i]) {
			sh.usable, sh.kind, sh.detail = false, FindingParity, "does not fit the other shards"
		}
	}
	return nil
}

// subsets yields the subsets of set with size elements.
func subsets(set []int, size int) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		var rec func(from int, picked []int) bool
		rec = func(from int, picked []int) bool {
			if len(picked) == size {
				return yield(picked)
			}
			for i := from; i < len(set); i++ {
				if !rec(i+1, append(picked[:len(picked):len(picked)], set[i])) {
					return false
				}
			}
			return true
		}
		rec(0, nil)
	}
}

// try rebuilds the stripe without the shards in out, and keeps the result if its digest is right.
func (c *scrubber) try(st *scrubbedStripe, out []int) bool {
	k, m := c.s.k, c.s.m
	work := make([][]byte, k+m)
	for i := range st.shards {
		if st.shards[i].usable {
			work[i] = st.data(i)
		}
	}
	for _, i := range out {
		work[i] = nil
	}
	sums := make([]id16, k)
	missing := false
	for i := range k {
		if missing = missing || work[i] == nil; work[i] != nil {
			sums[i] = st.shards[i].h.sum
		}
	}
	if missing {
		enc, err := c.l.codecs.get(k, m)
		if err != nil || enc.ReconstructData(work) != nil {
			return false
		}
		for i := range k {
			sums[i] = sum128(work[i])
		}
	}
	if stripeDigest(sums) != st.digest {
		return false
	}
	if m > 0 {
		for i := k; i < k+m; i++ {
			work[i] = getBuf(int(st.shard))
			st.pooled = append(st.pooled, work[i])
		}
		enc, err := c.l.codecs.get(k, m)
		if err != nil || enc.Encode(work) != nil {
			return false
		}
	}
	st.truth = work
	return true
}

// settle reports what is wrong with the stripe, or rewrites it.
func (c *scrubber) settle(ctx context.Context, st *scrubbedStripe, e dirEntry) {
	lost := st.truth == nil
	unknown, absent := 0, 0
	for i := range st.shards {
		sh, f := &st.shards[i], &c.files[i]
		if sh.usable && sh.kind == "" {
			continue
		}
		c.res.ShardsBad++
		f.bad++
		switch {
		case f.absent:
			absent++
		case !f.missing && (outOfReach(sh.err) || !f.readable()), c.l.duplicates.promising(c.s.id, i):
			unknown++
		}
		var found *Finding
		if sh.kind != "" {
			ff := c.shardFinding(i, sh.kind, sh.detail)
			ff.Stripe, ff.Offset = st.number, st.offset()
			found = &ff
		}
		if lost || !c.put(st, i, found) {
			if found != nil {
				c.report(*found)
			}
		}
	}
	if c.writeBytes >= writesBytesMax || len(c.writes) >= writesMax {
		c.flush()
	}
	if !lost {
		return
	}
	c.gap = true
	f := Finding{Segment: c.s.id, Shard: -1, Stripe: st.number, Offset: st.offset(), Detail: fmt.Sprintf("%d shards verify, %d are needed", st.valid, c.s.k),
		Lost: st.valid+unknown+min(absent, c.l.outOfService()) < c.s.k}
	if st.dir {
		f.Kind, c.dirGap, c.dirBad = FindingDirectory, true, true
		c.report(f)
		return
	}
	if f.Lost {
		if e.tableBytes == nil {
			e.tableBytes, _ = c.l.readTable(ctx, c.s, e.stripeInfo) // it verifies itself; not to be had: nothing is known
		}
		f.Records = c.placed(e)
	}
	c.lost(f)
}

// placed lists the records of a stripe by its directory entry.
func (c *scrubber) placed(e dirEntry) (ps []Placed) {
	entries, err := decodeTable(e.tableBytes, e.records, e.payload)
	if err != nil {
		return nil
	}
	frame := e.table
	for i, t := range entries {
		p := place{c.s.id, e.block, e.shard, frame, t.body, e.ordinal + uint32(i)}
		frame += frameBytes + t.body
		ps = append(ps, Placed{Kind: t.kind, Label: t.label, Location: p.location(), Seq: e.seq})
	}
	return ps
}

// records verifies the record table and the frames of a stripe whose shards are right, and hands the records over.
func (c *scrubber) records(st *scrubbedStripe, e dirEntry) error {
	buf := getBuf(int(st.shard) * c.s.k)
	defer putBuf(buf)
	for i := range c.s.k {
		copy(buf[i*int(st.shard):], st.truth[i])
	}
	lost := func(detail string, ps []Placed) {
		c.lost(Finding{Stripe: st.number, Offset: st.offset(), Lost: true, Detail: detail, Records: ps})
	}
	if st.h.table != st.table || xxh3.Hash(buf[:st.table]) != st.tableSum {
		lost("its shards verify, its record table does not", c.placed(e))
		return nil
	}
	e.tableBytes = buf[:st.table]
	ps := c.placed(e)
	if uint32(len(ps)) != st.records {
		lost("its shards verify, its record table does not", nil)
		return nil
	}
	for _, p := range ps {
		at := p.Location.place()
		body, err := decodeFrame(buf[at.frame:at.frame+frameBytes+at.body], c.s.id, at.ordinal)
		if err != nil {
			p.Label = bytes.Clone(p.Label)
			lost(fmt.Sprintf("its shards verify, record %d does not", at.ordinal), []Placed{p})
			continue
		}
		c.res.Records++
		if c.o.Record != nil {
			if err := c.o.Record(p, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// directory checks the directory stripes.
func (c *scrubber) directory(ctx context.Context) error {
	r := &headerReader{l: c.l, s: c.s, windows: make([]window, c.s.n())}
	foot := &c.view.foot
	block := foot.dirBlock
	c.prev, c.chained = foot.digest, true
	c.next = 0
	for j := range foot.dirStripes {
		h, ok := r.at(ctx, block, c.s.k)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !ok {
			c.gap = true
			c.report(Finding{Segment: c.s.id, Shard: -1, Stripe: foot.stripes + j, Offset: int64(block) * blockBytes, Kind: FindingDirectory,
				Detail: "fewer than k headers of it can be found", Lost: c.complete()})
			return nil
		}
		info := infoOfHeader(h, block)
		if !h.directory() || h.stripe != foot.stripes+j {
			c.gap = true
			c.report(Finding{Segment: c.s.id, Shard: -1, Stripe: foot.stripes + j, Offset: info.offset(), Kind: FindingDirectory, Detail: "not where it should be", Lost: true})
			return nil
		}
		if err := c.stripe(ctx, dirEntry{stripeInfo: info}, true); err != nil {
			return err
		}
		c.prev, block = info.digest, info.next()
		if j == foot.dirStripes-1 && !c.dirBad {
			c.dirDigest = &info.digest
		}
	}
	return nil
}

// checkDirectory checks that the entries of a directory stripe follow one another and add up.
func (c *scrubber) checkDirectory(st *scrubbedStripe) {
	foot := &c.view.foot
	buf := make([]byte, 0, int(st.shard)*c.s.k)
	for i := range c.s.k {
		buf = append(buf, st.truth[i]...)
	}
	entries, err := decodeDirectory(buf[:st.payload])
	wrong := err != nil || uint32(len(entries)) != st.records
	for i, e := range entries {
		if i == 0 && c.dirGap { // what should come is not known
			c.next, c.dirGap = e.number, false
		}
		wrong = wrong || e.number != c.next || e.next() > foot.dirBlock || e.records > 0 && e.ordinal+e.records > foot.records
		c.next = e.number + 1
	}
	if last := st.number == foot.stripes+foot.dirStripes-1; wrong || last && c.next != foot.stripes {
		c.dirBad = true
		c.report(Finding{Segment: c.s.id, Shard: -1, Stripe: st.number, Offset: st.offset(), Kind: FindingDirectory, Detail: "its shards verify, its entries do not", Lost: true})
	}
}
