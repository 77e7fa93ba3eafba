package erasure_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// droppable returns the segments that may be dropped now.
func (c *client) droppable() (ids []erasure.SegmentID) {
	pos := c.log.Position()
	for _, s := range c.log.Segments() {
		if (s.Sealed || s.Ended) && s.LastSeq < pos.Seq {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// copyOut appends every chunk again that was acknowledged and lies in a segment, and makes it durable.
func (c *client) copyOut(rng *rand.Rand, ids []erasure.SegmentID) error {
	deps := map[string]*erasure.Handle{}
	for _, id := range ids {
		if err := c.log.ReadSegment(context.Background(), id, everyKind, func(r erasure.Replayed) error {
			label := string(r.Label)
			c.locMu.Lock()
			here := c.locations[label] == r.Location
			c.locMu.Unlock()
			if r.Kind != kindChunk || !c.acked[label] || !here {
				return nil
			}
			h, err := c.log.Append(context.Background(), erasure.Record{Kind: kindChunk, Label: bytes.Clone(r.Label), Body: bytes.Clone(r.Body)}, erasure.Data, c.tier)
			deps[label] = h
			return err
		}); err != nil {
			return err
		}
	}
	return c.mutate(rng, 10, deps)
}

// commitDrop makes a drop durable.
func (c *client) commitDrop(ids []erasure.SegmentID) error {
	var body []byte
	for _, id := range ids {
		body = binary.LittleEndian.AppendUint64(body, uint64(id))
	}
	for {
		vs := c.log.TakeVerdicts()
		var recs []erasure.Record
		for _, v := range vs {
			recs = append(recs, erasure.Record{Kind: kindVerdict, Label: []byte("v"), Body: encodeVerdict(v)})
		}
		err := c.log.Commit(context.Background(), append(recs, erasure.Record{Kind: kindVerdict, Label: []byte("d"), Body: body}), nil, c.tier)
		if errors.Is(err, erasure.ErrRetry) {
			continue
		}
		if err != nil {
			return err
		}
		for _, v := range vs {
			c.verdicts[v.Segment] = v
		}
		for _, id := range ids {
			c.drops[id] = true
		}
		return nil
	}
}

// compact drops segments in the order that the layer above must keep to.
func (c *client) compact(rng *rand.Rand, ids []erasure.SegmentID) error {
	if err := c.copyOut(rng, ids); err != nil {
		return err
	}
	c.checkpoint()
	if err := c.log.Retire(ids); err != nil {
		return err
	}
	c.checkpoint()
	if err := c.commitDrop(ids); err != nil {
		return err
	}
	return c.log.Drop(context.Background(), ids)
}

// noFilesOf checks that the directories that are there hold nothing of dropped segments.
func noFilesOf(t testing.TB, mem *faultfs.FS, drops map[erasure.SegmentID]bool) {
	t.Helper()
	for _, f := range mem.Files("/") {
		if filepath.Base(filepath.Dir(f)) == "segments" && drops[segmentOf(f)] {
			t.Errorf("%s is still there", f)
		}
	}
}

// TestDrop drops everything that may be dropped, over and over: what was acknowledged is there, what was dropped is gone, from memory and from the
// directories, and stays so over restarts.
func TestDrop(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {1, 1, 2}, {4, 2, 7}} {
		t.Run(fmt.Sprintf("%d+%d on %d", code[0], code[1], code[2]), func(t *testing.T) {
			rng := newRand(7)
			led, mem, opt := filledStore(t, code[0], code[1], code[2], 12)
			for round := range 4 {
				c := mustLed(t, led, opt)
				if err := c.work(rng, 6); err != nil {
					t.Fatal(err)
				}
				ids := c.droppable()
				if len(ids) == 0 {
					t.Fatal("nothing to drop")
				}
				old := maps.Clone(c.locations)
				if err := c.compact(rng, ids); err != nil {
					t.Fatal(err)
				}
				for label, loc := range old {
					if !c.drops[loc.Segment()] {
						continue
					}
					if _, err := c.log.Read(t.Context(), loc, nil); !errors.Is(err, erasure.ErrNotFound) {
						t.Fatalf("%s reads as %v", label, err)
					}
				}
				for _, s := range c.log.Segments() {
					if c.drops[s.ID] {
						t.Fatalf("segment %d is listed", s.ID)
					}
				}
				for id := range c.drops {
					if _, err := c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true}); !errors.Is(err, erasure.ErrNotFound) {
						t.Fatalf("scrub of segment %d: %v", id, err)
					}
				}
				if err := c.check(t); err != nil {
					t.Fatal(err)
				}
				noFilesOf(t, mem, c.drops)
				if err := c.log.Drop(t.Context(), ids); err != nil {
					t.Fatalf("dropping again: %v", err)
				}
				if round%2 == 0 {
					if err := c.work(rng, 6); err != nil {
						t.Fatal(err)
					}
				}
				mustClose(t, c)
			}
		})
	}
}

// TestRetireRefuses what is open, newest or unknown, and then retires nothing.
func TestRetireRefuses(t *testing.T) {
	led, _, opt := filledStore(t, 2, 1, 3, 10)
	c := mustLed(t, led, opt)
	defer mustClose(t, c)
	ids := c.droppable()
	var last erasure.SegmentInfo
	for _, s := range c.log.Segments() {
		if s.LastSeq > last.LastSeq {
			last = s
		}
	}
	before := len(c.log.Segments())
	if err := c.log.Retire(append(slices.Clone(ids), last.ID)); !errors.Is(err, erasure.ErrSegmentOpen) {
		t.Fatalf("the newest segment: %v", err)
	}
	if err := c.log.Retire(append(slices.Clone(ids), 1<<40)); !errors.Is(err, erasure.ErrNotFound) {
		t.Fatalf("an unknown segment: %v", err)
	}
	if err := c.work(newRand(3), 3); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.log.Segments() {
		if !s.Sealed && !s.Ended {
			if err := c.log.Drop(t.Context(), []erasure.SegmentID{s.ID}); !errors.Is(err, erasure.ErrSegmentOpen) {
				t.Fatalf("an open segment: %v", err)
			}
			before++
		}
	}
	if n := len(c.log.Segments()); n < before {
		t.Fatalf("%d segments of %d are left", n, before)
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
}

// TestRetiredComesBack: without a drop that is durable, a start has the segments back.
func TestRetiredComesBack(t *testing.T) {
	led, _, opt := filledStore(t, 2, 1, 3, 10)
	c := mustLed(t, led, opt)
	ids := c.droppable()
	next, live := c.log.Live()
	for range 2 {
		if err := c.log.Retire(ids); err != nil {
			t.Fatal(err)
		}
	}
	if n, l := c.log.Live(); n != next || !slices.Equal(l, live) {
		t.Fatalf("live %v below %d, before %v below %d", l, n, live, next)
	}
	mustClose(t, c)
	c = mustLed(t, led, opt)
	defer mustClose(t, c)
	for _, id := range ids {
		if _, err := readSegment(t, c.log, id, everyKind); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerLossDuringDrop lets the power go, or the process die, at every point of a compaction, and again during the start that
// finishes it.
func TestPowerLossDuringDrop(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 3}, {4, 2, 6}} {
		t.Run(fmt.Sprintf("%d+%d", code[0], code[1]), func(t *testing.T) {
			t.Parallel()
			led, mem, opt := filledStore(t, code[0], code[1], code[2], 8)
			for step := 0; ; step = nextStep(step) {
				if !powerLossDuringDrop(t, led.clone(), mem.Clone(), opt, step) {
					return
				}
			}
		})
	}
}

func powerLossDuringDrop(t *testing.T, led *ledger, mem *faultfs.FS, opt erasure.Options, step int) bool {
	rng := rand.New(rand.NewPCG(*seed, uint64(step)))
	defer func() {
		if t.Failed() {
			t.Logf("-seed=%d step=%d", *seed, step)
		}
	}()
	opt.FS = mem
	c := mustLed(t, led, opt)
	ids := c.droppable()
	rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:1+rng.IntN(len(ids))]
	mem.PowerOffAt(mem.Ops() + step)
	err := c.compact(rng, ids)
	if err != nil && !mem.Off() {
		t.Fatal(err)
	}
	fired := mem.Off()
	c.log.Close(t.Context())
	for range 2 {
		if rng.IntN(2) == 0 {
			mem = mem.Clone()
		} else {
			mem = mem.CrashClone(rng)
		}
		opt.FS = mem
		mem.PowerOffAt(mem.Ops() + rng.IntN(60))
		if c, err = led.open(t, opt); err == nil {
			c.log.Close(t.Context())
		} else if !mem.Off() {
			t.Fatal(err)
		}
	}
	mem = mem.CrashClone(rng)
	opt.FS = mem
	c = mustLed(t, led, opt)
	if err := errors.Join(c.work(rng, 4), c.check(t)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	noFilesOf(t, mem, led.drops)
	return fired
}

// TestFailureDuringDrop makes each operation of a compaction fail once.
func TestFailureDuringDrop(t *testing.T) {
	led0, mem0, opt := filledStore(t, 2, 1, 4, 8)
	for step := 0; ; step = nextStep(step) {
		rng := rand.New(rand.NewPCG(*seed, uint64(step)))
		led, mem := led0.clone(), mem0.Clone()
		opt.FS = mem
		c := mustLed(t, led, opt)
		fired := mem.FailAt(mem.Ops()+step, syscall.EIO)
		if err := errors.Join(c.compact(rng, c.droppable()), c.work(rng, 4), c.check(t)); err != nil {
			t.Fatalf("-seed=%d step=%d: %v", *seed, step, err)
		}
		c.log.Close(t.Context())
		opt.FS = mem.CrashClone(rng)
		c = mustLed(t, led, opt)
		mustClose(t, c)
		noFilesOf(t, opt.FS.(*faultfs.FS), led.drops)
		if !fired() {
			return
		}
	}
}

// TestVoidDropDoesNotCount: the record of a drop was written and never synced, a verdict ends its segment before it, and the drop was not
// repeated.
func TestVoidDropDoesNotCount(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 10)
	c := mustLed(t, led, opt)
	if err := errors.Join(c.work(newRand(3), 2), c.mutate(newRand(4), 10, nil)); err != nil {
		t.Fatal(err)
	}
	ids := c.droppable()
	body := binary.LittleEndian.AppendUint64(nil, uint64(ids[0]))
	var open string
	for _, s := range c.log.Segments() {
		if s.Class == erasure.Metadata && !s.Sealed && !s.Ended {
			open = fmt.Sprintf("%016x.m.00", uint64(s.ID))
		}
	}
	mem.Fail(func(op faultfs.Op) error {
		if op.Kind == faultfs.Sync && filepath.Base(op.Path) == open {
			return syscall.EIO
		}
		return nil
	})
	err := c.log.Commit(t.Context(), []erasure.Record{{Kind: kindVerdict, Label: []byte("d"), Body: body}}, nil, erasure.TierUpload)
	if !errors.Is(err, erasure.ErrRetry) {
		t.Fatal(err)
	}
	if err := c.mutate(newRand(4), 10, nil); err != nil { // with the verdict
		t.Fatal(err)
	}
	killed := opt
	killed.FS = mem.Clone()
	mustClose(t, c)
	l, err := erasure.Open(t.Context(), killed)
	if err != nil {
		t.Fatal(err)
	}
	seen := false // before the verdict is known
	if err := l.Replay(t.Context(), 0, everyKind, func(r erasure.Replayed) error {
		seen = seen || string(r.Label) == "d"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Fatal("the record of the drop is not on disk: nothing is tested")
	}
	l.Close(t.Context())
	c = mustLed(t, led, killed)
	defer mustClose(t, c)
	if len(led.drops) > 0 {
		t.Fatalf("void drops count: %v", led.drops)
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
}

// TestDropInDroppedSegment: files of a dropped segment come back in which another drop was written. That does not count by
// itself: whether it lay in a void stripe nobody knows any more.
func TestDropInDroppedSegment(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 10)
	c := mustLed(t, led, opt)
	rng := newRand(5)
	first := c.droppable()[:1]
	if err := c.compact(rng, first); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c) // seals the segment with the drop
	c = mustLed(t, led, opt)
	if err := c.work(rng, 2); err != nil {
		t.Fatal(err)
	}
	before := mem.Clone()
	second := slices.DeleteFunc(c.droppable(), func(id erasure.SegmentID) bool {
		lines, err := readSegment(t, c.log, id, nil)
		return err != nil || !slices.ContainsFunc(lines, func(l string) bool { return len(l) > 4 && l[:4] == "3 d " })
	})
	if len(second) != 1 {
		t.Fatalf("the drop is in %v", second)
	}
	if err := c.compact(rng, second); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	for _, f := range before.Files("/") { // as from a directory that was away
		if filepath.Base(filepath.Dir(f)) == "segments" && segmentOf(f) == second[0] {
			mem.Graft(before, f)
		}
	}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.FindEnds(t.Context(), 0, kindVerdict, decodeEnds)
	if err != nil || !slices.Equal(found.Drops, second) {
		t.Fatalf("found drops of %v, want %v: %v", found.Drops, second, err)
	}
	l.Close(t.Context())
	c = mustLed(t, led, opt)
	mustClose(t, c)
	noFilesOf(t, mem, led.drops)
}

// TestDropsDoNotCountBesideDamage: when a stripe in the tail cannot be read, what voids a drop may lie there. Damage in what
// is dropped is no reason: a crash in mid-drop leaves it.
func TestDropsDoNotCountBesideDamage(t *testing.T) {
	for _, inside := range []bool{true, false} {
		led, mem, opt := filledStore(t, 2, 1, 3, 0)
		rng := newRand(5)
		c := mustLed(t, led, opt)
		if err := c.work(rng, 10); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
		for range 2 { // two segments with records that must be looked at
			c = mustLed(t, led, opt)
			if err := errors.Join(c.commitDrop(nil), c.mutate(rng, 10, nil)); err != nil {
				t.Fatal(err)
			}
			mustClose(t, c)
		}
		c = mustLed(t, led, opt)
		if err := c.mutate(rng, 10, nil); err != nil {
			t.Fatal(err)
		}
		ids := c.droppable()
		ids = ids[len(ids)-2:]
		c.checkpoint()
		if err := errors.Join(c.copyOut(rng, ids[:1]), c.commitDrop(ids[:1])); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
		bad := ids[0]
		if !inside {
			bad = ids[1]
		}
		for _, d := range dirNames(3) {
			for _, f := range mem.Files(d + "/segments") {
				if segmentOf(f) == bad {
					mem.FlipBit(f, 256+9)
				}
			}
		}
		l, err := erasure.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		found, err := l.FindEnds(t.Context(), 0, kindVerdict, decodeEnds)
		if err != nil || (len(found.Drops) == 1) != inside {
			t.Fatalf("damage inside %v: drops of %v count, %v", inside, found.Drops, err)
		}
		_, err = l.Recover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = readSegment(t, l, ids[0], everyKind)
		if inside != errors.Is(err, erasure.ErrNotFound) || !inside && err != nil { // the other one is damaged
			t.Fatalf("damage inside %v: %v", inside, err)
		}
		l.Close(t.Context())
		if inside {
			noFilesOf(t, mem, map[erasure.SegmentID]bool{ids[0]: true})
		}
	}
}

// TestDroppedDirectoryReturns: a directory is away while segments are dropped; what it brings back is void and goes.
func TestDroppedDirectoryReturns(t *testing.T) {
	for _, live := range []bool{false, true} {
		led, mem, opt := filledStore(t, 2, 1, 3, 12)
		away := mem.Clone()
		mem.RemoveAll("/d2")
		c := mustLed(t, led, opt)
		rng := newRand(6)
		if err := c.work(rng, 3); err != nil {
			t.Fatal(err)
		}
		if err := c.compact(rng, c.droppable()); err != nil {
			t.Fatal(err)
		}
		next, list := c.log.Live()
		mustClose(t, c)
		mem.Graft(away, "/d2")
		if live {
			l, err := erasure.Open(t.Context(), opt)
			if err != nil {
				t.Fatal(err)
			}
			l.SetLive(next, list)
			for _, s := range l.Segments() {
				if led.drops[s.ID] {
					t.Fatalf("segment %d is back", s.ID)
				}
			}
			if err := l.SetVerdicts(slices.Collect(maps.Values(led.cat.verdicts))); err != nil {
				t.Fatal(err)
			}
			if _, err := l.FindEnds(t.Context(), 0, kindVerdict, decodeEnds); err != nil {
				t.Fatal(err)
			}
			if vs, err := l.Recover(t.Context()); err != nil || len(vs) > 0 {
				t.Fatal(vs, err)
			}
			l.Close(t.Context())
		} else {
			c = mustLed(t, led, opt)
			mustClose(t, c)
		}
		noFilesOf(t, mem, led.drops)
		c = mustLed(t, led, opt)
		if err := errors.Join(c.check(t), c.work(rng, 3)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
	}
}

// TestCheckDroppedPosition tells a position in a dropped segment from one that never was.
func TestCheckDroppedPosition(t *testing.T) {
	led, _, opt := filledStore(t, 2, 1, 3, 6)
	c := mustLed(t, led, opt)
	old := c.log.Position()
	if err := c.log.CheckPosition(old); err != nil {
		t.Fatal(err)
	}
	rng := newRand(8)
	if err := c.work(rng, 3); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.droppable(), old.Segment) {
		t.Fatalf("segment %d cannot be dropped", old.Segment)
	}
	if err := c.compact(rng, []erasure.SegmentID{old.Segment}); err != nil {
		t.Fatal(err)
	}
	if err := c.log.CheckPosition(old); !errors.Is(err, erasure.ErrDropped) {
		t.Fatalf("position in a dropped segment: %v", err)
	}
	if err := c.log.CheckPosition(c.cat.pos); err != nil {
		t.Fatalf("position that was taken after Retire: %v", err)
	}
	mustClose(t, c)
}

// TestLiveCountsWhatIsBeingMade: a segment whose files are being created is below the next number and must not be void later.
func TestLiveCountsWhatIsBeingMade(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 6)
	c := mustLed(t, led, opt)
	hanging := make(chan struct{}, 8)
	undo := mem.Fail(func(op faultfs.Op) error {
		if op.Kind == faultfs.Allocate {
			select {
			case hanging <- struct{}{}:
			default:
			}
		}
		return nil
	})
	release := mem.Hang("/d1", faultfs.Allocate)
	next, live := c.log.Live()
	done := make(chan error)
	go func() {
		_, h, err := c.append(newRand(1), 20<<10, erasure.Data)
		_ = h
		if err == nil {
			err = c.log.Sync(context.Background())
		}
		done <- err
	}()
	<-hanging
	undo()
	now, list := c.log.Live()
	if now != next+1 || len(list) != len(live)+1 || list[len(list)-1] != next {
		t.Fatalf("live %v below %d, before %v below %d", list, now, live, next)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if now2, list2 := c.log.Live(); now2 < now || !slices.Contains(list2, next) {
		t.Fatalf("live %v below %d", list2, now2)
	}
	mustClose(t, c)
}

// TestDropBesideEverything reads, replays and scrubs while segments are dropped: right bytes, or ErrNotFound.
func TestDropBesideEverything(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 10)
	c := mustLed(t, led, opt)
	rng := newRand(9)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var reads, lost atomic.Int64
	spin := func(fn func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fn()
				}
			}
		})
	}
	sent := maps.Clone(c.sent) // the chunks that are there at the beginning
	locations := maps.Clone(c.locations)
	for range 2 {
		spin(func() {
			for label, loc := range locations {
				b, err := c.log.Read(context.Background(), loc, nil)
				switch {
				case errors.Is(err, erasure.ErrNotFound):
					lost.Add(1)
				case err != nil:
					t.Errorf("%s: %v", label, err)
				case sent[label] != nil && !bytes.Equal(b, sent[label]):
					t.Errorf("%s reads wrong", label)
				}
				reads.Add(1)
			}
		})
	}
	spin(func() {
		for _, s := range c.log.Segments() {
			_, err := c.log.ScrubSegment(context.Background(), s.ID, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) { t.Errorf("%+v", f) }})
			if err != nil && !errors.Is(err, erasure.ErrNotFound) {
				t.Error(err)
			}
		}
	})
	spin(func() {
		if err := c.log.Replay(context.Background(), 0, everyKind, func(erasure.Replayed) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	for range 6 {
		if err := errors.Join(c.work(rng, 4), c.compact(rng, c.droppable())); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
	if reads.Load() == 0 || lost.Load() == 0 {
		t.Errorf("%d reads, %d of them of what was dropped", reads.Load(), lost.Load())
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	noFilesOf(t, mem, c.drops)
}

// TestDropWaitsForReaders: a reader inside keeps the files; a context that ends first leaves the rest to another call.
func TestDropWaitsForReaders(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 10)
	c := mustLed(t, led, opt)
	rng := newRand(2)
	ids := c.droppable()[:1]
	if err := errors.Join(c.copyOut(rng, ids), c.commitDrop(ids)); err != nil {
		t.Fatal(err)
	}
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		once := sync.OnceFunc(func() { close(inside) })
		done <- c.log.ReadSegment(context.Background(), ids[0], everyKind, func(erasure.Replayed) error {
			once()
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(shardFiles(t, mem, 3))
	if err := c.log.Drop(ctx, ids); !errors.Is(err, context.Canceled) {
		t.Fatalf("drop under a reader: %v", err)
	}
	if n := len(shardFiles(t, mem, 3)); n != before {
		t.Fatalf("%d files of %d are left under a reader", n, before)
	}
	close(leave)
	if err := <-done; err != nil && !errors.Is(err, erasure.ErrNotFound) {
		t.Fatal(err)
	}
	if err := c.log.Drop(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	noFilesOf(t, mem, c.drops)
	mustClose(t, c)
}
