package cas

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casd/casd/erasure/faultfs"
)

// onRead calls f before the nth read of a shard file from now on.
func (st *scrubbedStore) onRead(n int64, f func()) (undo func()) {
	var count atomic.Int64
	return st.disk.Fail(func(op faultfs.Op) error {
		if op.Kind == faultfs.Read && strings.Contains(op.Path, "/segments/") && count.Add(1) == n {
			f()
		}
		return nil
	})
}

// What a GET finds damaged is healed in the background, and a receipt tells of it.
func TestReadsHealInBackground(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	st.o.byHand = false
	for _, f := range append(st.dataShards(1), st.dataShards(4)...) {
		st.disk.Poke(f, 4096, func(b []byte) { clear(b) }, 4096)
	}
	st.reopen(t)
	st.mustHaveAll(t)
	if err := st.heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.healer.waiting() != 0 {
		t.Errorf("%d segments wait", st.healer.waiting())
	}
	rs, err := st.Receipts(t.Context(), 10)
	if err != nil || len(rs) != 1 || rs[0].Level != ScrubHeal || !rs[0].Background || rs[0].Outcome != OutcomeRepaired || rs[0].ShardsRepaired == 0 {
		t.Fatalf("receipts %+v, %v", rs, err)
	}
	if st.lastScrub.Load() != nil {
		t.Error("healing counts as a scrub")
	}
	st.mustHaveAll(t)
	// What nobody read is still as it was: damage comes to light by reads or by a scrub.
	if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeWhole && r.Outcome != OutcomeRepaired {
		t.Errorf("%+v", r)
	}
}

// Shard files that are gone are written anew, the newest segment first, without anybody asking.
func TestMissingFilesAreHealed(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	st.o.byHand = false
	removed := 0
	for _, dir := range []int{0, 2} {
		for _, f := range st.shards(dir) {
			st.disk.RemoveAll(f)
			removed++
		}
	}
	st.reopen(t)
	if err := st.heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := st.damagedSegments(); n != 0 {
		t.Errorf("%d segments miss files", n)
	}
	rs, err := st.Receipts(t.Context(), 10)
	if err != nil || len(rs) == 0 {
		t.Fatal(rs, err)
	}
	var rebuilt int64
	for _, r := range rs {
		rebuilt += r.FilesRebuilt
	}
	if rebuilt != int64(removed) {
		t.Errorf("%d files rebuilt of %d: %+v", rebuilt, removed, rs)
	}
	if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeWhole {
		t.Errorf("%+v", r)
	}
}

// The newest damage is healed first. What cannot be healed now is tried again after a while, and at once when it is asked for.
func TestHealerOrderAndBackoff(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	now := time.Unix(1_000_000, 0)
	st.opts.Clock = func() time.Time { return now }
	h := newHealer(st.Store)
	h.suspects(1, 2)
	if id, n := h.next(); id != 2 || n != 2 {
		t.Fatalf("next = %d of %d", id, n)
	}
	undo := st.disk.FailPath("/d1", errors.New("no writes"), faultfs.Write, faultfs.Sync)
	for _, f := range st.shards(0) {
		st.disk.FlipBit(f, 300)
	}
	if err := h.round(t.Context(), t.Context()); !errors.Is(err, errNotHealed) {
		t.Fatalf("round = %v, want errNotHealed", err)
	}
	h.suspects(1, 2)
	if _, n := h.next(); n != 0 {
		t.Errorf("%d segments are tried again at once", n)
	}
	undo()
	now = now.Add(healBackoffMin + time.Second)
	if _, n := h.next(); n == 0 {
		t.Error("nothing is tried again")
	}
}

// Loss is traced to the objects at once, and not looked at again with every read of them.
func TestHealerTellsOfLossOnce(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	st.o.byHand = false
	at := st.whereIs(t, st.objects["k4"])
	segment := fmt.Sprintf("%016x.d.", uint64(at[len(at)/2].Segment())) // one, so that all of the loss is met at once
	for dir := range 3 {
		for _, f := range st.dataShards(dir) {
			if strings.HasPrefix(filepath.Base(f), segment) {
				st.disk.Poke(f, 4096, func(b []byte) { clear(b) }, 100<<10)
			}
		}
	}
	st.reopen(t)
	lost := map[string]bool{}
	for range 3 {
		for key := range st.objects {
			if _, err := getBytes(t.Context(), st.Store, "b", key); errors.Is(err, ErrCorrupt) {
				lost[key] = true
			}
		}
	}
	if err := st.heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	rs, err := st.Receipts(t.Context(), 10)
	if err != nil || len(rs) == 0 || len(rs) > 3 || len(lost) == 0 { // one by itself, one for what was asked for
		t.Fatalf("%d receipts, %d objects lost, %v", len(rs), len(lost), err)
	}
	for _, o := range rs[0].Lost {
		if !lost[o.Key] {
			t.Errorf("%s is not lost", o.Key)
		}
	}
	if len(rs[0].Lost) != len(lost) || rs[0].Outcome != OutcomeLost {
		t.Errorf("%+v, lost %v", rs[0], lost)
	}
	n := len(rs)
	for key := range lost {
		if _, err := getBytes(t.Context(), st.Store, "b", key); !errors.Is(err, ErrCorrupt) {
			t.Errorf("get %s = %v", key, err)
		}
	}
	closeStore(t, st.Store)
	st.Store = nil
	st.o.byHand = true
	st.reopen(t)
	if rs, err := st.Receipts(t.Context(), 10); err != nil || len(rs) != n {
		t.Errorf("%d receipts, there were %d, %v: %+v", len(rs), n, err, rs)
	}
}

// clockedStore is one whose clock is set by hand, with a background scrub every hour.
func clockedStore(t *testing.T, dirs, k, m int) (*scrubbedStore, *atomic.Int64) {
	st := newScrubbedStore(t, dirs, k, m)
	var now atomic.Int64
	now.Store(st.created.UnixNano())
	st.o.Clock = func() time.Time { return time.Unix(0, now.Load()) }
	st.o.ScrubInterval = time.Hour
	st.reopen(t)
	return st, &now
}

// A pass of the background scrub runs when it is due, goes on where it was after a restart, and becomes one receipt.
func TestBackgroundScrubResumes(t *testing.T) {
	st, now := clockedStore(t, 4, 2, 2)
	due, ok := st.nextScrub()
	if !ok || !due.Equal(st.created.Add(time.Hour)) {
		t.Fatalf("due %v %v", due, ok)
	}
	if err := st.scrubIfDue(t.Context()); err != nil || st.lastScrub.Load() != nil {
		t.Fatalf("it ran too early, %v", err)
	}
	now.Add(int64(time.Hour) + 1)
	broken := st.dataShards(1)[0] // in one of the first segments
	st.disk.FlipBit(broken, 5000)
	reads := 0
	for i := 0; ; i++ {
		ctx, cancel := context.WithCancel(t.Context())
		undo := st.onRead(60, cancel)
		err := st.scrubIfDue(ctx)
		undo()
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || i > 50 {
			t.Fatal(err)
		}
		reads++
		if due, ok := st.nextScrub(); !ok || due.After(st.o.Clock()) {
			t.Fatalf("under way, but due %v", due)
		}
		st.reopen(t)
	}
	if reads == 0 {
		t.Fatal("it was never interrupted")
	}
	rs, err := st.Receipts(t.Context(), 10)
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	r := rs[0]
	if !r.Background || !r.Complete || r.Outcome != OutcomeRepaired || r.FindingsTotal != 1 || r.Findings[0].File != filepath.Base(broken) || r.ShardsRepaired != 1 {
		t.Errorf("%+v", r)
	}
	if chunks := st.idx.Totals().Chunks; r.Chunks != chunks {
		t.Errorf("%d chunks were proven, there are %d", r.Chunks, chunks)
	}
	if due, _ := st.nextScrub(); !due.Equal(r.Ended.Add(time.Hour)) {
		t.Errorf("next due %v, ended %v", due, r.Ended)
	}
	st.reopen(t)
	if due, _ := st.nextScrub(); !due.Equal(r.Ended.Add(time.Hour)) {
		t.Errorf("after a restart: next due %v, ended %v", due, r.Ended)
	}
	// A scrub that was asked for counts.
	now.Add(int64(time.Hour))
	r = st.mustScrub(t, ScrubRequest{})
	if due, _ := st.nextScrub(); !due.Equal(r.Ended.Add(time.Hour)) {
		t.Errorf("after another scrub: next due %v, ended %v", due, r.Ended)
	}
}

// A scrub that is asked for goes before the one in the background.
func TestBackgroundScrubGivesWay(t *testing.T) {
	st, now := clockedStore(t, 3, 2, 1)
	now.Add(int64(time.Hour) + 1)
	var op *operation
	undo := st.onRead(5, func() {
		var err error
		if op, _, err = st.beginOperation(t.Context(), "scrub", ""); err != nil {
			t.Error(err)
		}
	})
	if err := st.scrubIfDue(t.Context()); !errors.Is(err, errPaused) {
		t.Fatalf("scrub in the background = %v, want errPaused", err)
	}
	undo()
	if err := st.scrubIfDue(t.Context()); err != nil || st.lastScrub.Load() != nil {
		t.Fatalf("it ran beside another one: %v", err)
	}
	op.end()
	if err := st.scrubIfDue(t.Context()); err != nil || st.lastScrub.Load() == nil {
		t.Fatalf("it did not go on: %v", err)
	}
}

// Close ends a scrub at once, and its receipt is in the store.
func TestCloseDuringScrub(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	reached, done := make(chan struct{}), make(chan error)
	st.onRead(2, func() { close(reached) })
	go func() {
		_, err := st.Scrub(context.Background(), ScrubRequest{Rate: 1})
		done <- err
	}()
	<-reached
	closeStore(t, st.Store)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("scrub = %v, want ErrClosed", err)
	}
	st.Store = nil
	st.reopen(t)
	rs, err := st.Receipts(t.Context(), 10)
	if err != nil || len(rs) != 1 || rs[0].Complete {
		t.Errorf("%+v, %v", rs, err)
	}
}

// Scrubs, healing and clients do not disturb one another.
func TestScrubBesideClients(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	st.o.byHand = false
	st.reopen(t)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 12 {
				key, body := fmt.Sprintf("w%d-%d", w, i%3), noise(uint64(1000+w*100+i), 1<<(10+i))
				if _, err := putBytes(t.Context(), st.Store, "b", key, body, nil); err != nil {
					t.Errorf("put: %v", err)
				}
				if got, err := getBytes(t.Context(), st.Store, "b", key); err != nil || string(got) != string(body) {
					t.Errorf("get %s: %d bytes of %d, %v", key, len(got), len(body), err)
				}
				if i%4 == 3 {
					if _, err := st.Delete(t.Context(), "b", key, nil); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 6 {
			files := st.dataShards(i % 2)
			st.disk.FlipBit(files[i%len(files)], 4500)
			r, err := st.Scrub(t.Context(), ScrubRequest{})
			if err != nil || r.Outcome != OutcomeRepaired && r.Outcome != OutcomeWhole {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
	wg.Wait()
	st.mustHaveAll(t)
	if r := st.mustScrub(t, ScrubRequest{Level: ScrubDeep}); r.Outcome != OutcomeWhole {
		t.Errorf("%+v", r)
	}
}

// With Options.OnDemand only a call heals.
func TestOnDemand(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	st.o.byHand, st.o.OnDemand = false, true
	for _, f := range st.shards(0) {
		st.disk.RemoveAll(f)
	}
	st.reopen(t)
	if st.damagedSegments() == 0 {
		t.Fatal("nothing is damaged")
	}
	st.healer.poke()
	if r := st.mustScrub(t, ScrubRequest{NoRepair: true}); r.Outcome != OutcomeDamaged {
		t.Errorf("%+v", r)
	}
	if st.damagedSegments() == 0 || len(st.healer.kick) != 1 {
		t.Error("it was healed all the same")
	}
	if err := st.heal(t.Context()); err != nil || st.damagedSegments() != 0 {
		t.Errorf("a call left %d damaged segments, %v", st.damagedSegments(), err)
	}
}
