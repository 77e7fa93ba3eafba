package erasure

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"
)

// raceLog opens a log over real directories that is ready for writes.
func raceLog(t *testing.T, dirs []string) *Log {
	t.Helper()
	return mustOpen(t, Options{Dirs: dirs, Create: &Creation{K: 2, M: 1}, StripeBytes: 16 << 10, SegmentBytes: 1 << 20, MetadataSegmentBytes: 1 << 20})
}

// A directory fails, and somebody repairs, while another commit takes note that it is durable. The verdict must not void what that
// commit acknowledges.
func TestRepairWhileACommitFinishes(t *testing.T) {
	ctx, dirs := context.Background(), testDirs(t, 4)
	l := raceLog(t, dirs)
	if _, err := l.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	var vs []Verdict
	commit := func(label string, deps ...*Handle) {
		t.Helper()
		for {
			err := l.Commit(ctx, []Record{{Kind: 2, Label: []byte(label), Body: []byte("mutation")}}, deps, TierUpload)
			if err == nil {
				return
			}
			if !errors.Is(err, ErrRetry) {
				t.Fatal(err)
			}
			vs = l.TakeVerdicts()
		}
	}
	h, err := l.Append(ctx, Record{Kind: 1, Label: []byte("chunk"), Body: make([]byte, 8000)}, Data, TierUpload)
	if err != nil {
		t.Fatal(err)
	}
	repaired := make(chan struct{})
	l.testPause = func(where string) {
		if where != "finish" {
			return
		}
		l.testPause = nil
		l.dirs()[0].setOffline(errors.New("EIO elsewhere"))
		go func() { defer close(repaired); l.repair() }()
		select { // either it waits for us, or it is through
		case <-repaired:
		case <-time.After(50 * time.Millisecond):
		}
	}
	commit("m1", h)
	<-repaired
	commit("m2")
	vs = append(vs, l.TakeVerdicts()...)
	if len(vs) == 0 {
		t.Fatal("no segment ended")
	}
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	l = raceLog(t, dirs)
	defer l.Close(ctx)
	if err := l.SetVerdicts(vs); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	if err := l.Replay(ctx, 0, nil, func(r Replayed) error { seen[string(r.Label)] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if !seen["m1"] || !seen["chunk"] || !seen["m2"] {
		t.Fatalf("acknowledged records are void after a restart: %v", seen)
	}
}

// An append that was let in before Close must end, and not look for a segment for ever.
func TestAppendWhileClosing(t *testing.T) {
	ctx := context.Background()
	l := raceLog(t, testDirs(t, 3))
	if _, err := l.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	at, goOn, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	l.testPause = func(where string) {
		if where == "append" {
			l.testPause = nil
			close(at)
			<-goOn
		}
	}
	go func() {
		_, err := l.Append(ctx, Record{Kind: 1, Label: []byte("chunk"), Body: make([]byte, 20000)}, Data, TierUpload)
		result <- err
	}()
	<-at
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	select {
	case err := <-result:
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("Append = %v, want ErrClosed", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Append does not return after Close")
	}
}

// scarceFS has no descriptors left for new files while scarce is set.
type scarceFS struct {
	FS
	scarce *bool
}

func (f scarceFS) OpenFile(path string, flag int) (File, error) {
	if *f.scarce {
		return nil, syscall.EMFILE
	}
	return f.FS.OpenFile(path, flag)
}

// Being out of descriptors refuses a write; it takes no directory out of service.
func TestOutOfDescriptors(t *testing.T) {
	ctx, scarce := context.Background(), false
	l, err := Open(ctx, Options{Dirs: testDirs(t, 3), Create: &Creation{K: 2, M: 1}, FS: scarceFS{OS, &scarce}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(ctx)
	if _, err := l.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	mut := []Record{{Kind: 2, Label: []byte("m"), Body: []byte("mutation")}}
	scarce = true
	if err := l.Commit(ctx, mut, nil, TierUpload); !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrUncertain) {
		t.Fatalf("Commit = %v, want a clean EMFILE", err)
	}
	scarce = false
	if err := l.Commit(ctx, mut, nil, TierUpload); err != nil {
		t.Fatal(err)
	}
	for _, d := range l.Dirs() {
		if d.State != "online" {
			t.Errorf("%s is %s: %s", d.Path, d.State, d.Reason)
		}
	}
}

// A commit takes the floating records into the data segment while a sync is under way. The sync covers them all the same.
func TestSyncWhileACommitTakesFloatingRecords(t *testing.T) {
	ctx := context.Background()
	l := raceLog(t, testDirs(t, 4))
	defer l.Close(ctx)
	if _, err := l.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	floating, err := l.Append(ctx, Record{Kind: 1, Label: []byte("floating"), Body: make([]byte, 800)}, Metadata, TierUpload)
	if err != nil {
		t.Fatal(err)
	}
	committed, finishing, synced := make(chan error, 1), make(chan struct{}), make(chan struct{})
	l.testPause = func(where string) {
		if where != "sync" {
			return
		}
		l.testPause = func(where string) {
			if where == "finish" {
				l.testPause = nil
				close(finishing)
				select { // what it commits is durable, and nobody knows yet
				case <-synced:
				case <-time.After(100 * time.Millisecond): // the sync waits for it
				}
			}
		}
		go func() {
			h, err := l.Append(ctx, Record{Kind: 1, Label: []byte("chunk"), Body: make([]byte, 8000)}, Data, TierUpload)
			if err == nil {
				err = l.Commit(ctx, []Record{{Kind: 2, Label: []byte("m"), Body: []byte("mutation")}}, []*Handle{h}, TierUpload)
			}
			committed <- err
		}()
		<-finishing
	}
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	durable := floating.Durable()
	close(synced)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if !durable {
		t.Error("a sync returned, and what was appended before it is not durable")
	}
}
