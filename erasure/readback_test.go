package erasure_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestReadBack gives what Read gives, and reads only what it dropped from the page cache first.
func TestReadBack(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 5, 10)
	disk := &diskFS{FS: mem}
	opt.FS = disk
	c := mustLed(t, led, opt)
	if err := c.work(newRand(4), 4); err != nil { // open segments too
		t.Fatal(err)
	}
	disk.mu.Lock()
	disk.watch = true
	disk.mu.Unlock()
	for label, loc := range c.locations {
		b, err := c.log.ReadBack(t.Context(), loc, []byte("x"))
		if err != nil || c.sent[label] != nil && !bytes.Equal(b[1:], c.sent[label]) {
			t.Fatalf("%s: %v", label, err)
		}
	}
	// All of them at once, in the order of the log: the same.
	var labels []string
	for label := range c.locations {
		labels = append(labels, label)
	}
	slices.SortFunc(labels, func(a, b string) int {
		la, lb := c.locations[a], c.locations[b]
		return cmp.Or(cmp.Compare(la.Segment(), lb.Segment()), cmp.Compare(la.Ordinal(), lb.Ordinal()))
	})
	locs := make([]erasure.Location, len(labels))
	for i, label := range labels {
		locs[i] = c.locations[label]
	}
	seen := 0
	err := c.log.ReadBackAll(t.Context(), locs, func(i int, body []byte, err error) error {
		if i != seen || err != nil || c.sent[labels[i]] != nil && !bytes.Equal(body, c.sent[labels[i]]) {
			t.Errorf("%s (%d after %d): %v", labels[i], i, seen, err)
		}
		seen++
		return nil
	})
	if err != nil || seen != len(locs) {
		t.Errorf("%d of %d records: %v", seen, len(locs), err)
	}
	stop := errors.New("stop")
	if err := c.log.ReadBackAll(t.Context(), locs, func(int, []byte, error) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the error of the function: %v", err)
	}
	none := append([]erasure.Location{{}}, locs[:2]...)
	var errs []error
	if err := c.log.ReadBackAll(t.Context(), none, func(_ int, _ []byte, err error) error { errs = append(errs, err); return nil }); err != nil {
		t.Error(err)
	}
	if len(errs) != 3 || !errors.Is(errs[0], erasure.ErrNotFound) || errs[1] != nil || errs[2] != nil {
		t.Errorf("one without a location: %v", errs)
	}
	disk.mu.Lock()
	cached := slices.Clone(disk.cached)
	disk.watch = false
	disk.mu.Unlock()
	if len(cached) > 0 {
		t.Fatalf("the page cache may have answered for %v", cached)
	}
	var loc erasure.Location
	if _, err := c.log.ReadBack(t.Context(), loc, nil); !errors.Is(err, erasure.ErrNotFound) {
		t.Fatalf("no location: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, loc = range c.locations {
		break
	}
	if _, err := c.log.ReadBack(ctx, loc, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("a context that ended: %v", err)
	}
	mustClose(t, c)
}

// TestReadBackProves: what Read makes good from parity, or from a file that has no name any more, is not proven.
func TestReadBackProves(t *testing.T) {
	for name, damage := range map[string]func(mem *faultfs.FS, path string){
		"a flipped bit":  func(mem *faultfs.FS, path string) { mem.FlipBit(path, 256+2000) },
		"a removed file": func(mem *faultfs.FS, path string) { mem.RemoveAll(path) },
		"a short file":   func(mem *faultfs.FS, path string) { mem.Cut(path, 1000) },
		"a lost dir":     func(mem *faultfs.FS, path string) { mem.RemoveAll("/" + strings.Split(path, "/")[1]) },
	} {
		t.Run(name, func(t *testing.T) {
			led, mem, opt := filledStore(t, 2, 1, 3, 0)
			c := mustLed(t, led, opt)
			label, h, err := c.append(newRand(1), 9000, erasure.Data) // lies in both data shards
			if err == nil {
				err = c.mutate(newRand(2), 10, map[string]*erasure.Handle{label: h})
			}
			if err != nil {
				t.Fatal(err)
			}
			loc, _ := h.Location()
			if err := c.check(t); err != nil { // opens the files
				t.Fatal(err)
			}
			if _, err := c.log.ReadBack(t.Context(), loc, nil); err != nil {
				t.Fatal(err)
			}
			for _, f := range mem.Files("/") {
				if strings.Contains(f, ".d.00") && segmentOf(f) == loc.Segment() {
					damage(mem, f)
				}
			}
			if _, err := c.log.ReadBack(t.Context(), loc, nil); !errors.Is(err, erasure.ErrUnproven) {
				t.Fatalf("ReadBack: %v", err)
			}
			if err := c.check(t); err != nil {
				t.Fatalf("Read: %v", err)
			}
			if got := c.log.TakeSuspects(); !slices.Contains(got, loc.Segment()) {
				t.Fatalf("suspects %v", got)
			}
			c.log.Close(t.Context())
		})
	}
}
