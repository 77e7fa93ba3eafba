package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/casd/casd/cmd/casd/casdtest"
)

const (
	memoryStreams = 4
	memoryBound   = 1 << 30 // peak resident bytes of the server
)

// TestMemory uploads and downloads four objects of 1 GiB each at a time, and bounds what the server needed at its peak.
// CASD_MEMORY_OBJECT_BYTES overrides the size.
func TestMemory(t *testing.T) {
	size := int64(1 << 30)
	if v := os.Getenv("CASD_MEMORY_OBJECT_BYTES"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		size = n
	}
	s := serve(t)
	s.Client = &http.Client{} // no time-out: the bodies are large
	mustCreateBucket(t, sdk(s), "memory")
	idle, err := s.PeakRSS()
	if err != nil {
		t.Fatal(err)
	}
	parallel := func(what string, one func(i int) error) {
		t.Helper()
		begun := time.Now()
		var g errgroup.Group
		for i := range memoryStreams {
			g.Go(func() error { return one(i) })
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		peak, err := s.PeakRSS()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d %s of %d MiB: %.0f MB/s, peak %d MiB (idle %d MiB)", memoryStreams, what, size>>20,
			float64(memoryStreams*size)/1e6/time.Since(begun).Seconds(), peak>>20, idle>>20)
		if peak > memoryBound {
			t.Errorf("peak memory during %s: %d MiB, bound %d MiB", what, peak>>20, int64(memoryBound)>>20)
		}
	}
	path := func(i int) string { return fmt.Sprintf("/memory/%d", i) }
	parallel("uploads", func(i int) error {
		resp, err := s.Do(t.Context(), http.MethodPut, path(i), io.LimitReader(casdtest.Random(uint64(i)), size), size)
		if err != nil {
			return err
		}
		return errors.Join(casdtest.WantOK(resp), resp.Body.Close())
	})
	parallel("downloads", func(i int) error {
		resp, err := s.Do(t.Context(), http.MethodGet, path(i), nil, 0)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := casdtest.WantOK(resp); err != nil {
			return err
		}
		return sameStream(resp.Body, io.LimitReader(casdtest.Random(uint64(i)), size))
	})
}

// sameStream compares two streams to their ends.
func sameStream(got, want io.Reader) error {
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); ; {
		n, errA := io.ReadFull(got, a)
		m, errB := io.ReadFull(want, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("bytes differ after %d (%d and %d bytes, %v)", off, n, m, errA)
		}
		off += int64(n)
		if errB != nil {
			if errA != errB {
				return fmt.Errorf("stream ends with %v, want %v", errA, errB)
			}
			return nil
		}
	}
}
