package cas

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// A logUnderTest opens one log over and over.
type logUnderTest struct {
	open func(t *testing.T, onDurable func([]erasure.Placed)) recordLog
}

// TestLogConformance is what the store relies on in a log. Every implementation has to pass it.
func TestLogConformance(t *testing.T) {
	for _, c := range []struct {
		name       string
		dirs, k, m int
		mem        bool
	}{{"files 4+2", 6, 4, 2, false}, {"files 1+0", 1, 1, 0, false}, {"memory 2+1", 3, 2, 1, true}, {"memory 2+2 on 6", 6, 2, 2, true}} {
		t.Run(c.name, func(t *testing.T) {
			testLog(t, func(t *testing.T) logUnderTest {
				o := erasure.Options{Create: &erasure.Creation{K: c.k, M: c.m, Params: []byte(`{"a":1}`)}, SegmentBytes: 2 << 20, MetadataSegmentBytes: 64 << 10}
				if c.mem {
					disk := faultfs.New()
					for i := range c.dirs {
						o.Dirs = append(o.Dirs, fmt.Sprintf("/d%d", i))
						if err := disk.MkdirAll(o.Dirs[i]); err != nil {
							t.Fatal(err)
						}
					}
					o.FS = disk
				} else {
					o.Dirs = dirsOf(t, c.dirs)
				}
				return logUnderTest{open: func(t *testing.T, onDurable func([]erasure.Placed)) recordLog {
					t.Helper()
					o.OnDurable = onDurable
					l, err := erasure.Open(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					return l
				}}
			})
		})
	}
}

// A witness collects what a log reports as durable.
type witness struct {
	mu     sync.Mutex
	placed map[string]erasure.Placed
	order  []string
}

func (w *witness) durable(ps []erasure.Placed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ps {
		if w.placed == nil {
			w.placed = map[string]erasure.Placed{}
		}
		label := string(p.Label)
		if _, again := w.placed[label]; again {
			panic("reported twice: " + label)
		}
		w.placed[label] = p
		w.order = append(w.order, label)
	}
}

func (w *witness) get(label string) (erasure.Placed, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.placed[label]
	return p, ok
}

func testLog(t *testing.T, fresh func(t *testing.T) logUnderTest) {
	ctx := context.Background()
	// start opens the log and makes it writable, as the store does.
	start := func(t *testing.T, u logUnderTest, w *witness) recordLog {
		t.Helper()
		l := u.open(t, w.durable)
		if vs, err := l.Recover(ctx); err != nil || len(vs) != 0 {
			t.Fatalf("Recover of a log that was closed = %v, %v", vs, err)
		}
		return l
	}
	stop := func(t *testing.T, l recordLog) {
		t.Helper()
		if err := l.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	body := func(i int) []byte { return noise(uint64(i), 100+i*37%90_000) }
	rec := func(i int) erasure.Record {
		return erasure.Record{Kind: uint8(1 + i%3), Label: fmt.Appendf(nil, "r%d", i), Body: body(i)}
	}

	t.Run("a created log says so once, and keeps its identity", func(t *testing.T) {
		u, w := fresh(t), &witness{}
		l := start(t, u, w)
		id := l.StoreID()
		if !l.Created() || string(l.Params()) != `{"a":1}` || id == [16]byte{} {
			t.Fatalf("created %v, params %s, store %x", l.Created(), l.Params(), id)
		}
		stop(t, l)
		l = start(t, u, w)
		defer stop(t, l)
		if l.Created() || l.StoreID() != id || string(l.Params()) != `{"a":1}` {
			t.Fatalf("reopened: created %v, params %s", l.Created(), l.Params())
		}
	})

	t.Run("what is committed is reported before Commit returns, and read back", func(t *testing.T) {
		u, w := fresh(t), &witness{}
		l := start(t, u, w)
		defer stop(t, l)
		for i := range 60 {
			class := erasure.Metadata
			if i%2 == 0 {
				class = erasure.Data
			}
			h, err := l.Append(ctx, rec(3*i), class, erasure.TierUpload)
			if err != nil {
				t.Fatal(err)
			}
			mut := erasure.Record{Kind: 9, Label: fmt.Appendf(nil, "m%d", i), Body: []byte("mutation")}
			if err := l.Commit(ctx, []erasure.Record{mut}, []*erasure.Handle{h}, erasure.TierUpload); err != nil {
				t.Fatal(err)
			}
			for label, want := range map[string][]byte{fmt.Sprintf("r%d", 3*i): body(3 * i), fmt.Sprintf("m%d", i): []byte("mutation")} {
				p, ok := w.get(label)
				if !ok {
					t.Fatalf("%s was not reported", label)
				}
				got, err := l.Read(ctx, p.Location, []byte("x"))
				if err != nil || !bytes.Equal(got[1:], want) {
					t.Fatalf("Read %s = %d bytes, %v", label, len(got), err)
				}
			}
		}
	})

	t.Run("replay yields everything in order, before and after a reopen", func(t *testing.T) {
		u, w := fresh(t), &witness{}
		l := start(t, u, w)
		var wg sync.WaitGroup
		for g := range 4 { // bulk from everywhere, mutations from one committer
			wg.Go(func() {
				for i := range 40 {
					if _, err := l.Append(ctx, rec(1000*g+i), erasure.Data, erasure.TierUpload); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 30 {
			if err := l.Commit(ctx, []erasure.Record{{Kind: 9, Label: binary.BigEndian.AppendUint32([]byte("m"), uint32(i)), Body: []byte{byte(i)}}}, nil, erasure.TierUpload); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		stop(t, l) // sealing makes the rest durable
		for range 2 {
			l = start(t, u, &witness{})
			seen, last, muts := map[string]bool{}, uint64(0), 0
			err := l.Replay(ctx, 0, func(kind uint8) bool { return kind == 9 }, func(r erasure.Replayed) error {
				if r.Seq < last || seen[string(r.Label)] {
					t.Errorf("%q comes twice or out of order", r.Label)
				}
				last, seen[string(r.Label)] = r.Seq, true
				if p, ok := w.get(string(r.Label)); !ok || p.Location != r.Location || p.Seq != r.Seq || p.Kind != r.Kind {
					t.Errorf("%q is replayed as %v, was reported as %v", r.Label, r.Placed, p)
				}
				if r.Kind != 9 && r.Body != nil {
					t.Errorf("a body of kind %d was not asked for", r.Kind)
				}
				if r.Kind == 9 {
					if len(r.Body) != 1 || int(r.Body[0]) != muts {
						t.Errorf("mutation %d is %v", muts, r.Body)
					}
					muts++
				}
				return nil
			})
			if err != nil || muts != 30 || len(seen) != len(w.placed) || len(seen) != 30+160 {
				t.Fatalf("replayed %d records, %d mutations, %d reported: %v", len(seen), muts, len(w.placed), err)
			}
			stop(t, l)
		}
	})

	t.Run("positions rise, hold after a reopen, and foreign ones are refused", func(t *testing.T) {
		u, w := fresh(t), &witness{}
		l := start(t, u, w)
		if err := l.CheckPosition(erasure.Position{}); err != nil {
			t.Fatalf("the beginning: %v", err)
		}
		var last erasure.Position
		for i := range 20 {
			if err := l.Commit(ctx, []erasure.Record{rec(i)}, nil, erasure.TierUpload); err != nil {
				t.Fatal(err)
			}
			p := l.Position()
			if p.Seq <= last.Seq {
				t.Fatalf("position %v follows %v", p, last)
			}
			last = p
		}
		stop(t, l)
		l = start(t, u, &witness{})
		defer stop(t, l)
		if err := l.CheckPosition(last); err != nil {
			t.Fatal(err)
		}
		after := 0
		if err := l.Replay(ctx, last.Seq, nil, func(erasure.Replayed) error { after++; return nil }); err != nil || after != 0 {
			t.Fatalf("%d records after the position, %v", after, err)
		}
		for _, p := range []erasure.Position{{Seq: last.Seq + 1, Segment: last.Segment, Stripe: last.Stripe + 1}, {Seq: last.Seq, Segment: last.Segment + 100, Stripe: 0},
			{Seq: last.Seq, Segment: last.Segment, Stripe: last.Stripe, Digest: [16]byte{1}}} {
			if err := l.CheckPosition(p); !errors.Is(err, erasure.ErrAhead) {
				t.Errorf("CheckPosition(%v) = %v, want ErrAhead", p, err)
			}
		}
	})

	t.Run("a location of no live segment is proven absent", func(t *testing.T) {
		l := start(t, fresh(t), &witness{})
		defer stop(t, l)
		var loc erasure.Location
		loc[0] = 77
		if _, err := l.Read(ctx, loc, nil); !errors.Is(err, erasure.ErrNotFound) {
			t.Fatalf("Read = %v, want ErrNotFound", err)
		}
	})

	t.Run("verdicts are final", func(t *testing.T) {
		l := start(t, fresh(t), &witness{})
		defer stop(t, l)
		v := erasure.Verdict{Segment: 1000, Stripes: 3, Digest: [16]byte{5}}
		if err := errors.Join(l.SetVerdicts([]erasure.Verdict{v}), l.SetVerdicts([]erasure.Verdict{v})); err != nil {
			t.Fatalf("the same verdict twice: %v", err)
		}
		v.Stripes++
		if err := l.SetVerdicts([]erasure.Verdict{v}); err == nil {
			t.Fatal("a verdict was changed")
		}
	})

	t.Run("a closed log refuses", func(t *testing.T) {
		l := start(t, fresh(t), &witness{})
		stop(t, l)
		if _, err := l.Append(ctx, rec(1), erasure.Data, erasure.TierUpload); !errors.Is(err, erasure.ErrClosed) {
			t.Errorf("Append = %v", err)
		}
		if err := l.Commit(ctx, []erasure.Record{rec(1)}, nil, erasure.TierUpload); !errors.Is(err, erasure.ErrClosed) {
			t.Errorf("Commit = %v", err)
		}
		if err := l.WriteState(); !errors.Is(err, erasure.ErrClosed) {
			t.Errorf("WriteState = %v", err)
		}
	})
}
