package erasure

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestMoveLeavesNoFileOpen: a file that was removed and is still open keeps its space, and its disk cannot be unmounted.
func TestMoveLeavesNoFileOpen(t *testing.T) {
	opt := small(testDirs(t, 4))
	opt.Create = &Creation{K: 2, M: 1}
	l := mustOpen(t, opt)
	mustRecover(t, l)
	body := randomBody(rand.New(rand.NewPCG(1, 1)), 9<<10)
	h, err := l.Append(t.Context(), Record{Kind: 1, Label: []byte("x"), Body: body}, Data, TierUpload)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	loc, _ := h.Location()
	s := l.lookup(loc.Segment())
	read := func() {
		t.Helper()
		if b, err := l.Read(t.Context(), loc, nil); err != nil || !bytes.Equal(b, body) {
			t.Fatal(err)
		}
	}
	read()
	if len(l.files.files) == 0 {
		t.Fatal("nothing is open")
	}
	for shard := range s.n() {
		from := s.dirOf(shard)
		var to *dir
		for _, d := range l.dirs() {
			if !s.holds(d) {
				to = d
			}
		}
		if err := l.MoveShard(t.Context(), s.id, shard, to.id, MoveOptions{}); err != nil {
			t.Fatal(err)
		}
		l.files.mu.Lock()
		for key := range l.files.files {
			if key.segment == s.id && key.shard == shard && key.d == from {
				t.Errorf("shard %d is still open in %s", shard, from.path)
			}
		}
		l.files.mu.Unlock()
		read()
	}
}
