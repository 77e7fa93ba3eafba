// Package awschunked decodes bodies in the aws-chunked content encoding of S3, in which current SDKs send uploads by default:
//
//	body    = *chunk last trailers
//	chunk   = size [";chunk-signature=" 64 hex digits] CRLF bytes CRLF       size in hex, not 0
//	last    = "0"  [";chunk-signature=" 64 hex digits] CRLF
//	trailers = *(name ":" value CRLF) ["x-amz-trailer-signature:" 64 hex digits CRLF] CRLF
//
// Signatures are there in the signed forms and then verified; each chunk's covers the one before. Bytes are handed on before
// the signature of their chunk is known, so what is read counts only once Read has returned io.EOF. Nothing of a chunk is held, so they may be as big as they
// like, but all except the last must have 8 KiB, as S3 demands. Lines are at most 1 KiB, and trailers 16 lines.
package awschunked

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
)

const (
	lineBytesMax    = 1 << 10
	trailerLinesMax = 16
	chunkBytesMin   = 8 << 10
	bufferBytes     = 16 << 10
)

// What Read fails with, wrapped, besides the errors of the underlying reader. A body that ends early is io.ErrUnexpectedEOF.
var (
	ErrMalformed = errors.New("awschunked: malformed encoding")
	ErrSignature = errors.New("awschunked: a chunk signature does not match")
	ErrTrailer   = errors.New("awschunked: malformed or missing trailer")
	ErrChunkSize = errors.New("awschunked: a chunk that is not the last is smaller than 8 KiB")
	ErrLength    = errors.New("awschunked: body has another length than declared")
)

// A Signer computes the signatures that a body must have; see auth.ChunkSigner.
type Signer interface {
	Chunk(sha256 []byte) string
	Trailer(sha256 []byte) string
}

// Options of New.
type Options struct {
	Signer   Signer   // nil for unsigned bodies
	Length   int64    // decoded length in bytes, as declared
	Trailers []string // names, in lower case, that the trailer must have, no others; empty means that there is none
}

// A Reader decodes one body.
type Reader struct {
	src     *bufio.Reader // nil once the body has ended
	o       Options
	sum     hash.Hash // of the bytes of the chunk, if signed
	want    string    // signature of the chunk, as sent
	left    uint64    // bytes to come of the chunk
	inChunk bool
	short   bool // the chunk before was smaller than one may be that is not the last
	total   int64
	trailer map[string]string
	err     error
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferBytes) }}

// New decodes src.
func New(src io.Reader, o Options) *Reader {
	b := buffers.Get().(*bufio.Reader)
	b.Reset(src)
	r := &Reader{src: b, o: o}
	if o.Signer != nil {
		r.sum = sha256.New()
	}
	return r
}

// Trailer returns the value of a trailer, by its name in lower case, once Read has returned io.EOF.
func (r *Reader) Trailer(name string) string { return r.trailer[name] }

// Read returns decoded bytes. It returns io.EOF only when the whole body was well-formed, as long as declared, and rightly signed.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.read(p)
	if err != nil {
		r.err = err
		r.src.Reset(nil)
		buffers.Put(r.src)
		r.src = nil
	}
	return n, err
}

func (r *Reader) read(p []byte) (int, error) {
	if !r.inChunk {
		last, err := r.begin()
		if err != nil {
			return 0, err
		}
		if last {
			return 0, r.finish()
		}
	}
	if uint64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.src.Read(p)
	r.left -= uint64(n)
	r.total += int64(n)
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	if err != nil {
		return n, unexpected(err)
	}
	if r.left == 0 {
		return n, r.end()
	}
	return n, nil
}

// begin reads the head of a chunk.
func (r *Reader) begin() (last bool, err error) {
	line, err := r.line()
	if err != nil {
		return false, unexpected(err)
	}
	head, extension, signed := bytes.Cut(line, []byte(";"))
	size, ok := parseSize(head)
	if !ok {
		return false, fmt.Errorf("%w: chunk size", ErrMalformed)
	}
	if r.o.Signer != nil {
		sig, ok := bytes.CutPrefix(extension, []byte("chunk-signature="))
		if !signed || !ok {
			return false, fmt.Errorf("%w: a chunk has none", ErrSignature)
		}
		r.want = string(sig)
		r.sum.Reset()
	}
	if size > uint64(r.o.Length-r.total) {
		return false, fmt.Errorf("%w: more than %d bytes", ErrLength, r.o.Length)
	}
	if size == 0 {
		return true, r.verify()
	}
	if r.short {
		return false, ErrChunkSize
	}
	r.left, r.inChunk, r.short = size, true, size < chunkBytesMin
	return false, nil
}

// end reads what follows the bytes of a chunk.
func (r *Reader) end() error {
	r.inChunk = false
	var crlf [2]byte
	if _, err := io.ReadFull(r.src, crlf[:]); err != nil {
		return unexpected(err)
	}
	if crlf != [2]byte{'\r', '\n'} {
		return fmt.Errorf("%w: a chunk is longer than its size", ErrMalformed)
	}
	return r.verify()
}

func (r *Reader) verify() error {
	if r.o.Signer == nil {
		return nil
	}
	if !hmac.Equal([]byte(r.o.Signer.Chunk(r.sum.Sum(nil))), []byte(r.want)) {
		return ErrSignature
	}
	return nil
}

// finish reads the trailers up to the end of the body. The empty line that ends them may be missing, and clients put more of them around the
// trailer's signature, so the end of the body is what counts.
func (r *Reader) finish() error {
	if r.total != r.o.Length {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrLength, r.total, r.o.Length)
	}
	var canonical []byte
	var signature string
	for lines := 0; ; lines++ {
		line, err := r.line()
		if err == io.EOF && len(line) == 0 { //nolint:errorlint // bare: the real end, not a body that was cut off
			break
		}
		if err != nil {
			return unexpected(err)
		}
		if lines == trailerLinesMax {
			return fmt.Errorf("%w: too many lines", ErrTrailer)
		}
		if len(line) == 0 {
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return fmt.Errorf("%w: a line without a name", ErrTrailer)
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "x-amz-trailer-signature" {
			signature = value
			continue
		}
		if _, twice := r.trailer[name]; twice || !r.wants(name) {
			return fmt.Errorf("%w: unexpected %q", ErrTrailer, name)
		}
		if r.trailer == nil {
			r.trailer = make(map[string]string, len(r.o.Trailers))
		}
		r.trailer[name] = value
		canonical = append(canonical, name+":"+value+"\n"...)
	}
	if len(r.trailer) != len(r.o.Trailers) {
		return fmt.Errorf("%w: missing", ErrTrailer)
	}
	if r.o.Signer != nil && len(r.o.Trailers) > 0 {
		sum := sha256.Sum256(canonical)
		if !hmac.Equal([]byte(r.o.Signer.Trailer(sum[:])), []byte(signature)) {
			return fmt.Errorf("%w: of the trailer", ErrSignature)
		}
	}
	return io.EOF
}

func (r *Reader) wants(name string) bool {
	for _, t := range r.o.Trailers {
		if t == name {
			return true
		}
	}
	return false
}

// line reads a line without its end. At the end of the body it returns what is left and io.EOF.
func (r *Reader) line() ([]byte, error) {
	line, err := r.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > lineBytesMax {
		return nil, fmt.Errorf("%w: a line is too long", ErrMalformed)
	}
	if err != nil {
		return line, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // readers return it bare
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseSize reads 1 to 15 hex digits.
func parseSize(b []byte) (size uint64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		size = size<<4 | uint64(c)
	}
	return size, true
}
