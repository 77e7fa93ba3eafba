package index

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
)

// chunkRowMemory is an estimate of what a row of a chunk overlay needs in memory, bytes: key and value in a
// map that is on average 3/4 full, and control bytes.
const chunkRowMemory = 128

// chunkShards is the number of parts of a chunk overlay, each with a lock of its own. A chunk's part is
// found by the first byte of its ID, which is uniform.
const chunkShards = 64

// A chunkValue is what the chunk map says of one ID.
type chunkValue struct {
	location [28]byte
	size     uint32
	encoding uint8
	deleted  bool // a tombstone
}

func (v chunkValue) chunk(id ID) Chunk {
	return Chunk{ID: id, Location: v.location, Size: v.size, Encoding: v.encoding}
}

func valueOf(c *Chunk) chunkValue {
	return chunkValue{location: c.Location, size: c.Size, encoding: c.Encoding}
}

// A chunkShard is one part of a chunkOverlay. Its lock guards the map and is the innermost of the package.
type chunkShard struct {
	mu   sync.RWMutex
	rows map[ID]chunkValue
	_    [64]byte // keeps the locks of neighbours off one cache line
}

// A chunkOverlay is a set of rows of the chunk map that lie over the file. It changes in place until it is
// frozen, and never after.
type chunkOverlay struct {
	shards [chunkShards]chunkShard
	rows   atomic.Int64
}

func newChunkOverlay() *chunkOverlay {
	o := new(chunkOverlay)
	for i := range o.shards {
		o.shards[i].rows = make(map[ID]chunkValue)
	}
	return o
}

func (o *chunkOverlay) shard(id *ID) *chunkShard { return &o.shards[id[0]%chunkShards] }

// get finds the row of id. A nil overlay has none.
func (o *chunkOverlay) get(id *ID) (chunkValue, bool) {
	if o == nil {
		return chunkValue{}, false
	}
	s := o.shard(id)
	s.mu.RLock()
	v, ok := s.rows[*id]
	s.mu.RUnlock()
	return v, ok
}

// set puts v; the caller holds the shard's lock.
func (o *chunkOverlay) set(s *chunkShard, id ID, v chunkValue) {
	before := len(s.rows)
	s.rows[id] = v
	o.rows.Add(int64(len(s.rows) - before))
}

// len returns the number of rows, tombstones included.
func (o *chunkOverlay) len() int {
	if o == nil {
		return 0
	}
	return int(o.rows.Load())
}

// A chunkEntry is one row of a chunkOverlay.
type chunkEntry struct {
	id    ID
	value chunkValue
}

// sorted returns all rows of a frozen overlay by ID.
func (o *chunkOverlay) sorted() []chunkEntry {
	rows := make([]chunkEntry, 0, o.len())
	for i := range o.shards {
		for id, value := range o.shards[i].rows {
			rows = append(rows, chunkEntry{id, value})
		}
	}
	slices.SortFunc(rows, func(a, b chunkEntry) int { return bytes.Compare(a.id[:], b.id[:]) })
	return rows
}
