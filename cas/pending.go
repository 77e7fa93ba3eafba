package cas

import (
	"sync"
	"sync/atomic"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A pendingChunk is a new chunk on its way into the log. It belongs to the store: an upload that brought it may die, and
// it is appended all the same for whoever else wants it.
type pendingChunk struct {
	ready   chan struct{}   // closed when handle or err is set
	handle  *erasure.Handle // set once, before ready
	err     error           // likewise
	durable atomic.Bool     // it is in the chunk map
}

// wait returns the handle when the chunk has been appended.
func (p *pendingChunk) wait() (*erasure.Handle, error) {
	<-p.ready
	return p.handle, p.err
}

// pendingTable holds the chunks that are not yet in the chunk map. The lock of an ID's shard makes looking a chunk up and
// claiming it one step: nobody else can add, publish or (when space is reclaimed) drop it in between.
type pendingTable struct {
	shards [64]struct {
		sync.Mutex
		m map[index.ID]*pendingChunk
	}
}

func newPendingTable() *pendingTable {
	t := &pendingTable{}
	for i := range t.shards {
		t.shards[i].m = make(map[index.ID]*pendingChunk)
	}
	return t
}

// claim finds out who stores a chunk. known: it is durable already, p is nil. Else p is its entry, and mine tells whether
// the caller has to append it (and close p.ready).
func (t *pendingTable) claim(id index.ID, lookup func() (bool, error)) (p *pendingChunk, mine, known bool, err error) {
	s := &t.shards[id[0]%64]
	s.Lock()
	defer s.Unlock()
	if p := s.m[id]; p != nil {
		return p, false, false, nil
	}
	if known, err = lookup(); err != nil || known {
		return nil, false, known, err
	}
	p = &pendingChunk{ready: make(chan struct{})}
	s.m[id] = p
	return p, true, false, nil
}

// get returns the entry of a chunk that is on its way into the log, or nil.
func (t *pendingTable) get(id index.ID) *pendingChunk {
	s := &t.shards[id[0]%64]
	s.Lock()
	defer s.Unlock()
	return s.m[id]
}

// remove forgets an entry: its chunk is in the chunk map now, or could not be appended.
func (t *pendingTable) remove(id index.ID, durable bool) {
	s := &t.shards[id[0]%64]
	s.Lock()
	defer s.Unlock()
	if p := s.m[id]; p != nil {
		p.durable.Store(durable)
		delete(s.m, id)
	}
}
