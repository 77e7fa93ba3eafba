package cas

import (
	"sync"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// pins keep reclaiming and everything else apart. While a cycle is under way everything that becomes named is noted:
//
//   - a dedup hit is marked in the same step in which it is found (claim);
//   - what a mutation names is queued for the cycle in the same step in which the mutation is published (publish): Copy and
//     Complete move manifests past the scan without any dedup hit;
//   - what a reader opens is queued in the same step in which its row is read (hold).
//
// What was named before the cycle began and lies in no row is in the hands of an upload or a reader; these are registered, and
// the cycle copies what they hold after it was armed. The gate is what makes each of these one step: they hold it shared, and
// the cycle holds it exclusively when it is armed and when it decides that segments go.
type pins struct {
	gate    sync.RWMutex
	cycle   *marking                       // nil unless one is under way; guarded by gate
	retired map[erasure.SegmentID]struct{} // segments that are about to be dropped: a location there is none; guarded by gate

	mu      sync.Mutex
	uploads map[*upload]struct{}
	objects map[*Object]struct{}
}

func (p *pins) enter(u *upload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.uploads == nil {
		p.uploads = make(map[*upload]struct{})
	}
	p.uploads[u] = struct{}{}
}

func (p *pins) leave(u *upload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.uploads, u)
}

// hold registers an object whose row was read under the gate, which the caller holds shared.
func (p *pins) hold(o *Object) {
	if p.cycle != nil {
		p.cycle.name(&o.row)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.objects == nil {
		p.objects = make(map[*Object]struct{})
	}
	p.objects[o] = struct{}{}
}

func (p *pins) release(o *Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.objects, o)
}

// publish publishes a stage and tells the cycle what the mutations in it name.
func (p *pins) publish(st *index.Stage, named []index.Op) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	st.Publish()
	if p.cycle != nil && !p.cycle.s.sabotage.noBarrier {
		for i := range named {
			p.cycle.nameRow(named[i].Table, named[i].Key, named[i].Value)
		}
	}
}

// claim finds out who stores a chunk, and pins the chunk when it is known.
func (s *Store) claim(id index.ID) (p *pendingChunk, mine, known bool, err error) {
	s.pins.gate.RLock()
	defer s.pins.gate.RUnlock()
	return s.pending.claim(id, func() (bool, error) {
		if s.damaged.has(id) {
			return false, nil
		}
		c, ok, err := s.chunks.LookupChunk(id)
		if err != nil || !ok {
			return false, s.indexError(err)
		}
		at := erasure.Location(c.Location)
		// A location in a segment that is not live is none: an index that was brought back from an old copy has such rows.
		if _, gone := s.pins.retired[at.Segment()]; gone || !s.log.IsLive(at.Segment()) {
			return false, nil
		}
		if s.pins.cycle != nil && !s.sabotage.noPin {
			s.pins.cycle.pin(at)
		}
		return true, nil
	})
}

// held returns what uploads in flight and open objects name: roots of manifests, and chunks.
func (p *pins) held() (roots [][]byte, ids []index.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u := range p.uploads {
		r, id := u.holds()
		roots = append(roots, r...)
		ids = append(ids, id...)
	}
	for o := range p.objects {
		n := namedBy(&o.row)
		if n.root != nil {
			roots = append(roots, n.root)
		}
		if n.table != nil {
			ids = append(ids, index.ID(n.table))
		}
	}
	return roots, ids
}

// holds returns what the upload names now.
func (u *upload) holds() (roots [][]byte, ids []index.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.inHand != (index.ID{}) {
		ids = append(ids, u.inHand)
	}
	for _, m := range u.manifests {
		for level, refs := range m.levels {
			if len(refs) > 0 {
				roots = append(roots, appendNode(nil, uint8(level), refs))
			}
		}
	}
	return roots, ids
}
