package cas

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A domain is a dedup domain: the scope in which equal bytes are stored once.
type domain struct {
	number uint32
	hash   *hasher
}

// An upload is one body on its way into the store. It remembers what is not yet durable of what it names, and what it names:
// until its row is published nothing else does. It is used by one goroutine at a time.
type upload struct {
	s      *Store
	domain *domain
	deps   []*pendingChunk

	mu        sync.Mutex // taken to change what follows; a cycle that reclaims space reads it
	inHand    index.ID   // the chunk that was claimed last, until it is in a manifest
	manifests []*manifestBuilder
}

// newUpload registers an upload; end lets go of what it names.
func (s *Store) newUpload() *upload {
	u := &upload{s: s, domain: s.domain}
	s.pins.enter(u)
	return u
}

func (u *upload) end() { u.s.pins.leave(u) }

func (u *upload) depend(p *pendingChunk) {
	u.deps = append(u.deps, p)
	if len(u.deps)%pendingDepsScan == 0 {
		kept := u.deps[:0]
		for _, d := range u.deps {
			if !d.durable.Load() {
				kept = append(kept, d)
			}
		}
		clear(u.deps[len(kept):])
		u.deps = kept
	}
}

// storeChunk makes sure that a chunk is in the log or on its way there, and returns its ID.
func (u *upload) storeChunk(kind uint8, class erasure.Class, plain []byte) (index.ID, error) {
	s := u.s
	id := u.domain.hash.id(plain)
	u.mu.Lock()
	u.inHand = id
	u.mu.Unlock()
	p, mine, known, err := s.claim(id)
	switch {
	case err != nil:
		return id, err
	case known:
		s.metrics.dedupHits.Inc()
		s.metrics.dedupHitBytes.Add(float64(len(plain)))
		return id, nil
	case !mine:
		s.metrics.dedupHits.Inc()
		s.metrics.dedupHitBytes.Add(float64(len(plain)))
		u.depend(p)
		return id, nil
	}
	s.metrics.dedupMisses.Inc()
	s.metrics.chunkBytes.Observe(float64(len(plain)))
	p.handle, p.err = s.appendChunk(kind, class, u.domain.number, id, plain)
	if p.err != nil {
		s.pending.remove(id, false)
	}
	close(p.ready)
	if p.err != nil {
		return id, p.err
	}
	u.depend(p)
	return id, nil
}

// appendChunk runs on the store's own context: others may wait for this chunk when the upload that brought it is gone.
func (s *Store) appendChunk(kind uint8, class erasure.Class, domain uint32, id index.ID, plain []byte) (*erasure.Handle, error) {
	scratch := getBuffer(len(plain))
	defer putBuffer(scratch)
	enc, stored, err := s.codec.encode(plain, *scratch)
	if err != nil {
		return nil, err
	}
	if class == erasure.Metadata { // the log keeps the slice until it is written
		stored = append([]byte(nil), stored...)
	}
	s.metrics.storedPlain.Add(float64(len(plain)))
	s.metrics.storedZstd.Add(float64(len(stored)))
	label := appendChunkLabel(make([]byte, 0, chunkLabelBytes), chunkLabel{enc: enc, domain: domain, size: uint32(len(plain)), id: id})
	h, err := s.log.Append(s.ctx, erasure.Record{Kind: kind, Label: label, Body: stored}, class, erasure.TierUpload)
	if err != nil {
		return nil, logError("append chunk", err)
	}
	return h, nil
}

// storeList is what manifest builders store their nodes with.
func (u *upload) storeList(node []byte) (index.ID, error) {
	return u.storeChunk(kindList, erasure.Metadata, node)
}

func (u *upload) newManifest() *manifestBuilder {
	m := &manifestBuilder{store: u.storeList, mu: &u.mu}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.manifests = append(u.manifests, m)
	return m
}

// ingest reads a body to its end and stores it. The bytes go to digest too, in order. Nothing of it is visible until
// someone commits the content that it returns. At most max bytes are taken.
func (u *upload) ingest(ctx context.Context, body io.Reader, digest io.Writer, max int64) (content, error) {
	u.s.clients.Add(1)
	defer u.s.clients.Add(-1)
	c := content{Domain: u.domain.number}
	if digest == nil {
		digest = io.Discard
	}
	head := getBuffer(smallBytesMax + 1)
	defer putBuffer(head)
	first := (*head)[:smallBytesMax+1]
	n, err := io.ReadFull(body, first)
	switch {
	case err == nil:
		return u.ingestLarge(ctx, first, body, digest, max)
	case !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF: //nolint:errorlint // ReadFull's own, see below
		return c, err
	}
	// io.ReadFull turns a clean end into ErrUnexpectedEOF, but a reader may return that itself for a body that broke off.
	if m, again := body.Read(first[n : n+1]); m != 0 || again != io.EOF { //nolint:errorlint // only the bare value is the end
		if m != 0 || again == nil {
			again = io.ErrUnexpectedEOF
		}
		return c, again
	}
	first = first[:n]
	c.Size = int64(n)
	if _, err := digest.Write(first); err != nil {
		return c, err
	}
	if n <= inlineBytesMax {
		c.Inline = append([]byte(nil), first...)
		return c, nil
	}
	id, err := u.storeChunk(kindChunk, erasure.Metadata, first)
	if err != nil {
		return c, err
	}
	c.Root = appendNode(nil, 0, []ref{{kind: refChunk, size: c.Size, id: id}})
	return c, nil
}

// A block is a stretch of a body that two stages read.
type block struct {
	data  []byte
	users atomic.Int32
}

// send gives up when the upload does.
func (b *block) send(ctx context.Context, c chan<- *block) error {
	select {
	case c <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ingestLarge runs in four stages, so that the digests of one body do not wait for its chunks:
// read -> digest, and read -> split -> hash, compress and append.
func (u *upload) ingestLarge(ctx context.Context, first []byte, body io.Reader, digest io.Writer, max int64) (content, error) {
	c := content{Domain: u.domain.number}
	if err := u.s.uploads.Acquire(ctx, uploadMemory); err != nil {
		return c, err
	}
	defer u.s.uploads.Release(uploadMemory)

	g, ctx := errgroup.WithContext(ctx)
	free := make(chan *block, uploadBlocks)
	for range uploadBlocks {
		free <- &block{}
	}
	done := func(b *block) {
		if b.users.Add(-1) == 0 {
			free <- b // has room for all there are
		}
	}
	toDigest, toSplit := make(chan *block, uploadBlocks), make(chan *block, uploadBlocks)
	chunks := make(chan *[]byte, uploadChunks)

	g.Go(func() error {
		rest := io.MultiReader(bytes.NewReader(first), body)
		for {
			var b *block
			select {
			case b = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if b.data == nil {
				b.data = make([]byte, blockBytes)
			}
			n, end, err := fill(rest, b.data[:blockBytes])
			if err != nil {
				return err
			}
			if c.Size += int64(n); c.Size > max {
				return ErrTooLarge
			}
			b.data = b.data[:n]
			b.users.Store(2)
			if err := errors.Join(b.send(ctx, toDigest), b.send(ctx, toSplit)); err != nil {
				return err
			}
			if end {
				close(toDigest)
				close(toSplit)
				return nil
			}
		}
	})
	g.Go(func() error {
		for b := range blocksOf(ctx, toDigest) {
			_, err := digest.Write(b.data)
			done(b)
			if err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	})
	g.Go(func() error {
		sp := u.s.splitters.Get(&blockReader{ctx: ctx, in: toSplit, done: done})
		defer u.s.splitters.Put(sp)
		for {
			buf := getBuffer(0)
			chunk, err := sp.Next((*buf)[:cap(*buf)])
			if err != nil {
				putBuffer(buf)
				if err == io.EOF { //nolint:errorlint // the bare value is the end
					close(chunks)
					return nil
				}
				return err
			}
			*buf = chunk
			select {
			case chunks <- buf:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	g.Go(func() error {
		m := u.newManifest()
		for {
			var buf *[]byte
			var ok bool
			select {
			case buf, ok = <-chunks:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !ok {
				break
			}
			id, err := u.storeChunk(kindChunk, erasure.Data, *buf)
			size := int64(len(*buf))
			putBuffer(buf)
			if err != nil {
				return err
			}
			if err := m.add(ref{kind: refChunk, size: size, id: id}, 0); err != nil {
				return err
			}
		}
		var err error
		c.Root, err = m.root()
		return err
	})
	if err := g.Wait(); err != nil {
		u.s.freed.Add(c.Size)
		return content{}, err
	}
	return c, nil
}

// fill reads until p is full or r ends.
func fill(r io.Reader, p []byte) (n int, end bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF { //nolint:errorlint // a wrapped EOF is a failure
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// blocksOf yields what arrives until the channel is closed or the context ends.
func blocksOf(ctx context.Context, in <-chan *block) iter.Seq[*block] {
	return func(yield func(*block) bool) {
		for {
			select {
			case b, ok := <-in:
				if !ok || !yield(b) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// A blockReader shows a run of blocks as a stream.
type blockReader struct {
	ctx  context.Context //nolint:containedctx // lives as long as one upload
	in   <-chan *block
	done func(*block)
	cur  *block
	off  int
}

func (r *blockReader) Read(p []byte) (int, error) {
	for r.cur == nil {
		select {
		case b, ok := <-r.in:
			if !ok {
				return 0, io.EOF
			}
			r.cur, r.off = b, 0
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
		if len(r.cur.data) == 0 {
			r.done(r.cur)
			r.cur = nil
		}
	}
	n := copy(p, r.cur.data[r.off:])
	if r.off += n; r.off == len(r.cur.data) {
		r.done(r.cur)
		r.cur = nil
	}
	return n, nil
}
