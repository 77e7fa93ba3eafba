package cas

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/casd/casd/index"
)

// A watchedContext tells when somebody first waits for it.
type watchedContext struct {
	context.Context //nolint:containedctx // it is one
	waited          chan struct{}
}

func (c watchedContext) Done() <-chan struct{} {
	select {
	case <-c.waited:
	default:
		close(c.waited)
	}
	return c.Context.Done()
}

// Writing stops for good while somebody waits for a checkpoint: there will be none, and the wait ends.
func TestCheckpointOfFailedStore(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CheckpointInterval: time.Hour})
	mustBucket(t, s, "b")
	inCommitter, goOn := make(chan struct{}), make(chan struct{})
	committed := make(chan error, 1)
	go func() {
		committed <- s.update(context.Background(), nil, func(index.Reader) (*tx, error) {
			t := &tx{committed: func(uint64, int64) { close(inCommitter); <-goOn }}
			t.put(index.Meta, []byte("row"), 1)
			return t, nil
		})
	}()
	<-inCommitter
	timeout, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ctx := watchedContext{timeout, make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.checkpointNow(ctx) }()
	<-ctx.waited
	s.fail(errors.New("a commit with an unknown outcome"))
	close(goOn)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrReadOnly) {
		t.Errorf("checkpoint of a store that failed: %v, want ErrReadOnly", err)
	}
}

// Where the last run ended cannot be written down for want of room. Until it is, no checkpoint may go past that, whoever asks.
func TestNoCheckpointBeforeVerdicts(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CheckpointInterval: time.Hour})
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "k", noise(1, 5000))
	crashed := disk.Clone()
	closeStore(t, s)
	for _, p := range paths {
		crashed.Limit(p, 0)
	}
	s = gcStore(t, Options{Dirs: paths, FS: crashed, IndexDir: t.TempDir(), CheckpointInterval: time.Hour})
	if len(s.committer.owed) == 0 {
		t.Fatal("the verdicts were written: the test shows nothing")
	}
	if r, err := s.GC(t.Context(), GCRequest{DryRun: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("dry run: %v %+v", err, r)
	}
	if pos := s.idx.Position(); pos.CSN != 0 || len(pos.Log) != 0 {
		t.Errorf("the index file covers %+v", pos)
	}
	mustHave(t, s, "b", "k", noise(1, 5000))
}
