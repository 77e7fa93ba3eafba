package cas

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/casd/casd/erasure"
)

// A directory that was away while a snapshot was given up brings back its shard file of it. That is no loss, and the next cycle removes it.
func TestSnapshotGivenUp(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	w, err := st.log.NewSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(erasure.Record{Kind: kindSnapshot, Label: []byte{snapshotLabelHeader}, Body: noise(1, 50_000)}); err != nil {
		t.Fatal(err)
	}
	id, err := w.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, st.Store)
	var left []string
	for dir := range st.o.Dirs {
		for _, f := range st.shards(dir) {
			if strings.Contains(filepath.Base(f), ".s.") {
				left = append(left, f)
			}
		}
	}
	for _, f := range left[1:] {
		st.disk.RemoveAll(f)
	}
	st.Store = openStore(t, st.o)
	if r := st.mustScrub(t, ScrubRequest{Level: ScrubDeep}); r.Outcome != OutcomeWhole {
		t.Errorf("%+v", r)
	}
	if _, err := st.GC(t.Context(), GCRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, info := range st.log.Segments() {
		if info.ID == id {
			t.Errorf("it is still there: %+v", info)
		}
	}
	if n, err := st.disk.Stat(left[0]); err == nil {
		t.Errorf("its file is still there: %+v", n)
	}
	st.mustHaveAll(t)
}
