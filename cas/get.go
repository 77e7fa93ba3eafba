package cas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// An Object is an open version of an object. Its bytes can be read until Close, whatever happens to the key.
type Object struct {
	Info ObjectInfo
	s    *Store
	row  versionRow
}

// Get opens an object for reading. Errors: as Stat.
func (s *Store) Get(_ context.Context, r GetRequest) (*Object, error) {
	o := &Object{s: s}
	s.pins.gate.RLock()
	defer s.pins.gate.RUnlock()
	var found version
	err := s.view(func(v *index.View) (err error) {
		found, err = s.getVersion(v, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	o.row, o.Info = found.row, found.info()
	if !namedBy(&o.row).empty() {
		s.pins.hold(o)
	}
	return o, nil
}

// Close lets go of the object: its chunks may be reclaimed when no version names them. It may be called twice.
func (o *Object) Close() { o.s.pins.release(o) }

// Part finds part number of the object and its offset. An object that was put at once is its own part 1.
func (o *Object) Part(_ context.Context, number int) (p Part, off int64, ok bool, err error) {
	if o.row.PartCount == 0 {
		return Part{Number: 1, Size: o.row.Content.Size, ETag: o.Info.ETag, Checksum: o.Info.Checksum, Modified: o.Info.Modified}, 0, number == 1, nil
	}
	parts, err := o.s.partEntries(&o.row)
	if err != nil {
		return p, 0, false, err
	}
	// Parts of a finished object are numbered anew, as AWS does.
	for i, e := range parts {
		if i+1 == number {
			p = Part{Number: number, Size: e.Size, ETag: e.ETag, Modified: o.Info.Modified}
			if e.Checksum != "" {
				p.Checksum = Checksum{Algorithm: o.Info.Checksum.Algorithm, Type: o.Info.Checksum.Type, Value: e.Checksum}
			}
			return p, off, true, nil
		}
		off += e.Size
	}
	return p, 0, false, nil
}

// NewReader reads n bytes from offset off as a stream.
func (o *Object) NewReader(ctx context.Context, off, n int64) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() {
		_, err := o.WriteRange(ctx, w, off, n)
		w.CloseWithError(err)
	}()
	return &pipedRange{PipeReader: r, cancel: cancel}
}

type pipedRange struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (p *pipedRange) Close() error {
	p.cancel()
	return p.PipeReader.Close()
}

// WriteRange writes n bytes from offset off to w and returns how many it wrote. Nothing is written that was not verified
// by its chunk ID: when a chunk cannot be had, WriteRange ends in ErrCorrupt after the bytes before it.
func (o *Object) WriteRange(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	c := &o.row.Content
	if off < 0 || n < 0 || off+n > c.Size {
		return 0, fmt.Errorf("cas: range %d+%d of %d bytes", off, n, c.Size)
	}
	if n == 0 {
		return 0, nil
	}
	if c.Root == nil {
		m, err := w.Write(c.Inline[off : off+n])
		return int64(m), err
	}
	o.s.clients.Add(1)
	defer o.s.clients.Add(-1)
	cached := c.Size <= cachedBytesMax
	m, err := newManifestReader(c.Root, off, func(r ref) ([]byte, error) { return o.s.readChunk(ctx, r, true) })
	if err != nil {
		return 0, o.damage(err)
	}
	var written int64
	if n <= smallBytesMax {
		written, err = o.writeSerial(ctx, w, m, n, cached)
	} else {
		written, err = o.writeAhead(ctx, w, m, n, cached)
	}
	return written, o.damage(err)
}

// damage notes what a read met.
func (o *Object) damage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, errBadNode) {
		err = fmt.Errorf("manifest ends early: %w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, ErrCorrupt) {
		o.s.opts.Logger.Error("object is damaged", slog.String("bucket", o.Info.Bucket), slog.String("key", o.Info.Key),
			slog.String("version", o.Info.VersionID), slog.Any("error", err))
	}
	return err
}

// A lease is a chunk's plain bytes, in the cache or in buffers that go back when it is released.
type lease struct {
	b              []byte
	stored, opened *[]byte
}

func (l *lease) release() {
	if l.stored != nil {
		putBuffer(l.stored)
		putBuffer(l.opened)
	}
	*l = lease{}
}

// leaf returns the bytes of a leaf from skip on, at most n. The lease must be released.
func (s *Store) leaf(ctx context.Context, r ref, skip, n int64, cached bool) (l lease, err error) {
	switch {
	case r.kind == refZero:
		l.b = zeros[:min(r.size-skip, n, int64(len(zeros)))]
		return l, nil
	case cached:
		l.b, err = s.readChunk(ctx, r, true)
	default:
		var ok bool
		if l.b, ok = s.cache.get(r.id); !ok {
			l.stored, l.opened = getBuffer(int(r.size)), getBuffer(0)
			l.b, err = s.loadChunk(ctx, r, l.stored, l.opened)
		}
	}
	if err != nil {
		l.release()
		return l, err
	}
	l.b = l.b[skip:min(int64(len(l.b)), skip+n)]
	return l, nil
}

// zeros is what zero runs are written from.
var zeros = make([]byte, 256<<10)

// writeSerial is for what lies in one or two chunks.
func (o *Object) writeSerial(ctx context.Context, w io.Writer, m *manifestReader, n int64, cached bool) (written int64, err error) {
	for written < n {
		r, skip, err := m.next()
		if err != nil {
			return written, err
		}
		for size := r.size; skip < size && written < n; {
			l, err := o.s.leaf(ctx, r, skip, n-written, cached)
			if err != nil {
				return written, err
			}
			k, err := w.Write(l.b)
			l.release()
			written += int64(k)
			skip += int64(k)
			if err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// A fetch is a leaf that is being read ahead.
type fetch struct {
	r    ref
	skip int64
	n    int64
	l    lease
	err  error
	done chan struct{}
}

// writeAhead reads chunks ahead of the writer, several at once, at most downloadChunks.
func (o *Object) writeAhead(ctx context.Context, w io.Writer, m *manifestReader, n int64, cached bool) (written int64, err error) {
	if err := o.s.downloads.Acquire(ctx, downloadMemory); err != nil {
		return 0, err
	}
	defer o.s.downloads.Release(downloadMemory)
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan *fetch, downloadChunks-2) // one more is at each end
	ended := make(chan error, 1)
	go func() {
		defer close(queue)
		for left := n; left > 0; {
			r, skip, err := m.next()
			if err != nil {
				ended <- err
				return
			}
			f := &fetch{r: r, skip: skip, n: min(left, r.size-skip), done: make(chan struct{})}
			left -= f.n
			go func() {
				defer close(f.done)
				if f.r.kind != refZero {
					f.l, f.err = o.s.leaf(ctx, f.r, f.skip, f.n, cached)
				}
			}()
			select {
			case queue <- f:
			case <-ctx.Done():
				<-f.done
				f.l.release()
				ended <- context.Cause(ctx)
				return
			}
		}
		ended <- nil
	}()
	defer func() {
		cancel()
		for f := range queue { // nobody may still hold memory that is given back above
			<-f.done
			f.l.release()
		}
	}()
	for f := range queue {
		<-f.done
		if f.err != nil {
			return written, f.err
		}
		k, err := f.write(w)
		written += k
		f.l.release()
		if err != nil {
			return written, err
		}
	}
	return written, <-ended
}

// write writes what was fetched.
func (f *fetch) write(w io.Writer) (written int64, err error) {
	for written < f.n && err == nil {
		b := f.l.b
		if f.r.kind == refZero {
			b = zeros[:min(f.n-written, int64(len(zeros)))]
		}
		var k int
		k, err = w.Write(b)
		written += int64(k)
	}
	return written, err
}

// readChunk returns the plain bytes of a chunk, verified. Nobody may change them.
func (s *Store) readChunk(ctx context.Context, r ref, cached bool) ([]byte, error) {
	if b, ok := s.cache.get(r.id); ok {
		return b, nil
	}
	b, err := s.loadChunk(ctx, r, new([]byte), new([]byte))
	if err == nil && cached {
		s.cache.put(r.id, b)
	}
	return b, err
}

// loadChunk reads a chunk past the cache. The bytes lie in the memory of stored or opened, which it grows as needed.
func (s *Store) loadChunk(ctx context.Context, r ref, stored, opened *[]byte) ([]byte, error) {
	b, err := s.fetchChunk(ctx, r, stored, opened)
	if err == nil {
		return b, nil
	}
	if errors.Is(err, ErrCorrupt) {
		s.metrics.damagedChunks.Inc()
		s.damaged.add(r.id)
		s.healer.poke()
	}
	return nil, fmt.Errorf("chunk %x: %w", r.id[:8], err)
}

func (s *Store) fetchChunk(ctx context.Context, r ref, stored, opened *[]byte) ([]byte, error) {
	for try := 0; ; try++ {
		c, ok, err := s.chunks.LookupChunk(r.id)
		if err != nil {
			return nil, s.indexError(err)
		}
		if !ok && s.incomplete {
			return nil, errors.New("is not in the part of the log that can be read") // unknown is not missing
		}
		if !ok {
			return nil, fmt.Errorf("is not in the chunk map: %w", ErrCorrupt)
		}
		*stored, err = s.log.Read(ctx, erasure.Location(c.Location), (*stored)[:0])
		if errors.Is(err, erasure.ErrNotFound) && try == 0 {
			continue // its segment was dropped after it had been copied elsewhere
		}
		if errors.Is(err, erasure.ErrNotFound) {
			return nil, fmt.Errorf("its segment is gone: %w: %w", ErrCorrupt, err)
		}
		if err != nil {
			return nil, logError("read", err)
		}
		if encoding(c.Encoding) != encPlain && cap(*opened) < int(c.Size) {
			*opened = make([]byte, 0, c.Size)
		}
		plain, err := s.codec.decode(encoding(c.Encoding), *stored, c.Size, (*opened)[:0])
		if err != nil {
			return nil, err
		}
		if int64(len(plain)) != r.size && r.kind == refChunk {
			return nil, fmt.Errorf("has %d bytes where %d belong: %w", len(plain), r.size, ErrCorrupt)
		}
		if s.domain.hash.id(plain) != r.id {
			return nil, fmt.Errorf("its bytes do not hash to its ID: %w", ErrCorrupt)
		}
		return plain, nil
	}
}
