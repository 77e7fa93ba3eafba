package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// scrubbedStore is a store on disks in memory, with sealed segments of every kind of content in it.
type scrubbedStore struct {
	*Store
	o       Options
	disk    *faultfs.FS
	objects map[string][]byte
	victims []index.Chunk
}

func newScrubbedStore(t *testing.T, dirs, k, m int) *scrubbedStore {
	t.Helper()
	disk, paths := faultDisk(t, dirs)
	st := &scrubbedStore{disk: disk, objects: map[string][]byte{},
		o: Options{Dirs: paths, K: k, M: m, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1, byHand: true}}
	st.Store = openStore(t, st.o)
	mustBucket(t, st.Store, "b")
	for i, n := range []int{0, 100, 600, 70_000, 3 << 20, 1 << 20, 300_000} {
		st.put(t, fmt.Sprintf("k%d", i), noise(uint64(100+i), n))
	}
	st.reopen(t)
	return st
}

func (st *scrubbedStore) put(t *testing.T, key string, b []byte) {
	t.Helper()
	mustPut(t, st.Store, "b", key, b)
	st.objects[key] = b
}

// reopen seals everything.
func (st *scrubbedStore) reopen(t *testing.T) {
	t.Helper()
	if st.Store != nil {
		closeStore(t, st.Store)
	}
	st.Store = openStore(t, st.o)
}

func (st *scrubbedStore) mustHaveAll(t *testing.T) {
	t.Helper()
	for key, want := range st.objects {
		mustHave(t, st.Store, "b", key, want)
	}
}

// shards lists the shard files in a directory, those of data first when data says so.
func (st *scrubbedStore) shards(dir int) (files []string) {
	for _, f := range st.disk.Files(st.o.Dirs[dir]) {
		if filepath.Base(filepath.Dir(f)) == "segments" {
			files = append(files, f)
		}
	}
	return files
}

func (st *scrubbedStore) dataShards(dir int) []string {
	return slices.DeleteFunc(st.shards(dir), func(f string) bool { return !strings.Contains(filepath.Base(f), ".d.") })
}

func (st *scrubbedStore) mustScrub(t *testing.T, req ScrubRequest) Receipt {
	t.Helper()
	r, err := st.Scrub(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete || r.Ended.Before(r.Began) || r.Repair == req.NoRepair {
		t.Fatalf("receipt %+v", r)
	}
	return r
}

func kinds(r Receipt) map[string]int {
	m := map[string]int{}
	for _, f := range r.Findings {
		m[f.Kind]++
	}
	return m
}

// A scrub of a store that is whole reads all of it, at every level, and says so.
func TestScrubOfWholeStore(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	for _, level := range []ScrubLevel{ScrubShards, "", ScrubDeep} {
		var told []Progress
		r := st.mustScrub(t, ScrubRequest{Level: level, Progress: func(p Progress) { told = append(told, p) }})
		if r.Outcome != OutcomeWhole || r.FindingsTotal != 0 || r.Reason != "" || len(r.BytesRead) != 5 || r.Segments < 4 {
			t.Errorf("level %q: %+v", level, r)
		}
		if want := st.idx.Totals().Chunks; level != ScrubShards && r.Chunks < want || level == ScrubShards && r.Chunks != 0 {
			t.Errorf("level %q: %d chunks of %d", level, r.Chunks, want)
		}
		if len(told) == 0 || told[0].Operation != "scrub" || told[0].Total == 0 {
			t.Errorf("level %q: told %+v", level, told)
		}
	}
	if _, err := st.Scrub(t.Context(), ScrubRequest{Level: "x"}); err == nil {
		t.Error("a level that does not exist was taken")
	}
}

// Each kind of damage to no more than m shards of a stripe is reported by name and place, and repaired; afterwards the store is whole.
func TestScrubRepairsEveryDamage(t *testing.T) {
	st := newScrubbedStore(t, 5, 3, 2)
	before := map[string]string{}
	for i := range st.o.Dirs {
		for _, f := range st.shards(i) {
			before[f] = fileBytes(t, st.disk, f)
		}
	}
	flipped, zeroed := st.dataShards(0)[0], st.dataShards(0)[1]
	cut, gone := st.dataShards(3)[0], st.dataShards(3)[1]
	st.disk.FlipBit(flipped, 4096+300)
	st.disk.Poke(zeroed, 0, func(b []byte) { clear(b) }, 512)
	st.disk.Cut(cut, 8192)
	st.disk.RemoveAll(gone)
	r := st.mustScrub(t, ScrubRequest{NoRepair: true})
	if r.Outcome != OutcomeDamaged || r.ShardsRepaired != 0 || r.FilesRebuilt != 0 {
		t.Fatalf("report only: %+v", r)
	}
	r = st.mustScrub(t, ScrubRequest{})
	if r.Outcome != OutcomeRepaired || r.FilesRebuilt != 1 || r.ShardsRepaired == 0 || r.LostTotal != 0 || r.LostChunks != 0 {
		t.Fatalf("repair: %+v", r)
	}
	for file, kind := range map[string]string{flipped: erasure.FindingChecksum, zeroed: erasure.FindingHeader, cut: erasure.FindingShortFile, gone: erasure.FindingMissingFile} {
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.File == filepath.Base(file) && f.Kind == kind })
		if i < 0 {
			t.Errorf("nothing of kind %s about %s in %+v", kind, file, r.Findings)
			continue
		}
		f := r.Findings[i]
		if !f.Repaired || f.Lost || kind != erasure.FindingMissingFile && f.Dir != filepath.Dir(filepath.Dir(file)) || kind == erasure.FindingShortFile && f.Offset > 8192 {
			t.Errorf("finding %+v", f)
		}
	}
	for f, want := range before {
		if fileBytes(t, st.disk, f) != want {
			t.Errorf("%s is not what it was", f)
		}
	}
	if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeWhole {
		t.Errorf("after the repair: %+v", r)
	}
	st.mustHaveAll(t)
}

// fileBytes returns the bytes of a file.
func fileBytes(t *testing.T, disk *faultfs.FS, path string) string {
	t.Helper()
	fi, err := disk.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	disk.Poke(path, 0, func(p []byte) { b = bytes.Clone(p) }, int(fi.Size))
	return string(b)
}

// Damage to more than m shards of a stripe loses chunks. The receipt names the objects and parts that need them and no others, and
// when the same bytes are uploaded again everything is whole.
func TestScrubNamesWhatIsLost(t *testing.T) {
	st := newScrubbedStore(t, 4, 2, 2)
	body := noise(77, 400_000)
	st.put(t, "shared", slices.Concat(noise(1, 300_000), body))
	st.put(t, "copy", slices.Concat(noise(1, 300_000), noise(78, 10)))
	u := mustUpload(t, st.Store, "up")
	mustPart(t, st.Store, u, 7, noise(104, 3<<20)) // k4
	mustPart(t, st.Store, u, 8, noise(3, 100_000))
	st.reopen(t)
	victim := st.objects["k4"] // 3 MiB of noise: at least three segments
	locations := st.whereIs(t, victim)
	seg := locations[len(locations)/2].Segment()
	for _, dir := range []int{0, 1, 2} {
		for _, f := range st.dataShards(dir) {
			if strings.HasPrefix(filepath.Base(f), fmt.Sprintf("%016x", uint64(seg))) {
				st.disk.Poke(f, 8192, func(b []byte) { clear(b) }, 300<<10)
			}
		}
	}
	lost := map[string]bool{}
	for key, want := range st.objects {
		if got, err := getBytes(t.Context(), st.Store, "b", key); errors.Is(err, ErrCorrupt) {
			lost[key] = true
		} else if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if !lost["k4"] || len(lost) > 4 {
		t.Fatalf("lost before the scrub: %v", lost)
	}
	st.reopen(t) // it forgets what reads met
	r := st.mustScrub(t, ScrubRequest{})
	if r.Outcome != OutcomeLost || r.LostChunks == 0 || r.StripesLost == 0 {
		t.Fatalf("%+v", r)
	}
	named, parts := map[string]bool{}, []int{}
	for _, o := range r.Lost {
		switch {
		case o.Bucket != "b" || o.Chunks == 0:
			t.Errorf("%+v", o)
		case o.UploadID == "":
			named[o.Key] = true
		default:
			if o.UploadID != u.ID || o.Key != "up" {
				t.Errorf("%+v", o)
			}
			parts = append(parts, o.Part)
		}
	}
	if !maps.Equal(named, lost) || !slices.Equal(parts, []int{7}) || r.LostTotal != int64(len(r.Lost)) {
		t.Errorf("named %v and parts %v, lost %v", named, parts, lost)
	}
	rs, err := st.Receipts(t.Context(), 1)
	if err != nil || len(rs) != 1 || rs[0].ID != r.ID || rs[0].LostTotal != r.LostTotal || len(rs[0].Findings) != len(r.Findings) {
		t.Errorf("kept: %+v, %v", rs, err)
	}
	for key := range lost {
		st.put(t, "again", st.objects[key])
	}
	st.mustHaveAll(t)
	// The lost stripes stay until compaction. One of them held a mutation too.
	if r := st.mustScrub(t, ScrubRequest{}); r.Outcome != OutcomeLost || r.LostTotal != 0 || r.LostChunks != 0 || !strings.Contains(r.Reason, "mutations") {
		t.Errorf("after the bytes came again: %+v", r)
	}
}

// whereIs returns the locations of the chunks of an object's bytes.
func (st *scrubbedStore) whereIs(t *testing.T, b []byte) (ls []erasure.Location) {
	t.Helper()
	var root []byte
	for key, have := range st.objects {
		if bytes.Equal(have, b) {
			o, err := st.Get(t.Context(), GetRequest{Bucket: "b", Key: key})
			if err != nil {
				t.Fatal(err)
			}
			root = o.row.Content.Root
			o.Close()
		}
	}
	m, err := newManifestReader(root, 0, func(r ref) ([]byte, error) { return st.readChunk(t.Context(), r, false) })
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, _, err := m.next()
		if err != nil {
			return ls
		}
		c, ok, err := st.chunks.LookupChunk(r.id)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		ls = append(ls, c.Location)
	}
}

// A chunk whose record verifies, but that does not hash to its ID, is found at the level of chunks. It is lost only when
// the chunk map rests on it.
func TestScrubHashesChunks(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	good := st.domain.hash.id([]byte("right"))
	for _, r := range []struct {
		id   index.ID
		body string
	}{{index.ID{1}, "wrong"}, {good, "wrong"}, {good, "right"}} {
		label := appendChunkLabel(nil, chunkLabel{enc: encPlain, domain: defaultDomain, size: 5, id: r.id})
		h, err := st.log.Append(t.Context(), erasure.Record{Kind: kindChunk, Label: label, Body: []byte(r.body)}, erasure.Data, erasure.TierUpload)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.log.Commit(t.Context(), nil, []*erasure.Handle{h}, erasure.TierUpload); err != nil {
			t.Fatal(err)
		}
	}
	if r := st.mustScrub(t, ScrubRequest{Level: ScrubShards}); r.Outcome != OutcomeWhole {
		t.Errorf("level shards: %+v", r)
	}
	r := st.mustScrub(t, ScrubRequest{})
	if r.LostChunks != 1 || r.LostTotal != 0 || r.FindingsTotal != 2 || kinds(r)[findingChunk] != 2 || r.Outcome != OutcomeDamaged {
		t.Errorf("level chunks: %+v", r)
	}
	if !st.damaged.has(index.ID{1}) || st.damaged.has(good) {
		t.Error("the damaged chunk is not known as such, or the good one is")
	}
}

// Receipts are kept with the store, the newest 100 of them, and survive the index.
func TestReceiptsSurviveTheIndex(t *testing.T) {
	st := newScrubbedStore(t, 2, 1, 1)
	st.put(t, "x", noise(5, 100_000))
	var ids []string
	for i := range receiptsMax + 3 {
		r := st.newReceipt(ScrubChunks, true, false)
		r.ID = fmt.Sprintf("2026%04d", i)
		st.keepReceipt(t.Context(), &r)
		if r.Reason != "" {
			t.Fatal(r.Reason)
		}
		ids = append(ids, r.ID)
	}
	check := func() {
		t.Helper()
		rs, err := st.Receipts(t.Context(), 1000)
		if err != nil || len(rs) != receiptsMax {
			t.Fatalf("%d receipts, %v", len(rs), err)
		}
		for i, r := range rs {
			if r.ID != ids[len(ids)-1-i] {
				t.Fatalf("receipt %d is %s", i, r.ID)
			}
		}
		if last := st.lastScrub.Load(); last == nil || last.ID != ids[len(ids)-1] {
			t.Errorf("last scrub %+v", last)
		}
	}
	check()
	closeStore(t, st.Store)
	st.Store = nil
	st.o.IndexDir = t.TempDir()
	st.reopen(t)
	check()
	if rs, err := st.Receipts(t.Context(), 2); err != nil || len(rs) != 2 {
		t.Errorf("two receipts: %d, %v", len(rs), err)
	}
}

// However much is found, a receipt stays small.
func TestReceiptsAreBounded(t *testing.T) {
	st := newScrubbedStore(t, 1, 1, 0)
	r := st.newReceipt(ScrubChunks, true, false)
	run := st.newScrubRun(&r, &pacer{})
	for i := range 5 * listedMax {
		run.add(Finding{Dir: strings.Repeat("d", 4000), File: "f", Stripe: uint32(i), Kind: erasure.FindingChecksum, Detail: strings.Repeat("x", 1<<20)})
	}
	run.finish(nil)
	b, err := encodeRow(r)
	if err != nil || len(b) > 1<<20 || r.FindingsTotal != 5*listedMax || len(r.Findings) < 50 {
		t.Errorf("%d bytes, %d findings of %d, %v", len(b), len(r.Findings), r.FindingsTotal, err)
	}
}

// A receipt that cannot be written says so and is returned all the same.
func TestScrubOfReadOnlyStore(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	st.fail(errors.New("for a test"))
	r, err := st.Scrub(context.Background(), ScrubRequest{})
	if err != nil || r.Outcome != OutcomeWhole || !strings.Contains(r.Reason, "not kept") {
		t.Errorf("%+v, %v", r, err)
	}
}

// One scrub at a time; one that is cancelled leaves a receipt of what it did.
func TestScrubIsInterrupted(t *testing.T) {
	st := newScrubbedStore(t, 3, 2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	tried := false
	r, err := st.Scrub(ctx, ScrubRequest{Progress: func(p Progress) {
		if p.Done == 0 || tried {
			return
		}
		tried = true
		if _, err := st.Scrub(t.Context(), ScrubRequest{}); !errors.Is(err, ErrConflict) {
			t.Errorf("second scrub = %v, want ErrConflict", err)
		}
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || r.Complete || r.Reason == "" || !tried {
		t.Fatalf("%+v, %v", r, err)
	}
	rs, err := st.Receipts(t.Context(), 1)
	if err != nil || len(rs) != 1 || rs[0].ID != r.ID || rs[0].Complete {
		t.Errorf("%+v, %v", rs, err)
	}
}
