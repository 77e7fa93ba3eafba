package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// Exit codes of casd's commands.
const (
	exitDone     = 0
	exitRepaired = 1
	exitLost     = 2
	exitFailed   = 3
)

// Where a command finds the store: the running server, or the directories of the stopped one.
var (
	running = func(s *casdtest.Server) []string { return []string{"--endpoint", s.AdminURL()} }
	stopped = func(s *casdtest.Server) []string { return s.Dirs }
)

// command runs casd, demands its exit code, and returns what it printed.
func command(t *testing.T, s *casdtest.Server, exit int, where func(*casdtest.Server) []string, args ...string) (stdout, stderr string) {
	t.Helper()
	args = append(args, where(s)...)
	stdout, stderr, got, err := s.Casd(t.Context(), args...)
	if err != nil || got != exit {
		t.Fatalf("casd %s: exit %d, %v, want %d\n%s%s", strings.Join(args, " "), got, err, exit, stdout, stderr)
	}
	return stdout, stderr
}

// result is command with --json, whose result it decodes.
func result[T any](t *testing.T, s *casdtest.Server, exit int, where func(*casdtest.Server) []string, args ...string) (v T) {
	t.Helper()
	out, _ := command(t, s, exit, where, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("casd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// A scrubReceipt is what tests look at of what casd scrub --json says.
type scrubReceipt struct {
	ID       string `json:"id"`
	Level    string `json:"level"`
	Complete bool   `json:"complete"`
	Outcome  string `json:"outcome"`
	Stripes  int64  `json:"stripes"`
	Chunks   int64  `json:"chunks"`
	Objects  int64  `json:"objects"`

	BytesRead    map[string]int64 `json:"bytes_read"`
	ShardsBad    int64            `json:"shards_bad"`
	FilesRebuilt int64            `json:"files_rebuilt"`
	Findings     []struct {
		Dir      string `json:"dir"`
		File     string `json:"file"`
		Kind     string `json:"kind"`
		Repaired bool   `json:"repaired"`
	} `json:"findings"`
	FindingsTotal int64 `json:"findings_total"`
	Lost          []struct {
		Bucket string `json:"bucket"`
		Key    string `json:"key"`
	} `json:"lost"`
	LostTotal int64 `json:"lost_total"`
}

// lostKeys are the keys of the receipt, each once.
func (r scrubReceipt) lostKeys() []string {
	var keys []string
	for _, o := range r.Lost {
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// A storeStatus is what tests look at of what casd status --json says.
type storeStatus struct {
	State   string      `json:"state"`
	Reasons []string    `json:"reasons"`
	Code    string      `json:"code"`
	Damaged int         `json:"segments_damaged"`
	Dirs    []dirStatus `json:"dirs"`
}

type dirStatus struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	State  string `json:"state"`
	Shards int    `json:"shard_files"`
}

// contents are the objects of a store, all in one bucket, by key.
type contents map[string][]byte

const contentsBucket = "contents"

// fill puts objects of all sizes under a prefix into the store.
func fill(t *testing.T, s *casdtest.Server, prefix string, big int) contents {
	t.Helper()
	c := sdk(s)
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(contentsBucket)}); err != nil {
		var owned *types.BucketAlreadyOwnedByYou
		if !errors.As(err, &owned) {
			t.Fatal(err)
		}
	}
	all := contents{}
	put := func(kind string, i, n int) {
		key := fmt.Sprintf("%s/%s/%d", prefix, kind, i)
		seed := uint64(len(all) + 1)
		for _, r := range prefix {
			seed = seed*1_000_003 + uint64(r)
		}
		all[key] = bytesOf(seed, n)
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(contentsBucket), Key: &key, Body: bytes.NewReader(all[key])}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range big {
		put("big", i, 1<<20)
		put("small", i, 3000)
		put("tiny", i, 30)
	}
	return all
}

// unreadable reads everything and returns the keys that cannot be read. Wrong bytes fail the test.
func (all contents) unreadable(t *testing.T, s *casdtest.Server) (bad []string) {
	t.Helper()
	c := sdk(s, noRetry)
	for key, want := range all {
		out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(contentsBucket), Key: &key})
		var got []byte
		if err == nil {
			got, err = io.ReadAll(out.Body)
			_ = out.Body.Close() // read to its end
		}
		switch {
		case err != nil:
			bad = append(bad, key)
			if len(got) > len(want) || !bytes.Equal(got, want[:len(got)]) {
				t.Errorf("%s: wrong bytes before the error %v", key, err)
			}
		case !bytes.Equal(got, want):
			t.Errorf("%s: %d wrong bytes", key, len(got))
		}
	}
	slices.Sort(bad)
	return bad
}

func (all contents) mustRead(t *testing.T, s *casdtest.Server) {
	t.Helper()
	if bad := all.unreadable(t, s); len(bad) > 0 {
		t.Fatalf("%d of %d objects cannot be read: %s", len(bad), len(all), bad)
	}
}
