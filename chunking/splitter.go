package chunking

import (
	"io"

	"github.com/restic/chunker"
)

// algorithm finds the cuts in one stream after another. An implementation holds its read buffer and
// tables, so that a reset costs nothing to speak of.
type algorithm interface {
	// reset begins a new stream; r returns the same error for ever once it has returned one.
	reset(r io.Reader)
	// next appends the bytes of the next chunk to buf[:0] and returns them. io.EOF means that
	// nothing is left. After any error only reset may be called.
	next(buf []byte) ([]byte, error)
}

// A Splitter cuts one stream into chunks. It reads ahead by up to MaxBytes and 512 KiB, and must not be used by two
// goroutines at once.
type Splitter struct {
	algorithm algorithm
	input     stickyReader
	err       error // what Next has returned; it goes on returning it
}

// NewSplitter returns a Splitter of r. It allocates MaxBytes and 512 KiB; see Pool. p must be valid: it panics
// when p.Validate returns an error, so check what you have read from a file first.
func NewSplitter(r io.Reader, p Params) *Splitter {
	if err := p.Validate(); err != nil {
		panic(err)
	}
	return newSplitter(r, p)
}

func newSplitter(r io.Reader, p Params) *Splitter {
	s := &Splitter{algorithm: newRabin(p)}
	s.Reset(r)
	return s
}

// Next returns the next chunk of the stream: MinBytes to MaxBytes bytes, fewer only at the end of the
// input. The chunk lies in buf's memory when its capacity suffices (MaxBytes always does), else in a
// grown copy that the caller may pass in again; Next keeps no reference to it. The end is io.EOF,
// without a chunk; an empty stream has no chunks. An error of the reader is returned as it is, in place of the
// chunk that it cuts short, and again by every later call.
func (s *Splitter) Next(buf []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	chunk, err := s.algorithm.next(buf)
	if err == nil {
		return chunk, nil
	}
	s.err = err
	if s.input.err != nil {
		s.err = s.input.err
	}
	return nil, s.err
}

// Reset makes s split r from its beginning, with the same parameters. A nil r makes s let go of its reader;
// Next then returns io.EOF.
func (s *Splitter) Reset(r io.Reader) {
	s.err = nil
	s.input = stickyReader{reader: r}
	if r == nil {
		s.input.err = io.EOF
	}
	s.algorithm.reset(&s.input)
}

// stickyReader shows the splitter a stream that either ends in io.EOF or in errInput, and remembers
// the reader's own error. restic/chunker takes an io.ErrUnexpectedEOF of its reader, which is what
// net/http returns for a body that breaks off, for a short last read, and would then read for ever
// (or, worse, end the stream as if it were whole).
type stickyReader struct {
	reader io.Reader
	err    error
}

func (r *stickyReader) Read(p []byte) (int, error) {
	if r.err == nil {
		var n int
		if n, r.err = r.reader.Read(p); n > 0 || r.err == nil {
			return n, nil // an error that came with bytes is told by the next call
		}
	}
	if r.err == io.EOF { //nolint:errorlint // only the bare value means the end; a wrapped one is a failure
		return 0, io.EOF
	}
	return 0, errInput{}
}

// errInput stands for the reader's error inside the algorithm.
type errInput struct{}

func (errInput) Error() string { return "chunking: the reader failed" }

// rabin is AlgorithmRabin. It finds the cuts in its own buffer; in the tests restic/chunker says where they belong.
type rabin struct {
	params Params
	table  *laneTable
	mask   uint64
	input  io.Reader
	buf    []byte
	from   int // buf[from:to] was read and not yet given out
	to     int
	err    error // of the input, once it has ended
}

func newRabin(p Params) *rabin {
	return &rabin{
		params: p,
		table:  newLaneTable(chunker.Pol(p.Polynomial)),
		mask:   (1<<p.AverageBits - 1) << alignShift,
		buf:    make([]byte, p.MaxBytes+readAheadBytes),
	}
}

// readAheadBytes is what is read beyond the longest chunk, so that bytes are moved to the front of the buffer seldom.
const readAheadBytes = 512 << 10

func (a *rabin) reset(r io.Reader) { a.input, a.from, a.to, a.err = r, 0, 0, nil }

func (a *rabin) next(buf []byte) ([]byte, error) {
	a.fill()
	if a.err != nil && a.err != io.EOF { //nolint:errorlint // stickyReader returns the bare value
		return nil, a.err
	}
	if a.from == a.to {
		return nil, io.EOF
	}
	n := a.table.cut(a.buf[a.from:a.to], a.params.MinBytes, a.params.MaxBytes, a.mask)
	chunk := append(buf[:0], a.buf[a.from:a.from+n]...)
	a.from += n
	return chunk, nil
}

// fill reads until the buffer holds the longest possible chunk, or all that is left.
func (a *rabin) fill() {
	if a.to-a.from >= a.params.MaxBytes || a.err != nil {
		return
	}
	if a.from > 0 && len(a.buf)-a.from < a.params.MaxBytes {
		a.to = copy(a.buf, a.buf[a.from:a.to])
		a.from = 0
	}
	for a.to-a.from < a.params.MaxBytes && a.err == nil {
		var n int
		n, a.err = a.input.Read(a.buf[a.to:])
		a.to += n
	}
}
