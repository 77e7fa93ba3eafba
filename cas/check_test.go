package cas

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/index"
)

func mustCheck(t testing.TB, s *Store) CheckReport {
	t.Helper()
	r, err := s.Check(t.Context(), CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.indexPath + shadowSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second index is still there: %v", err)
	}
	return r
}

func TestCheckOfWholeStore(t *testing.T) {
	st := newScrubbedStore(t, 4, 2, 2)
	u := mustUpload(t, st.Store, "up")
	mustPart(t, st.Store, u, 7, noise(9, 100_000))
	for range 2 {
		r := mustCheck(t, st.Store)
		if r.Outcome != OutcomeWhole || r.DifferencesTotal != 0 || r.Objects != int64(len(st.objects)) || r.Chunks != st.idx.Totals().Chunks || r.Mutations == 0 ||
			r.CSN == 0 || r.Rows < r.Objects {
			t.Fatalf("%+v", r)
		}
		st.reopen(t)
	}
	op, _, err := st.beginOperation(t.Context(), "gc", "")
	if err != nil {
		t.Fatal(err)
	}
	defer op.end()
	if _, err := st.Check(t.Context(), CheckRequest{}); !errors.Is(err, ErrConflict) {
		t.Errorf("check beside gc = %v, want ErrConflict", err)
	}
}

// tamper changes the index of a stopped store behind its back.
func (st *scrubbedStore) tamper(t *testing.T, change func(db *index.DB, stage *index.Stage, csn uint64) error) {
	t.Helper()
	path := st.indexPath
	closeStore(t, st.Store)
	st.Store = nil
	db, err := index.Open(index.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	pos := db.Position()
	stage, err := db.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if err := change(db, stage, pos.CSN); err != nil {
		t.Fatal(err)
	}
	stage.Publish()
	if err := db.Checkpoint(t.Context(), pos); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	st.reopen(t)
}

// Whatever is changed in the index behind the store's back is told by its name.
func TestCheckFindsDifferences(t *testing.T) {
	object := func(stage *index.Stage, key string) (index.Entry, error) {
		lo, hi := index.ObjectRange("b", key)
		e, ok, err := stage.First(index.Objects, lo, hi)
		if !ok && err == nil {
			err = errors.New("no such row")
		}
		return e, err
	}
	for _, c := range []struct {
		name, words string
		change      func(st *scrubbedStore, db *index.DB, stage *index.Stage, csn uint64) error
		lost        bool
	}{
		{"a row is gone", `objects: "b"/"k3" of mutation`, func(_ *scrubbedStore, _ *index.DB, stage *index.Stage, csn uint64) error {
			e, err := object(stage, "k3")
			return errors.Join(err, stage.Apply(csn+1, []index.Op{{Table: index.Objects, Key: e.Key, Delete: true}}))
		}, false},
		{"a row is too much", `is not in the log`, func(_ *scrubbedStore, _ *index.DB, stage *index.Stage, csn uint64) error {
			e, err := object(stage, "k3")
			return errors.Join(err, stage.Load(index.Objects, []index.Entry{{Key: index.ObjectKey("b", "k33", e.Rev), Value: e.Value, Rev: e.Rev}}))
		}, false},
		{"a row has another value", `another value`, func(_ *scrubbedStore, _ *index.DB, stage *index.Stage, csn uint64) error {
			e, err := object(stage, "k3")
			other, err2 := object(stage, "k5")
			return errors.Join(err, err2, stage.Load(index.Objects, []index.Entry{{Key: e.Key, Value: other.Value, Rev: e.Rev}}))
		}, false},
		{"a row has another revision", `the log says`, func(_ *scrubbedStore, _ *index.DB, stage *index.Stage, csn uint64) error {
			e, err := object(stage, "k3")
			return errors.Join(err, stage.Load(index.Objects, []index.Entry{{Key: e.Key, Value: e.Value, Rev: e.Rev - 1}}))
		}, false},
		{"a row is of the future", `of the future`, func(_ *scrubbedStore, _ *index.DB, stage *index.Stage, csn uint64) error {
			e, err := object(stage, "k3")
			return errors.Join(err, stage.Apply(csn+1000, []index.Op{{Table: index.Objects, Key: e.Key, Value: e.Value}}))
		}, false},
		{"a chunk is not in the map", `is missing, the log has it`, func(st *scrubbedStore, db *index.DB, stage *index.Stage, csn uint64) error {
			return db.RemoveChunks([]index.Chunk{st.victims[0]})
		}, true},
		{"a chunk points to another's place", `hash`, func(st *scrubbedStore, db *index.DB, stage *index.Stage, csn uint64) error {
			v := st.victims[0]
			v.Location, v.Size, v.Encoding = st.victims[1].Location, st.victims[1].Size, st.victims[1].Encoding
			return db.PutChunks([]index.Chunk{v})
		}, true},
		{"a chunk points nowhere", `gone`, func(st *scrubbedStore, db *index.DB, stage *index.Stage, csn uint64) error {
			v := st.victims[0]
			v.Location[3] = 99
			return db.PutChunks([]index.Chunk{v})
		}, true},
		{"a chunk has another size", `has size 17`, func(st *scrubbedStore, db *index.DB, stage *index.Stage, csn uint64) error {
			v := st.victims[0]
			v.Size = 17
			return db.PutChunks([]index.Chunk{v})
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newScrubbedStore(t, 2, 1, 1)
			for _, key := range []string{"k3", "k5"} {
				o, err := st.Get(t.Context(), GetRequest{Bucket: "b", Key: key})
				if err != nil {
					t.Fatal(err)
				}
				_, refs, err := decodeNode(o.row.Content.Root)
				o.Close()
				if err != nil {
					t.Fatal(err)
				}
				chunk, ok, err := st.chunks.LookupChunk(refs[0].id)
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				st.victims = append(st.victims, chunk)
			}
			st.tamper(t, func(db *index.DB, stage *index.Stage, csn uint64) error { return c.change(st, db, stage, csn) })
			r := mustCheck(t, st.Store)
			if r.DifferencesTotal == 0 || !strings.Contains(strings.Join(r.Differences, "\n"), c.words) {
				t.Fatalf("%+v", r)
			}
			if lost := slices.ContainsFunc(r.Lost, func(o LostObject) bool { return o.Key == "k3" }); lost != c.lost || len(r.Lost) > 1 {
				t.Errorf("lost %+v", r.Lost)
			}
			if want := map[bool]string{true: OutcomeLost, false: OutcomeDamaged}[c.lost]; r.Outcome != want {
				t.Errorf("outcome %s, want %s", r.Outcome, want)
			}
			if s := mustStatus(t, st.Store); s.State != StateDegraded {
				t.Errorf("state %s", s.State)
			}
		})
	}
}

// Whatever happened to a store, index and log agree, and a check beside clients is not led astray by what they do.
func TestCheckAfterRandomHistory(t *testing.T) {
	fewChecks(t, "20", "2")
	rapid.Check(t, func(rt *rapid.T) {
		disk, paths := faultDisk(t, 3)
		dir, err := os.MkdirTemp(t.TempDir(), "index")
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: dir, SegmentBytes: 1 << 20, CheckpointEntries: rapid.SampledFrom([]int{1, 8, 1 << 16}).Draw(rt, "checkpoint"), byHand: true}
		s := openStore(t, o)
		mustBucket(t, s, "b")
		step := func(i int) {
			key := fmt.Sprintf("k%d", rapid.IntRange(0, 9).Draw(rt, "key"))
			switch rapid.IntRange(0, 7).Draw(rt, "what") {
			case 0, 1, 2:
				mustPut(t, s, "b", key, noise(rapid.Uint64Range(0, 5).Draw(rt, "seed"), rapid.SampledFrom([]int{10, 3000, 200_000}).Draw(rt, "size")))
			case 3:
				if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
					t.Fatal(err)
				}
			case 4:
				u := mustUpload(t, s, key)
				mustPart(t, s, u, 1+i, noise(uint64(i), 1000*i+1))
			case 5:
				closeStore(t, s)
				s = openStore(t, o)
			case 6:
				if _, err := s.GC(t.Context(), GCRequest{Threshold: 0.01}); err != nil {
					t.Fatal(err)
				}
			case 7:
				op, ctx, err := s.beginOperation(t.Context(), "gc", "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.writeSnapshot(ctx, op); err != nil {
					t.Fatal(err)
				}
				op.end()
			}
		}
		for i := range rapid.IntRange(0, 12).Draw(rt, "steps") {
			step(i)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 10 {
				key := fmt.Sprintf("k%d", i%10)
				if _, err := putBytes(t.Context(), s, "b", key, noise(uint64(i), 700+i), nil); err != nil {
					t.Error(err)
				}
				if _, err := s.Delete(t.Context(), "b", fmt.Sprintf("k%d", (i+5)%10), nil); err != nil {
					t.Error(err)
				}
			}
		})
		r := mustCheck(t, s)
		wg.Wait()
		if r.Outcome != OutcomeWhole {
			t.Errorf("beside clients: %+v", r)
		}
		if r := mustCheck(t, s); r.Outcome != OutcomeWhole {
			t.Errorf("at rest: %+v", r)
		}
		if r, err := s.Scrub(t.Context(), ScrubRequest{Level: ScrubDeep}); err != nil || r.Outcome != OutcomeWhole {
			t.Errorf("scrub: %+v, %v", r, err)
		}
		closeStore(t, s)
	})
}

// A row that goes while the check runs is told from one that is missing.
func TestCheckTellsDeletedFromMissing(t *testing.T) {
	st := newScrubbedStore(t, 2, 1, 1)
	st.tamper(t, func(_ *index.DB, stage *index.Stage, csn uint64) error {
		lo, hi := index.ObjectRange("b", "k3")
		e, _, err := stage.First(index.Objects, lo, hi)
		return errors.Join(err, stage.Apply(csn+1, []index.Op{{Table: index.Objects, Key: e.Key, Delete: true}}))
	})
	op, ctx, err := st.beginOperation(t.Context(), "check", "gc")
	if err != nil {
		t.Fatal(err)
	}
	defer op.end()
	sh, err := st.newShadow()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sh.close(); err != nil {
			t.Error(err)
		}
	}()
	c := &checker{s: st.Store, op: op, pace: &pacer{}, sh: sh}
	if err := c.replay(ctx); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k1", "k2", "k5"} {
		if _, err := st.Delete(ctx, "b", key, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, st.Store, "b", "k2", noise(1, 10))
	if err := c.table(ctx, index.Objects); err != nil {
		t.Fatal(err)
	}
	if len(c.open) != 4 || c.rep.DifferencesTotal != 0 {
		t.Fatalf("%d rows are open, differences %q", len(c.open), c.rep.Differences)
	}
	if err := c.settle(ctx); err != nil {
		t.Fatal(err)
	}
	if len(c.rep.Differences) != 1 || !strings.Contains(c.rep.Differences[0], `"b"/"k3"`) || !strings.Contains(c.rep.Differences[0], "is missing") {
		t.Errorf("%q", c.rep.Differences)
	}
}

// When the log lost mutations a check says so, and the objects that it knows of are not called lost.
func TestCheckOfDamagedLog(t *testing.T) {
	st := newScrubbedStore(t, 2, 1, 1)
	for dir := range 2 {
		for _, f := range st.shards(dir) {
			if strings.Contains(f, ".m.") {
				st.disk.Poke(f, 4096, func(b []byte) { clear(b) }, 8192)
			}
		}
	}
	r := mustCheck(t, st.Store)
	if r.Outcome != OutcomeLost || r.DifferencesTotal == 0 || !strings.Contains(strings.Join(r.Differences, "\n"), "the log") {
		t.Errorf("%+v", r)
	}
}

// A row of the chunk map that leads into a segment that was dropped is no loss, unless something names the chunk.
func TestStrayRowsAreNoLoss(t *testing.T) {
	st := newScrubbedStore(t, 2, 1, 1)
	st.put(t, "garbage", noise(50, 900_000))
	dropped := st.whereIs(t, st.objects["garbage"])[0]
	st.reopen(t)
	if _, err := st.Delete(t.Context(), "b", "garbage", nil); err != nil {
		t.Fatal(err)
	}
	delete(st.objects, "garbage")
	if _, err := st.GC(t.Context(), GCRequest{Threshold: 0.01}); err != nil {
		t.Fatal(err)
	}
	if !st.log.Dropped(dropped.Segment()) {
		t.Fatal("its segment was not dropped")
	}
	if err := st.chunks.PutChunks([]index.Chunk{{ID: index.ID{7}, Location: dropped, Size: 10, Encoding: 1}}); err != nil {
		t.Fatal(err)
	}
	if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeWhole || r.LostChunks != 0 {
		t.Errorf("scrub: %+v", r)
	}
	if r := mustCheck(t, st.Store); r.Outcome != OutcomeWhole {
		t.Errorf("check: %+v", r)
	}
	at := st.whereIs(t, st.objects["k4"])[2]
	var victim index.Chunk
	if err := st.idx.IterChunks(func(c index.Chunk) error {
		if c.Location == at {
			victim = c
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	victim.Location = dropped
	if err := st.chunks.PutChunks([]index.Chunk{victim}); err != nil {
		t.Fatal(err)
	}
	r := st.mustScrub(t, ScrubRequest{})
	if r.Outcome != OutcomeLost || r.LostChunks != 1 || len(r.Lost) != 1 || r.Lost[0].Key != "k4" || !st.damaged.has(victim.ID) {
		t.Errorf("scrub: %+v", r)
	}
}
