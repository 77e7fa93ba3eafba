package chunking

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/restic/chunker"
	"pgregory.net/rapid"
)

// reference cuts with restic/chunker, which the format is defined by.
func reference(data []byte, p Params) (lengths []int, err error) {
	c := chunker.NewWithBoundaries(bytes.NewReader(data), chunker.Pol(p.Polynomial), uint(p.MinBytes), uint(p.MaxBytes))
	c.SetAverageBits(p.AverageBits)
	buf := make([]byte, p.MaxBytes)
	for {
		chunk, err := c.Next(buf)
		if errors.Is(err, io.EOF) {
			return lengths, nil
		}
		if err != nil {
			return nil, err
		}
		lengths = append(lengths, int(chunk.Length))
	}
}

func TestCutsEqualReference(t *testing.T) {
	polynomials := []uint64{testPolynomial}
	for range 3 {
		p, err := NewParams()
		if err != nil {
			t.Fatal(err)
		}
		polynomials = append(polynomials, p.Polynomial)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Algorithm: AlgorithmRabin, Polynomial: rapid.SampledFrom(polynomials).Draw(t, "polynomial"),
			MinBytes: rapid.IntRange(windowBytes, 9000).Draw(t, "min"), AverageBits: rapid.IntRange(averageBitsMin, 14).Draw(t, "bits")}
		p.MaxBytes = p.MinBytes + rapid.IntRange(0, 40_000).Draw(t, "span")
		data := testInput(rapid.Uint64Range(0, 1<<16-1).Draw(t, "seed"), rapid.IntRange(0, 300_000).Draw(t, "bytes"))
		compareCuts(t, data, p)
	})
}

// The store's own parameters, on what its users store: noise, text, zeros, and runs that repeat.
func TestCutsEqualReferenceAtFullSize(t *testing.T) {
	p := testParams()
	noise := make([]byte, 12<<20)
	rand.NewChaCha8([32]byte{5}).Read(noise)
	for name, data := range map[string][]byte{
		"noise": noise, "zeros": make([]byte, 5<<20), "mixed": testInput(3, 12<<20), "ones": bytes.Repeat([]byte{0xFF}, 5<<20),
		"period 64": bytes.Repeat(noise[:64], 1<<16), "period 1000": bytes.Repeat(noise[:1000], 5000),
	} {
		t.Run(name, func(t *testing.T) { compareCuts(t, data, p) })
	}
}

func compareCuts(t tester, data []byte, p Params) {
	t.Helper()
	want, err := reference(data, p)
	if err != nil {
		t.Fatalf("reference: %v", err)
	}
	var got []int
	for _, c := range split(t, NewSplitter(bytes.NewReader(data), p)) {
		got = append(got, len(c))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%+v, %d bytes: cuts %v, want %v", p, len(data), got, want)
	}
}

func BenchmarkReference(b *testing.B) {
	data := make([]byte, 64<<20) // as BenchmarkSplit
	rand.NewChaCha8([32]byte{1}).Read(data)
	p := testParams()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := reference(data, p); err != nil {
			b.Fatal(err)
		}
	}
}
