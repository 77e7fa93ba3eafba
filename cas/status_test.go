package cas

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func mustStatus(t *testing.T, s *Store) Status {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStatus(t *testing.T) {
	st := newScrubbedStore(t, 4, 2, 2)
	got := mustStatus(t, st.Store)
	if got.State != StateOK || len(got.Reasons) != 0 || got.Code != "2+2" || len(got.Dirs) != 4 || got.CSN == 0 || got.Segments < 3 || got.Damaged != 0 ||
		got.Stats.Objects != int64(len(st.objects)) || got.Index.FileBytes == 0 || got.LastScrub != nil || !got.NextScrub.IsZero() {
		t.Fatalf("%+v", got)
	}
	for _, d := range got.Dirs {
		if d.State != "online" || d.Shards == 0 || d.Bytes == 0 || d.ID == "" {
			t.Errorf("%+v", d)
		}
	}
	op, _, err := st.beginOperation(t.Context(), "gc", "")
	if err != nil {
		t.Fatal(err)
	}
	r := st.mustScrub(t, ScrubRequest{})
	got = mustStatus(t, st.Store)
	if len(got.Running) != 1 || got.Running[0].Operation != "gc" || got.LastScrub == nil || got.LastScrub.ID != r.ID {
		t.Errorf("%+v", got)
	}
	op.end()
}

// Whatever wants attention is a reason in words.
func TestStatusReasons(t *testing.T) {
	for _, c := range []struct {
		name, state, reason string
		harm                func(st *scrubbedStore)
	}{
		{"a directory is away", StateDegraded, "absent", func(st *scrubbedStore) {
			closeStore(t, st.Store)
			st.Store = nil
			st.disk.RemoveAll(st.o.Dirs[3])
			st.o.Dirs = st.o.Dirs[:3]
			st.reopen(t)
		}},
		{"too few take new segments", StateDegraded, "narrower than 2+2", func(st *scrubbedStore) {
			closeStore(t, st.Store)
			st.Store = nil
			st.disk.RemoveAll(st.o.Dirs[3])
			st.o.Dirs = st.o.Dirs[:3]
			st.reopen(t)
		}},
		{"shard files are missing", StateDegraded, "want healing", func(st *scrubbedStore) {
			st.disk.RemoveAll(st.dataShards(0)[0])
			st.reopen(t)
		}},
		{"chunks are lost", StateDegraded, "beyond repair", func(st *scrubbedStore) { st.damaged.add([32]byte{1}) }},
		{"a scrub found loss", StateDegraded, "outcome lost", func(st *scrubbedStore) {
			r := st.newReceipt(ScrubChunks, true, false)
			r.Outcome = OutcomeLost
			st.keepReceipt(t.Context(), &r)
		}},
		{"the index cannot be written", StateDegraded, "index: no room", func(st *scrubbedStore) {
			err := errors.New("no room")
			st.indexTrouble.Store(&err)
		}},
		{"writing stopped", StateReadOnly, "a disk died", func(st *scrubbedStore) { st.fail(errors.New("a disk died")) }},
		{"the store is dead", StateFailed, "its index died", func(st *scrubbedStore) { st.die(errors.New("its index died")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newScrubbedStore(t, 4, 2, 2)
			c.harm(st)
			got := mustStatus(t, st.Store)
			if got.State != c.state || !strings.Contains(strings.Join(got.Reasons, "\n"), c.reason) {
				t.Errorf("%s, %q", got.State, got.Reasons)
			}
		})
	}
}

func TestStatusTellsTheNextScrub(t *testing.T) {
	st, _ := clockedStore(t, 1, 1, 0)
	if got := mustStatus(t, st.Store); !got.NextScrub.Equal(st.created.Add(time.Hour)) {
		t.Errorf("next scrub %v, created %v", got.NextScrub, st.created)
	}
}
