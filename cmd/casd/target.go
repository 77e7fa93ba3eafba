package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

// An operable store is one that this process has opened (*cas.Store), or a running server's (*adminClient).
type operable interface {
	Stats(ctx context.Context, bucket string) (cas.Stats, error)
	Status(ctx context.Context) (cas.Status, error)
	Receipts(ctx context.Context, max int) ([]cas.Receipt, error)
	Scrub(ctx context.Context, r cas.ScrubRequest) (cas.Receipt, error)
	GC(ctx context.Context, r cas.GCRequest) (cas.GCReport, error)
	Check(ctx context.Context, r cas.CheckRequest) (cas.CheckReport, error)
	AddDir(ctx context.Context, path string) (cas.DirStatus, error)
	ReplaceDir(ctx context.Context, dir, path string, progress cas.ProgressFunc) (cas.DirStatus, error)
	DrainDir(ctx context.Context, dir string, progress cas.ProgressFunc) (cas.DirStatus, error)
	RemoveDir(ctx context.Context, dir string, lost bool) error
	Rebalance(ctx context.Context, progress cas.ProgressFunc) (moved int64, err error)
}

var (
	_ operable = (*cas.Store)(nil)
	_ operable = (*adminClient)(nil)
)

// A target is the store that a command works on: that of a running server, or a stopped one by its data directories.
type target struct {
	storeOptions
	remote adminClient
	asJSON bool
	stderr io.Writer
}

// addFlags adds the flags by which the store is named, and --json.
func (t *target) addFlags(cmd *cobra.Command) {
	t.remote.addFlags(cmd)
	t.storeOptions.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print the result as JSON, sizes in bytes")
}

// find decides where the store is. Directories on the command line win over an endpoint from elsewhere. It returns whether that is a server.
func (t *target) find(cmd *cobra.Command, args []string) (served bool, err error) {
	dirs, _, err := loadSettings(cmd, args)
	switch {
	case err != nil:
		return false, err
	case len(args) > 0 && cmd.Flags().Changed("endpoint"):
		return false, errors.New("either --endpoint or directories, not both")
	case len(args) == 0 && t.remote.endpoint != "":
		return true, nil
	case len(dirs) > 0:
		t.dirs = dirs
		return false, nil
	}
	return false, errors.New("name a running server with --endpoint, or the data directories of a stopped one")
}

// run opens the store named by args and calls do with it. Ctrl-C ends do's context; whatever do then returns, the command failed.
func (t *target) run(cmd *cobra.Command, args []string, do func(ctx context.Context, s operable, d *display) error) (err error) {
	served, err := t.find(cmd, args)
	if err != nil {
		return err
	}
	d := newDisplay(t.stderr)
	ctx, stop := interruptible(cmd.Context(), d)
	defer stop()
	if served {
		err = do(ctx, &t.remote, d)
	} else {
		err = t.runStopped(ctx, do, d)
	}
	d.End()
	if ctx.Err() != nil && err != nil && !errors.As(err, new(exitCode)) {
		return fmt.Errorf("interrupted; run the command again to go on (%w)", err)
	}
	return err
}

// runStopped opens the store in this process, so it fails when a server has it open. Nothing runs in the background.
func (t *target) runStopped(ctx context.Context, do func(ctx context.Context, s operable, d *display) error, d *display) error {
	o, err := t.stoppedOptions(d)
	if err != nil {
		return err
	}
	store, err := cas.Open(ctx, o)
	if err != nil {
		return hintInUse(err)
	}
	err = do(ctx, store, d)
	d.End()
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if closeErr := store.Close(closeCtx); closeErr != nil {
		return fmt.Errorf("close the store: %w", errors.Join(closeErr, err))
	}
	return err
}

// stoppedOptions never create a store, and log what an operator acts on.
func (t *target) stoppedOptions(w io.Writer) (cas.Options, error) {
	log, err := newLogger(w, slog.LevelWarn.String(), "text")
	o := t.casOptions()
	o.NoCreate, o.OnDemand, o.Logger = true, true, log
	return o, err
}

func hintInUse(err error) error {
	if errors.Is(err, cas.ErrInUse) {
		return fmt.Errorf("%w; if it is a server, ask it with --endpoint URL", err)
	}
	return err
}

// interruptible returns a context that the first SIGTERM or SIGINT ends; a second one ends the process.
func interruptible(parent context.Context, w io.Writer) (context.Context, func()) {
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			fmt.Fprintln(w, "casd: ending; once more to end at once")
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// absolute makes path one of this machine that does not depend on where the server runs.
func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("a directory name is empty")
	}
	return filepath.Abs(path)
}
