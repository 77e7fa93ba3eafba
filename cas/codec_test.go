package cas

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestCodecRoundTrip(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "unit")
		plain := bytes.Repeat(unit, rapid.IntRange(1, 3000).Draw(t, "times"))
		enc, stored, err := c.encode(plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		if enc != encPlain && len(stored) > len(plain)*95/100 {
			t.Fatalf("compressed form of %d bytes kept for %d", len(stored), len(plain))
		}
		back, err := c.decode(enc, stored, uint32(len(plain)), nil)
		if err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("decode: %v", err)
		}
		if _, err := c.decode(enc, stored, uint32(len(plain)+1), nil); err == nil {
			t.Fatal("decode accepted a wrong size")
		}
	})
}

func TestCodecLeavesNoiseAlone(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 128<<10)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(noise)
	if enc, stored, err := c.encode(noise, nil); err != nil || enc != encPlain || &stored[0] != &noise[0] {
		t.Errorf("encode of random bytes = %d, %v", enc, err)
	}
	text := bytes.Repeat([]byte("all work and no play makes a dull store\n"), 4000)
	if enc, stored, err := c.encode(text, nil); err != nil || enc != encZstd || len(stored) > len(text)/10 {
		t.Errorf("encode of text = %d, %d bytes, %v", enc, len(stored), err)
	}
}

func BenchmarkEncode(b *testing.B) {
	c, _ := newCodec()
	noise := make([]byte, 128<<10)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	var text []byte
	for i := 0; len(text) < 128<<10; i++ {
		text = append(text, []byte("func (s *Store) ")...)
		text = append(text, noise[i%1000:i%1000+8]...)
	}
	for name, plain := range map[string][]byte{"random": noise, "text": text} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			scratch := make([]byte, 0, 256<<10)
			for b.Loop() {
				if _, _, err := c.encode(plain, scratch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkChunkID(b *testing.B) {
	h, _ := newHasher(make([]byte, 32))
	plain := make([]byte, 128<<10)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		h.id(plain)
	}
}
