package awschunked

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// A chain signs in a way that is easy to follow: each signature hashes the one before and the digest.
type chain struct{ previous string }

func (c *chain) Chunk(sum []byte) string   { return c.next("chunk", sum) }
func (c *chain) Trailer(sum []byte) string { return c.next("trailer", sum) }

func (c *chain) next(kind string, sum []byte) string {
	s := sha256.Sum256(append([]byte(kind+c.previous), sum...))
	c.previous = hex.EncodeToString(s[:])
	return c.previous
}

// encode makes a body of chunks of the given sizes (the last of them repeats), signed if signer is not nil.
func encode(plain []byte, sizes []int, signer Signer, trailers ...string) []byte {
	var b bytes.Buffer
	head := func(p []byte) {
		fmt.Fprintf(&b, "%x", len(p))
		if signer != nil {
			sum := sha256.Sum256(p)
			b.WriteString(";chunk-signature=" + signer.Chunk(sum[:]))
		}
		b.WriteString("\r\n")
	}
	for i := 0; len(plain) > 0; i++ {
		n := min(len(plain), sizes[min(i, len(sizes)-1)])
		head(plain[:n])
		b.Write(plain[:n])
		b.WriteString("\r\n")
		plain = plain[n:]
	}
	head(nil)
	var canonical string
	for i := 0; i < len(trailers); i += 2 {
		b.WriteString(trailers[i] + ":" + trailers[i+1] + "\r\n")
		canonical += trailers[i] + ":" + trailers[i+1] + "\n"
	}
	if signer != nil && len(trailers) > 0 {
		sum := sha256.Sum256([]byte(canonical))
		b.WriteString("x-amz-trailer-signature:" + signer.Trailer(sum[:]) + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 3*bufferBytes).Draw(t, "plain")
		sizes := rapid.SliceOfN(rapid.IntRange(chunkBytesMin, 2*bufferBytes), 1, 5).Draw(t, "sizes")
		signed, trailer := rapid.Bool().Draw(t, "signed"), rapid.Bool().Draw(t, "trailer")
		o := Options{Length: int64(len(plain))}
		var enc Signer
		if signed {
			enc, o.Signer = &chain{}, &chain{}
		}
		var trailers []string
		if trailer {
			trailers, o.Trailers = []string{"x-amz-checksum-crc32", "AAAAAA=="}, []string{"x-amz-checksum-crc32"}
		}
		body := encode(plain, sizes, enc, trailers...)
		var src io.Reader = bytes.NewReader(body)
		switch rapid.IntRange(0, 2).Draw(t, "reader") {
		case 1:
			src = iotest.HalfReader(src)
		case 2:
			src = iotest.DataErrReader(src)
		}
		r := New(src, o)
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(plain), err)
		}
		if trailer && r.Trailer("x-amz-checksum-crc32") != "AAAAAA==" {
			t.Fatalf("trailer %q", r.Trailer("x-amz-checksum-crc32"))
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("after the end: %d, %v", n, err)
		}

		// A body that is cut off anywhere is never taken for a whole one, but for the last line end.
		cut := rapid.IntRange(0, len(body)-3).Draw(t, "cut")
		if signed {
			o.Signer = &chain{}
		}
		broken := io.MultiReader(bytes.NewReader(body[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := io.ReadAll(New(broken, o)); err == nil {
			t.Fatalf("cut off after %d of %d bytes, and accepted", cut, len(body))
		}
		// Nor is one with a changed byte if it is signed, unless the change is in white space or case that means nothing.
		if signed {
			at := rapid.IntRange(0, len(body)-1).Draw(t, "at")
			changed := bytes.Clone(body)
			changed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			o.Signer = &chain{}
			got, err := io.ReadAll(New(bytes.NewReader(changed), o))
			if err == nil && !bytes.Equal(got, plain) {
				t.Fatalf("accepted other bytes after a change at %d", at)
			}
		}
	})
}

func TestForms(t *testing.T) {
	for _, tc := range []struct {
		name, body, want string
		length           int64
		trailers         []string
		err              error
	}{
		{"plain", "3\r\nabc\r\n0\r\n\r\n", "abc", 3, nil, nil},
		{"empty", "0\r\n\r\n", "", 0, nil, nil},
		{"empty, without the last line", "0\r\n", "", 0, nil, nil},
		{"upper case, leading zeros", "00A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 10, nil, nil},
		{"an extension", "3;x=y\r\nabc\r\n0\r\n\r\n", "abc", 3, nil, nil},
		{"trailer", "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\r\n\r\n", "abc", 3, []string{"x-amz-checksum-crc32"}, nil},
		{"trailer in other case and with space", "3\r\nabc\r\n0\r\nX-Amz-Checksum-CRC32: v \r\n\r\n", "abc", 3, []string{"x-amz-checksum-crc32"}, nil},
		{"trailer with the line ends of some clients", "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\n\r\n\r\n\r\n", "abc", 3, []string{"x-amz-checksum-crc32"}, nil},

		{"nothing", "", "", 0, nil, io.ErrUnexpectedEOF},
		{"no last chunk", "3\r\nabc\r\n", "abc", 3, nil, io.ErrUnexpectedEOF},
		{"cut in a chunk", "3\r\nab", "ab", 3, nil, io.ErrUnexpectedEOF},
		{"cut after a chunk", "3\r\nabc", "abc", 3, nil, io.ErrUnexpectedEOF},
		{"cut in a size", "3", "", 3, nil, io.ErrUnexpectedEOF},
		{"longer than declared", "3\r\nabc\r\n0\r\n\r\n", "", 2, nil, ErrLength},
		{"second chunk too much", "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "ab", 2, nil, ErrLength},
		{"small chunk before another", "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "ab", 3, nil, ErrChunkSize},
		{"shorter than declared", "3\r\nabc\r\n0\r\n\r\n", "abc", 4, nil, ErrLength},
		{"huge size", "fffffffffffffff\r\n", "", 1 << 40, nil, ErrLength},
		{"too many digits", "0000000000000003\r\nabc\r\n0\r\n\r\n", "", 3, nil, ErrMalformed},
		{"negative", "-3\r\nabc\r\n0\r\n\r\n", "", 3, nil, ErrMalformed},
		{"no size", "\r\nabc\r\n0\r\n\r\n", "", 3, nil, ErrMalformed},
		{"no hex", "g\r\nabc\r\n0\r\n\r\n", "", 3, nil, ErrMalformed},
		{"chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n", "abc", 3, nil, ErrMalformed},
		{"endless line", strings.Repeat("0", 100_000), "", 3, nil, ErrMalformed},
		{"trailer missing", "3\r\nabc\r\n0\r\n\r\n", "abc", 3, []string{"x-amz-checksum-crc32"}, ErrTrailer},
		{"another trailer", "3\r\nabc\r\n0\r\nx-amz-checksum-crc32c:v\r\n\r\n", "abc", 3, []string{"x-amz-checksum-crc32"}, ErrTrailer},
		{"unannounced trailer", "3\r\nabc\r\n0\r\nx-amz-checksum-crc32c:v\r\n\r\n", "abc", 3, nil, ErrTrailer},
		{"trailer twice", "0\r\na:v\r\na:v\r\n\r\n", "", 0, []string{"a"}, ErrTrailer},
		{"trailer without a colon", "0\r\nabc\r\n\r\n", "", 0, []string{"abc"}, ErrTrailer},
		{"something behind", "0\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "", 0, nil, ErrTrailer},
		{"many lines", "0\r\n" + strings.Repeat("\r\n", 100), "", 0, nil, ErrTrailer},
	} {
		got, err := io.ReadAll(New(strings.NewReader(tc.body), Options{Length: tc.length, Trailers: tc.trailers}))
		if string(got) != tc.want || !errors.Is(err, tc.err) || tc.err == nil && err != nil {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestSignatures(t *testing.T) {
	plain := []byte("some bytes to sign" + strings.Repeat("x", chunkBytesMin))
	good := string(encode(plain, []int{chunkBytesMin}, &chain{}, "x-amz-checksum-crc32", "v"))
	lines := strings.SplitAfter(good, "\r\n")
	swap := func(s string) string { // another digit at its end
		last := s[len(s)-3]
		c := byte('0')
		if last == '0' {
			c = '1'
		}
		return s[:len(s)-3] + string(c) + s[len(s)-2:]
	}
	for name, body := range map[string]string{
		"first":         strings.Replace(good, lines[0], swap(lines[0]), 1),
		"second":        strings.Replace(good, lines[2], swap(lines[2]), 1),
		"last":          strings.Replace(good, lines[4], swap(lines[4]), 1),
		"trailer":       strings.Replace(good, lines[6], swap(lines[6]), 1),
		"trailer value": strings.Replace(good, "crc32:v", "crc32:w", 1),
		"byte":          strings.Replace(good, "some", "same", 1),
		"unsigned":      "12\r\nsome bytes to sign\r\n0\r\nx-amz-checksum-crc32:v\r\n\r\n",
		"trailer's not": strings.Replace(good, lines[6], "", 1),
		"chunk dropped": strings.Replace(good, lines[2]+lines[3], "", 1),
	} {
		if body == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		length := int64(len(plain))
		if name == "chunk dropped" {
			length = chunkBytesMin
		}
		_, err := io.ReadAll(New(strings.NewReader(body), Options{Signer: &chain{}, Length: length, Trailers: []string{"x-amz-checksum-crc32"}}))
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"), int64(3), false)
	f.Add([]byte("3\r\nabc\r\n0\r\nx:v\r\n\r\n"), int64(3), true)
	f.Add(encode([]byte("hello"), []int{8}, nil, "x", "v"), int64(5), true)
	f.Fuzz(func(t *testing.T, body []byte, length int64, trailer bool) {
		if length < 0 {
			return
		}
		o := Options{Length: length}
		if trailer {
			o.Trailers = []string{"x"}
		}
		got, err := io.ReadAll(New(bytes.NewReader(body), o))
		if int64(len(got)) > length || len(got) > len(body) {
			t.Fatalf("%d bytes of %d from %d", len(got), length, len(body))
		}
		if err == nil && int64(len(got)) != length {
			t.Fatalf("accepted %d bytes of %d", len(got), length)
		}
		// The same bytes must decode alike however they arrive.
		again, err2 := io.ReadAll(New(iotest.OneByteReader(bytes.NewReader(body)), o))
		if !bytes.Equal(got, again) || (err == nil) != (err2 == nil) {
			t.Fatalf("%q, %v byte by byte; %q, %v at once", again, err2, got, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	body := encode(bytes.Repeat([]byte("x"), 8<<20), []int{64 << 10}, nil)
	b.SetBytes(8 << 20)
	b.ReportAllocs()
	buf := make([]byte, 64<<10)
	for b.Loop() {
		r := New(bytes.NewReader(body), Options{Length: 8 << 20})
		for {
			if _, err := r.Read(buf); err != nil {
				break
			}
		}
	}
}
