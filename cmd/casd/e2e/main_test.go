// Package e2e tests the built casd binary from outside: real clients with real trees, crashes, lost directories and damage.
//
// CASD_BIN names the binary; without it the tests build it. CASD_CORPUS_MAKE names the script that makes the corpora;
// without it a tree is generated. A client that is not installed is a failure: `make tools` installs them.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cmd/casd/casdtest"
)

var (
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the randomised tests, printed by each")
	bin  string // the casd binary
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	work, err := os.MkdirTemp("", "casd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	bin = os.Getenv("CASD_BIN")
	if bin == "" {
		bin = filepath.Join(work, "casd")
		build := exec.Command("go", "build", "-o", bin, "github.com/casd/casd/cmd/casd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build casd: %v\n%s", err, out)
			return 1
		}
	}
	defer removeCorpora()
	return m.Run()
}

// serve starts a server over six directories with 4+2, and ends it with the test.
func serve(t *testing.T, flags ...string) *casdtest.Server {
	t.Helper()
	base := t.TempDir()
	return serveDirs(t, base, casdtest.DataDirs(filepath.Join(base, "data"), 6), flags...)
}

func serveDirs(t *testing.T, work string, dirs []string, flags ...string) *casdtest.Server {
	t.Helper()
	s, err := casdtest.Start(casdtest.Config{Bin: bin, Dirs: dirs, Work: work, Flags: flags})
	t.Cleanup(func() {
		if s == nil {
			return
		}
		s.Kill()
		if t.Failed() {
			t.Logf("the server's log ends so:\n%s", s.LogTail(30))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stop stops s and fails the test unless the server ends with 0.
func stop(t *testing.T, s *casdtest.Server) {
	t.Helper()
	if code, err := s.Stop(time.Minute); err != nil || code != 0 {
		t.Fatalf("casd stopped with exit code %d, %v; log:\n%s", code, err, s.LogTail(20))
	}
}

func start(t *testing.T, s *casdtest.Server) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

func stats(t *testing.T, s *casdtest.Server, bucket string) casdtest.Stats {
	t.Helper()
	st, err := s.Stats(bucket)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func metric(t *testing.T, s *casdtest.Server, name string) float64 {
	t.Helper()
	v, err := s.Metric(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A client is a command-line tool with what it needs to talk to one server.
type client struct {
	t    *testing.T
	path string
	args []string // before those of a call
	env  []string
	dir  string
}

// tool finds a client, or fails.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: run `make tools`", name)
	}
	return path
}

// commandTimeout bounds one call of a client; one that takes longer than slowCommand is logged.
const (
	commandTimeout = 10 * time.Minute
	slowCommand    = 5 * time.Second
)

// try runs the client and returns what it printed.
func (c client) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, append(slices.Clone(c.args), args...)...)
	cmd.Env, cmd.Dir = c.env, c.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	err := cmd.Run()
	if took := time.Since(begun); took > slowCommand {
		c.t.Logf("%s %s took %.1f s", filepath.Base(c.path), strings.Join(args, " "), took.Seconds())
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(c.path), strings.Join(args, " "), err, out.String())
	}
	return out.String(), err
}

// run is try that fails the test.
func (c client) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// clientEnv is the environment of AWS-like clients, free of the settings of whoever runs the tests.
func clientEnv(t *testing.T, s *casdtest.Server, more ...string) []string {
	home := t.TempDir()
	env := slices.DeleteFunc(s.Environ(), func(v string) bool {
		for _, prefix := range []string{"HOME=", "RESTIC_", "RCLONE_", "XDG_"} {
			if strings.HasPrefix(v, prefix) {
				return true
			}
		}
		return false
	})
	env = append(env, "HOME="+home, "AWS_ACCESS_KEY_ID="+casdtest.User, "AWS_SECRET_ACCESS_KEY="+casdtest.Password,
		"AWS_DEFAULT_REGION="+casdtest.Region, "AWS_REGION="+casdtest.Region, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=2")
	return append(env, more...)
}

// sameTrees fails unless two trees hold the same files with the same bytes.
func sameTrees(t *testing.T, want, got string) {
	t.Helper()
	diff := client{t: t, path: tool(t, "diff")}
	if out, err := diff.try("-r", "--no-dereference", want, got); err != nil {
		t.Fatalf("trees differ: %v", firstLines(out+err.Error(), 20))
	}
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(s, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

func mustGet(t *testing.T, s *casdtest.Server, url string) *http.Response {
	t.Helper()
	resp, err := s.Client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
