package cas

import (
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A crash after a drop leaves rows of the chunk map that lead into the dropped segment. Nothing names them: they are no damage.
func TestScrubForgivesStrayRows(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	var before []index.Chunk
	if err := st.idx.IterChunks(func(c index.Chunk) error { before = append(before, c); return nil }); err != nil {
		t.Fatal(err)
	}
	for key := range st.objects {
		if _, err := st.Delete(t.Context(), "b", key, nil); err != nil {
			t.Fatal(err)
		}
		delete(st.objects, key)
	}
	st.put(t, "stays", noise(5, 100_000))
	if r, err := st.GC(t.Context(), GCRequest{Threshold: 0.01}); err != nil || r.Dropped == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	stray := 0
	for _, c := range before {
		if st.log.Dropped(erasure.Location(c.Location).Segment()) {
			stray++
			if err := st.idx.PutChunks([]index.Chunk{c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := st.mustScrub(t, ScrubRequest{Level: ScrubDeep}); r.Outcome != OutcomeWhole || r.LostChunks != 0 || stray == 0 {
		t.Errorf("%d stray rows: %+v", stray, r)
	}
	for _, c := range before {
		if st.damaged.has(c.ID) {
			t.Errorf("chunk %x counts as damaged", c.ID[:4])
		}
	}
	st.mustHaveAll(t)
}
