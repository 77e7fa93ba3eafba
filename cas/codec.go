package cas

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/casd/casd/index"
)

// A codec turns plain chunks into stored bytes and back. It is safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(chunkBytesLimit), zstd.IgnoreChecksum(true))
	if err != nil {
		return nil, err
	}
	return &codec{enc: enc, dec: dec}, nil
}

var errRoundTrip = errors.New("cas: a compressed chunk did not decompress to what it was made from: check this machine's memory")

// encode returns the stored form of plain, in scratch's memory when it is not plain itself. Compression is kept only when
// it saves at least 5 %, and only after it was undone again and compared: a store must not depend on healthy RAM. There is no probe
// for noise: the encoder gives up on it by itself, at 8 GB/s a core, which is faster than any estimate that was tried.
func (c *codec) encode(plain, scratch []byte) (enc encoding, stored []byte, err error) {
	if len(plain) < 64 {
		return encPlain, plain, nil
	}
	stored = c.enc.EncodeAll(plain, scratch[:0])
	if len(stored) > len(plain)-len(plain)/20 {
		return encPlain, plain, nil
	}
	check := getBuffer(len(plain))
	defer putBuffer(check)
	back, err := c.dec.DecodeAll(stored, (*check)[:0])
	if err != nil || !bytes.Equal(back, plain) {
		return 0, nil, errRoundTrip
	}
	return encZstd, stored, nil
}

// decode returns the plain form, appended to dst when it is not stored itself.
func (c *codec) decode(enc encoding, stored []byte, size uint32, dst []byte) ([]byte, error) {
	switch enc {
	case encPlain:
		if len(stored) != int(size) {
			return nil, fmt.Errorf("cas: plain chunk of %d bytes where %d belong: %w", len(stored), size, ErrCorrupt)
		}
		return stored, nil
	case encZstd:
		out, err := c.dec.DecodeAll(stored, dst)
		if err != nil || len(out)-len(dst) != int(size) {
			return nil, fmt.Errorf("cas: zstd chunk (%d bytes where %d belong, %v): %w", len(out)-len(dst), size, err, ErrCorrupt)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("cas: chunk encoding %d is of a later version", enc)
	}
}

// A hasher computes chunk IDs of one dedup domain: BLAKE3-256 keyed with the domain's key.
type hasher struct{ pool sync.Pool }

func newHasher(key []byte) (*hasher, error) {
	proto, err := blake3.NewKeyed(key)
	if err != nil {
		return nil, err
	}
	return &hasher{pool: sync.Pool{New: func() any { return proto.Clone() }}}, nil
}

func (h *hasher) id(plain []byte) (id index.ID) {
	b := h.pool.Get().(*blake3.Hasher)
	b.Reset()
	b.Write(plain) // never fails
	b.Sum(id[:0])
	h.pool.Put(b)
	return id
}

// Buffers of up to 1 MiB and a little are pooled, the largest size that a chunk normally has.
const pooledBytesMax = 1<<20 + 1<<16

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 256<<10); return &b }}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) *[]byte {
	b := buffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, 0, n)
	}
	*b = (*b)[:0]
	return b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= pooledBytesMax {
		buffers.Put(b)
	}
}
