package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casd/casd/cas"
)

// casd runs a command line in this process.
func casd(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = run(args, &out, &errs)
	return out.String(), errs.String(), exit
}

func TestVersion(t *testing.T) {
	out, _, exit := casd(t, "version")
	if exit != exitDone || !strings.HasPrefix(out, "casd dev (go") {
		t.Errorf("casd version: exit %d, %q", exit, out)
	}
}

func TestHelpHasExamples(t *testing.T) {
	for _, command := range []string{"serve", "stats", "status", "scrub", "gc", "check", "rebalance", "rebuild-index", "dir", "dir list", "dir add", "dir drain",
		"dir replace", "dir remove", "version"} {
		out, _, exit := casd(t, append(strings.Fields(command), "--help")...)
		if exit != exitDone || !strings.Contains(out, "Examples:\n  casd "+command) {
			t.Errorf("casd %s --help: exit %d\n%s", command, exit, out)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	t.Setenv(envUser, "")
	t.Setenv(envPassword, "")
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"no-such-command"}, "unknown command"},
		{[]string{"serve"}, "no data directories"},
		{[]string{"serve", "--no-such-flag", dir}, "unknown flag"},
		{[]string{"serve", "--ec", "4+2", dir}, "needs 6 directories, 1 are named"},
		{[]string{"serve", "--ec", "x", dir}, "--ec"},
		{[]string{"serve", "--segment-bytes", "lots", dir}, "--segment-bytes"},
		{[]string{"serve", "--tls-cert", "x", dir}, "go together"},
		{[]string{"serve", "--tls-cert", "/none", "--tls-key", "/none", dir}, "/none"},
		{[]string{"serve", "--log-level", "loud", dir}, "--log-level"},
		{[]string{"serve", "--log-format", "xml", dir}, "--log-format"},
		{[]string{"serve", "--shutdown-timeout", "0s", dir}, "--shutdown-timeout"},
		{[]string{"serve", "--scrub-interval", "-1s", dir}, "--scrub-interval"},
		{[]string{"serve", "--gc-threshold", "0", dir}, "--gc-threshold"},
		{[]string{"serve", "--listen", "nowhere", dir}, "nowhere"},
		{[]string{"serve", "--config", filepath.Join(dir, "none.yaml"), dir}, "none.yaml"},
		{[]string{"serve", "{2...1}"}, "backwards"},
		{[]string{"stats"}, "name a running server"},
		{[]string{"stats", "--endpoint", "http://127.0.0.1:1", dir}, "not both"},
		{[]string{"stats", "--endpoint", "http://127.0.0.1:1"}, envUser},
		{[]string{"version", "extra"}, "unknown command"},
	} {
		out, errs, exit := casd(t, c.args...)
		if exit != exitFailed || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("casd %s: exit %d, stdout %q, stderr %q, want 3 and %q", strings.Join(c.args, " "), exit, out, errs, c.want)
		}
	}
	t.Setenv(envUser, "someone")
	if _, errs, exit := casd(t, "serve", dir); exit != exitFailed || !strings.Contains(errs, "go together") {
		t.Errorf("a user without a password: exit %d, %q", exit, errs)
	}
	t.Setenv(envPassword, "short")
	if _, errs, exit := casd(t, "serve", dir); exit != exitFailed || !strings.Contains(errs, "8 characters") {
		t.Errorf("a short password: exit %d, %q", exit, errs)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("wrong usage left %v in the data directory, %v", entries, err)
	}
}

func TestStatsOfEndpoint(t *testing.T) {
	t.Setenv(envUser, "someone")
	t.Setenv(envPassword, "long enough")
	want := cas.Stats{Objects: 1234, LogicalBytes: 5 << 30, UniqueBytes: 1 << 30, DedupRatio: 5, Chunks: 7}
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		if r.URL.Query().Get("bucket") == "none" {
			http.Error(w, "<Code>NoSuchBucket</Code>", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(want) // to a test's own recorder
	}))
	defer server.Close()

	out, errs, exit := casd(t, "stats", "--endpoint", server.URL+"/", "--bucket", "b/ü", "--json")
	var got cas.Stats
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != exitDone || got != want {
		t.Fatalf("exit %d, %v\n%s%s", exit, err, out, errs)
	}
	if asked.URL.Path != "/-/stats" || asked.URL.Query().Get("bucket") != "b/ü" || !strings.Contains(asked.Header.Get("Authorization"), "Credential=someone/") {
		t.Errorf("asked %s with %q", asked.URL, asked.Header)
	}
	for _, key := range []string{"objects", "logical_bytes", "unique_bytes", "payload_bytes", "stored_bytes", "chunks", "dedup_ratio"} {
		if !strings.Contains(out, fmt.Sprintf("%q:", key)) {
			t.Errorf("%s is not in\n%s", key, out)
		}
	}
	out, _, exit = casd(t, "stats", "--endpoint", server.URL)
	if exit != exitDone || !strings.Contains(out, "1,234") || !strings.Contains(out, "5.0 GiB") {
		t.Errorf("exit %d\n%s", exit, out)
	}
	t.Setenv("CASD_ENDPOINT", server.URL)
	if _, errs, exit = casd(t, "stats", "--bucket", "none"); exit != exitFailed || !strings.Contains(errs, "NoSuchBucket") {
		t.Errorf("an unknown bucket: exit %d, %q", exit, errs)
	}
}

func TestStatsOfDirectoriesWithoutAStore(t *testing.T) {
	dir := t.TempDir()
	_, errs, exit := casd(t, "stats", dir)
	if exit != exitFailed || !strings.Contains(errs, dir) {
		t.Errorf("exit %d, %q", exit, errs)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("casd stats left %v in an empty directory, %v", entries, err)
	}
}
