package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

const kindRow = 9

func snapshotRecords(rng *rand.Rand, n int) (recs []erasure.Record) {
	for i := range n {
		body := make([]byte, rng.IntN(9<<10))
		for j := range body {
			body[j] = byte(rng.Uint32())
		}
		recs = append(recs, erasure.Record{Kind: kindRow, Label: []byte(fmt.Sprintf("s%d", i)), Body: body})
	}
	return recs
}

func writeSnapshot(l *erasure.Log, recs []erasure.Record) (erasure.SegmentID, error) {
	w, err := l.NewSnapshot(context.Background())
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	for _, r := range recs {
		if err := w.Append(r); err != nil {
			return 0, err
		}
	}
	return w.Close(context.Background())
}

func isSnapshot(t testing.TB, l *erasure.Log, id erasure.SegmentID, recs []erasure.Record) {
	t.Helper()
	i := 0
	if err := l.ReadSegment(context.Background(), id, everyKind, func(r erasure.Replayed) error {
		if i >= len(recs) || r.Kind != recs[i].Kind || string(r.Label) != string(recs[i].Label) || string(r.Body) != string(recs[i].Body) {
			return fmt.Errorf("record %d is %s", i, r.Label)
		}
		b, err := l.Read(context.Background(), r.Location, nil)
		if err != nil || string(b) != string(r.Body) {
			return fmt.Errorf("record %d: %w", i, err)
		}
		i++
		return nil
	}); err != nil || i != len(recs) {
		t.Fatalf("snapshot %d: %d of %d records: %v", id, i, len(recs), err)
	}
}

// TestSnapshot writes snapshots beside commits, over restarts, and drops old ones.
func TestSnapshot(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 3}, {4, 2, 7}} {
		t.Run(fmt.Sprintf("%d+%d on %d", code[0], code[1], code[2]), func(t *testing.T) {
			rng := newRand(1)
			led, mem, opt := filledStore(t, code[0], code[1], code[2], 6)
			var ids []erasure.SegmentID
			var sets [][]erasure.Record
			for round := range 3 {
				c := mustLed(t, led, opt)
				recs := snapshotRecords(rng, 1+rng.IntN(20))
				var wg sync.WaitGroup
				var id erasure.SegmentID
				wg.Go(func() {
					var err error
					if id, err = writeSnapshot(c.log, recs); err != nil {
						t.Error(err)
					}
				})
				if err := c.work(newRand(uint64(round)), 8); err != nil {
					t.Error(err)
				}
				wg.Wait()
				ids, sets = append(ids, id), append(sets, recs)
				want := slices.Clone(ids)
				slices.Reverse(want)
				for range 2 {
					if got := c.log.LatestSnapshots(); !slices.Equal(got, want) {
						t.Fatalf("snapshots %v, want %v", got, want)
					}
					for i, id := range ids {
						isSnapshot(t, c.log, id, sets[i])
					}
					if found, _ := scrubAll(t, c, false); len(found) > 0 {
						t.Fatalf("%+v", found)
					}
					if err := c.check(t); err != nil {
						t.Fatal(err)
					}
					mustClose(t, c)
					c = mustLed(t, led, opt) // replays
				}
				if round == 1 {
					if err := errors.Join(c.log.Retire(ids[:1]), c.commitDrop(ids[:1]), c.log.Drop(t.Context(), ids[:1])); err != nil {
						t.Fatal(err)
					}
					noFilesOf(t, mem, led.drops)
					ids, sets = ids[1:], sets[1:]
				}
				mustClose(t, c)
			}
			if code[1] == 0 {
				return
			}
			mem.RemoveAll("/d0")
			c := mustLed(t, led, opt)
			for i, id := range ids {
				isSnapshot(t, c.log, id, sets[i])
			}
			mustClose(t, c)
		})
	}
}

// TestUnfinishedSnapshotIsVoid: what a crash leaves of a snapshot is removed, without a verdict.
func TestUnfinishedSnapshotIsVoid(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 4)
	c := mustLed(t, led, opt)
	w, err := c.log.NewSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range snapshotRecords(newRand(1), 20) {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.log.LatestSnapshots(); len(got) > 0 {
		t.Fatalf("%v is listed", got)
	}
	if err := c.work(newRand(2), 3); err != nil {
		t.Fatal(err)
	}
	killed := opt
	killed.FS = mem.Clone()
	names := strings.Join(mem.Files("/"), " ")
	w.Abort()
	w.Abort()
	if err := w.Append(erasure.Record{Kind: 1}); !errors.Is(err, erasure.ErrSnapshotFailed) {
		t.Fatalf("append after abort: %v", err)
	}
	mustClose(t, c)
	noSnapshotFiles(t, mem)
	l, err := erasure.Open(t.Context(), killed)
	if err != nil {
		t.Fatal(err)
	}
	vs, err := l.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Segments() {
		if s.Class == erasure.Snapshot {
			t.Fatalf("%+v is listed", s)
		}
	}
	for _, v := range vs {
		if strings.Contains(names, fmt.Sprintf("%016x.s.", uint64(v.Segment))) {
			t.Fatalf("verdict on a snapshot: %+v", v)
		}
	}
	l.Close(t.Context())
	noSnapshotFiles(t, killed.FS.(*faultfs.FS))
}

func noSnapshotFiles(t testing.TB, mem *faultfs.FS) {
	t.Helper()
	for _, f := range mem.Files("/") {
		if strings.Contains(f, ".s.") {
			t.Errorf("%s is there", f)
		}
	}
}

// TestSnapshotErrors: an empty one, a record that is too large, a context that ended.
func TestSnapshotErrors(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 4)
	c := mustLed(t, led, opt)
	defer mustClose(t, c)
	if _, err := writeSnapshot(c.log, nil); !errors.Is(err, erasure.ErrSnapshotFailed) {
		t.Fatalf("an empty snapshot: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := c.log.NewSnapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(erasure.Record{Kind: 0}); err == nil {
		t.Fatal("a record of kind 0")
	}
	if err := w.Append(erasure.Record{Kind: 1, Body: make([]byte, 30)}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := c.log.NewSnapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	noSnapshotFiles(t, mem)
}

// TestSnapshotHoldsNobodyUp: commits go on while a disk takes its time with the files of a snapshot.
func TestSnapshotHoldsNobodyUp(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 4)
	c := mustLed(t, led, opt)
	recs := snapshotRecords(newRand(1), 12)
	w, err := c.log.NewSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var releases []func()
	for _, f := range mem.Files("/") {
		if strings.Contains(f, ".s.") {
			releases = append(releases, mem.Hang(f, faultfs.Write, faultfs.Sync))
		}
	}
	if len(releases) != 3 {
		t.Fatalf("%d files", len(releases))
	}
	done := make(chan error)
	go func() {
		for _, r := range recs {
			if err := w.Append(r); err != nil {
				done <- err
				return
			}
		}
		_, err := w.Close(context.Background())
		done <- err
	}()
	if err := c.work(newRand(2), 10); err != nil {
		t.Fatal(err)
	}
	for _, release := range releases {
		release()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	isSnapshot(t, c.log, c.log.LatestSnapshots()[0], recs)
	mustClose(t, c)
}

// TestPowerLossDuringSnapshot lets the power go, or the process die, at every point: a snapshot that was acknowledged is whole, one that
// is listed is whole, and of others nothing stays.
func TestPowerLossDuringSnapshot(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 3}} {
		t.Run(fmt.Sprintf("%d+%d", code[0], code[1]), func(t *testing.T) {
			t.Parallel()
			led, mem, opt := filledStore(t, code[0], code[1], code[2], 4)
			recs := snapshotRecords(newRand(1), 9)
			for step := 0; ; step = nextStep(step) {
				if !powerLossDuringSnapshot(t, led.clone(), mem.Clone(), opt, recs, step) {
					return
				}
			}
		})
	}
}

func powerLossDuringSnapshot(t *testing.T, led *ledger, mem *faultfs.FS, opt erasure.Options, recs []erasure.Record, step int) bool {
	rng := rand.New(rand.NewPCG(*seed, uint64(step)))
	defer func() {
		if t.Failed() {
			t.Logf("-seed=%d step=%d", *seed, step)
		}
	}()
	opt.FS = mem
	c := mustLed(t, led, opt)
	first, err := writeSnapshot(c.log, recs[:2])
	if err != nil {
		t.Fatal(err)
	}
	mem.PowerOffAt(mem.Ops() + step)
	second, err := writeSnapshot(c.log, recs)
	if err != nil && !mem.Off() {
		t.Fatal(err)
	}
	fired := mem.Off()
	c.log.Close(t.Context())
	if rng.IntN(2) == 0 {
		mem = mem.Clone()
	} else {
		mem = mem.CrashClone(rng)
	}
	opt.FS = mem
	c = mustLed(t, led, opt)
	got := c.log.LatestSnapshots()
	if second != 0 && !slices.Contains(got, second) || !slices.Contains(got, first) {
		t.Fatalf("snapshots %v, acknowledged %d and %d", got, first, second)
	}
	for _, id := range got {
		want := recs
		if id == first {
			want = recs[:2]
		}
		isSnapshot(t, c.log, id, want)
	}
	if len(got) > 2 {
		t.Fatalf("snapshots %v", got)
	}
	mustClose(t, c)
	for _, f := range mem.Files("/") {
		if strings.Contains(f, ".s.") && !slices.Contains(got, segmentOf(f)) {
			t.Fatalf("%s is left", f)
		}
	}
	return fired
}

// TestFailureDuringSnapshot makes each operation fail once, and then writes another snapshot.
func TestFailureDuringSnapshot(t *testing.T) {
	led0, mem0, opt := filledStore(t, 2, 1, 4, 4)
	recs := snapshotRecords(newRand(1), 9)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		failed := 0
		for step := 0; ; step = nextStep(step) {
			led, mem := led0.clone(), mem0.Clone()
			opt.FS = mem
			c := mustLed(t, led, opt)
			fired := mem.FailAt(mem.Ops()+step, cause)
			id, err := writeSnapshot(c.log, recs)
			if err != nil {
				failed++
				if !errors.Is(err, erasure.ErrSnapshotFailed) && !errors.Is(err, erasure.ErrNoSpace) || !fired() {
					t.Fatalf("%v at step %d: %v", cause, step, err)
				}
				if len(c.log.LatestSnapshots()) > 0 {
					t.Fatalf("%v at step %d: it is listed", cause, step)
				}
				if id, err = writeSnapshot(c.log, recs); err != nil {
					t.Fatalf("%v at step %d: the next one: %v", cause, step, err)
				}
			}
			isSnapshot(t, c.log, id, recs)
			if err := errors.Join(c.work(newRand(3), 2), c.check(t)); err != nil {
				t.Fatalf("%v at step %d: %v", cause, step, err)
			}
			c.log.Close(t.Context())
			if !fired() {
				break
			}
		}
		if failed == 0 {
			t.Fatalf("no snapshot failed by %v", cause)
		}
	}
}

// TestLostSnapshotWriteIsSeen: a disk that says that it wrote, and did not, is caught before the snapshot counts.
func TestLostSnapshotWriteIsSeen(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 4)
	disk := &diskFS{FS: mem}
	opt.FS = disk
	c := mustLed(t, led, opt)
	w, err := c.log.NewSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range mem.Files("/d1") {
		if strings.Contains(f, ".s.") {
			disk.mu.Lock()
			disk.lose = f
			disk.mu.Unlock()
		}
	}
	if err := w.Append(erasure.Record{Kind: kindRow, Body: make([]byte, 30<<10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(t.Context()); !errors.Is(err, erasure.ErrSnapshotFailed) {
		t.Fatalf("close: %v", err)
	}
	noSnapshotFiles(t, mem)
	mustClose(t, c)
}
