package e2e

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// A gcReport is what tests look at of what casd gc --json says.
type gcReport struct {
	DryRun         bool   `json:"dry_run"`
	Dropped        int64  `json:"segments_dropped"`
	ReclaimedBytes int64  `json:"reclaimed_bytes"`
	GarbageBytes   int64  `json:"garbage_bytes"`
	Reason         string `json:"reason"`
	Segments       []struct {
		Class   string `json:"class"`
		Code    string `json:"code"`
		Dropped bool   `json:"dropped"`
		Skipped string `json:"skipped"`
	} `json:"segments"`
}

// onDisk is what the shard files of all directories take.
func onDisk(t *testing.T, s *casdtest.Server) (bytes int64) {
	t.Helper()
	for _, dir := range s.Dirs {
		err := filepath.WalkDir(filepath.Join(dir, "segments"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if os.IsNotExist(err) {
				return nil // it was dropped just now
			}
			if err == nil {
				bytes += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

// remove deletes objects.
func (all contents) remove(t *testing.T, s *casdtest.Server, which func(key string) bool) {
	t.Helper()
	c := sdk(s)
	var ids []types.ObjectIdentifier
	for key := range all {
		if which(key) {
			ids = append(ids, types.ObjectIdentifier{Key: aws.String(key)})
			delete(all, key)
		}
	}
	out, err := c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: aws.String(contentsBucket), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
	if err != nil || len(out.Errors) > 0 {
		t.Fatalf("delete: %v, %v", err, out)
	}
}

// TestGC deletes most of a store and gives the space back: a dry run says so and changes nothing, a kill in the middle loses nothing, what is kept
// can be read and is whole.
func TestGC(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 10))
	s := serve(t, "--segment-bytes", "4MiB", "--cache-bytes", "1MiB", "--gc-interval", "0", "--checkpoint-interval", "100ms")
	all := fill(t, s, "keep", 6)
	gone := fill(t, s, "gone", 30)
	before := stats(t, s, "").StoredBytes
	gone.remove(t, s, func(string) bool { return true })

	dry := result[gcReport](t, s, exitDone, running, "gc", "--dry-run")
	if !dry.DryRun || dry.Dropped == 0 || dry.ReclaimedBytes < 20<<20 || dry.Reason != "" {
		t.Errorf("dry run: %+v", dry)
	}
	if now := stats(t, s, "").StoredBytes; now < before {
		t.Errorf("a dry run gave back %d bytes", before-now)
	}
	// Killed again and again in the middle of it.
	for range 3 {
		b := begin(t, s, append([]string{"gc", "--rate", "4MiB"}, running(s)...)...)
		waitInFlight(t, s, 2)
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond) // anywhere
		s.Kill()
		<-b.done
		start(t, s)
		all.mustRead(t, s)
	}
	r := result[gcReport](t, s, exitDone, running, "gc")
	if r.Reason != "" {
		t.Errorf("ended early: %+v", r)
	}
	for _, seg := range r.Segments {
		if !seg.Dropped && seg.Skipped == "" {
			t.Errorf("a segment was neither dropped nor skipped for a reason: %+v", seg)
		}
	}
	if now := stats(t, s, "").StoredBytes; now > before/2 {
		t.Errorf("of %d stored bytes %d are left", before, now)
	}
	all.mustRead(t, s)
	command(t, s, exitDone, running, "scrub", "--level", "deep")
	command(t, s, exitDone, running, "check")

	// All of it: what is left is at most a segment and the metadata.
	all.remove(t, s, func(string) bool { return true })
	stop(t, s)
	out, _ := command(t, s, exitDone, stopped, "gc")
	wantIn(t, out, "gc: ", "reclaimed", "segments dropped")
	if now := onDisk(t, s); now > 6<<20+1<<20 {
		t.Errorf("an empty store takes %d bytes", now)
	}
	start(t, s)
	fill(t, s, "again", 3).mustRead(t, s)
}

// TestRecode changes the erasure code of a store and rewrites what it holds.
func TestRecode(t *testing.T) {
	t.Parallel()
	s := serve(t, "--ec", "4+2", "--segment-bytes", "4MiB", "--gc-interval", "0", "--checkpoint-interval", "100ms")
	all := fill(t, s, "a", 12)
	stop(t, s)
	s.Flags[1] = "3+3" // of --ec
	start(t, s)
	if st := result[storeStatus](t, s, exitDone, running, "status"); st.Code != "3+3" {
		t.Errorf("the code is %s", st.Code)
	}
	r := result[gcReport](t, s, exitDone, running, "gc", "--recode=ec")
	if r.Dropped == 0 {
		t.Errorf("%+v", r)
	}
	all.mustRead(t, s)
	for _, seg := range result[gcReport](t, s, exitDone, running, "gc", "--dry-run").Segments {
		if seg.Code != "3+3" && seg.Class == "data" {
			t.Errorf("a segment still has the old code: %+v", seg)
		}
	}
	command(t, s, exitDone, running, "scrub")
	for _, i := range []int{0, 2, 4} { // as the new code allows
		if err := os.Rename(s.Dirs[i], s.Dirs[i]+".away"); err != nil {
			t.Fatal(err)
		}
	}
	all.mustRead(t, s)
}
