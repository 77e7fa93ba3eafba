package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// faultDisk is a file system in memory with n directories.
func faultDisk(t *testing.T, n int) (disk *faultfs.FS, paths []string) {
	t.Helper()
	disk = faultfs.New()
	for i := range n {
		paths = append(paths, fmt.Sprintf("/d%d", i+1))
		if err := disk.MkdirAll(paths[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return disk, paths
}

// The very first start is cut short at each of its operations. The next one must complete it.
func TestFirstStartCutShort(t *testing.T) {
	for _, kill := range []bool{true, false} {
		for i := 0; ; i++ {
			disk, paths := faultDisk(t, 2)
			disk.PowerOffAt(disk.Ops() + i)
			o := Options{Dirs: paths, K: 1, M: 1, FS: disk, IndexDir: t.TempDir()}
			if s, err := Open(context.Background(), o); err == nil {
				_ = s.Close(context.Background())
			}
			if !disk.Off() {
				break // every operation was tried
			}
			if o.FS = disk.Clone(); !kill {
				o.FS = disk.CrashClone(rand.New(rand.NewPCG(1, uint64(i))))
			}
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Fatalf("kill %v, operation %d: second start: %v", kill, i, err)
			}
			mustBucket(t, s, "b")
			closeStore(t, s)
		}
	}
}

// Whoever is told for sure that a write failed must not find it done after a restart.
func TestDefiniteFailuresStay(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, kind := range []faultfs.Kind{faultfs.Sync, faultfs.Write, faultfs.Allocate, faultfs.Create} {
			disk, paths := faultDisk(t, 3)
			o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir()}
			s := openStore(t, o)
			mustBucket(t, s, "b")
			mustPut(t, s, "b", "before", []byte("x"))
			for _, p := range paths[:2] {
				disk.FailPath(p+"/segments", cause, kind)
			}
			_, err := putBytes(t.Context(), s, "b", "k", []byte("hello"), nil)
			after := disk.Clone() // kill -9
			_ = s.Close(context.Background())
			o.FS, o.IndexDir = after, t.TempDir()
			s = openStore(t, o)
			_, getErr := getBytes(t.Context(), s, "b", "k")
			switch {
			case err == nil && getErr != nil:
				t.Errorf("%v at %s: acknowledged, and lost: %v", cause, kind, getErr)
			case err != nil && !errors.Is(err, ErrUnknownOutcome) && !errors.Is(getErr, ErrNoSuchKey):
				t.Errorf("%v at %s: refused with %v, and done: %v", cause, kind, err, getErr)
			}
			mustHave(t, s, "b", "before", []byte("x"))
			closeStore(t, s)
		}
	}
}

// A full disk and a crash together: the store opens, serves reads, and takes writes again when there is room.
func TestFullDiskAfterCrash(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), CheckpointInterval: 5 * time.Millisecond}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", []byte("hello"))
	after := disk.Clone() // kill -9
	_ = s.Close(context.Background())
	for _, p := range paths {
		after.Limit(p, after.Used(p))
	}
	o.FS = after
	s = openStore(t, o)
	mustHave(t, s, "b", "k", []byte("hello"))
	if _, err := putBytes(t.Context(), s, "b", "k2", []byte("hello"), nil); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("put on a full disk: %v", err)
	}
	for _, p := range paths {
		after.Limit(p, -1)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := putBytes(t.Context(), s, "b", "k2", []byte("hello"), nil)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("put after room was made: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // free space is looked up once a second
	}
	closeStore(t, s)
	s = openStore(t, o)
	mustHave(t, s, "b", "k", []byte("hello"))
	mustHave(t, s, "b", "k2", []byte("hello"))
}

// A checkpoint that finds no room is tried again; meanwhile nothing dies.
func TestIndexDiskFull(t *testing.T) {
	full := make(chan struct{}, 100)
	room := make(chan struct{})
	o := Options{Dirs: dirsOf(t, 1), CheckpointInterval: time.Millisecond, CheckpointEntries: 1}
	o.wrapCheckpoint = func(write func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-room:
				return write(ctx)
			default:
				full <- struct{}{}
				return fmt.Errorf("write: %w", syscall.ENOSPC)
			}
		}
	}
	s := openStore(t, o)
	<-full // of the first mutation
	<-full // tried again
	if err := s.WriteState(); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("WriteState = %v, want ErrNoSpace", err)
	}
	mustBucket(t, s, "b") // what takes next to no space goes on
	if err := s.DeleteBucket(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := putBytes(t.Context(), s, "b", "k", []byte("x"), nil); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("put = %v, want ErrNoSpace", err)
	}
	if err := s.DeadErr(); err != nil {
		t.Fatalf("dead: %v", err)
	}
	close(room)
	for deadline := time.Now().Add(20 * time.Second); s.WriteState() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("writes are not accepted again")
		}
	}
	mustBucket(t, s, "b2")
}

// A row that rots in the index file is noticed, ends the store's service, and is gone after a restart.
func TestIndexRowRot(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 1), IndexDir: t.TempDir(), Metrics: prometheus.NewRegistry()}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "needle", []byte("haystack-content"))
	closeStore(t, s)
	s = openStore(t, o)
	path := filepath.Join(o.IndexDir, "catalog.bolt")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flips := 0
	for at := 0; ; flips++ {
		i := bytes.Index(b[at:], []byte("haystack-content"))
		if i < 0 {
			break
		}
		if _, err := f.WriteAt([]byte{'H'}, int64(at+i)); err != nil {
			t.Fatal(err)
		}
		at += i + 1
	}
	if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "needle"}); err == nil || flips == 0 {
		t.Fatalf("%d flips were not noticed: %v", flips, err)
	}
	select {
	case <-s.Dead():
	default:
		t.Fatal("the store goes on with a damaged index")
	}
	_ = s.Close(context.Background())
	s = openStore(t, o)
	mustHave(t, s, "b", "needle", []byte("haystack-content"))
}

// Header values are bytes: Latin-1 file names are common.
func TestAttributesNeedNotBeUTF8(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	mustBucket(t, s, "b")
	const name = "attachment; filename=\"\xe9.txt\""
	_, err := s.Put(t.Context(), PutRequest{Bucket: "b", Key: "k", Body: bytes.NewReader(nil), Finish: func(int64) (Attributes, error) {
		return Attributes{ETag: "e", Headers: map[string]string{"Content-Disposition": name}, ContentType: "text/\xff"}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	if err != nil || info.Headers["Content-Disposition"] != name || info.ContentType != "text/\xff" {
		t.Fatalf("stat = %+v, %v", info, err)
	}
	if _, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), "b", "k", nil); err != nil {
		t.Fatal(err)
	}
}

// A part copy reads one object while it writes another; many at once, with as little memory as is allowed, must not wait for one
// another for ever.
func TestPartCopiesShareMemory(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1), MemoryBytes: memoryBytesMin})
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", noise(1, 6<<20))
	u := mustUpload(t, s, "c")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	errs := make(chan error)
	for i := range 4 {
		go func() {
			o, err := s.Get(ctx, GetRequest{Bucket: "b", Key: "k"})
			if err == nil {
				r := o.NewReader(ctx, 0, o.Info.Size)
				_, err = s.PutPart(ctx, PartRequest{Bucket: "b", Key: "c", UploadID: u.ID, Number: i + 1, Body: r})
				_ = r.Close()
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Errorf("part copy: %v", err)
		}
	}
}

// A start that cannot go on says so and lets go of everything, whatever it had in hand.
func TestStartFailsInMidReplay(t *testing.T) {
	disk, paths := faultDisk(t, 2)
	o := Options{Dirs: paths, K: 1, M: 1, FS: disk, IndexDir: t.TempDir()}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	future := erasure.Record{Kind: 77, Label: []byte("of a later version"), Body: []byte("?")}
	if err := s.log.Commit(t.Context(), []erasure.Record{future}, nil, erasure.TierUpload); err != nil {
		t.Fatal(err)
	}
	o.FS = disk.Clone() // kill -9
	closeStore(t, s)
	o.IndexDir = t.TempDir() // lost, so that all is replayed
	failed := make(chan error, 1)
	go func() {
		_, err := Open(context.Background(), o)
		failed <- err
	}()
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "later version") {
			t.Fatalf("Open = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Open hangs")
	}
}
