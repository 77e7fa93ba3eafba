package chunking

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testPolynomial is irreducible and of degree 53.
const testPolynomial = 0x3DA3358B4DC173

func testParams() Params {
	return Params{Algorithm: AlgorithmRabin, Polynomial: testPolynomial, MinBytes: 64 << 10, MaxBytes: 1 << 20, AverageBits: 17}
}

func smallParams() Params {
	return Params{Algorithm: AlgorithmRabin, Polynomial: testPolynomial, MinBytes: 256, MaxBytes: 4096, AverageBits: 9}
}

// testInput returns n bytes that never change: random ones with runs of zeros and of text between.
func testInput(seed uint64, n int) []byte {
	source := rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8), 31: 1})
	rng := rand.New(source)
	var out []byte
	for len(out) < n {
		piece := make([]byte, 1+rng.IntN(1+n/4))
		switch rng.IntN(4) {
		case 0: // zeros
		case 1:
			for i := range piece {
				piece[i] = "all work and no play "[i%21]
			}
		default:
			source.Read(piece) //nolint:errcheck // never fails
		}
		out = append(out, piece...)
	}
	return out[:n]
}

// tester is what helpers need of *testing.T and *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func split(t tester, s *Splitter) [][]byte {
	t.Helper()
	var chunks [][]byte
	for {
		chunk, err := s.Next(nil)
		if err == io.EOF {
			return chunks
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		chunks = append(chunks, chunk)
	}
}

func lengths(chunks [][]byte) string {
	var b strings.Builder
	for _, c := range chunks {
		fmt.Fprintln(&b, len(c))
	}
	return b.String()
}

func TestCutsGolden(t *testing.T) {
	input := testInput(7, 24<<20)
	got := lengths(split(t, NewSplitter(bytes.NewReader(input), testParams())))
	const path = "testdata/cuts_v1.golden"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the cut points of format version 1 changed:\ngot\n%s\nwant\n%s", got, want)
	}
}

// naiveCuts follows the definition in the package comment, bit by bit.
func naiveCuts(p Params, input []byte) []int {
	fingerprint := func(window []byte) uint64 {
		var f uint64
		for _, b := range window {
			for bit := 7; bit >= 0; bit-- {
				f = f<<1 | uint64(b>>bit&1)
				if f>>polynomialDegree != 0 {
					f ^= p.Polynomial
				}
			}
		}
		return f
	}
	var out []int
	start := 0
	for i := range input {
		n := i + 1 - start
		if n < p.MinBytes {
			continue
		}
		if n >= p.MaxBytes || fingerprint(input[i+1-windowBytes:i+1])&(1<<p.AverageBits-1) == 0 {
			out = append(out, n)
			start = i + 1
		}
	}
	if start < len(input) {
		out = append(out, len(input)-start)
	}
	return out
}

func TestCutsEqualNaiveReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallParams()
		p.MinBytes = rapid.SampledFrom([]int{64, 65, 256, 1000}).Draw(t, "min")
		p.MaxBytes = p.MinBytes + rapid.SampledFrom([]int{0, 1, 700, 5000}).Draw(t, "max-min")
		p.AverageBits = rapid.IntRange(averageBitsMin, 11).Draw(t, "bits")
		input := testInput(rapid.Uint64Range(0, 1<<16-1).Draw(t, "input"), rapid.IntRange(0, 20000).Draw(t, "bytes"))
		chunks := split(t, NewSplitter(bytes.NewReader(input), p))
		var got []int
		for _, c := range chunks {
			got = append(got, len(c))
		}
		if want := naiveCuts(p, input); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("chunks of %d bytes:\ngot  %v\nwant %v", len(input), got, want)
		}
		if !bytes.Equal(bytes.Join(chunks, nil), input) {
			t.Fatal("the chunks are not the input")
		}
	})
}

// randomReader returns at most so many bytes a call as its source says, sometimes none.
type randomReader struct {
	r   io.Reader
	rng *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) {
	if n := r.rng.IntN(1 + 1<<r.rng.IntN(20)); n < len(p) {
		p = p[:n]
	}
	if len(p) == 0 {
		return 0, nil
	}
	return r.r.Read(p)
}

func TestCutsDoNotDependOnReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		input := testInput(rapid.Uint64Range(0, 1<<16-1).Draw(t, "input"), rapid.IntRange(0, 1<<20).Draw(t, "bytes"))
		p := smallParams()
		if rapid.Bool().Draw(t, "big") {
			p = testParams()
		}
		seed := rapid.Uint64().Draw(t, "seed")
		want := lengths(split(t, NewSplitter(bytes.NewReader(input), p)))
		readers := map[string]io.Reader{
			"random":             &randomReader{bytes.NewReader(input), rand.New(rand.NewPCG(seed, 1))},
			"data with EOF":      iotest.DataErrReader(bytes.NewReader(input)),
			"halves":             iotest.HalfReader(bytes.NewReader(input)),
			"random, data + EOF": iotest.DataErrReader(&randomReader{bytes.NewReader(input), rand.New(rand.NewPCG(seed, 2))}),
		}
		if len(input) < 100_000 {
			readers["one byte"] = iotest.OneByteReader(bytes.NewReader(input))
		}
		s := NewSplitter(strings.NewReader("left over"), p)
		for name, r := range readers {
			s.Reset(r)
			chunks := split(t, s)
			if got := lengths(chunks); got != want {
				t.Fatalf("%s: got %s want %s", name, got, want)
			}
			if !bytes.Equal(bytes.Join(chunks, nil), input) {
				t.Fatalf("%s: the chunks are not the input", name)
			}
		}
	})
}

func TestReaderErrorsPassThrough(t *testing.T) {
	errDisk := errors.New("disk on fire")
	for _, want := range []error{errDisk, io.ErrUnexpectedEOF, io.ErrNoProgress, fmt.Errorf("wrapped: %w", io.EOF)} {
		for _, good := range []int{0, 1, 1000, 512 << 10, 600 << 10, 1 << 20} {
			input := testInput(3, good)
			s := NewSplitter(io.MultiReader(bytes.NewReader(input), iotest.ErrReader(want)), smallParams())
			var got []byte
			for {
				chunk, err := s.Next(nil)
				if err == nil {
					got = append(got, chunk...)
					continue
				}
				if chunk != nil || err != want { //nolint:errorlint // it must be the very error
					t.Fatalf("after %d bytes Next = %d bytes, %v; want the error %v", good, len(chunk), err, want)
				}
				break
			}
			if !bytes.HasPrefix(input, got) {
				t.Fatalf("after %d bytes: the chunks are not a prefix of the input", good)
			}
			if _, err := s.Next(nil); err != want { //nolint:errorlint // it must be the very error
				t.Fatalf("second Next = %v, want %v again", err, want)
			}
			s.Reset(bytes.NewReader(input))
			if joined := bytes.Join(split(t, s), nil); !bytes.Equal(joined, input) {
				t.Fatal("a splitter is not as new after an error and a Reset")
			}
		}
	}
}

func TestNextUsesTheBuffer(t *testing.T) {
	p := smallParams()
	s := NewSplitter(bytes.NewReader(testInput(5, 1<<20)), p)
	buf := make([]byte, 0, p.MaxBytes)
	allocs := testing.AllocsPerRun(20, func() {
		chunk, err := s.Next(buf)
		if err != nil || &chunk[0] != &buf[:1][0] {
			t.Fatalf("Next did not use the buffer: %v", err)
		}
	})
	if allocs > 0 {
		t.Fatalf("%v allocations a chunk", allocs)
	}
	s.Reset(nil)
	if _, err := s.Next(buf); err != io.EOF {
		t.Fatalf("Next after Reset(nil) = %v", err)
	}
}

func TestPoolConcurrent(t *testing.T) {
	pool, err := NewPool(smallParams())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range uint64(4) {
		group.Go(func() {
			input := testInput(g, 200_000)
			want := fmt.Sprint(lengths(split(t, NewSplitter(bytes.NewReader(input), pool.Params()))))
			for range 10 {
				s := pool.Get(bytes.NewReader(input))
				if got := lengths(split(t, s)); got != want {
					t.Errorf("a pooled splitter cuts otherwise")
				}
				pool.Put(s)
				half := pool.Get(bytes.NewReader(input)) // given back in mid-stream
				if _, err := half.Next(nil); err != nil {
					t.Error(err)
				}
				pool.Put(half)
			}
		})
	}
	group.Wait()
	if _, err := NewPool(Params{}); !errors.Is(err, ErrParams) {
		t.Fatalf("NewPool of zero Params = %v", err)
	}
}

func BenchmarkSplit(b *testing.B) {
	input := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{1}).Read(input) //nolint:errcheck // never fails
	p := testParams()
	s := NewSplitter(nil, p)
	buf := make([]byte, 0, p.MaxBytes)
	b.SetBytes(int64(len(input)))
	b.ReportAllocs()
	for b.Loop() {
		s.Reset(bytes.NewReader(input))
		for {
			if _, err := s.Next(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
