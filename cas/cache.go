package cas

import (
	"github.com/maypok86/otter/v2"

	"github.com/casd/casd/index"
)

// A chunkCache keeps plain, verified chunks, bounded by bytes (W-TinyLFU; Einziger et al., ACM TOS 2017). Nobody may
// change what it holds.
type chunkCache struct {
	c       *otter.Cache[index.ID, []byte]
	metrics *metrics
}

// cacheEntryOverhead is about what an entry costs beside its bytes.
const cacheEntryOverhead = 128

func newChunkCache(bytesMax int64, m *metrics) (*chunkCache, error) {
	c, err := otter.New(&otter.Options[index.ID, []byte]{
		MaximumWeight: uint64(bytesMax),
		Weigher:       func(_ index.ID, b []byte) uint32 { return uint32(cap(b) + cacheEntryOverhead) },
	})
	return &chunkCache{c: c, metrics: m}, err
}

func (c *chunkCache) get(id index.ID) ([]byte, bool) {
	b, ok := c.c.GetIfPresent(id)
	if ok {
		c.metrics.cacheHits.Inc()
	} else {
		c.metrics.cacheMisses.Inc()
	}
	return b, ok
}

func (c *chunkCache) put(id index.ID, plain []byte) { c.c.Set(id, plain) }

func (c *chunkCache) bytes() uint64 { return c.c.WeightedSize() }
