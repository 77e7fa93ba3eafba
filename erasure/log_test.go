package erasure

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// testDirs makes n paths for data directories.
func testDirs(t testing.TB, n int) []string {
	base := t.TempDir()
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = filepath.Join(base, fmt.Sprintf("d%d", i))
	}
	return dirs
}

func mustOpen(t testing.TB, opt Options) *Log {
	t.Helper()
	l, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mustRecover recovers and commits the verdicts.
func mustRecover(t testing.TB, l *Log) []Verdict {
	t.Helper()
	vs, err := l.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

func small(dirs []string) Options {
	return Options{Dirs: dirs, Create: &Creation{}, SegmentBytes: 1 << 20, MetadataSegmentBytes: 64 << 10, StripeBytes: 64 << 10, UnsyncedBytes: 1 << 20}
}

func randomBody(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestRoundTrip writes over several segments of both classes, reads back, closes, opens and replays.
func TestRoundTrip(t *testing.T) {
	for _, dirs := range []int{1, 2, 3, 6} {
		t.Run(fmt.Sprint(dirs), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(dirs)))
			opt := small(testDirs(t, dirs))
			if testing.Verbose() {
				opt.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
			}
			want := map[string][]byte{}
			got := map[string]Location{}
			opt.OnDurable = func(ps []Placed) {
				for _, p := range ps {
					got[string(p.Label)] = p.Location
				}
			}
			l := mustOpen(t, opt)
			mustRecover(t, l)
			var order []string
			for i := range 60 {
				var deps []*Handle
				for j := range rng.IntN(5) {
					label := fmt.Sprintf("b%d-%d", i, j)
					want[label] = randomBody(rng, rng.IntN(60<<10))
					class := Data
					if rng.IntN(4) == 0 {
						class = Metadata
					}
					h, err := l.Append(t.Context(), Record{Kind: 1, Label: []byte(label), Body: want[label]}, class, TierUpload)
					if err != nil {
						t.Fatal(err)
					}
					deps = append(deps, h)
				}
				label := fmt.Sprintf("m%d", i)
				order = append(order, label)
				want[label] = randomBody(rng, rng.IntN(300))
				if err := l.Commit(t.Context(), []Record{{Kind: 2, Label: []byte(label), Body: want[label]}}, deps, TierUpload); err != nil {
					t.Fatal(err)
				}
				for _, h := range deps {
					if !h.Durable() {
						t.Fatalf("commit %d returned before its dependency was durable", i)
					}
				}
			}
			check := func(l *Log) {
				t.Helper()
				if len(got) != len(want) {
					t.Fatalf("%d records, want %d", len(got), len(want))
				}
				for label, loc := range got {
					b, err := l.Read(context.Background(), loc, []byte("x"))
					if err != nil || !bytes.Equal(b[1:], want[label]) || loc.BodyBytes() != len(want[label]) {
						t.Fatalf("%s: %v", label, err)
					}
				}
			}
			check(l)
			pos, stats := l.Position(), l.Stats()
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := got
			got = map[string]Location{}
			l = mustOpen(t, opt)
			if err := l.CheckPosition(pos); err != nil {
				t.Fatal(err)
			}
			pos.Digest[0]++
			if err := l.CheckPosition(pos); err == nil {
				t.Fatal("a position that never was is accepted")
			}
			var replayed []string
			seq := uint64(0)
			if err := l.Replay(t.Context(), 0, func(k uint8) bool { return k == 2 }, func(r Replayed) error {
				if r.Seq < seq {
					t.Fatalf("sequence %d after %d", r.Seq, seq)
				}
				seq = r.Seq
				got[string(r.Label)] = r.Location
				if r.Kind == 2 {
					replayed = append(replayed, string(r.Label))
					if !bytes.Equal(r.Body, want[string(r.Label)]) {
						t.Fatalf("body of %s", r.Label)
					}
				} else if r.Body != nil {
					t.Fatalf("body of %s was not asked for", r.Label)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(replayed) != fmt.Sprint(order) {
				t.Fatalf("order %v, want %v", replayed, order)
			}
			for label, loc := range before {
				if got[label] != loc {
					t.Fatalf("%s moved", label)
				}
			}
			check(l)
			if vs := mustRecover(t, l); len(vs) > 0 {
				t.Fatalf("verdicts after a clean close: %v", vs)
			}
			if st := l.Stats(); st.PayloadBytes != stats.PayloadBytes || st.Records != stats.Records || st.Sealed != st.Segments {
				t.Fatalf("stats %+v, before %+v", st, stats)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
