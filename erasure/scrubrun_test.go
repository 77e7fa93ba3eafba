package erasure_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// runningStore returns a log with open, sealed and ended segments.
func runningStore(t testing.TB, k, m, dirs int) (*client, *faultfs.FS, erasure.Options) {
	t.Helper()
	led, mem, opt := filledStore(t, k, m, dirs, 6)
	opt.SegmentBytes, opt.MetadataSegmentBytes = 1<<20, 512<<10 // nothing more is sealed
	c := mustLed(t, led, opt)
	if err := c.work(newRand(3), 8); err != nil {
		t.Fatal(err)
	}
	mem = mem.Clone() // the process dies
	c.log.Close(context.Background())
	opt.FS = mem
	c = mustLed(t, led, opt)
	if err := c.work(newRand(2), 8); err != nil {
		t.Fatal(err)
	}
	var open, sealed, ended bool
	for _, s := range c.log.Segments() {
		open, sealed, ended = open || !s.Sealed && !s.Ended && s.Stripes > 1, sealed || s.Sealed, ended || s.Ended && s.Stripes > 1
	}
	if !open || !sealed || !ended {
		t.Fatalf("segments %+v", c.log.Segments())
	}
	return c, mem, opt
}

// TestScrubOfUnsealedSegments finds and repairs damage in segments that are open, and in those that a verdict ended.
func TestScrubOfUnsealedSegments(t *testing.T) {
	c, mem, opt := runningStore(t, 3, 2, 5)
	if found, sum := scrubAll(t, c, false); len(found) > 0 || sum.Records == 0 {
		t.Fatalf("%+v %+v", sum, found)
	}
	want := shardFiles(t, mem, 5)
	for _, d := range []string{"/d1", "/d3"} {
		for path := range want {
			if strings.HasPrefix(path, d) {
				mem.FlipBit(path, 256+9)
			}
		}
	}
	found, sum := scrubAll(t, c, true)
	for _, f := range found {
		if !f.Repaired {
			t.Errorf("%+v", f)
		}
	}
	if sum.ShardsRepaired == 0 || len(found) == 0 {
		t.Errorf("%+v", sum)
	}
	sameFiles(t, shardFiles(t, mem, 5), want)
	// A file of an ended segment is written anew; one of an open segment is missed and left to the next sync.
	removed := 0
	for _, s := range c.log.Segments() {
		for path := range want {
			if strings.HasPrefix(path, "/d2/") && segmentOf(path) == s.ID && s.Stripes > 0 {
				mem.RemoveAll(path)
				if s.Sealed || s.Ended {
					removed++
				}
			}
		}
	}
	found, sum = scrubAll(t, c, true)
	open := 0
	for _, f := range found {
		if f.Kind != erasure.FindingMissingFile {
			t.Errorf("%+v", f)
		}
		if !f.Repaired {
			open++
		}
	}
	if sum.FilesRebuilt != int64(removed) || open == 0 || removed == 0 {
		t.Errorf("%d files rebuilt of %d, %d left: %+v", sum.FilesRebuilt, removed, open, found)
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	if err := c.work(newRand(3), 3); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
	opt.FS = mem.CrashClone(newRand(4))
	c = mustLed(t, c.ledger, opt)
	scrubAll(t, c, true)
	if found, _ := scrubAll(t, c, true); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	mustClose(t, c)
}

// TestHealOntoSpareDirectory takes a directory away: its shards are written to one that has none of their segments. When it comes
// back nothing is confused.
func TestHealOntoSpareDirectory(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 12)
	gone := mem.Clone()
	mem.RemoveAll("/d1")
	c := mustLed(t, led, opt)
	ids := c.log.Damaged()
	if len(ids) == 0 || !slices.IsSortedFunc(ids, func(a, b erasure.SegmentID) int { return int(b) - int(a) }) {
		t.Fatalf("damaged: %v", ids)
	}
	for _, id := range ids {
		res, err := c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true})
		if err != nil || res.FilesRebuilt != 1 || res.ShardsRepaired != res.Stripes {
			t.Fatalf("%+v %v", res, err)
		}
	}
	if ids = c.log.Damaged(); len(ids) > 0 {
		t.Errorf("still damaged: %v", ids)
	}
	for _, s := range c.log.Segments() {
		if s.ShardsAbsent > 0 {
			t.Errorf("%+v", s)
		}
	}
	mustClose(t, c)
	opt.FS = mem.CrashClone(newRand(1))
	second := opt.FS.(*faultfs.FS).Clone()
	for _, d := range []string{"/d0", "/d2", "/d3"} { // one more may go now
		fs := second.Clone()
		fs.RemoveAll(d)
		opt.FS = fs
		l, err := erasure.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		for label, loc := range c.locations {
			if led.acked[label] {
				if _, err := l.Read(t.Context(), loc, nil); err != nil {
					t.Errorf("%s without %s and /d1: %v", label, d, err)
				}
			}
		}
		l.Close(t.Context())
	}
	second.Graft(gone, "/d1")
	opt.FS = second
	c = mustLed(t, led, opt)
	if found, _ := scrubAll(t, c, true); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	mustClose(t, c)
}

// TestReadsRememberDamage reads what is bad: its segment is suspect, and once only.
func TestReadsRememberDamage(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 5, 8)
	reg := prometheus.NewRegistry()
	opt.Metrics = reg
	want := shardFiles(t, mem, 5)
	c := mustLed(t, led, opt)
	defer mustClose(t, c)
	if ids := c.log.TakeSuspects(); len(ids) > 0 {
		t.Fatalf("%v", ids)
	}
	mine, _ := victim(t, want, c)
	mem.Poke(mine[0], 256, func(b []byte) { clear(b) }, len(want[mine[0]])-256)
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	ids := c.log.TakeSuspects()
	if len(ids) != 1 || ids[0] != segmentOf(mine[0]) || len(c.log.TakeSuspects()) > 0 {
		t.Fatalf("%v", ids)
	}
	var bytes int
	res, err := c.log.ScrubSegment(t.Context(), ids[0], erasure.ScrubOptions{Repair: true, Throttle: func(_ context.Context, n int) error {
		bytes += n
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for i, d := range dirNames(5) {
		sum += res.BytesRead[d]
		if res.BytesRead[d] != int64(len(want[mine[i]])) {
			t.Errorf("%s: %d bytes read, files have %d", d, res.BytesRead[d], len(want[mine[i]]))
		}
	}
	if int64(bytes) != sum {
		t.Errorf("%d bytes announced, %d read", bytes, sum)
	}
	if err := c.check(t); err != nil || len(c.log.TakeSuspects()) > 0 {
		t.Fatal("reads still find damage", err)
	}
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			values[f.GetName()] += m.GetCounter().GetValue()
		}
	}
	if values["casd_log_scrubbed_bytes_total"] != float64(sum) || values["casd_log_scrub_findings_total"] == 0 || values["casd_log_healed_shards_total"] == 0 {
		t.Errorf("%v", values)
	}
}

// TestScrubEndsOnErrors ends scrubs from outside.
func TestScrubEndsOnErrors(t *testing.T) {
	led, _, opt := filledStore(t, 2, 1, 3, 6)
	c := mustLed(t, led, opt)
	id := c.log.Segments()[0].ID
	mine := errors.New("mine")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, got := range map[string]error{
		"throttle": second(c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Throttle: func(context.Context, int) error { return mine }})),
		"record":   second(c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Record: func(erasure.Placed, []byte) error { return mine }})),
		"context":  second(c.log.ScrubSegment(ctx, id, erasure.ScrubOptions{})),
		"unknown":  second(c.log.ScrubSegment(t.Context(), 1<<40, erasure.ScrubOptions{})),
	} {
		want := map[string]error{"throttle": mine, "record": mine, "context": context.Canceled, "unknown": erasure.ErrNotFound}[name]
		if !errors.Is(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	mustClose(t, c)
	if _, err := c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{}); !errors.Is(err, erasure.ErrClosed) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestScrubWithoutParity finds rot where nothing can be repaired.
func TestScrubWithoutParity(t *testing.T) {
	led, mem, opt := filledStore(t, 1, 0, 1, 12)
	want := shardFiles(t, mem, 1)
	c := mustLed(t, led, opt)
	if found := first(scrubAll(t, c, true)); len(found) > 0 {
		t.Fatalf("%+v", found)
	}
	mine, _ := victim(t, want, c)
	mem.FlipBit(mine[0], secondStripe(want[mine[0]])-4096+256+40)
	found, sum := scrubAll(t, c, true)
	if len(found) != 2 || found[0].Kind != erasure.FindingChecksum || !found[1].Lost || len(found[1].Records) == 0 || sum.StripesLost != 1 || sum.ShardsRepaired != 0 {
		t.Errorf("%+v %+v", sum, found)
	}
	mustClose(t, c)
}

// TestRepairOnHangingDirectory lets the writes of a repair hang: the directory is offline, the others are repaired, and so is this
// one after a restart.
func TestRepairOnHangingDirectory(t *testing.T) {
	led, mem, opt, want := damagedStore(t)
	opt.IOTimeout = 300 * time.Millisecond
	c := mustLed(t, led, opt)
	release := mem.Hang("/d1/segments", faultfs.Write)
	for _, f := range first(scrubAll(t, c, true)) {
		if f.Lost || f.Repaired && f.Dir == "/d1" || !f.Repaired && f.Dir != "/d1" {
			t.Errorf("%+v", f)
		}
	}
	if st := c.log.Dirs()[1].State; st != "offline" {
		t.Errorf("the directory is %s", st)
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	release()
	c.log.Close(t.Context())
	c = mustLed(t, led, opt)
	scrubAll(t, c, true)
	if found := first(scrubAll(t, c, true)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	for path, b := range want {
		if content(t, mem, path) != b {
			t.Errorf("%s is not as it was", path)
		}
	}
	mustClose(t, c)
}

// TestScrubOfEndedSegmentReportsLoss damages a stripe of a segment without directory stripes in more than m shards, where its record
// table is not.
func TestScrubOfEndedSegmentReportsLoss(t *testing.T) {
	c, mem, opt := runningStore(t, 3, 1, 4)
	label, h, err := c.append(newRand(5), 9000, erasure.Data)
	if err == nil {
		err = c.mutate(newRand(6), 10, map[string]*erasure.Handle{label: h})
	}
	if err != nil {
		t.Fatal(err)
	}
	loc, _ := h.Location()
	mem = mem.Clone() // the process dies
	c.log.Close(t.Context())
	opt.FS = mem
	c = mustLed(t, c.ledger, opt)
	for path := range shardFiles(t, mem, 4) {
		if segmentOf(path) == loc.Segment() && !strings.HasSuffix(path, ".00") {
			info, err := mem.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for off := int64(4096); off < info.Size; off += 4096 {
				mem.Poke(path, off-4096, func(b []byte) {
					if string(b[:8]) == "casdshrd" {
						b[300] ^= 1
					}
				}, 4096)
			}
		}
	}
	lost := map[string]bool{}
	for _, f := range first(scrubAll(t, c, true)) {
		for _, p := range f.Records {
			lost[string(p.Label)] = true
		}
	}
	if !lost[label] {
		t.Errorf("%s is not among the lost: %v", label, lost)
	}
	c.log.Close(t.Context())
}

// TestNoFileWithAGapWhileADirectoryIsAway loses a stripe while a directory is away: its shard file is not written anew without the
// stripe, because the true one may come back and be passed over. When it does come back all is whole again.
func TestNoFileWithAGapWhileADirectoryIsAway(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 12)
	want := shardFiles(t, mem, 4)
	c := mustLed(t, led, opt)
	mine, _ := victim(t, want, c)
	c.log.Close(t.Context())
	gone := mem.Clone()
	away := mine[0][:len("/d0")]
	mem.RemoveAll(away)
	mem.FlipBit(mine[1], 60)
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	unknown := false
	res, err := l.ScrubSegment(t.Context(), segmentOf(mine[0]), erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) {
		unknown = unknown || f.Kind == erasure.FindingLostStripe
		if f.Lost || f.Repaired {
			t.Errorf("%+v", f)
		}
	}})
	if err != nil || !unknown || res.FilesRebuilt != 0 || res.ShardsRepaired != 0 {
		t.Errorf("%+v %v", res, err)
	}
	l.Close(t.Context())
	mem.Graft(gone, away)
	c = mustLed(t, led, opt)
	scrubAll(t, c, true)
	if found := first(scrubAll(t, c, true)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if content(t, mem, mine[1]) != want[mine[1]] {
		t.Error("not repaired")
	}
	mustClose(t, c)
}

// TestUnmountedDirectoryIsNotMissing empties a directory under the log, as when its disk is unmounted: what was on it is unknown,
// and nothing is written to where it was.
func TestUnmountedDirectoryIsNotMissing(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 12)
	c := mustLed(t, led, opt)
	mem.RemoveAll("/d1")
	if err := mem.MkdirAll("/d1/segments"); err != nil {
		t.Fatal(err)
	}
	found, sum := scrubAll(t, c, true)
	for _, f := range found {
		if f.Kind != erasure.FindingUnreadable || f.Dir != "/d1" || f.Repaired || f.Lost {
			t.Errorf("%+v", f)
		}
	}
	if files := mem.Files("/d1"); len(found) == 0 || sum.FilesRebuilt > 0 || len(files) > 0 {
		t.Errorf("%d findings, %v", len(found), files)
	}
	c.log.Close(t.Context())
}
