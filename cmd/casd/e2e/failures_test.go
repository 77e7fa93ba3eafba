package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// Rows of the failure table in docs/design.md that no other file tests against the real binary.

const healedShards = "casd_log_healed_shards_total"

// TestDamageWhileServing flips bits in shard files of two directories, cuts them, and removes them, under a running server: every byte that is
// read is right, what a read met is rewritten and counted, receipts name the files, and nothing is left to mend.
func TestDamageWhileServing(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 21))
	s := serve(t, "--segment-bytes", "4MiB", "--cache-bytes", "1MiB", "--gc-interval", "0")
	all := fill(t, s, "a", 12)
	var everHarmed []string
	for _, kind := range []string{"flip", "truncate", "remove"} {
		before := metric(t, s, healedShards)
		var harmed []string
		for _, d := range rng.Perm(6)[:2] {
			for _, path := range sealed(t, s.Dirs[d]) {
				if err := damages[kind](rng, path); err != nil {
					t.Fatal(err)
				}
				harmed = append(harmed, path)
			}
		}
		all.mustRead(t, s)
		// A file that is open is read on when it is removed: that is for a scrub to find.
		for deadline := time.Now().Add(time.Minute); kind != "remove" && metric(t, s, healedShards) == before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d files were harmed, and nothing was healed", kind, len(harmed))
			}
		}
		// A read need not have met all of it.
		_, errs, exit, err := s.Casd(t.Context(), "scrub", "--endpoint", s.AdminURL())
		if err != nil || exit > exitRepaired {
			t.Fatalf("%s: scrub: exit %d, %v: %s", kind, exit, err, errs)
		}
		command(t, s, exitDone, running, "scrub")
		all.mustRead(t, s)
		everHarmed = append(everHarmed, harmed...)
	}
	stop(t, s) // what heals in the background gathers its findings in one receipt, and writes it now at the latest
	named := map[string]bool{}
	for _, r := range result[[]scrubReceipt](t, s, exitDone, stopped, "scrub", "--list", "--max", "100") {
		for _, f := range r.Findings {
			named[filepath.Join(f.Dir, "segments", f.File)] = true
		}
	}
	for _, path := range everHarmed {
		if !named[path] {
			t.Errorf("no receipt names %s: %v", path, named)
		}
	}
}

// TestStaleDirectories brings two directories back as they were before objects were overwritten and deleted: nothing old is seen again, and
// they are healed. As many stale ones that they could go on alone are refused to write, and deny nothing.
func TestStaleDirectories(t *testing.T) {
	t.Parallel()
	s := serveIndexed(t, 6)
	before := fill(t, s, "a", 6)
	stop(t, s)
	stale := t.TempDir()
	for _, dir := range s.Dirs {
		copyTree(t, dir, filepath.Join(stale, filepath.Base(dir)))
	}
	start(t, s)
	after := fill(t, s, "b", 6)
	gone := slices.Sorted(func(yield func(string) bool) {
		for key := range before {
			if !yield(key) {
				return
			}
		}
	})[:3]
	before.remove(t, s, func(key string) bool { return slices.Contains(gone, key) })
	stop(t, s)

	for _, i := range []int{1, 4} {
		if err := os.RemoveAll(s.Dirs[i]); err != nil {
			t.Fatal(err)
		}
		copyTree(t, filepath.Join(stale, filepath.Base(s.Dirs[i])), s.Dirs[i])
	}
	start(t, s)
	verify := func() {
		t.Helper()
		before.mustRead(t, s)
		after.mustRead(t, s)
		list := listing(t, s)
		for _, key := range gone {
			_, err := sdk(s).HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(contentsBucket), Key: &key})
			wantCode(t, err, "NotFound")
			if strings.Contains(list, `"`+key+`"`) {
				t.Errorf("%s is listed again", key)
			}
		}
	}
	verify()
	if _, errs, exit, err := s.Casd(t.Context(), "scrub", "--endpoint", s.AdminURL()); err != nil || exit > exitRepaired {
		t.Fatalf("scrub: exit %d, %v: %s", exit, err, errs)
	}
	command(t, s, exitDone, running, "scrub", "--level", "deep")
	stop(t, s)
	if err := os.RemoveAll(filepath.Join(s.Work, "index")); err != nil { // what is built from the log says the same
		t.Fatal(err)
	}
	start(t, s)
	verify()
	stop(t, s)

	// Three of the six, without an index: nobody begins a history of their own.
	_, errs, exit, err := s.Casd(t.Context(), "serve", "--listen", "127.0.0.1:0", "--index", t.TempDir(), filepath.Join(stale, "d1"), filepath.Join(stale, "d2"), filepath.Join(stale, "d3"))
	if err != nil || exit != exitFailed || !strings.Contains(errs, "are data directories missing?") {
		t.Errorf("three stale directories: exit %d, %v: %s", exit, err, errs)
	}
}

// TestClientDies breaks connections off in the middle of uploads: nothing is visible, nothing is held, and the same key can be put at once.
func TestClientDies(t *testing.T) {
	t.Parallel()
	s := serve(t, "--segment-bytes", "4MiB", "--gc-interval", "0")
	c := sdk(s, noRetry)
	mustCreateBucket(t, c, "shutdown")
	body := bytesOf(9, 6<<20)
	for i, n := range []int{0, 100, 70 << 10, 1 << 20, len(body) - 1} {
		key := fmt.Sprintf("key%d", i)
		r, w := io.Pipe()
		done := presignedPut(t, c, key, r, int64(len(body)))
		if _, err := w.Write(body[:n]); err != nil {
			t.Fatal(err)
		}
		waitInFlight(t, s, 1)
		w.CloseWithError(io.ErrClosedPipe) // the client breaks the connection off
		if err := <-done; err == nil {
			t.Errorf("%d of %d bytes were acknowledged", n, len(body))
		}
		_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("shutdown"), Key: &key})
		wantCode(t, err, "NotFound")
	}
	list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("shutdown")})
	if err != nil || len(list.Contents) != 0 {
		t.Errorf("listed: %v, %v", list, err)
	}
	if st := stats(t, s, "shutdown"); st.Objects != 0 || st.LogicalBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	for deadline := time.Now().Add(10 * time.Second); metric(t, s, inFlightRequests) > 1; time.Sleep(20 * time.Millisecond) { // 1: who asks
		if time.Now().After(deadline) {
			t.Fatal("requests of dead clients are still under way")
		}
	}
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("shutdown"), Key: aws.String("key1"), Body: bytes.NewReader(body)}); err != nil {
		t.Fatal(err)
	}
	mustObject(t, c, "shutdown", "key1", body)
	s.Kill()
	start(t, s)
	mustObject(t, c, "shutdown", "key1", body)
}

// smallDisks mounts n file systems in memory of a size, as root or with sudo.
func smallDisks(t *testing.T, n int, size string) (dirs []string) {
	t.Helper()
	asRoot := func(args ...string) {
		t.Helper()
		if os.Geteuid() != 0 {
			args = append([]string{"sudo", "-n"}, args...)
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	for _, dir := range casdtest.DataDirs(t.TempDir(), n) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		asRoot("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%s,uid=%d,mode=0755", size, os.Geteuid()), "tmpfs", dir)
		t.Cleanup(func() { asRoot("umount", dir) })
		dirs = append(dirs, dir)
	}
	return dirs
}

// TestDiskFull fills small disks by uploads: they are refused with 507 and leave nothing; reads, deletes, gc and the end of the server go on, and
// what gc gives back can be written again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dirs := smallDisks(t, 3, "96m")
	s := serveDirs(t, base, dirs, "--ec", "2+1", "--segment-bytes", "8MiB", "--gc-interval", "0", "--index", filepath.Join(base, "index"), "--checkpoint-interval", "100ms")
	c := sdk(s, noRetry)
	mustCreateBucket(t, c, "full")
	put := func(key string, seed uint64) (int, error) {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("full"), Key: &key, Body: bytes.NewReader(bytesOf(seed, 1<<20))})
		if err == nil {
			return http.StatusOK, nil
		}
		if strings.Contains(err.Error(), "StatusCode: 507") {
			return http.StatusInsufficientStorage, err
		}
		return 0, err
	}
	have := map[string]uint64{}
	refused := ""
	for i := uint64(0); refused == ""; i++ {
		key := fmt.Sprintf("key%03d", i)
		switch status, err := put(key, i); {
		case status == http.StatusOK && i < 1000:
			have[key] = i
		case status == http.StatusInsufficientStorage:
			refused = key
			wantCode(t, err, "InsufficientStorage")
		default:
			t.Fatalf("put %d on a full disk: %v", i, err)
		}
	}
	t.Logf("%d MiB were written before %s was refused", len(have), refused)
	verify := func() {
		t.Helper()
		for key, seed := range have {
			mustObject(t, c, "full", key, bytesOf(seed, 1<<20))
		}
		list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("full")})
		if err != nil || len(list.Contents) != len(have) {
			t.Errorf("%d objects are listed, %d are there: %v", len(list.Contents), len(have), err)
		}
	}
	verify()
	for key, seed := range have {
		if seed%3 > 0 {
			if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("full"), Key: &key}); err != nil {
				t.Fatalf("delete on a full disk: %v", err)
			}
			delete(have, key)
		}
	}
	verify()
	stop(t, s) // in what is kept free
	start(t, s)
	verify()
	if r := result[gcReport](t, s, exitDone, running, "gc"); r.ReclaimedBytes == 0 {
		t.Errorf("gc on a full disk: %+v", r)
	}
	verify()
	for i := uint64(2000); i < 2020; i++ {
		key := fmt.Sprint(i)
		if status, err := put(key, i); status != http.StatusOK {
			t.Fatalf("put after gc: %v", err)
		}
		have[key] = i
	}
	verify()
	command(t, s, exitDone, running, "scrub", "--level", "deep")
	s.Kill()
	start(t, s)
	verify()
	stop(t, s)
}
