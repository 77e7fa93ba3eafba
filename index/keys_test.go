package index

import (
	"bytes"
	"cmp"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawField draws strings rich in the bytes that escaping is about.
func drawField(t *rapid.T, label string) string {
	return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', '/', 0xFE, 0xFF}), 0, 6).Draw(t, label))
}

func inRange(key, lo, hi []byte) bool {
	return bytes.Compare(key, lo) >= 0 && bytes.Compare(key, hi) < 0
}

func TestObjectKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b1, k1, c1 := drawField(t, "b1"), drawField(t, "k1"), rapid.Uint64().Draw(t, "c1")
		b2, k2, c2 := drawField(t, "b2"), drawField(t, "k2"), rapid.Uint64().Draw(t, "c2")
		one, two := ObjectKey(b1, k1, c1), ObjectKey(b2, k2, c2)
		want := cmp.Or(strings.Compare(b1, b2), strings.Compare(k1, k2), cmp.Compare(c2, c1)) // newest first
		if got := bytes.Compare(one, two); got != want {
			t.Fatalf("%q and %q: order %d, want %d", one, two, got, want)
		}
		b, k, c, err := ParseObjectKey(one)
		if err != nil || b != b1 || k != k1 || c != c1 {
			t.Fatalf("ParseObjectKey(%q) = %q %q %d %v", one, b, k, c, err)
		}
		lo, hi := ObjectRange(b1, k1)
		if !inRange(one, lo, hi) || inRange(two, lo, hi) != (b1 == b2 && k1 == k2) {
			t.Fatalf("ObjectRange(%q, %q) = %q to %q is wrong for %q", b1, k1, lo, hi, two)
		}
		lo, hi = BucketRange(b1)
		if !inRange(one, lo, hi) || inRange(two, lo, hi) != (b1 == b2) {
			t.Fatalf("BucketRange(%q) = %q to %q is wrong for %q", b1, lo, hi, two)
		}
		p := appendEscaped(appendField(nil, b1), k1)
		if inRange(two, p, prefixEnd(p)) != (b1 == b2 && strings.HasPrefix(k2, k1)) {
			t.Fatalf("the range of prefix %q is wrong for %q", k1, two)
		}
	})
}

func TestUploadKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b1, k1, u1 := drawField(t, "b1"), drawField(t, "k1"), drawField(t, "u1")
		b2, k2, u2 := drawField(t, "b2"), drawField(t, "k2"), drawField(t, "u2")
		one, two := UploadKey(b1, k1, u1), UploadKey(b2, k2, u2)
		want := cmp.Or(strings.Compare(b1, b2), strings.Compare(k1, k2), strings.Compare(u1, u2))
		if got := bytes.Compare(one, two); got != want {
			t.Fatalf("%q and %q: order %d, want %d", one, two, got, want)
		}
		b, k, u, err := ParseUploadKey(one)
		if err != nil || b != b1 || k != k1 || u != u1 {
			t.Fatalf("ParseUploadKey(%q) = %q %q %q %v", one, b, k, u, err)
		}
		lo, hi := UploadRange(b1, k1)
		if !inRange(one, lo, hi) || inRange(two, lo, hi) != (b1 == b2 && k1 == k2) {
			t.Fatalf("UploadRange(%q, %q) = %q to %q is wrong for %q", b1, k1, lo, hi, two)
		}
	})
}

func TestPartKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u1, n1 := drawField(t, "u1"), int(rapid.Uint32().Draw(t, "n1"))
		u2, n2 := drawField(t, "u2"), int(rapid.Uint32().Draw(t, "n2"))
		one, two := PartKey(u1, n1), PartKey(u2, n2)
		if got, want := bytes.Compare(one, two), cmp.Or(strings.Compare(u1, u2), cmp.Compare(n1, n2)); got != want {
			t.Fatalf("%q and %q: order %d, want %d", one, two, got, want)
		}
		u, n, err := ParsePartKey(one)
		if err != nil || u != u1 || n != n1 {
			t.Fatalf("ParsePartKey(%q) = %q %d %v", one, u, n, err)
		}
		lo, hi := PartRange(u1)
		if !inRange(one, lo, hi) || inRange(two, lo, hi) != (u1 == u2) {
			t.Fatalf("PartRange(%q) = %q to %q is wrong for %q", u1, lo, hi, two)
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{{"a", "b"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"a\x00", "a\x01"}} {
		if got := prefixEnd([]byte(c.prefix)); string(got) != c.want {
			t.Errorf("prefixEnd(%q) = %q, want %q", c.prefix, got, c.want)
		}
	}
	for _, p := range []string{"", "\xff", "\xff\xff"} {
		if got := prefixEnd([]byte(p)); got != nil {
			t.Errorf("prefixEnd(%q) = %q, want nil", p, got)
		}
	}
}

func FuzzParseObjectKey(f *testing.F) {
	f.Add(ObjectKey("bucket", "a\x00key", 7))
	f.Add([]byte("a\x00\x02b\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bucket, key, csn, err := ParseObjectKey(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v does not match ErrCorrupt", err)
			}
		} else if again := ObjectKey(bucket, key, csn); !bytes.Equal(again, b) {
			t.Fatalf("two forms of one key: %q and %q", b, again)
		}
	})
}

func FuzzParseUploadKey(f *testing.F) {
	f.Add(UploadKey("bucket", "a\x00key", "upload"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bucket, key, id, err := ParseUploadKey(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v does not match ErrCorrupt", err)
			}
		} else if again := UploadKey(bucket, key, id); !bytes.Equal(again, b) {
			t.Fatalf("two forms of one key: %q and %q", b, again)
		}
	})
}

func FuzzParsePartKey(f *testing.F) {
	f.Add(PartKey("upload\x00", 10000))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, n, err := ParsePartKey(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v does not match ErrCorrupt", err)
			}
		} else if again := PartKey(id, n); !bytes.Equal(again, b) {
			t.Fatalf("two forms of one key: %q and %q", b, again)
		}
	})
}
