package cas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// dirStore is a store with objects, a code of 2+1, and its index apart.
func dirStore(t *testing.T, dirs int) (s *Store, o Options, objects map[string][]byte) {
	t.Helper()
	o = Options{Dirs: dirsOf(t, dirs), K: 2, M: 1, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1, byHand: true}
	s = openStore(t, o)
	mustBucket(t, s, "b")
	objects = map[string][]byte{}
	for i := range 8 {
		key := fmt.Sprintf("k%d", i)
		objects[key] = noise(uint64(i), 600_000)
		mustPut(t, s, "b", key, objects[key])
	}
	return s, o, objects
}

func mustHaveAll(t *testing.T, s *Store, objects map[string][]byte) {
	t.Helper()
	for key, b := range objects {
		mustHave(t, s, "b", key, b)
	}
}

// memberRows returns the member list of the catalog.
func memberRows(t *testing.T, s *Store) map[string]memberRow {
	t.Helper()
	rows := map[string]memberRow{}
	if err := s.view(func(v *index.View) error {
		it := v.Iter(index.Members, nil, nil)
		defer it.Close()
		for it.Next() {
			var row memberRow
			if err := decodeRow(index.Members, it.Entry().Key, it.Entry().Value, &row); err != nil {
				return err
			}
			rows[string(it.Entry().Key)] = row
		}
		return it.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// sameMembers checks that the catalog has the list that the log has.
func sameMembers(t *testing.T, s *Store) {
	t.Helper()
	rows, infos := memberRows(t, s), s.log.Dirs()
	if len(rows) != len(infos) {
		t.Errorf("the catalog has %d members, the log %d", len(rows), len(infos))
	}
	for _, d := range infos {
		if row := rows[d.ID]; row.Path != d.Path || row.State != d.Member.State {
			t.Errorf("member %s is %+v in the catalog, %+v in the log", d.ID, row, d)
		}
	}
}

func shardFilesIn(t *testing.T, dir string) int {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(dir, "segments"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestAddDrainRemove replaces a directory by another one step by step, while clients write and read.
func TestAddDrainRemove(t *testing.T) {
	s, o, objects := dirStore(t, 3)
	sameMembers(t, s)
	if _, err := s.DrainDir(t.Context(), o.Dirs[1], nil); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "3 directories") {
		t.Errorf("drain with too few directories: %v", err)
	}
	if d, err := s.findDir(o.Dirs[1]); err != nil || d.State != "online" {
		t.Errorf("after a refused drain: %+v, %v", d, err)
	}
	added := filepath.Join(t.TempDir(), "new")
	if err := os.Mkdir(added, 0o755); err != nil {
		t.Fatal(err)
	}
	st, err := s.AddDir(t.Context(), added)
	if err != nil || st.State != "online" || st.Path != added || st.Total == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	sameMembers(t, s)
	if _, err := s.AddDir(t.Context(), added); !errors.Is(err, ErrConflict) {
		t.Errorf("added twice: %v", err)
	}
	if err := s.RemoveDir(t.Context(), o.Dirs[1], false); !errors.Is(err, ErrConflict) {
		t.Errorf("removed with shard files: %v", err)
	}
	if err := s.RemoveDir(t.Context(), o.Dirs[1], true); !errors.Is(err, ErrConflict) {
		t.Errorf("declared lost while in service: %v", err)
	}

	stop := make(chan struct{})
	var clients sync.WaitGroup
	clients.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key, b := fmt.Sprintf("c%d", i%3), noise(uint64(100+i), 70_000)
			if _, err := putBytes(t.Context(), s, "b", key, b, nil); err != nil {
				t.Errorf("put beside a drain: %v", err)
				return
			}
			if got, err := getBytes(t.Context(), s, "b", "k3"); err != nil || string(got) != string(objects["k3"]) {
				t.Errorf("get beside a drain: %v", err)
				return
			}
		}
	})
	var last Progress
	st, err = s.DrainDir(t.Context(), o.Dirs[1], func(p Progress) { last = p })
	close(stop)
	clients.Wait()
	if err != nil || st.State != "draining" || st.Shards != 0 || shardFilesIn(t, o.Dirs[1]) != 0 {
		t.Fatalf("%+v, %v, %d files", st, err, shardFilesIn(t, o.Dirs[1]))
	}
	if last.Operation != "drain" || last.Unit != "bytes" || last.Done == 0 || last.Done != last.Total {
		t.Errorf("%+v", last)
	}
	sameMembers(t, s)
	if _, err := s.DrainDir(t.Context(), st.ID, nil); err != nil {
		t.Errorf("drained twice: %v", err)
	}
	if err := s.RemoveDir(t.Context(), st.ID, false); err != nil {
		t.Fatal(err)
	}
	sameMembers(t, s)
	if err := os.RemoveAll(o.Dirs[1]); err != nil {
		t.Fatal(err)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
	o.Dirs = []string{o.Dirs[0], o.Dirs[2], added}
	s = openStore(t, o)
	mustHaveAll(t, s, objects)
	r, err := s.Scrub(t.Context(), ScrubRequest{})
	if err != nil || r.Outcome != OutcomeWhole {
		t.Errorf("%v, %+v", err, r)
	}
	if _, err := s.DrainDir(t.Context(), "/nowhere", nil); !errors.Is(err, ErrNoSuchDir) {
		t.Errorf("drain of nothing: %v", err)
	}
	closeStore(t, s)
}

// TestDrainGoesOn interrupts a drain, kills the store, and drains again.
func TestDrainGoesOn(t *testing.T) {
	disk, paths := faultDisk(t, 4)
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1, byHand: true}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	objects := map[string][]byte{}
	for i := range 8 {
		key := fmt.Sprintf("k%d", i)
		objects[key] = noise(uint64(i), 600_000)
		mustPut(t, s, "b", key, objects[key])
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	renames := 0
	undo := disk.Fail(func(op faultfs.Op) error {
		if op.Kind == faultfs.Rename && strings.Contains(op.Path, "/segments/") {
			if renames++; renames == 2 {
				cancel()
			}
		}
		return nil
	})
	_, err := s.DrainDir(ctx, o.Dirs[0], nil)
	undo()
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if d, _ := s.findDir(o.Dirs[0]); d.State != "draining" || d.Shards == 0 {
		t.Fatalf("%+v", d)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
	s = openStore(t, o)
	if d, _ := s.findDir(o.Dirs[0]); d.State != "draining" {
		t.Fatalf("%+v", d)
	}
	if st, err := s.AddDir(t.Context(), o.Dirs[0]); err != nil || st.State != "online" { // a change of mind
		t.Fatalf("%+v, %v", st, err)
	}
	sameMembers(t, s)
	st, err := s.DrainDir(t.Context(), o.Dirs[0], nil)
	if err != nil || st.Shards != 0 || st.State != "draining" {
		t.Fatalf("%+v, %v", st, err)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
}

// TestOneChangeOfDirectoriesAtATime begins another one in the middle of a drain.
func TestOneChangeOfDirectoriesAtATime(t *testing.T) {
	s, o, _ := dirStore(t, 4)
	tried := false
	_, err := s.DrainDir(t.Context(), o.Dirs[0], func(Progress) {
		if !tried {
			tried = true
			if _, err := s.Rebalance(t.Context(), nil); !errors.Is(err, ErrConflict) {
				t.Errorf("rebalance in a drain: %v", err)
			}
		}
	})
	if err != nil || !tried {
		t.Fatal(err, tried)
	}
	closeStore(t, s)
}

// TestIndexDirStays: the directory that holds the index is neither drained nor removed.
func TestIndexDirStays(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 4), K: 2, M: 1, CacheBytes: 1, byHand: true}
	s := openStore(t, o)
	first := strings.TrimSuffix(s.indexPath, "/index/catalog.bolt")
	for _, err := range []error{s.RemoveDir(t.Context(), first, false), func() error { _, err := s.DrainDir(t.Context(), first, nil); return err }()} {
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "--index") {
			t.Error(err)
		}
	}
	closeStore(t, s)
}

// TestReplaceDir loses a directory and puts an empty one in its place, at another path or at the same one.
func TestReplaceDir(t *testing.T) {
	for _, same := range []bool{false, true} {
		s, o, objects := dirStore(t, 3)
		closeStore(t, s)
		if err := os.RemoveAll(o.Dirs[2]); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, o)
		mustHaveAll(t, s, objects)
		path := filepath.Join(t.TempDir(), "new")
		if same {
			path = o.Dirs[2]
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReplaceDir(t.Context(), o.Dirs[0], path, nil); !errors.Is(err, ErrConflict) {
			t.Errorf("replaced one in service: %v", err)
		}
		st, err := s.ReplaceDir(t.Context(), o.Dirs[2], path, nil)
		if err != nil || st.State != "online" || st.Shards == 0 || shardFilesIn(t, path) < st.Shards {
			t.Fatalf("%+v, %v", st, err)
		}
		sameMembers(t, s)
		if !same {
			if again, err := s.ReplaceDir(t.Context(), o.Dirs[2], path, nil); err != nil || again.ID != st.ID {
				t.Errorf("replaced twice: %+v, %v", again, err)
			}
		}
		mustPut(t, s, "b", "after", objects["k1"][:50_000])
		closeStore(t, s)
		o.Dirs[2] = path
		if err := os.RemoveAll(o.Dirs[0]); err != nil { // now the new one is needed
			t.Fatal(err)
		}
		s = openStore(t, o)
		mustHaveAll(t, s, objects)
		closeStore(t, s)
	}
}

// TestReplaceGoesOn interrupts a replacement; the same call waits for the rest.
func TestReplaceGoesOn(t *testing.T) {
	s, o, objects := dirStore(t, 3)
	closeStore(t, s)
	if err := os.RemoveAll(o.Dirs[2]); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	path := filepath.Join(t.TempDir(), "new")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.ReplaceDir(ctx, o.Dirs[2], path, func(p Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if d, err := s.findDir(path); err != nil || d.State != erasure.StateHealing {
		t.Fatalf("%+v, %v", d, err)
	}
	st, err := s.ReplaceDir(t.Context(), o.Dirs[2], path, nil)
	if err != nil || st.State != "online" {
		t.Fatalf("%+v, %v", st, err)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
}

// TestDrainOfADirectoryThatIsGone rebuilds elsewhere what it held, and then takes it out.
func TestDrainOfADirectoryThatIsGone(t *testing.T) {
	s, o, objects := dirStore(t, 4)
	closeStore(t, s)
	if err := os.RemoveAll(o.Dirs[3]); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	st, err := s.DrainDir(t.Context(), o.Dirs[3], nil)
	if err != nil {
		t.Fatalf("%+v, %v", st, err)
	}
	if n := s.damagedSegments(); n > 0 {
		t.Errorf("%d segments miss shard files", n)
	}
	if err := s.RemoveDir(t.Context(), o.Dirs[3], false); err != nil {
		t.Fatal(err)
	}
	sameMembers(t, s)
	mustHaveAll(t, s, objects)
	closeStore(t, s)
}

// TestRemoveLost declares a directory lost: the store heals onto the others and forgets it.
func TestRemoveLost(t *testing.T) {
	s, o, objects := dirStore(t, 4)
	closeStore(t, s)
	if err := os.RemoveAll(o.Dirs[3]); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	if err := s.RemoveDir(t.Context(), o.Dirs[3], true); err != nil {
		t.Fatal(err)
	}
	sameMembers(t, s)
	if r, err := s.Scrub(t.Context(), ScrubRequest{}); err != nil || r.Outcome != OutcomeRepaired {
		t.Errorf("%v, %+v", err, r)
	}
	if n := s.damagedSegments(); n > 0 {
		t.Errorf("%d segments miss shard files", n)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
}

// TestRebalance fills three disks, adds an empty one, and evens them out.
func TestRebalance(t *testing.T) {
	disk, paths := faultDisk(t, 4)
	for i, p := range paths {
		disk.Limit(p, 40<<20)
		disk.SetDevice(p, uint64(50+i))
	}
	o := Options{Dirs: paths[:3], K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1, byHand: true}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	objects := map[string][]byte{}
	for i := range 30 {
		key := fmt.Sprintf("k%d", i)
		objects[key] = noise(uint64(i), 1_000_000)
		mustPut(t, s, "b", key, objects[key])
	}
	if _, err := s.AddDir(t.Context(), paths[3]); err != nil {
		t.Fatal(err)
	}
	moved, err := s.Rebalance(t.Context(), nil)
	if err != nil || moved == 0 {
		t.Fatal(moved, err)
	}
	low, high := 1.0, 0.0
	for _, d := range s.log.Dirs() {
		level := float64(d.Total-d.Free) / float64(d.Total)
		low, high = min(low, level), max(high, level)
	}
	if high-low > 0.1 { // segments that are open stay where they are
		t.Errorf("levels from %.2f to %.2f", low, high)
	}
	if again, err := s.Rebalance(t.Context(), nil); err != nil || again > 0 {
		t.Errorf("rebalanced twice: %d, %v", again, err)
	}
	mustHaveAll(t, s, objects)
	closeStore(t, s)
}

// TestReturningDirectoryIsHealed fails a directory, gives it back, and looks whether the store trusts it again.
func TestReturningDirectoryIsHealed(t *testing.T) {
	disk, paths := faultDisk(t, 4)
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1, byHand: true}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	b := noise(1, 3_000_000)
	mustPut(t, s, "b", "k", b)
	mend := disk.FailPath(paths[1], syscall.EIO)
	for i := 0; ; i++ {
		if d, _ := s.findDir(paths[1]); d.State == "offline" {
			break
		}
		if i == 50 {
			t.Fatal("is not offline")
		}
		mustPut(t, s, "b", fmt.Sprintf("k%d", i), noise(uint64(10+i), 400_000))
		_, _ = s.Scrub(t.Context(), ScrubRequest{NoRepair: true})
	}
	s.lookAtDirs(t.Context())
	if d, _ := s.findDir(paths[1]); d.State != "offline" {
		t.Errorf("%+v", d)
	}
	mend()
	s.lookAtDirs(t.Context())
	if d, _ := s.findDir(paths[1]); d.State != erasure.StateHealing {
		t.Errorf("%+v", d)
	}
	for _, id := range append(s.log.Unverified(), s.log.Damaged()...) {
		if _, err := s.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true}); err != nil {
			t.Error(err)
		}
	}
	s.lookAtDirs(t.Context())
	if d, _ := s.findDir(paths[1]); d.State != "online" {
		t.Errorf("%+v", d)
	}
	sameMembers(t, s)
	mustHave(t, s, "b", "k", b)
	closeStore(t, s)
}

// TestMembersAreRepairedAtStart: the list of the log is the one that counts.
func TestMembersAreRepairedAtStart(t *testing.T) {
	s, o, _ := dirStore(t, 3)
	id := s.log.Dirs()[1].ID
	if err := s.update(t.Context(), nil, func(index.Reader) (*tx, error) {
		tr := &tx{}
		tr.remove(index.Members, []byte(id))
		tr.put(index.Members, []byte("nobody"), memberRow{Path: "/nowhere"})
		return tr, nil
	}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openStore(t, o)
	sameMembers(t, s)
	csn, err := s.lastCSN()
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openStore(t, o)
	if again, err := s.lastCSN(); err != nil || again != csn {
		t.Errorf("a start that changes nothing wrote mutation %d: %v", again, err)
	}
	closeStore(t, s)
}

// A directory that was added is used at later starts that do not name it; one of the first ones that is not named is absent; and who
// starts a copy of a store never reaches for a directory of the original.
func TestDirectoriesThatAreNotGiven(t *testing.T) {
	root := t.TempDir()
	at := func(base string, n ...int) (dirs []string) {
		for _, i := range n {
			dirs = append(dirs, filepath.Join(root, base, fmt.Sprint("d", i)))
		}
		return dirs
	}
	states := func(s *Store) (online []string) {
		for _, d := range s.log.Dirs() {
			if d.State == "online" {
				online = append(online, d.Path)
			}
		}
		slices.Sort(online)
		return online
	}
	for _, d := range at("first", 1, 2, 3, 4) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{K: 2, M: 1, IndexDir: t.TempDir()}
	open := func(dirs []string) *Store {
		o := o
		o.Dirs = dirs
		return openStore(t, o)
	}
	s := open(at("first", 1, 2, 3))
	mustBucket(t, s, "b")
	if _, err := s.AddDir(t.Context(), at("first", 4)[0]); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "b", "k", noise(1, 1<<20))
	closeStore(t, s)
	for _, c := range []struct{ given, online []string }{
		{at("first", 1, 2, 3), at("first", 1, 2, 3, 4)},
		{at("first", 1, 3), at("first", 1, 3, 4)},
	} {
		s = open(c.given)
		if got := states(s); !slices.Equal(got, c.online) {
			t.Errorf("given %v: online %v, want %v", c.given, got, c.online)
		}
		mustHave(t, s, "b", "k", noise(1, 1<<20))
		closeStore(t, s)
	}
	if err := os.CopyFS(filepath.Join(root, "copy"), os.DirFS(filepath.Join(root, "first"))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time all that is given is where it was last
		s = open(at("copy", 1, 2, 3))
		if got := states(s); !slices.Equal(got, at("copy", 1, 2, 3)) {
			t.Errorf("copy: online %v", got)
		}
		mustHave(t, s, "b", "k", noise(1, 1<<20))
		closeStore(t, s)
	}
}
