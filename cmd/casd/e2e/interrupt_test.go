package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// A background command is a casd process that a test does not wait for.
type background struct {
	*exec.Cmd
	out, errs bytes.Buffer
	done      chan struct{}
}

// begin starts a command and returns when it works on the store.
func begin(t *testing.T, s *casdtest.Server, args ...string) *background {
	t.Helper()
	b := &background{Cmd: exec.Command(s.Bin, args...), done: make(chan struct{})}
	b.Env, b.Stdout, b.Stderr = s.Environ(), &b.out, &b.errs
	b.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.Wait() // its outcome is in ProcessState
		close(b.done)
	}()
	t.Cleanup(func() {
		_ = b.Process.Kill() // it has ended, normally
		<-b.done
	})
	return b
}

// ends waits for the end of the command, which must fail and say something.
func (b *background) ends(t *testing.T, says string) {
	t.Helper()
	select {
	case <-b.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("the command does not end; it says %s", &b.errs)
	}
	if code := b.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(b.errs.String(), says) || b.out.Len() > 0 {
		t.Errorf("exit %d, %q, %q, want 3 and %q", code, &b.out, &b.errs, says)
	}
}

// TestInterruptedOperations ends a scrub that would take days from each side: by Ctrl-C, by a stop of the server, by its death. The command says that it did not
// come to its end, and the next one does.
func TestInterruptedOperations(t *testing.T) {
	t.Parallel()
	s := serve(t, "--segment-bytes", "4MiB")
	all := fill(t, s, "a", 4)
	slow := append([]string{"scrub", "--rate", "1KiB"}, running(s)...)

	b := begin(t, s, slow...)
	waitInFlight(t, s, 2)
	if err := b.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	b.ends(t, "run the command again to go on")
	waitLog(t, s, `"error_code":"Cancelled"`, 1)
	command(t, s, exitDone, running, "scrub")

	b = begin(t, s, slow...)
	waitInFlight(t, s, 2)
	began := time.Now()
	stop(t, s)
	if took := time.Since(began); took > 15*time.Second { // --shutdown-timeout is 30 s
		t.Errorf("the scrub held the stop up: %s", took)
	}
	b.ends(t, "the server is shutting down")
	command(t, s, exitDone, stopped, "scrub")

	start(t, s)
	b = begin(t, s, slow...)
	waitInFlight(t, s, 2)
	s.Kill()
	b.ends(t, "again to go on")

	b = begin(t, s, append([]string{"scrub", "--rate", "1KiB"}, s.Dirs...)...)
	holds := func() bool {
		holder, err := os.ReadFile(filepath.Join(s.Dirs[5], "lock"))
		return err == nil && strings.Contains(string(holder), fmt.Sprintf("pid %d ", b.Process.Pid))
	}
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the scrub does not begin")
		}
	}
	if err := b.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	b.ends(t, "run the command again to go on")
	command(t, s, exitDone, stopped, "scrub")
	start(t, s)
	all.mustRead(t, s)
}

// TestOperateStoreInUse: every command refuses the directories of a running server, names it, and says how to ask it.
func TestOperateStoreInUse(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, args := range []string{"status", "scrub", "scrub --list", "gc", "check", "rebalance", "rebuild-index", "stats", "dir list", "dir add " + t.TempDir(), "dir drain " + s.Dirs[0],
		"dir remove " + s.Dirs[0], "dir replace " + s.Dirs[0] + " " + t.TempDir()} {
		_, errs := command(t, s, exitFailed, stopped, strings.Fields(args)...)
		wantIn(t, errs, "is in use by another casd (pid ", "--endpoint")
	}
	stop(t, s)
}
