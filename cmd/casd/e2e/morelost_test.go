package e2e

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// TestMoreLostThanParity loses more directories than there is parity. What is intact is served, nothing can be written, nothing that is only away is called lost;
// and when the directories are declared lost the store writes again and lists what is gone.
func TestMoreLostThanParity(t *testing.T) {
	t.Parallel()
	s := serveIndexed(t, 6, "--ec", "2+1")
	all := fill(t, s, "a", 12)
	stop(t, s)
	lost := fatalPair(t, s)
	for _, i := range lost {
		if err := os.RemoveAll(s.Dirs[i]); err != nil {
			t.Fatal(err)
		}
	}
	start(t, s)
	st := result[storeStatus](t, s, exitDone, running, "status")
	if st.State != "read-only" || len(st.Reasons) == 0 {
		t.Errorf("status %+v", st)
	}
	if status, state, _ := readiness(t, s, "?strict=1"); status != http.StatusServiceUnavailable || state != "read-only" {
		t.Errorf("/readyz?strict=1 is %d %s", status, state)
	}
	if status, _, _ := readiness(t, s, ""); status != http.StatusOK {
		t.Errorf("/readyz is %d", status)
	}
	put := func() error {
		_, err := sdk(s, noRetry).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(contentsBucket), Key: aws.String("new"), Body: bytes.NewReader(bytesOf(1, 1<<20))})
		return err
	}
	var refusal smithy.APIError
	if err := put(); !errors.As(err, &refusal) || refusal.ErrorCode() != "ServiceUnavailable" {
		t.Errorf("a write is answered %v", err)
	}
	bad := all.unreadable(t, s)
	if len(bad) == len(all) {
		t.Errorf("nothing of %d objects can be read", len(all))
	}
	r := result[scrubReceipt](t, s, exitLost, running, "scrub", "--no-repair")
	if r.Outcome != "damaged" || r.LostTotal != 0 {
		t.Errorf("while they are only away: %+v", r)
	}
	for _, i := range lost {
		command(t, s, exitDone, running, "dir", "remove", "--lost", s.Dirs[i])
	}
	r = result[scrubReceipt](t, s, exitLost, running, "scrub", "--level", "deep")
	if got := r.lostKeys(); r.Outcome != "lost" || !slices.Equal(got, bad) {
		t.Errorf("%s: lost are %q,\nunreadable are %q", r.Outcome, got, bad)
	}
	s.Dirs = slices.DeleteFunc(s.Dirs, func(dir string) bool {
		_, err := os.Stat(dir)
		return err != nil
	})
	stop(t, s)
	start(t, s)
	if err := put(); err != nil {
		t.Errorf("after dir remove --lost and a restart: %v", err)
	}
	again := all.unreadable(t, s)
	if !slices.Equal(again, bad) {
		t.Errorf("after a restart %q are unreadable, before %q", again, bad)
	}
}

// fatalPair returns two directories without which a data segment of code 2+1 is lost, but no metadata.
func fatalPair(t *testing.T, s *casdtest.Server) []int {
	t.Helper()
	held := make([]map[string]bool, len(s.Dirs)) // segments by directory
	for i, dir := range s.Dirs {
		held[i] = map[string]bool{}
		for _, path := range shardFiles(t, dir) {
			segment, _, _ := strings.Cut(strings.Replace(filepath.Base(path), ".", "-", 1), ".")
			held[i][segment] = true
		}
	}
	for i := range held {
	pairs:
		for j := range i {
			data := 0
			for segment := range held[i] {
				switch {
				case held[j][segment] && strings.HasSuffix(segment, "-d"):
					data++
				case held[j][segment]:
					continue pairs
				}
			}
			if data > 0 {
				return []int{i, j}
			}
		}
	}
	t.Fatalf("no two directories hold a data segment but no metadata together: %v", held)
	return nil
}
