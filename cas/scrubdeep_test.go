package cas

import (
	"errors"
	"testing"

	"github.com/casd/casd/index"
)

// A deep scrub finds what is wrong above the log: manifests that name what is not there, and an index that is not what the log says.
func TestDeepScrub(t *testing.T) {
	victims := func(t *testing.T, st *scrubbedStore, key string, n int) (cs []index.Chunk) {
		locations := st.whereIs(t, st.objects[key])
		err := st.idx.IterChunks(func(c index.Chunk) error {
			for _, l := range locations[:n] {
				if c.Location == l {
					cs = append(cs, c)
				}
			}
			return nil
		})
		if err != nil || len(cs) != n {
			t.Fatalf("%d chunks, %v", len(cs), err)
		}
		return cs
	}
	for _, c := range []struct {
		name    string
		harm    func(t *testing.T, st *scrubbedStore) error
		lost    bool
		kinds   []string
		outcome string
	}{
		{"a chunk is not in the map", func(t *testing.T, st *scrubbedStore) error {
			return st.idx.RemoveChunks(victims(t, st, "k4", 2))
		}, true, []string{findingManifest, findingIndex}, OutcomeLost},
		{"a chunk has another's place", func(t *testing.T, st *scrubbedStore) error {
			cs := victims(t, st, "k4", 2)
			cs[0].Location, cs[0].Size, cs[0].Encoding = cs[1].Location, cs[1].Size, cs[1].Encoding
			return st.chunks.PutChunks(cs[:1])
		}, true, []string{findingManifest, findingIndex}, OutcomeLost},
		{"a row is gone", func(t *testing.T, st *scrubbedStore) error {
			st.tamper(t, func(_ *index.DB, stage *index.Stage, csn uint64) error {
				lo, hi := index.ObjectRange("b", "k3")
				e, _, err := stage.First(index.Objects, lo, hi)
				return errors.Join(err, stage.Apply(csn+1, []index.Op{{Table: index.Objects, Key: e.Key, Delete: true}}))
			})
			return nil
		}, false, []string{findingIndex}, OutcomeDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newScrubbedStore(t, 2, 1, 1)
			if err := c.harm(t, st); err != nil {
				t.Fatal(err)
			}
			if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeWhole {
				t.Errorf("level chunks: %+v", r)
			}
			r := st.mustScrub(t, ScrubRequest{Level: ScrubDeep})
			if r.Outcome != c.outcome || (len(r.Lost) == 1 && r.Lost[0].Key == "k4" && r.LostChunks > 0) != c.lost || len(r.Lost) > 1 {
				t.Errorf("%+v", r)
			}
			found := kinds(r)
			for _, kind := range c.kinds {
				if found[kind] == 0 {
					t.Errorf("nothing of kind %s in %v", kind, found)
				}
			}
			if r.Objects == 0 {
				t.Error("no manifests were walked")
			}
		})
	}
}

// A deep scrub waits for a cycle of GC instead of failing.
func TestDeepScrubWaitsForGC(t *testing.T) {
	st := newScrubbedStore(t, 2, 1, 1)
	op, _, err := st.beginOperation(t.Context(), "gc", "")
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	r := st.mustScrub(t, ScrubRequest{Level: ScrubDeep, Progress: func(p Progress) {
		if p.Phase == "waiting for gc" && !ended {
			ended = true
			op.end()
		}
	}})
	if !ended || r.Outcome != OutcomeWhole || r.Objects != int64(len(st.objects)) {
		t.Errorf("%+v", r)
	}
}
