package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
	"github.com/casd/casd/httpapi/auth"
)

// A scriptedStore stands for the store of a running server. What it does not answer itself panics.
type scriptedStore struct {
	*cas.Store
	mu       sync.Mutex
	calls    []string
	err      error
	status   cas.Status
	receipt  cas.Receipt
	gc       cas.GCReport
	check    cas.CheckReport
	progress []cas.Progress
	wait     bool // until the context ends
}

func (s *scriptedStore) call(ctx context.Context, p cas.ProgressFunc, format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
	for _, at := range s.progress {
		p(at)
	}
	if s.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.err
}

func (s *scriptedStore) Ready() error      { return nil }
func (s *scriptedStore) WriteState() error { return nil }
func (s *scriptedStore) Status(ctx context.Context) (cas.Status, error) {
	return s.status, s.call(ctx, nil, "status")
}
func (s *scriptedStore) Receipts(ctx context.Context, max int) ([]cas.Receipt, error) {
	return []cas.Receipt{s.receipt}, s.call(ctx, nil, "receipts %d", max)
}
func (s *scriptedStore) Scrub(ctx context.Context, r cas.ScrubRequest) (cas.Receipt, error) {
	return s.receipt, s.call(ctx, r.Progress, "scrub %q %t %d", r.Level, r.NoRepair, r.Rate)
}
func (s *scriptedStore) GC(ctx context.Context, r cas.GCRequest) (cas.GCReport, error) {
	return s.gc, s.call(ctx, r.Progress, "gc %t %g %t %d", r.DryRun, r.Threshold, r.Recode, r.Rate)
}
func (s *scriptedStore) Check(ctx context.Context, r cas.CheckRequest) (cas.CheckReport, error) {
	return s.check, s.call(ctx, r.Progress, "check %d", r.Rate)
}
func (s *scriptedStore) AddDir(ctx context.Context, path string) (cas.DirStatus, error) {
	return cas.DirStatus{ID: "new-id", Path: path, State: "online"}, s.call(ctx, nil, "add %s", path)
}
func (s *scriptedStore) ReplaceDir(ctx context.Context, dir, path string, p cas.ProgressFunc) (cas.DirStatus, error) {
	return cas.DirStatus{ID: "new-id", Path: path, State: "online"}, s.call(ctx, p, "replace %s %s", dir, path)
}
func (s *scriptedStore) DrainDir(ctx context.Context, dir string, p cas.ProgressFunc) (cas.DirStatus, error) {
	return cas.DirStatus{ID: "old-id", Path: dir, State: "draining"}, s.call(ctx, p, "drain %s", dir)
}
func (s *scriptedStore) RemoveDir(ctx context.Context, dir string, lost bool) error {
	return s.call(ctx, nil, "remove %s %t", dir, lost)
}
func (s *scriptedStore) Rebalance(ctx context.Context, p cas.ProgressFunc) (int64, error) {
	return 3 << 20, s.call(ctx, p, "rebalance")
}

// served starts a server over s and points the commands of this process to it.
func served(t *testing.T, s *scriptedStore) (url string) {
	t.Helper()
	creds := auth.Credentials{AccessKey: "someone", SecretKey: "long enough"}
	api, err := httpapi.New(httpapi.Options{Store: s, Credentials: creds, Limits: httpapi.Limits{Progress: 5 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api.Handler())
	t.Cleanup(server.Close)
	t.Setenv(envUser, creds.AccessKey)
	t.Setenv(envPassword, creds.SecretKey)
	t.Setenv("CASD_ENDPOINT", server.URL)
	return server.URL
}

func TestOperateServer(t *testing.T) {
	s := &scriptedStore{
		status:  cas.Status{StoreID: "store-1", State: "degraded", Reasons: []string{"/mnt/d3 is absent", "first\nsecond"}, Code: "4+2", Dirs: []cas.DirStatus{{ID: "dir-1", Path: "/mnt/d1", State: "online"}}},
		receipt: cas.Receipt{ID: "receipt-1", Complete: true, Outcome: cas.OutcomeWhole, BytesRead: map[string]int64{"/mnt/d1": 1 << 20}},
		gc:      cas.GCReport{ReclaimedBytes: 5 << 20, Segments: []cas.GCSegment{{ID: 7, Class: "data", Code: "4+2", Skipped: "it is open"}}},
		check:   cas.CheckReport{Outcome: cas.OutcomeWhole, CSN: 4711},
	}
	served(t, s)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, call, says string }{
		{"status", "status", "/mnt/d3 is absent"},
		{"status", "status", "first; second"},
		{"status --json", "status", `"store_id": "store-1"`},
		{"scrub", `scrub "chunks" false 0`, "scrub receipt-1: whole, complete"},
		{"scrub --level deep --no-repair --rate 1MiB", `scrub "deep" true 1048576`, "1.0 MiB  /mnt/d1"},
		{"scrub --json", `scrub "chunks" false 0`, `"outcome": "whole"`},
		{"scrub --list", "receipts 10", "receipt-1"},
		{"scrub --list --max 3 --json", "receipts 3", `"id": "receipt-1"`},
		{"gc", "gc false 0.25 false 0", "gc: 5.0 MiB reclaimed"},
		{"gc --dry-run --threshold 0.5 --recode=ec --rate 10", "gc true 0.5 true 10", "it is open"},
		{"gc --json", "gc false 0.25 false 0", `"reclaimed_bytes": 5242880`},
		{"check --rate 7", "check 7", "CSN 4711"},
		{"check --json", "check 0", `"csn": 4711`},
		{"rebalance", "rebalance", "3.0 MiB moved"},
		{"rebalance --json", "rebalance", `"moved": 3145728`},
		{"dir list", "status", "dir-1"},
		{"dir list --json", "status", `"id": "dir-1"`},
		{"dir add /mnt/d7", "add /mnt/d7", "added /mnt/d7 (new-id, online)"},
		{"dir add d7", "add " + filepath.Join(wd, "d7"), "added"},
		{"dir drain d3", "drain d3", "drained d3"},
		{"dir replace d3 /mnt/d9", "replace d3 /mnt/d9", "replaced d3 by /mnt/d9"},
		{"dir remove d3", "remove d3 false", "removed d3"},
		{"dir remove --lost d3", "remove d3 true", "removed d3"},
		{"dir remove d3 --json", "remove d3 false", `"id": "dir-1"`},
	} {
		s.calls = nil
		out, errs, exit := casd(t, strings.Fields(c.args)...)
		if exit != exitDone || len(s.calls) == 0 || s.calls[0] != c.call || !strings.Contains(out, c.says) || errs != "" {
			t.Errorf("casd %s: exit %d, calls %q, want %q\n%s%s\nwant %q", c.args, exit, s.calls, c.call, out, errs, c.says)
		}
		if strings.Contains(c.args, "--json") && !json.Valid([]byte(out)) {
			t.Errorf("casd %s: no JSON: %s", c.args, out)
		}
	}
	s.err = fmt.Errorf("drain: last of its kind: %w", cas.ErrConflict)
	if out, errs, exit := casd(t, "dir", "drain", "d3"); exit != exitFailed || out != "" || !strings.Contains(errs, "last of its kind") {
		t.Errorf("exit %d, %q %q", exit, out, errs)
	}
}

// The exit code says how it stands, whoever asks: a script needs nothing else.
func TestExitCodes(t *testing.T) {
	s := &scriptedStore{}
	served(t, s)
	lost := []cas.LostObject{{Bucket: "b", Key: "k\x1b[2J", VersionID: "v1", Chunks: 3}}
	found := []cas.Finding{{Dir: "/mnt/d1", File: "0000000000000007.d.01", Offset: 4096, Kind: "checksum", Repaired: true}}
	for _, c := range []struct {
		receipt cas.Receipt
		exit    int
		says    string
	}{
		{cas.Receipt{Outcome: cas.OutcomeWhole, Complete: true}, 0, "whole"},
		{cas.Receipt{Outcome: cas.OutcomeRepaired, Complete: true, Findings: found, FindingsTotal: 1}, 1, "0000000000000007.d.01"},
		{cas.Receipt{Outcome: cas.OutcomeDamaged, Complete: true, FindingsTotal: 1}, 2, "damaged"},
		{cas.Receipt{Outcome: cas.OutcomeLost, Complete: true, Lost: lost, LostTotal: 5}, 2, `"k\x1b[2J"`},
		{cas.Receipt{Outcome: cas.OutcomeLost, Reason: "d1 went away"}, 2, "d1 went away"},
		{cas.Receipt{Outcome: cas.OutcomeWhole, Reason: "d1 went away"}, 3, "d1 went away"},
		{cas.Receipt{Outcome: cas.OutcomeRepaired}, 3, "incomplete"},
		{cas.Receipt{Outcome: "new", Complete: true}, 3, "new"},
	} {
		s.receipt = c.receipt
		out, errs, exit := casd(t, "scrub")
		if exit != c.exit || !strings.Contains(out, c.says) {
			t.Errorf("%+v: exit %d, want %d and %q\n%s%s", c.receipt, exit, c.exit, c.says, out, errs)
		}
		if (exit == exitFailed) != (errs != "") {
			t.Errorf("%+v: exit %d with the message %q", c.receipt, exit, errs)
		}
		if c.receipt.LostTotal > 1 && !strings.Contains(out, "... and 4 more") {
			t.Errorf("what is left out is not counted:\n%s", out)
		}
		out, _, exit = casd(t, "scrub", "--json")
		if exit != c.exit || !json.Valid([]byte(out)) {
			t.Errorf("%+v --json: exit %d, want %d\n%s", c.receipt, exit, c.exit, out)
		}
	}
	for outcome, want := range map[string]int{cas.OutcomeWhole: 0, cas.OutcomeRepaired: 1, cas.OutcomeDamaged: 2, cas.OutcomeLost: 2} {
		s.check = cas.CheckReport{Outcome: outcome, Differences: []string{"row 7"}, DifferencesTotal: 3, Lost: lost}
		out, _, exit := casd(t, "check")
		if exit != want || !strings.Contains(out, "row 7\n... and 2 more") || !strings.Contains(out, "BUCKET") {
			t.Errorf("check: %s: exit %d, want %d\n%s", outcome, exit, want, out)
		}
	}
	s.gc = cas.GCReport{Reason: "no room"}
	if _, errs, exit := casd(t, "gc"); exit != exitFailed || !strings.Contains(errs, "no room") {
		t.Errorf("a cycle that ended early: exit %d, %s", exit, errs)
	}
}

func TestOperateWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"scrub":                               "name a running server",
		"scrub --level all d1":                "--level",
		"scrub --rate fast d1":                "--rate",
		"scrub --list --max 0 d1":             "--max",
		"gc --threshold 2 d1":                 "--threshold",
		"gc --recode=all d1":                  "--recode",
		"check --endpoint http://x d1":        "not both",
		"dir add":                             "PATH is missing",
		"dir replace d1":                      "PATH is missing",
		"dir drain d1":                        "name a running server",
		"dir grow d1":                         "unknown command",
		"rebuild-index":                       "data directories",
		"rebuild-index --endpoint http://x":   "unknown flag",
		"status --endpoint nowhere":           envUser,
		"scrub --endpoint http://127.0.0.1:1": envUser,
	} {
		out, errs, exit := casd(t, strings.Fields(args)...)
		if exit != exitFailed || out != "" || !strings.Contains(errs, want) {
			t.Errorf("casd %s: exit %d, %q %q, want %q", args, exit, out, errs, want)
		}
	}
}

// A server that dies in the middle is a failure, never a good end.
func TestOperateServerGoesAway(t *testing.T) {
	t.Setenv(envUser, "someone")
	t.Setenv(envPassword, "long enough")
	for name, body := range map[string]string{
		"nothing":           "",
		"progress alone":    `{"progress":{"operation":"scrub"}}` + "\n",
		"half a line":       `{"progress":{"operation":"scrub"}}` + "\n" + `{"result":{"outcome":"whole"`,
		"an error":          `{"error":{"code":"ShuttingDown","message":"the server is shutting down"}}` + "\n",
		"something unknown": "<html>\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		out, errs, exit := casd(t, "scrub", "--endpoint", server.URL)
		server.Close()
		if exit != exitFailed || out != "" || errs == "" {
			t.Errorf("%s: exit %d, %q %q", name, exit, out, errs)
		}
		if name == "an error" && !strings.Contains(errs, "shutting down") || name == "progress alone" && !strings.Contains(errs, "to go on") {
			t.Errorf("%s: %q", name, errs)
		}
	}
}

// TestInterrupt sends SIGINT to a process that waits for a server's operation.
func TestInterrupt(t *testing.T) {
	if url := os.Getenv("CASDTEST_INTERRUPTED"); url != "" { // TestMain took the credentials away
		t.Setenv(envUser, "someone")
		t.Setenv(envPassword, "long enough")
		os.Exit(run([]string{"scrub", "--endpoint", url}, os.Stdout, os.Stderr))
	}
	s := &scriptedStore{wait: true}
	url := served(t, s)
	cmd := exec.Command(os.Args[0], "-test.run=^TestInterrupt$")
	cmd.Env = append(os.Environ(), "CASDTEST_INTERRUPTED="+url)
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	asked := func() bool {
		if s.mu.TryLock() { // it is held while the operation waits
			defer s.mu.Unlock()
			return false
		}
		return true
	}
	for deadline := time.Now().Add(30 * time.Second); !asked(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the operation does not begin")
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != exitFailed || !strings.Contains(errs.String(), "run the command again to go on") {
		t.Errorf("%v: %s", err, errs.String())
	}
	s.mu.Lock() // the server's operation has ended too
	defer s.mu.Unlock()
	if !slices.Equal(s.calls, []string{`scrub "chunks" false 0`}) {
		t.Errorf("%q", s.calls)
	}
}
