package cas

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/casd/casd/index"
)

// damagedMax bounds how many chunks are remembered as damaged. Past it damage is still reported, but the next
// upload of such a chunk may rest on the damaged one until a scrub has run.
const damagedMax = 1 << 16

// A damagedSet holds the chunks that could not be rebuilt when they were read: they are not known, so that the next
// upload of the same bytes stores them anew.
type damagedSet struct {
	n  atomic.Int64 // so that the common case takes no lock
	mu sync.RWMutex
	m  map[index.ID]struct{}
}

func (d *damagedSet) has(id index.ID) bool {
	if d.n.Load() == 0 {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, ok := d.m[id]
	return ok
}

func (d *damagedSet) add(id index.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = make(map[index.ID]struct{})
	}
	if len(d.m) < damagedMax {
		d.m[id] = struct{}{}
	}
	d.n.Store(int64(len(d.m)))
}

func (d *damagedSet) remove(id index.ID) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, id)
	d.n.Store(int64(len(d.m)))
}

// list returns the chunks in no particular order.
func (d *damagedSet) list() []index.ID {
	if d.n.Load() == 0 {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Collect(maps.Keys(d.m))
}
