package cas

import (
	"context"
	"errors"
	"testing"
)

// Two operations of one group do not run at once; what runs is listed and told.
func TestOperationsExcludeEachOther(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	op, ctx, err := s.beginOperation(t.Context(), "scrub", "")
	if err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	if _, _, err := s.beginOperation(t.Context(), "scrub", ""); !errors.Is(err, ErrConflict) {
		t.Fatalf("second scrub = %v, want ErrConflict", err)
	}
	drain, _, err := s.beginOperation(t.Context(), "drain", "moves")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.beginOperation(t.Context(), "rebalance", "moves"); !errors.Is(err, ErrConflict) {
		t.Fatalf("rebalance beside drain = %v, want ErrConflict", err)
	}
	var told []Progress
	op.tell = func(p Progress) { told = append(told, p) }
	op.progress("read", 1, 10, "bytes")
	op.progress("read", 2, 10, "bytes") // too soon
	op.progress("compare", 0, 0, "items")
	if len(told) != 2 || told[0].Done != 1 || told[1].Phase != "compare" || told[0].Operation != "scrub" {
		t.Errorf("told %+v", told)
	}
	if ps := s.operations.list(); len(ps) != 2 || ps[0].Operation != "scrub" || ps[0].Phase != "compare" || ps[1].Operation != "drain" {
		t.Errorf("running %+v", ps)
	}
	op.end()
	op.end()
	drain.end()
	if !errors.Is(ctx.Err(), context.Canceled) || len(s.operations.list()) != 0 || s.operations.isRunning("scrub") {
		t.Errorf("after the end: %v, %+v", ctx.Err(), s.operations.list())
	}
	if op, _, err = s.beginOperation(t.Context(), "scrub", ""); err != nil {
		t.Fatal(err)
	}
	op.end()
}

// Close ends what runs, tells it why, and waits for it.
func TestCloseEndsOperations(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 1)})
	op, ctx, err := s.beginOperation(t.Context(), "gc", "")
	if err != nil {
		t.Fatal(err)
	}
	var cause error
	over := false
	go func() {
		<-ctx.Done()
		cause = context.Cause(ctx)
		op.end()
	}()
	s.background(func(ctx context.Context) {
		<-ctx.Done()
		over = true
	})
	closeStore(t, s)
	if !errors.Is(cause, ErrClosed) || !over {
		t.Errorf("cause %v, background over %v", cause, over)
	}
	if _, _, err := s.beginOperation(t.Context(), "gc", ""); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close = %v, want ErrClosed", err)
	}
}
