package erasure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/casd/casd/erasure"
)

// readSegment returns what ReadSegment gives, as text.
func readSegment(t testing.TB, l *erasure.Log, id erasure.SegmentID, bodies func(uint8) bool) (lines []string, err error) {
	t.Helper()
	err = l.ReadSegment(context.Background(), id, bodies, func(r erasure.Replayed) error {
		lines = append(lines, replayedLine(r))
		return nil
	})
	return lines, err
}

func replayedLine(r erasure.Replayed) string {
	return fmt.Sprintf("%d %s %x %d %x", r.Kind, r.Label, r.Location, r.Seq, r.Body)
}

// segmentLines returns what Replay gives, by segment.
func segmentLines(t testing.TB, l *erasure.Log, bodies func(uint8) bool) map[erasure.SegmentID][]string {
	t.Helper()
	lines := map[erasure.SegmentID][]string{}
	if err := l.Replay(context.Background(), 0, bodies, func(r erasure.Replayed) error {
		lines[r.Location.Segment()] = append(lines[r.Location.Segment()], replayedLine(r))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

func everyKind(uint8) bool { return true }

// TestReadSegment reads segments that are sealed, ended and open, before and after recovery, with and without bodies: it is what
// Replay gives of them.
func TestReadSegment(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 3}, {4, 2, 6}} {
		t.Run(fmt.Sprintf("%d+%d", code[0], code[1]), func(t *testing.T) {
			led, mem, opt := filledStore(t, code[0], code[1], code[2], 12)
			c := mustLed(t, led, opt)
			if err := c.work(newRand(2), 12); err != nil {
				t.Fatal(err)
			}
			check := func(l *erasure.Log, states ...string) {
				t.Helper()
				var seen []string
				for _, bodies := range []func(uint8) bool{nil, everyKind, func(k uint8) bool { return k == kindMut }} {
					want := segmentLines(t, l, bodies)
					for _, s := range l.Segments() {
						got, err := readSegment(t, l, s.ID, bodies)
						if err != nil || !slices.Equal(got, want[s.ID]) {
							t.Fatalf("segment %+v: %d records, want %d: %v", s, len(got), len(want[s.ID]), err)
						}
						switch {
						case s.Sealed:
							seen = append(seen, "sealed")
						case s.Ended:
							seen = append(seen, "ended")
						case s.Stripes > 0:
							seen = append(seen, "open")
						}
					}
				}
				for _, st := range states {
					if !slices.Contains(seen, st) {
						t.Fatalf("no segment is %s", st)
					}
				}
			}
			check(c.log, "sealed", "open")
			killed := opt
			killed.FS = mem.Clone()
			l, err := erasure.Open(t.Context(), killed)
			if err != nil {
				t.Fatal(err)
			}
			check(l, "sealed")
			if _, err := l.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(l, "sealed", "ended")
			l.Close(t.Context())
			mustClose(t, c)
		})
	}
}

// TestReadSegmentErrors: what is damaged beyond repair or out of reach is left out and told at the end.
func TestReadSegmentErrors(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 20)
	c := mustLed(t, led, opt)
	whole := segmentLines(t, c.log, everyKind)
	files := shardFiles(t, mem, 3)
	mine, _ := victim(t, files, c)
	id := segmentOf(mine[0])
	boom := errors.New("boom")
	if err := c.log.ReadSegment(t.Context(), id, nil, func(erasure.Replayed) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("an error of fn became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.log.ReadSegment(ctx, id, everyKind, func(erasure.Replayed) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatalf("a context that ended: %v", err)
	}
	if err := c.log.ReadSegment(t.Context(), 1<<40, nil, func(erasure.Replayed) error { return nil }); !errors.Is(err, erasure.ErrNotFound) {
		t.Fatalf("a segment that never was: %v", err)
	}
	for _, path := range mine[:2] {
		mem.FlipBit(path, 256+5)
	}
	got, err := readSegment(t, c.log, id, everyKind)
	if !errors.Is(err, erasure.ErrCorrupt) || len(got) == 0 || len(got) >= len(whole[id]) {
		t.Fatalf("%d of %d records, %v", len(got), len(whole[id]), err)
	}
	for _, line := range got {
		if !slices.Contains(whole[id], line) {
			t.Fatalf("%s was never written", line)
		}
	}
	mustClose(t, c)
	mem.RemoveAll("/d0")
	mem.RemoveAll("/d1")
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	if _, err := readSegment(t, l, id, everyKind); !errors.Is(err, erasure.ErrUnavailable) {
		t.Fatalf("with two of three directories gone: %v", err)
	}
}

// TestReadSegmentOfRecordsLargerThanStripes reads bodies of many sizes.
func TestReadSegmentOfRecordsLargerThanStripes(t *testing.T) {
	led, _, opt := filledStore(t, 2, 1, 3, 0)
	c := mustLed(t, led, opt)
	defer mustClose(t, c)
	want := map[string][]byte{}
	for i, n := range []int{0, 1, 100, 40 << 10, 17 << 10, 16 << 10, 3} {
		label, _, err := c.append(newRand(uint64(i)), n, erasure.Data)
		if err != nil {
			t.Fatal(err)
		}
		want[label] = c.sent[label]
	}
	if err := c.log.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.log.Segments() {
		if err := c.log.ReadSegment(t.Context(), s.ID, everyKind, func(r erasure.Replayed) error {
			if !bytes.Equal(r.Body, want[string(r.Label)]) || r.Body == nil && r.Location.BodyBytes() > 0 {
				t.Errorf("%s reads wrong", r.Label)
			}
			delete(want, string(r.Label))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(want) > 0 {
		t.Fatalf("%d records were not read", len(want))
	}
}
