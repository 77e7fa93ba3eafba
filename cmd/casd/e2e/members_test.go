package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// dirList is casd dir list --json by path.
func dirList(t *testing.T, s *casdtest.Server, where func(*casdtest.Server) []string) map[string]dirStatus {
	t.Helper()
	list := map[string]dirStatus{}
	for _, d := range result[[]dirStatus](t, s, exitDone, where, "dir", "list") {
		list[d.Path] = d
	}
	return list
}

// waitStatus waits until casd status shows what a test waits for.
func waitStatus(t *testing.T, s *casdtest.Server, what string, good func(storeStatus) bool) storeStatus {
	t.Helper()
	var st storeStatus
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if st = result[storeStatus](t, s, exitDone, running, "status"); good(st) {
			return st
		}
	}
	t.Fatalf("%s: the status stays %+v", what, st)
	return st
}

func isWhole(st storeStatus) bool {
	return st.Damaged == 0 && !slices.ContainsFunc(st.Dirs, func(d dirStatus) bool { return d.State != "online" })
}

// readiness is what /readyz says.
func readiness(t *testing.T, s *casdtest.Server, query string) (status int, state string, reasons string) {
	t.Helper()
	resp := mustGet(t, s, s.AdminURL()+"/readyz"+query)
	defer resp.Body.Close()
	var r struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, r.Status, strings.Join(r.Reasons, "; ")
}

// waitReadiness waits for what /readyz says, which may be a second old.
func waitReadiness(t *testing.T, s *casdtest.Server, want string) {
	t.Helper()
	var status int
	var state, reasons string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if status, state, reasons = readiness(t, s, "?strict=1"); state == want && status == http.StatusOK {
			return
		}
	}
	t.Errorf("/readyz?strict=1 stays %d %s: %s", status, state, reasons)
}

// serveIndexed starts a server over n directories whose index lies apart, so that any of them can go.
func serveIndexed(t *testing.T, n int, flags ...string) *casdtest.Server {
	t.Helper()
	base := t.TempDir()
	flags = append([]string{"--index", filepath.Join(base, "index"), "--segment-bytes", "4MiB", "--cache-bytes", "1MiB", "--gc-interval", "0"}, flags...)
	return serveDirs(t, base, casdtest.DataDirs(filepath.Join(base, "data"), n), flags...)
}

// TestChangeDirectories adds, balances, drains, removes and replaces directories of a running server, and of the stopped store.
func TestChangeDirectories(t *testing.T) {
	t.Parallel()
	s := serveIndexed(t, 6)
	all := fill(t, s, "a", 10)
	data := filepath.Dir(s.Dirs[0])
	empty := func(name string) string {
		path := filepath.Join(data, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	d7 := empty("d7")
	command(t, s, exitDone, running, "dir", "add", d7)
	if d := dirList(t, s, running)[d7]; d.State != "online" || d.ID == "" {
		t.Errorf("after dir add: %+v", d)
	}
	_, errs := command(t, s, exitFailed, running, "dir", "add", d7)
	wantIn(t, errs, d7)
	_, errs = command(t, s, exitFailed, running, "dir", "remove", s.Dirs[1])
	wantIn(t, errs, s.Dirs[1])
	_, errs = command(t, s, exitFailed, running, "dir", "drain", "/nothing/here")
	wantIn(t, errs, "NoSuchDir")
	command(t, s, exitDone, running, "rebalance") // one file system: all are equally full
	all.mustRead(t, s)

	command(t, s, exitDone, running, "dir", "drain", s.Dirs[1])
	if d := dirList(t, s, running)[s.Dirs[1]]; d.Shards != 0 || d.State != "draining" {
		t.Errorf("after dir drain: %+v", d)
	}
	if d := dirList(t, s, running)[d7]; d.Shards == 0 {
		t.Errorf("what was drained is not in the new directory: %+v", d)
	}
	command(t, s, exitDone, running, "dir", "remove", s.Dirs[1])
	if _, ok := dirList(t, s, running)[s.Dirs[1]]; ok {
		t.Error("after dir remove it is still listed")
	}
	all.mustRead(t, s)

	if err := removeAll(s.Dirs[2]); err != nil { // a dead disk
		t.Fatal(err)
	}
	fill(t, s, "during", 2).mustRead(t, s)
	waitStatus(t, s, "a directory is gone", func(st storeStatus) bool { return st.State == "degraded" })
	d8 := empty("d8")
	out, _ := command(t, s, exitDone, running, "dir", "replace", s.Dirs[2], d8)
	wantIn(t, out, d8)
	waitStatus(t, s, "after dir replace", isWhole)
	command(t, s, exitDone, running, "scrub")
	all.mustRead(t, s)

	removed := s.Dirs[1]
	stop(t, s)
	s.Dirs = []string{s.Dirs[0], d7, d8, s.Dirs[3], s.Dirs[4], s.Dirs[5]}
	wantIn(t, refused(t, append([]string{removed}, s.Dirs...), s.Flags...), removed)
	// The same on the stopped store.
	indexed := func(s *casdtest.Server) []string {
		return append([]string{"--index", filepath.Join(filepath.Dir(data), "index")}, s.Dirs...)
	}
	d9 := empty("d9")
	command(t, s, exitDone, indexed, "dir", "add", d9)
	s.Dirs = append(s.Dirs, d9)
	command(t, s, exitDone, indexed, "rebalance")
	command(t, s, exitDone, indexed, "dir", "drain", d7)
	command(t, s, exitDone, indexed, "dir", "remove", d7)
	s.Dirs = slices.DeleteFunc(s.Dirs, func(d string) bool { return d == d7 })
	if err := os.RemoveAll(s.Dirs[3]); err != nil {
		t.Fatal(err)
	}
	d10 := empty("d10")
	dead := s.Dirs[3]
	s.Dirs = slices.Delete(s.Dirs, 3, 4)
	command(t, s, exitDone, indexed, "dir", "replace", dead, d10)
	s.Dirs = append(s.Dirs, d10)
	command(t, s, exitDone, indexed, "scrub")
	start(t, s)
	all.mustRead(t, s)
	waitReadiness(t, s, "ok")
}

// TestDirectoryAwayAndBack takes a directory away from a running server and gives it back: status, metrics and /readyz say so, and it is healed.
func TestDirectoryAwayAndBack(t *testing.T) {
	t.Parallel()
	s := serveIndexed(t, 6)
	all := fill(t, s, "a", 6)
	away := s.Dirs[3] + ".away"
	if err := os.Rename(s.Dirs[3], away); err != nil {
		t.Fatal(err)
	}
	during := fill(t, s, "during", 4)
	st := waitStatus(t, s, "a directory is away", func(st storeStatus) bool { return st.State == "degraded" })
	if !strings.Contains(strings.Join(st.Reasons, "\n"), s.Dirs[3]) {
		t.Errorf("the reasons do not name %s: %q", s.Dirs[3], st.Reasons)
	}
	waitReadiness(t, s, "degraded")
	if err := os.Rename(away, s.Dirs[3]); err != nil {
		t.Fatal(err)
	}
	waitStatus(t, s, "it came back", isWhole)
	all.mustRead(t, s)
	during.mustRead(t, s)
	command(t, s, exitDone, running, "scrub")
	command(t, s, exitDone, running, "check")
	waitReadiness(t, s, "ok")
}
