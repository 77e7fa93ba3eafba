package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/casd/casd/index"
)

// dumpIndex is everything that the index says: every row of every table with its revision, and the chunk map.
func dumpIndex(t *testing.T, s *Store) []string {
	t.Helper()
	var rows []string
	tables := []index.Table{index.Buckets, index.Objects, index.Uploads, index.Parts, index.Usage, index.Domains, index.Users, index.Policies, index.Segments,
		index.Verdicts, index.Members, index.Meta}
	err := s.view(func(v *index.View) error {
		for _, table := range tables {
			it := v.Iter(table, nil, nil)
			for it.Next() {
				e := it.Entry()
				rows = append(rows, fmt.Sprintf("%d %x %x %d", table, e.Key, e.Value, e.Rev))
			}
			it.Close()
			if err := it.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.idx.IterChunks(func(c index.Chunk) error {
			rows = append(rows, fmt.Sprintf("chunk %+v", c))
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	return rows
}

// TestRebuildIndex proves I6 over every table: after a random history the index that is built anew says what the old one said.
func TestRebuildIndex(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := Options{Dirs: dirsOf(t, 6), SegmentBytes: 2 << 20, CheckpointEntries: 20}
	s := openStore(t, o)
	mustBucket(t, s, "a")
	mustBucket(t, s, "b")
	bodies := map[string][]byte{}
	for i := range 150 {
		key := fmt.Sprint("key", rng.IntN(30))
		switch rng.IntN(10) {
		default:
			bodies[key] = append(noise(uint64(rng.IntN(5)), rng.IntN(300<<10)), noise(uint64(i), rng.IntN(2000))...)
			mustPut(t, s, "b", key, bodies[key])
		case 0:
			if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
				t.Fatal(err)
			}
			delete(bodies, key)
		case 1:
			if source := fmt.Sprint("key", rng.IntN(30)); bodies[source] != nil {
				if _, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "b", SourceKey: source, Bucket: "b", Key: key,
					Attributes: func(from ObjectInfo) (Attributes, error) { return from.Attributes, nil }}); err != nil {
					t.Fatal(err)
				}
				bodies[key] = bodies[source]
			}
		case 2:
			u := mustUpload(t, s, key)
			whole := slices.Concat(noise(uint64(i), 5<<20), noise(1, 1000))
			parts := []CompletePart{mustPart(t, s, u, 1, whole[:5<<20]), mustPart(t, s, u, 2, whole[5<<20:])}
			if rng.IntN(2) == 0 {
				continue // an upload in progress
			}
			if _, err := s.CompleteUpload(t.Context(), CompleteRequest{Bucket: "b", Key: key, UploadID: u.ID, Parts: parts, Finish: finishWith(`"x"`)}); err != nil {
				t.Fatal(err)
			}
			bodies[key] = whole
		case 3:
			closeStore(t, s)
			s = openStore(t, o)
		}
	}
	if _, err := s.Scrub(t.Context(), ScrubRequest{}); err != nil { // a receipt
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openStore(t, o)
	want := dumpIndex(t, s)
	if err := RebuildIndex(t.Context(), o, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("of a store in use: %v", err)
	}
	closeStore(t, s)

	var told []Progress
	if err := RebuildIndex(t.Context(), o, func(p Progress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 || told[0].Operation != "rebuild-index" || told[0].Done == 0 || told[0].Total < told[0].Done {
		t.Errorf("progress %+v", told)
	}
	path := filepath.Join(o.Dirs[0], "index", "catalog.bolt")
	if _, err := os.Stat(path + ".old"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("a file of the rebuild is left over")
	}
	s = openStore(t, o)
	if got := dumpIndex(t, s); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("got  %s\nwant %s", got[i], want[i])
			}
		}
	}
	for key, body := range bodies {
		mustHave(t, s, "b", key, body)
	}
}

// What cannot be built anew in full does not take the place of what there is.
func TestRebuildIndexKeepsTheOldOne(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 6), IndexDir: t.TempDir()}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "key", noise(1, 1<<20))
	closeStore(t, s)
	path := filepath.Join(o.IndexDir, "catalog.bolt")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func(what string) {
		t.Helper()
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Fatalf("%s: the old index is not as it was, %v", what, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := RebuildIndex(cancelled, o, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	unchanged("interrupted")
	some := o
	some.Dirs = nil
	for i, dir := range o.Dirs {
		if i < 3 { // one more than there is parity
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		some.Dirs = append(some.Dirs, dir)
	}
	if err := RebuildIndex(t.Context(), some, nil); !errors.Is(err, ErrIncomplete) {
		t.Errorf("with directories away: %v", err)
	}
	unchanged("with directories away")
	for _, dir := range o.Dirs[:3] {
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := RebuildIndex(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	mustHave(t, s, "b", "key", noise(1, 1<<20))
}
