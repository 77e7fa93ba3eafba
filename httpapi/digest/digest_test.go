package digest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const all = MD5 | CRC32 | CRC32C | CRC64NVME | SHA1 | SHA256

// The check values of "123456789" from the CRC catalogue and the RFCs.
func TestKnownValues(t *testing.T) {
	h := New(all)
	h.Write([]byte("1234"))
	h.Write([]byte("56789"))
	for a, want := range map[Algorithm]string{
		MD5: "25f9e794323b453885f5181f1b624d0b", CRC32: "cbf43926", CRC32C: "e3069283", CRC64NVME: "ae8b14860a799888",
		SHA1: "f7c3bc1d808e04732adf679965ccc34ca7ae3441", SHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		sum := h.Sum(a)
		if hex.EncodeToString(sum) != want || len(sum) != a.Size() {
			t.Errorf("%s = %x, want %s", a, sum, want)
		}
		if !a.Valid(h.Base64(a)) || a.Valid(h.Base64(a)[1:]) || a.Valid(h.Base64(a)+"AAAA") {
			t.Errorf("%s.Valid", a)
		}
	}
}

func TestNamesAndSubsets(t *testing.T) {
	for _, a := range Checksums {
		got, ok := Parse(a.String())
		if !ok || got != a {
			t.Errorf("Parse(%s) = %v, %v", a, got, ok)
		}
		h := New(a)
		h.Write([]byte("x"))
		for _, b := range Checksums {
			if (h.Sum(b) != nil) != (a == b) {
				t.Errorf("a hasher for %s has %s", a, b)
			}
		}
		h.Release()
	}
	for _, name := range []string{"", "MD5", "crc32", "SHA512"} {
		if _, ok := Parse(name); ok {
			t.Errorf("%q is an algorithm", name)
		}
	}
}

// A hasher that is used again must not remember.
func TestReuse(t *testing.T) {
	want := New(all).Sum(SHA256)
	for range 100 {
		h := New(all)
		if !bytes.Equal(h.Sum(SHA256), want) || hex.EncodeToString(h.Sum(CRC32)) != "00000000" {
			t.Fatal("a fresh hasher is not fresh")
		}
		h.Write([]byte("something"))
		h.Release()
	}
}

// The CRC of the whole from those of its parts is that of the bytes.
func TestCombineFullObject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 3000), 1, 6).Draw(t, "parts")
		for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME} {
			whole := New(a)
			var ps []Part
			for _, p := range parts {
				whole.Write(p)
				h := New(a)
				h.Write(p)
				ps = append(ps, Part{int64(len(p)), h.Base64(a)})
			}
			got, err := Combine(a, FullObject, ps)
			if err != nil || got != whole.Base64(a) {
				t.Fatalf("%s: %s, %v; want %s", a, got, err, whole.Base64(a))
			}
		}
	})
}

func TestCombineLong(t *testing.T) {
	// 5 GiB of zeros twice, against combining in another order: (A B) C = A (B C).
	const n = 5 << 30
	for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME} {
		x, y, z := uint64(0x12345678), uint64(0x9abcdef0), uint64(0x0fedcba9)
		left := combineCRC(a, combineCRC(a, x, y, n), z, n+1)
		right := combineCRC(a, x, combineCRC(a, y, z, n+1), 2*n+1)
		if left != right {
			t.Errorf("%s: %x and %x", a, left, right)
		}
	}
}

func TestCombineComposite(t *testing.T) {
	for _, a := range []Algorithm{CRC32, CRC32C, SHA1, SHA256} {
		var ps []Part
		outer := New(a)
		for _, s := range []string{"one", "two", "three"} {
			h := New(a)
			h.Write([]byte(s))
			ps = append(ps, Part{int64(len(s)), h.Base64(a)})
			outer.Write(h.Sum(a))
		}
		got, err := Combine(a, Composite, ps)
		if want := outer.Base64(a) + "-3"; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", a, got, err, want)
		}
	}
	if _, err := Combine(CRC64NVME, Composite, nil); err == nil {
		t.Error("composite CRC64NVME")
	}
	if _, err := Combine(SHA256, FullObject, nil); err == nil {
		t.Error("full object SHA256")
	}
	for _, sum := range []string{"", "AAAA", "!!!!!!==", base64.StdEncoding.EncodeToString(make([]byte, 5))} {
		if _, err := Combine(CRC32, FullObject, []Part{{1, sum}}); !errors.Is(err, ErrSum) {
			t.Errorf("%q: %v", sum, err)
		}
	}
}

func TestMultipartETag(t *testing.T) {
	// Two parts: the MD5 of the two MD5s, as AWS computes it.
	a, b := "5d41402abc4b2a76b9719d911017c592", "7d793037a0760186574b0282f2f435e7"
	h := New(MD5)
	for _, e := range []string{a, b} {
		raw, _ := hex.DecodeString(e)
		h.Write(raw)
	}
	got, err := MultipartETag([]string{a, b})
	if want := hex.EncodeToString(h.Sum(MD5)) + "-2"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, e := range []string{"", a[:30], a + "00", strings.Repeat("g", 32), a + "-2"} {
		if _, err := MultipartETag([]string{e}); !errors.Is(err, ErrSum) {
			t.Errorf("%q: %v", e, err)
		}
	}
}

func BenchmarkHasher(b *testing.B) {
	buf := make([]byte, 1<<20)
	for _, bm := range []struct {
		name string
		set  Set
	}{{"MD5", MD5}, {"MD5+CRC32", MD5 | CRC32}, {"MD5+SHA256", MD5 | SHA256}, {"CRC64NVME", CRC64NVME}} {
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				h := New(bm.set)
				h.Write(buf)
				h.Release()
			}
		})
	}
}
