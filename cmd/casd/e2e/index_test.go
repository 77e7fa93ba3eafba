package e2e

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// indexOf finds the file of the index.
func indexOf(t *testing.T, s *casdtest.Server) string {
	t.Helper()
	for _, dir := range s.Dirs {
		path := filepath.Join(dir, "index", "catalog.bolt")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	t.Fatal("no directory has an index")
	return ""
}

// listing is what a listing of the bucket says of every object.
func listing(t *testing.T, s *casdtest.Server) string {
	t.Helper()
	list, err := sdk(s).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(contentsBucket)})
	if err != nil {
		t.Fatal(err)
	}
	return string(mustJSON(t, list.Contents))
}

// TestIndexLost takes the index away, cuts it, and harms it, after a kill. Each start builds it anew, says so, and answers as before.
func TestIndexLost(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 9))
	s := serve(t, "--segment-bytes", "4MiB", "--checkpoint-interval", "100ms")
	all := fill(t, s, "a", 6)
	want := listing(t, s)
	for _, c := range []struct {
		name string
		harm func(path string) error
	}{
		{"removed", os.Remove},
		{"directory removed", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }},
		{"cut short", func(path string) error { return os.Truncate(path, 3*4096) }}, // of one that has grown there may be nothing behind
		{"cut to nothing", func(path string) error { return os.Truncate(path, 0) }},
		{"zeroed", func(path string) error { return rewrite(path, func(b []byte) []byte { clear(b); return b }) }},
		{"random", func(path string) error { return rewrite(path, func(b []byte) []byte { return bytesOf(5, len(b)) }) }},
		{"bits flipped", func(path string) error {
			return rewrite(path, func(b []byte) []byte {
				for range len(b) / 8 {
					b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
				}
				return b
			})
		}},
	} {
		s.Kill()
		if err := c.harm(indexOf(t, s)); err != nil {
			t.Fatal(err)
		}
		start(t, s)
		if got := listing(t, s); got != want {
			t.Errorf("%s: the listing is\n%s\nwant\n%s", c.name, got, want)
		}
		all.mustRead(t, s)
		if metric(t, s, "casd_index_rebuilds_total") == 0 {
			t.Errorf("%s: nothing tells that the index was built anew", c.name)
		}
	}
	command(t, s, exitFailed, stopped, "rebuild-index")
	stop(t, s)
	out, _ := command(t, s, exitDone, stopped, "rebuild-index")
	wantIn(t, out, "index rebuilt in ")
	if _, err := os.Stat(indexOf(t, s) + ".old"); err != nil {
		t.Error(err)
	}
	start(t, s)
	if got := listing(t, s); got != want {
		t.Errorf("casd rebuild-index: the listing is\n%s\nwant\n%s", got, want)
	}
	if v := metric(t, s, "casd_index_rebuilds_total"); v != 0 {
		t.Errorf("after a clean end the index was built anew %v times", v)
	}
	all.mustRead(t, s)
	if out, _ := command(t, s, exitDone, running, "check"); !strings.Contains(out, "check: whole") || !strings.Contains(out, "differences  0") {
		t.Errorf("casd check says\n%s", out)
	}
	stop(t, s)
	type report struct {
		Outcome     string `json:"outcome"`
		Rows        int64  `json:"rows"`
		Differences int64  `json:"differences_total"`
	}
	if r := result[report](t, s, exitDone, stopped, "check"); r.Outcome != "whole" || r.Rows == 0 || r.Differences != 0 {
		t.Errorf("casd check of the stopped store says %+v", r)
	}
}
