package erasure

import (
	"cmp"
	"context"
	"fmt"
)

// runBytes is how much of a shard file a copier reads at once, when stripes are smaller.
const runBytes = 1 << 20

// A shardCopier makes one copy of a shard file right, stripe by stripe: a new file, or one that is there. What is right is for
// the checks of a scrub to say. A stripe comes from the first copy that has it right, else from k other shards.
//
// Everything that it passes was read past the page cache, from where it is or after it was written.
type shardCopier struct {
	c      *scrubber
	shard  int
	target int   // of c.files: the copy that is made right
	copies []int // of c.files, in the order in which they are asked; a target that is there is the first

	run    []runStripe // that follow one another and are not done
	at     int64       // the file is done up to here
	lost   int64       // stripes, or stretches between them, that are not known to be right
	unread int64       // of these, stripes that another copy may have
	moved  int64       // bytes that were written
}

type runStripe struct {
	stripeInfo
	directory bool
}

// fresh tells whether the target is written anew. If it is not, what is right there stays.
func (m *shardCopier) fresh() bool { return m.copies[0] != m.target }

// all goes through the whole shard file and leaves it synced and read back. m.lost tells what is not right; of that, a new
// file got what the first copy has. An error says that the target is not to be used.
func (m *shardCopier) all(ctx context.Context) error {
	c := m.c
	c.prev, c.chained = id16{}, true
	var err error
	if c.view.sealed {
		err = m.sealed(ctx)
	} else {
		err = m.unsealed(ctx)
	}
	if err != nil {
		return err
	}
	c.flush()
	if f := &c.files[m.target]; f.failed {
		return fmt.Errorf("erasure: writing %s: %s", f.path, f.why)
	}
	return nil
}

func (m *shardCopier) unsealed(ctx context.Context) error {
	c := m.c
	for _, st := range c.view.stripes {
		if err := m.add(ctx, runStripe{st, false}); err != nil {
			return err
		}
	}
	if err := m.finishRun(ctx); err != nil {
		return err
	}
	if uint32(len(c.view.stripes)) < c.goal { // what is not known may lie behind
		return m.raw(ctx, max(m.at, c.files[m.copies[0]].size))
	}
	return nil
}

func (m *shardCopier) sealed(ctx context.Context) error {
	c, foot := m.c, m.c.view.foot
	for e := range c.l.sealedStripes(ctx, c.s, 0) { // its errors leave gaps
		if e.shard == 0 {
			continue
		}
		if err := m.add(ctx, runStripe{e.stripeInfo, false}); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.finishRun(ctx); err != nil {
		return err
	}
	if err := m.raw(ctx, int64(foot.dirBlock)*blockBytes); err != nil {
		return err
	}
	digest, err := m.directory(ctx)
	if err != nil {
		return err
	}
	if digest == nil {
		return m.raw(ctx, foot.stored)
	}
	return m.footer(ctx, *digest)
}

// directory does the directory stripes. It returns the digest of the last one, or nil when they cannot be found.
func (m *shardCopier) directory(ctx context.Context) (*id16, error) {
	c, foot := m.c, &m.c.view.foot
	r := &headerReader{l: c.l, s: c.s, windows: make([]window, c.s.n())}
	block := foot.dirBlock
	var last id16
	c.prev, c.chained = foot.digest, true
	for j := range foot.dirStripes {
		h, ok := r.at(ctx, block, c.s.k)
		if !ok {
			h, ok = r.at(ctx, block, 1) // fewer agree: the shards will tell
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		info := infoOfHeader(h, block)
		if !ok || !h.directory() || h.stripe != foot.stripes+j || int64(info.next())*blockBytes >= foot.stored {
			return nil, m.finishRun(ctx)
		}
		if err := m.add(ctx, runStripe{info, true}); err != nil {
			return nil, err
		}
		block, last = info.next(), info.digest
	}
	if err := m.finishRun(ctx); err != nil {
		return nil, err
	}
	if m.at != foot.stored-blockBytes {
		return nil, nil
	}
	return &last, nil
}

// footer sees that the target ends with the footer of the segment.
func (m *shardCopier) footer(ctx context.Context, digest id16) error {
	c := m.c
	foot := c.view.foot
	foot.index, foot.dirDigest = uint8(m.shard), digest
	f := &c.files[m.target]
	if !m.fresh() && f.size == foot.stored {
		b := make([]byte, blockBytes)
		if err, _ := c.readFile(ctx, m.target, b, foot.stored-blockBytes); err == nil {
			if got, err := decodeFooter(b); err == nil && got == foot {
				return nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.putFooter(m.target, foot) {
		return fmt.Errorf("erasure: writing the footer of %s: %s", f.path, f.why)
	}
	m.moved += blockBytes
	return nil
}

// add takes the next stripe.
func (m *shardCopier) add(ctx context.Context, st runStripe) error {
	end := m.at
	if n := len(m.run); n > 0 {
		end = m.run[n-1].offset() + m.run[n-1].stored()
	}
	if len(m.run) > 0 && (st.offset() != end || end+st.stored()-m.at > runBytes) {
		if err := m.finishRun(ctx); err != nil {
			return err
		}
	}
	if st.offset() > m.at && len(m.run) == 0 {
		if err := m.raw(ctx, st.offset()); err != nil {
			return err
		}
	}
	m.run = append(m.run, st)
	return nil
}

// finishRun does the stripes that were taken.
func (m *shardCopier) finishRun(ctx context.Context) error {
	if len(m.run) == 0 {
		return nil
	}
	c, run := m.c, m.run
	last := run[len(run)-1]
	size := last.offset() + last.stored() - m.at
	if err := m.throttle(ctx, size); err != nil {
		return err
	}
	from := m.copies[0]
	buf := make([]byte, size) // a read or write that hangs keeps it
	err, abandoned := c.readFile(ctx, from, buf, m.at)
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if abandoned {
		buf = make([]byte, size)
	}
	for _, st := range run {
		piece := buf[st.offset()-m.at:][:st.stored()]
		ok := err == nil || !abandoned && m.reread(ctx, from, &buf, piece, st)
		if ok && m.right(st, piece) {
			c.prev, c.chained = st.digest, true
			continue
		}
		good, err := m.find(ctx, st)
		if err != nil {
			return err
		}
		c.prev, c.chained = st.digest, true
		switch {
		case good == nil:
			if m.lost++; m.fresh() && !ok {
				return c.l.beyond(c.s, st.offset())
			}
		case m.fresh():
			copy(buf[st.offset()-m.at:], good)
		default:
			if err := m.write(good, st.offset()); err != nil {
				return err
			}
		}
	}
	if m.fresh() {
		if err := m.write(buf, m.at); err != nil {
			return err
		}
	}
	m.at, m.run = last.offset()+last.stored(), m.run[:0]
	return nil
}

// reread reads one stripe of a run that could not be read as a whole.
func (m *shardCopier) reread(ctx context.Context, from int, buf *[]byte, piece []byte, st runStripe) bool {
	b := make([]byte, len(piece))
	if err, _ := m.c.readFile(ctx, from, b, st.offset()); err != nil {
		return false
	}
	copy((*buf)[st.offset()-m.at:], b)
	return true
}

// right tells whether b is the shard of the stripe.
func (m *shardCopier) right(st runStripe, b []byte) bool {
	one := scrubbedStripe{stripeInfo: st.stripeInfo, dir: st.directory, shards: make([]scrubbedShard, m.c.s.n())}
	sh := &one.shards[m.shard]
	sh.b = b
	m.c.judge(&one, m.shard)
	return sh.usable && sh.kind == ""
}

// find returns the shard of a stripe that the first copy does not have right, or nil: from another copy, or from the other shards.
func (m *shardCopier) find(ctx context.Context, st runStripe) ([]byte, error) {
	c := m.c
	unread := int64(0)
	for _, from := range m.copies[1:] {
		b := make([]byte, st.stored())
		err, _ := c.readFile(ctx, from, b, st.offset())
		if err == nil && m.right(st, b) {
			return b, nil
		}
		if outOfReach(err) {
			unread = 1
		}
	}
	if err := m.throttle(ctx, st.stored()*int64(c.s.k)); err != nil {
		return nil, err
	}
	all := &scrubbedStripe{stripeInfo: st.stripeInfo, dir: st.directory, shards: make([]scrubbedShard, c.s.n())}
	defer all.release()
	c.readStripe(ctx, all)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range all.shards {
		c.judge(all, i)
	}
	c.vote(all)
	if all.valid >= c.s.k {
		if err := c.solve(ctx, all); err != nil {
			return nil, err
		}
	}
	if all.truth == nil {
		m.unread += unread
		return nil, nil
	}
	c.l.suspects.add(c.s.id) // the others may be no better
	return all.encoded(m.shard), nil
}

// raw does the stretch up to end, of which nobody knows what it should be. A new file gets what the first copy has there.
func (m *shardCopier) raw(ctx context.Context, end int64) error {
	if end <= m.at {
		return nil
	}
	m.lost++
	if !m.fresh() {
		m.at = end
		return nil
	}
	for m.at < end {
		b := make([]byte, min(runBytes, end-m.at))
		if err := m.throttle(ctx, int64(len(b))); err != nil {
			return err
		}
		if err, _ := m.c.readFile(ctx, m.copies[0], b, m.at); err != nil {
			return cmp.Or(ctx.Err(), m.c.l.beyond(m.c.s, m.at))
		}
		if err := m.write(b, m.at); err != nil {
			return err
		}
		m.at += int64(len(b))
	}
	m.c.chained = false
	return nil
}

// write puts b into the target. What was written is synced and read back before the copier is through.
func (m *shardCopier) write(b []byte, off int64) error {
	c := m.c
	f := &c.files[m.target]
	w := c.writable(m.target)
	if w == nil {
		return fmt.Errorf("erasure: writing %s: %s", f.path, f.why)
	}
	if err := c.heal(f.d, func() error { _, err := w.WriteAt(b, off); return err }); err != nil {
		f.fail(err.Error())
		return fmt.Errorf("erasure: writing %s: %w", f.path, err)
	}
	c.writes = append(c.writes, shardWrite{m.target, off, int64(len(b)), sum128(b), nil})
	c.writeBytes += int64(len(b))
	m.moved += int64(len(b))
	if c.writeBytes >= writesBytesMax || len(c.writes) >= writesMax {
		if c.flush(); f.failed {
			return fmt.Errorf("erasure: writing %s: %s", f.path, f.why)
		}
	}
	return nil
}

func (m *shardCopier) throttle(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil || m.c.o.Throttle == nil {
		return err
	}
	return m.c.o.Throttle(ctx, int(n))
}
