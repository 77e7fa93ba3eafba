package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// A matrixRun is a store that lives through a fault, and a model of what it must hold.
type matrixRun struct {
	t      *testing.T
	disk   *faultfs.FS
	o      Options
	model  *crashModel
	rng    *rand.Rand
	pool   []byte
	count  func(faultfs.Op) error // nil, or sees every call
	late   bool                   // the trouble begins when the store is made
	atRest func()                 // nil, or what happens to the directories between two runs
	stale  *faultfs.FS            // nil, or the disk as it was half-way
	free   func()                 // nil, or lets go of what hangs in the disk

	logMu  sync.Mutex
	logged bytes.Buffer
}

func newMatrixRun(t *testing.T, dirs, k, m int, rng *rand.Rand) *matrixRun {
	disk, paths := faultDisk(t, dirs)
	if err := errors.Join(disk.MkdirAll("/more"), disk.SyncDir("/")); err != nil { // for a member that joins later
		t.Fatal(err)
	}
	r := &matrixRun{t: t, disk: disk, model: &crashModel{keys: map[string][]outcome{}}, rng: rng, pool: matrixPool()}
	r.o = Options{Dirs: paths, K: k, M: m, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 1 << 20, metadataSegmentBytes: 256 << 10, CacheBytes: 1,
		CheckpointEntries: 20, IOTimeout: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(lockedWriter{&r.logMu, &r.logged}, nil))}
	return r
}

var matrixPool = sync.OnceValue(func() []byte { return noise(11, 2<<20) })

// body returns bytes that share chunks with others.
func (r *matrixRun) body(n int) []byte {
	at := r.rng.IntN(4) * 300_000
	return r.pool[at : at+n]
}

// explain logs what happened when the test failed.
func (r *matrixRun) explain(what func() string) {
	if r.t.Failed() {
		r.logMu.Lock()
		defer r.logMu.Unlock()
		r.t.Logf("-matrix.seed=%d %s\n%s", *matrixSeed, what(), r.logged.String())
	}
}

// renew goes on with another disk.
func (r *matrixRun) renew(disk *faultfs.FS) {
	r.release()
	r.disk, r.o.FS = disk, disk
}

// arm lets the trouble begin.
func (r *matrixRun) arm(f trouble) {
	if r.count != nil {
		r.disk.Fail(r.count)
	}
	r.release()
	r.free = f.arm(r.disk)
}

// release ends the trouble, and lets go of what hangs.
func (r *matrixRun) release() {
	if r.free != nil {
		r.free()
		r.free = nil
	}
}

// change notes what a key may hold while op changes it, and what it holds then.
func (r *matrixRun) change(key string, want outcome, op func() error) error {
	before := r.model.get(key)
	r.model.set(key, append(slices.Clone(before), want)...)
	err := op()
	switch {
	case err == nil:
		r.model.set(key, want)
	case !errors.Is(err, ErrUnknownOutcome):
		r.model.set(key, before...)
	}
	return err
}

func (r *matrixRun) put(s *Store, key string, b []byte) error {
	return r.change(key, &b, func() error { _, err := putBytes(r.t.Context(), s, "b", key, b, nil); return err })
}

// errScrubbed says that a scrub could not mend everything.
var errScrubbed = errors.New("the scrub says that not all is well")

// A matrixStep is one thing that a client or an operator does.
type matrixStep struct {
	name string
	do   func(r *matrixRun, s *Store) error
}

func putStep(key string, n int) matrixStep {
	return matrixStep{fmt.Sprintf("put %d bytes", n), func(r *matrixRun, s *Store) error { return r.put(s, key, r.body(n)) }}
}

// matrixSteps is what every run does. Segments and checkpoints end several times on the way.
var matrixSteps = []matrixStep{
	{"create the bucket", func(r *matrixRun, s *Store) error {
		_, err := s.CreateBucket(r.t.Context(), Bucket{Name: "b"})
		if errors.Is(err, ErrBucketExists) {
			return nil
		}
		return err
	}},
	putStep("inline", 100), putStep("small", 40_000), putStep("large", 700_000), putStep("shared", 600_000),
	{"copy", func(r *matrixRun, s *Store) error {
		from := r.model.get("large")
		if len(from) != 1 || from[0] == nil {
			return nil
		}
		return r.change("copy", from[0], func() error {
			_, err := s.Copy(r.t.Context(), CopyRequest{SourceBucket: "b", SourceKey: "large", Bucket: "b", Key: "copy",
				Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
			return err
		})
	}},
	{"multipart", func(r *matrixRun, s *Store) error {
		b := r.body(300_000)
		return r.change("multipart", &b, func() error { return putMultipart(r.t.Context(), s, "multipart", b) })
	}},
	{"overwrite", func(r *matrixRun, s *Store) error { return r.put(s, "inline", r.body(200_000)) }},
	{"delete", func(r *matrixRun, s *Store) error {
		return r.change("small", nil, func() error { _, err := s.Delete(r.t.Context(), "b", "small", nil); return err })
	}},
	{"an upload that breaks off", func(r *matrixRun, s *Store) error {
		body := io.MultiReader(bytes.NewReader(r.body(300_000)), brokenReader{})
		_, err := s.Put(r.t.Context(), PutRequest{Bucket: "b", Key: "broken", Body: body})
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err == nil {
			return errors.New("it was acknowledged")
		}
		return err
	}},
	{"an upload that goes on", func(r *matrixRun, s *Store) error {
		u, err := s.CreateUpload(r.t.Context(), CreateUploadRequest{Bucket: "b", Key: "unfinished"})
		if err != nil {
			return err
		}
		_, err = s.PutPart(r.t.Context(), PartRequest{Bucket: "b", Key: "unfinished", UploadID: u.ID, Number: 1, Body: bytes.NewReader(r.body(200_000))})
		return err
	}},
	{"keep a copy of the disk", func(r *matrixRun, s *Store) error {
		if r.atRest != nil {
			r.stale = r.disk.Clone()
		}
		return nil
	}},
	putStep("roll", 900_000),
	{"scrub", func(r *matrixRun, s *Store) error {
		receipt, err := s.Scrub(r.t.Context(), ScrubRequest{Level: ScrubDeep})
		if err == nil && receipt.Outcome == OutcomeLost {
			err = fmt.Errorf("%w: %+v", errScrubbed, receipt)
		}
		return err
	}},
	{"delete what is large", func(r *matrixRun, s *Store) error {
		for _, key := range []string{"large", "copy"} {
			if err := r.change(key, nil, func() error { _, err := s.Delete(r.t.Context(), "b", key, nil); return err }); err != nil {
				return err
			}
		}
		return nil
	}},
	{"gc", func(r *matrixRun, s *Store) error {
		report, err := s.GC(r.t.Context(), GCRequest{Threshold: 0.01})
		if err != nil { // a snapshot that met the fault; the next cycle does without the directory
			report, err = s.GC(r.t.Context(), GCRequest{Threshold: 0.01})
		}
		if err == nil && r.count != nil && (report.Dropped == 0 || report.CopiedChunks == 0) {
			r.t.Errorf("without a fault nothing was reclaimed, or nothing copied: %+v", report)
		}
		return err
	}},
	{"a directory more, and one less", func(r *matrixRun, s *Store) error {
		if r.o.M == 0 {
			return nil
		}
		// With a directory that fails each of these may be refused; what matters is what they leave.
		_, err := s.AddDir(r.t.Context(), "/more")
		if err == nil {
			_, err = s.Rebalance(r.t.Context(), nil)
		}
		if err == nil {
			_, err = s.DrainDir(r.t.Context(), r.o.Dirs[0], nil)
		}
		if r.count != nil {
			return err
		}
		return nil
	}},
	putStep("after", 300_000),
}

// mustHaveAll compares the store with the model. Without parity the fault may be in the way: then it is done when that is gone.
func (r *matrixRun) mustHaveAll(s *Store) {
	if r.o.M > 0 {
		r.model.verify(r.t, s)
	}
}

// end ends the process in one of three ways.
func (r *matrixRun) end(s *Store, f trouble) {
	if s == nil {
		return
	}
	switch r.rng.IntN(3) {
	case 0:
		r.close(s, f)
		r.renew(r.disk.Clone())
	case 1: // kill -9
		r.disk.PowerOff()
		_ = s.Close(context.Background()) // it can write nothing
		r.renew(r.disk.Clone())
	case 2: // power loss
		r.disk.PowerOff()
		_ = s.Close(context.Background()) // it can write nothing
		r.renew(r.disk.CrashClone(r.rng))
	}
}

func (r *matrixRun) close(s *Store, f trouble) {
	if s == nil {
		return
	}
	if err := s.Close(context.Background()); err != nil && !r.mayFail(f, err) {
		r.t.Fatalf("close: %v", err)
	}
}

// open starts the store again, with the fault. Without parity a start may be refused, and nil is returned.
func (r *matrixRun) open(f trouble) *Store {
	s, err := Open(r.t.Context(), r.o)
	if err != nil && (r.o.M > 0 || !f.fired()) {
		r.t.Fatalf("start: %v", err)
	}
	if err != nil {
		return nil
	}
	return s
}

func (r *matrixRun) openWhole() *Store {
	s, err := Open(r.t.Context(), r.o)
	if err != nil {
		r.t.Fatalf("start without the fault: %v", err)
	}
	return s
}

// whole checks, without any fault any more, that the store is whole, or that a scrub makes it so, that its index is what the log says, and
// that nothing is left lying around.
func (r *matrixRun) whole() {
	r.renew(r.disk.Clone()) // without rules
	s := r.openWhole()
	r.model.verify(r.t, s)
	for i := range 2 {
		receipt, err := s.Scrub(r.t.Context(), ScrubRequest{Level: ScrubDeep})
		if err != nil {
			r.t.Fatalf("scrub %d: %v", i, err)
		}
		if !receipt.Complete || receipt.Outcome != OutcomeWhole && (i > 0 || receipt.Outcome != OutcomeRepaired) {
			r.t.Fatalf("scrub %d: %+v", i, receipt)
		}
	}
	if _, err := s.GC(r.t.Context(), GCRequest{Threshold: 0.01}); err != nil {
		r.t.Fatalf("gc: %v", err)
	}
	if receipt, err := s.Scrub(r.t.Context(), ScrubRequest{Level: ScrubDeep}); err != nil || receipt.Outcome != OutcomeWhole {
		r.t.Fatalf("scrub after gc: %v %+v", err, receipt)
	}
	r.model.verify(r.t, s)
	if report, err := s.Check(r.t.Context(), CheckRequest{}); err != nil || report.Outcome != OutcomeWhole {
		r.t.Fatalf("check: %v %+v", err, report)
	}
	served := dump(r.t, s)
	closeStore(r.t, s)

	s = r.openWhole()
	if kept := dump(r.t, s); kept != served {
		r.t.Fatalf("the index after a restart differs:\n%s", differences(served, kept))
	}
	closeStore(r.t, s)

	r.o.IndexDir = r.t.TempDir()
	s = r.openWhole()
	if rebuilt := dump(r.t, s); rebuilt != served {
		r.t.Fatalf("the rebuilt index differs:\n%s", differences(served, rebuilt))
	}
	r.model.verify(r.t, s)
	if _, err := putBytes(r.t.Context(), s, "b", "last", r.body(100_000), nil); err != nil {
		r.t.Fatalf("a put at the end: %v", err)
	}
	closeStore(r.t, s)
	for _, path := range r.disk.Files("/") {
		// format.json.tmp is one small file with one name, and the next change of the members uses it.
		if name := filepath.Base(path); name != "format.json" && name != "format.json.tmp" && name != "lock" && !shardName.MatchString(name) {
			r.t.Errorf("%s is left", path)
		}
	}
}

var shardName = regexp.MustCompile(`^[0-9a-f]{16}\.[mds]\.[0-9]{2}$`)

// dump writes down the whole index: every row of the catalog, and which chunks there are.
func dump(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	err := s.view(func(v *index.View) error {
		for table := index.Buckets; table <= index.Meta; table++ {
			it := v.Iter(table, nil, nil)
			for it.Next() {
				e := it.Entry()
				fmt.Fprintf(&b, "%s %q %d %x\n", table, e.Key, e.Rev, e.Value)
			}
			if err := it.Err(); err != nil {
				return err
			}
			it.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var chunks []string
	if err := s.idx.IterChunks(func(c index.Chunk) error { chunks = append(chunks, fmt.Sprintf("%x", c.ID)); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(chunks)
	return b.String() + strings.Join(chunks, "\n")
}

// differences lists lines that only one of two dumps has.
func differences(a, b string) (out string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, line := range as {
		if !slices.Contains(bs, line) {
			out += "- " + clip(line) + "\n"
		}
	}
	for _, line := range bs {
		if !slices.Contains(as, line) {
			out += "+ " + clip(line) + "\n"
		}
	}
	return out
}

// goroutines lists those that run code of a store.
func goroutines() (stacks []string) {
	b := make([]byte, 8<<20)
	b = b[:runtime.Stack(b, true)]
	for stack := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(stack, "casd/casd/") && !strings.Contains(stack, "testing.tRunner") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// noGoroutines waits until there are no more goroutines than before.
func noGoroutines(t *testing.T, before []string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		now := goroutines()
		if len(now) <= len(before) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, before there were %d:\n%s", len(now), len(before), strings.Join(now, "\n\n"))
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
}
