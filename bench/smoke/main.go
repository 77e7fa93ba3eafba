// Command smoke measures the built casd binary in one run, beside what its directories give without it: PUT and GET of
// 4 KiB objects at 1 and 32 connections, of 64 MiB unique random objects at 4 connections, the same PUT again, and the peak memory.
//
// Client and server share the machine. The client hashes nothing (UNSIGNED-PAYLOAD) and makes its random bytes as it sends
// them. Every PUT is durable when it is answered; the plain writes end with one fdatasync a file.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/casd/casd/cmd/casd/casdtest"
)

const (
	dirCount      = 6
	k, m          = 4, 2
	smallBytes    = 4 << 10
	bigBytes      = 64 << 20
	bigStreams    = 4
	writeAtATime  = 1 << 20
	plainRounds   = 3 // a disk behind a cache, or with a budget, gives its first bytes faster
	bucket        = "/smoke"
	seedOfObjects = 1 << 32 // beside the seeds of other data
)

func main() {
	var (
		bin     = flag.String("casd", "bin/casd", "the casd binary")
		work    = flag.String("dir", "", "where the data directories go; default a temporary directory here, removed afterwards")
		seconds = flag.Float64("seconds", 5, "length of each measurement with small objects")
		count   = flag.Int("objects", 16, "how many objects of 64 MiB")
	)
	flag.Parse()
	if err := run(*bin, *work, time.Duration(*seconds*float64(time.Second)), *count); err != nil {
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

func run(bin, work string, length time.Duration, count int) (err error) {
	temp, err := os.MkdirTemp(cmp.Or(work, "."), "bench-smoke-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	dirs := casdtest.DataDirs(filepath.Join(temp, "data"), dirCount)
	fmt.Printf("%d CPUs, %d directories, erasure %d+%d, %s\n", runtime.NumCPU(), dirCount, k, m, temp)

	total := int64(count) * bigBytes
	var plain float64 // mean of the plain writes
	for range plainRounds {
		rate, err := plainWrites(filepath.Join(temp, "plain"), total)
		if err != nil {
			return err
		}
		row("plain parallel writes with fdatasync, parity included", "%8.1f MB/s of data (%.1f MB/s on disk)", rate, rate*(k+m)/k)
		plain += rate / plainRounds
	}

	s, err := casdtest.Start(casdtest.Config{Bin: bin, Dirs: dirs, Work: temp, Flags: []string{"--log-level", "warn", "--ec", fmt.Sprintf("%d+%d", k, m)}})
	if err != nil {
		return err
	}
	defer s.Kill()
	s.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}}
	b := bench{s: s}
	if err := b.put(bucket, nil, 0); err != nil {
		return err
	}
	one := 0.0
	for _, conns := range []int{1, 32} {
		var puts atomic.Int64
		rate, err := b.repeat(conns, length, func(i int64) error {
			puts.Add(1)
			return b.put(fmt.Sprintf("%s/small/%d/%d", bucket, conns, i), casdtest.Random(uint64(conns)<<32+uint64(i)), smallBytes)
		})
		if err != nil {
			return err
		}
		note := ""
		if conns == 1 {
			one = rate
		} else {
			note = fmt.Sprintf(" (%.1f times the rate at 1)", rate/one)
		}
		row(fmt.Sprintf("PUT 4 KiB, %d connections", conns), "%8.0f ops/s%s", rate, note)
		stored := puts.Load()
		rate, err = b.repeat(conns, length, func(i int64) error {
			return b.get(fmt.Sprintf("%s/small/%d/%d", bucket, conns, i*7919%stored), smallBytes)
		})
		if err != nil {
			return err
		}
		row(fmt.Sprintf("GET 4 KiB, %d connections", conns), "%8.0f ops/s", rate)
	}
	plainNow, err := plainWrites(filepath.Join(temp, "plain"), total)
	if err != nil {
		return err
	}
	cpuBefore, err := s.CPUTime()
	if err != nil {
		return err
	}
	uniqueBegun := time.Now()
	unique, err := b.all(count, func(i int) error {
		return b.put(fmt.Sprintf("%s/big/%d", bucket, i), casdtest.Random(seedOfObjects+uint64(i)), bigBytes)
	})
	if err != nil {
		return err
	}
	cpu, err := s.CPUTime()
	if err != nil {
		return err
	}
	serverCPU := (cpu - cpuBefore).Seconds() / time.Since(uniqueBegun).Seconds()
	row("PUT 64 MiB unique, 4 connections", "%8.1f MB/s (%.0f%% of the plain writes, which reached %.1f MB/s just before)", unique, 100*unique/plain, plainNow)
	row("  CPU of the server while it took them", "%8.2f cores of %d", serverCPU, runtime.NumCPU())
	again, err := b.all(count, func(i int) error {
		return b.put(fmt.Sprintf("%s/again/%d", bucket, i), casdtest.Random(seedOfObjects+uint64(i)), bigBytes)
	})
	if err != nil {
		return err
	}
	row("PUT 64 MiB again (all duplicates), 4 connections", "%8.1f MB/s (%.1f times unique)", again, again/unique)
	read, err := b.all(count, func(i int) error { return b.get(fmt.Sprintf("%s/big/%d", bucket, i), bigBytes) })
	if err != nil {
		return err
	}
	row("GET 64 MiB, 4 connections", "%8.1f MB/s", read)
	peak, err := s.PeakRSS()
	if err != nil {
		return err
	}
	row("peak memory of the server", "%8.0f MiB", float64(peak)/(1<<20))
	st, err := s.Stats("")
	if err != nil {
		return err
	}
	row("stored", "%8.1f MiB on disk for %.1f MiB logical, dedup ratio %.2f", float64(st.StoredBytes)/(1<<20), float64(st.LogicalBytes)/(1<<20), st.DedupRatio)
	fmt.Println("the CPU work of new bytes, each stage alone:")
	if err := stages(runtime.NumCPU()); err != nil {
		return err
	}
	if code, err := s.Stop(time.Minute); err != nil || code != 0 {
		return fmt.Errorf("casd stopped with %d: %w", code, err)
	}
	return nil
}

func row(name, format string, values ...any) {
	fmt.Printf("%-56s %s\n", name, fmt.Sprintf(format, values...))
}

// plainWrites writes total bytes plus their parity to one file a directory, in parallel, each ended by one fdatasync. It
// returns MB of data (without parity) a second.
func plainWrites(base string, total int64) (float64, error) {
	perFile := total / k // every directory of k+m holds 1/k of the data
	buf := make([]byte, writeAtATime)
	if _, err := io.ReadFull(casdtest.Random(7), buf); err != nil {
		return 0, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // synced, and about to be removed
			_ = os.Remove(f.Name())
		}
	}()
	for _, dir := range casdtest.DataDirs(base, k+m) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
		f, err := os.Create(filepath.Join(dir, "plain"))
		if err != nil {
			return 0, err
		}
		files = append(files, f)
	}
	begun := time.Now()
	var g errgroup.Group
	for _, f := range files {
		g.Go(func() error {
			for left := perFile; left > 0; left -= writeAtATime {
				if _, err := f.Write(buf[:min(left, writeAtATime)]); err != nil {
					return err
				}
			}
			return unix.Fdatasync(int(f.Fd()))
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(total) / 1e6 / time.Since(begun).Seconds(), nil
}

type bench struct{ s *casdtest.Server }

func (b bench) put(path string, body io.Reader, n int64) error {
	if body != nil {
		body = io.LimitReader(body, n)
	}
	resp, err := b.s.Do(context.Background(), http.MethodPut, path, body, n)
	if err != nil {
		return err
	}
	return finish(resp)
}

func (b bench) get(path string, want int64) error {
	resp, err := b.s.Do(context.Background(), http.MethodGet, path, nil, 0)
	if err != nil {
		return err
	}
	if err := casdtest.WantOK(resp); err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && n != want {
		err = fmt.Errorf("GET %s: %d bytes, want %d", path, n, want)
	}
	return err
}

// finish reads an answer to its end, so that the connection is used again.
func finish(resp *http.Response) error {
	err := casdtest.WantOK(resp)
	_, copyErr := io.Copy(io.Discard, resp.Body)
	return errors.Join(err, copyErr, resp.Body.Close())
}

// repeat calls op with 0, 1, 2... from conns goroutines for length and returns the calls a second.
func (b bench) repeat(conns int, length time.Duration, op func(i int64) error) (float64, error) {
	var next atomic.Int64
	var g errgroup.Group
	begun := time.Now()
	for range conns {
		g.Go(func() error {
			for time.Since(begun) < length {
				if err := op(next.Add(1) - 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(next.Load()) / time.Since(begun).Seconds(), err
}

// all calls op with 0 to count-1, bigStreams at a time, and returns MB/s.
func (b bench) all(count int, op func(i int) error) (float64, error) {
	var g errgroup.Group
	g.SetLimit(bigStreams)
	begun := time.Now()
	for i := range count {
		g.Go(func() error { return op(i) })
	}
	err := g.Wait()
	return float64(int64(count)*bigBytes) / 1e6 / time.Since(begun).Seconds(), err
}
