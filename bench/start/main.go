// Command start measures how long the built casd binary takes until it is ready over a store with a million chunks that
// was killed with SIGKILL.
//
// The store is made through package cas by a child process that kills itself at the end: small objects of one chunk each,
// so that there are as many objects and mutations as chunks.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/cmd/casd/casdtest"
)

const (
	objectBytes = 1 << 10 // more than what goes into the mutation itself, so it becomes a chunk
	writers     = 512
	bucket      = "start"
)

func main() {
	var (
		bin    = flag.String("casd", "bin/casd", "the casd binary")
		work   = flag.String("dir", "", "where the data directories go; default a temporary directory here, removed afterwards")
		chunks = flag.Int64("chunks", 1_000_000, "how many chunks")
		fillIn = flag.String("fill", "", "internal: make the store below this directory, then die")
		limit  = flag.Duration("limit", 5*time.Second, "fail when the start takes longer")
	)
	flag.Parse()
	var err error
	if *fillIn != "" {
		err = fill(casdtest.DataDirs(*fillIn, 6), *chunks)
	} else {
		err = run(*bin, *work, *chunks, *limit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

func run(bin, work string, chunks int64, limit time.Duration) (err error) {
	temp, err := os.MkdirTemp(cmp.Or(work, "."), "bench-start-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	data := filepath.Join(temp, "data")
	begun := time.Now()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "--fill", data, "--chunks", fmt.Sprint(chunks))
	child.Stderr = os.Stderr
	err = child.Run()
	var exit *exec.ExitError
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !errors.As(err, &exit) || !ok || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("making the store: %w", cmp.Or(err, errors.New("it was not killed")))
	}
	fmt.Printf("%d chunks in %.0f s\n", chunks, time.Since(begun).Seconds())

	s := &casdtest.Server{}
	for i := range 3 {
		begun = time.Now()
		if i == 0 {
			s, err = casdtest.Start(casdtest.Config{Bin: bin, Dirs: casdtest.DataDirs(data, 6), Work: temp})
		} else {
			err = s.Start()
		}
		if err != nil {
			return err
		}
		took := time.Since(begun)
		st, err := s.Stats("")
		if err != nil {
			return err
		}
		peak, err := s.PeakRSS()
		if err != nil {
			return err
		}
		fmt.Printf("start %d after SIGKILL: ready in %.2f s, %d chunks, %d objects, peak memory %d MiB\n", i+1, took.Seconds(), st.Chunks, st.Objects, peak>>20)
		s.Kill()
		if st.Chunks < chunks || st.Objects < chunks {
			return fmt.Errorf("%d chunks and %d objects are there, want %d", st.Chunks, st.Objects, chunks)
		}
		if took > limit {
			return fmt.Errorf("the start took %s, limit %s", took, limit)
		}
	}
	return nil
}

// fill makes the store and ends the process with SIGKILL, without closing it.
func fill(dirs []string, chunks int64) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	store, err := cas.Open(ctx, cas.Options{Dirs: dirs, K: 4, M: 2, Logger: log})
	if err != nil {
		return err
	}
	if _, err := store.CreateBucket(ctx, cas.Bucket{Name: bucket}); err != nil {
		return err
	}
	var next atomic.Int64
	var g errgroup.Group
	for range writers {
		g.Go(func() error {
			for i := next.Add(1); i <= chunks; i = next.Add(1) {
				err := putSmall(ctx, store, i)
				for errors.Is(err, cas.ErrBusy) { // the overlay is full: wait for a checkpoint
					time.Sleep(20 * time.Millisecond)
					err = putSmall(ctx, store, i)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func putSmall(ctx context.Context, store *cas.Store, i int64) error {
	_, err := store.Put(ctx, cas.PutRequest{Bucket: bucket, Key: fmt.Sprintf("object/%08d", i),
		Body: io.LimitReader(casdtest.Random(uint64(i)), objectBytes),
		Finish: func(int64) (cas.Attributes, error) {
			return cas.Attributes{ETag: "d41d8cd98f00b204e9800998ecf8427e"}, nil
		}})
	return err
}
