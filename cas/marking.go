package cas

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// Bounds of what a cycle is told while it is busy. Past them it ends early, having lost nothing but its time.
const (
	markQueueMax      = 1 << 16
	markQueueBytesMax = 32 << 20
	markMissingMax    = 1 << 16
	markNestMax       = 4    // large manifests that wait, half marked, while what was queued meanwhile is marked
	markKnownMax      = 1024 // large manifests that are known to be marked
)

// errMarkingOverrun ends a cycle that is told of more than it can take in.
var errMarkingOverrun = errors.New("cas: clients named more than the cycle could take in; it is tried again later")

// A marking is the set of the records that something names, as bits by ordinal, two for each record: marked, and, of a
// list chunk, that all below it is marked too. A dedup hit on a list chunk marks it alone.
type marking struct {
	s    *Store
	segs map[erasure.SegmentID]*segmentMarks // all segments that were there when the cycle began; the map never changes

	mu      sync.Mutex
	queue   []named
	bytes   int
	overrun bool
	known   map[string]struct{} // roots of trees all of which is marked: whoever reads a large object in ranges names it again and again

	// Of the goroutine that marks.
	nested  int                   // calls of drain
	missing map[index.ID]struct{} // named, and not in the chunk map as far as a look-up tells
	misses  int                   // how often that was found
	chunks  int64                 // marked
}

// segmentMarks are the bits of one segment.
type segmentMarks struct {
	info   erasure.SegmentInfo
	marked []uint64     // by ordinal; set by anyone, atomically
	walked []uint64     // of the marking goroutine
	live   atomic.Int64 // bytes of the bodies of what is marked
	beyond atomic.Bool  // something is named that has no bit: more lies there than was known when the cycle began
	copied []uint64     // has a copy elsewhere, or is superseded; of the compacting goroutine

	// Of the planning.
	sum     segmentSummary
	recode  bool
	skipped string // why it is no victim
}

// named is what one row names.
type named struct {
	root  []byte // of a manifest
	table []byte // ID of the part table
	row   []byte // its key, for messages
}

func (n named) empty() bool { return n.root == nil && n.table == nil }

func namedBy(row *versionRow) named { return named{root: row.Content.Root, table: row.PartTable} }

func newMarking(s *Store, segs []erasure.SegmentInfo) *marking {
	m := &marking{s: s, segs: make(map[erasure.SegmentID]*segmentMarks, len(segs)), missing: map[index.ID]struct{}{}, known: map[string]struct{}{}}
	for _, info := range segs {
		if info.Class == erasure.Snapshot {
			continue
		}
		words := (int(info.Records) + 63) / 64
		m.segs[info.ID] = &segmentMarks{info: info, marked: make([]uint64, words), walked: make([]uint64, words)}
	}
	return m
}

// pin marks a record and tells whether it was not marked before. Records that came after the cycle began have no bits, and
// need none: their segments are no victims. Nor is one of which a part was out of reach then, and has come back.
func (m *marking) pin(at erasure.Location) (first bool) {
	seg := m.segs[at.Segment()]
	if seg == nil {
		return false
	}
	i := at.Ordinal()
	if i >= seg.info.Records {
		seg.beyond.Store(true)
		return false
	}
	bit := uint64(1) << (i % 64)
	if atomic.OrUint64(&seg.marked[i/64], bit)&bit != 0 {
		return false
	}
	seg.live.Add(int64(at.BodyBytes()))
	return true
}

func (g *segmentMarks) isMarked(ordinal uint32) bool {
	return int(ordinal/64) < len(g.marked) && atomic.LoadUint64(&g.marked[ordinal/64])>>(ordinal%64)&1 != 0
}

// setCopied says that the original is not needed any more.
func (g *segmentMarks) setCopied(ordinal uint32) {
	if g.copied == nil {
		g.copied = make([]uint64, len(g.marked))
	}
	g.copied[ordinal/64] |= 1 << (ordinal % 64)
}

func (g *segmentMarks) isCopied(ordinal uint32) bool {
	return g.copied != nil && g.copied[ordinal/64]>>(ordinal%64)&1 != 0
}

// uncopied counts what is marked and has no copy.
func (g *segmentMarks) uncopied() (n int) {
	for i := range g.marked {
		w := atomic.LoadUint64(&g.marked[i])
		if g.copied != nil {
			w &^= g.copied[i]
		}
		n += bits.OnesCount64(w)
	}
	return n
}

// count counts what is marked.
func (g *segmentMarks) count() (n int64) {
	for i := range g.marked {
		n += int64(bits.OnesCount64(atomic.LoadUint64(&g.marked[i])))
	}
	return n
}

// name queues what a version names.
func (m *marking) name(row *versionRow) { m.enqueue(namedBy(row)) }

// nameRow queues what a row names. It is called with rows that this process encoded, or read from the catalog.
func (m *marking) nameRow(t index.Table, key, value []byte) {
	n, err := rowNames(t, key, value)
	if err != nil { // whatever it names is not known: nothing may go
		m.mu.Lock()
		m.overrun = true
		m.mu.Unlock()
		return
	}
	m.enqueue(n)
}

func (m *marking) enqueue(n named) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[string(n.root)]; ok {
		n.root = nil
	}
	if n.empty() || m.overrun {
		return
	}
	if len(m.queue) >= markQueueMax || m.bytes+len(n.root) > markQueueBytesMax {
		m.overrun, m.queue, m.bytes = true, nil, 0
		return
	}
	m.queue = append(m.queue, n)
	m.bytes += len(n.root)
}

// namingTables are the tables whose rows name chunks.
var namingTables = []index.Table{index.Objects, index.Parts}

// rowNames returns what a row of the catalog names.
func rowNames(t index.Table, key, value []byte) (n named, err error) {
	switch t {
	case index.Objects:
		var row versionRow
		if err := decodeRow(t, key, value, &row); err != nil {
			return n, err
		}
		n = namedBy(&row)
	case index.Parts:
		var row partRow
		if err := decodeRow(t, key, value, &row); err != nil {
			return n, err
		}
		n = named{root: row.Content.Root}
	default:
		return n, nil
	}
	if n.table != nil && len(n.table) != len(index.ID{}) {
		return n, fmt.Errorf("row %x: part table %x: %w", key, n.table, ErrCorrupt)
	}
	n.row = key
	return n, nil
}

// drain marks what was queued. Only the marking goroutine calls it.
func (m *marking) drain(ctx context.Context) error {
	m.nested++
	defer func() { m.nested-- }()
	for {
		n, ok, err := m.next()
		if err != nil || !ok {
			return err
		}
		if err := m.mark(ctx, n); err != nil {
			return err
		}
	}
}

// next takes the first of what is queued.
func (m *marking) next() (n named, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.overrun:
		return n, false, errMarkingOverrun
	case len(m.queue) == 0:
		m.queue = nil
		return n, false, nil
	}
	n, m.queue[0] = m.queue[0], n
	m.queue = m.queue[1:]
	m.bytes -= len(n.root)
	return n, true, nil
}

// turn marks what was queued while something else took its time: the queue is short.
func (m *marking) turn(ctx context.Context) error {
	if m.nested >= markNestMax {
		return nil
	}
	return m.drain(ctx)
}

// idle tells whether nothing is queued. The caller holds the gate.
func (m *marking) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue) == 0 && !m.overrun
}

// mark marks all that n names. An error means that something may be unmarked.
func (m *marking) mark(ctx context.Context, n named) error {
	if n.table != nil {
		if _, err := m.chunk(ctx, index.ID(n.table)); err != nil {
			return err
		}
	}
	if n.root == nil {
		return nil
	}
	level, refs, err := decodeNode(n.root)
	if err != nil {
		return fmt.Errorf("manifest of %q: %w: %w", n.row, ErrCorrupt, err)
	}
	if level > 0 && m.isKnown(n.root) {
		return nil
	}
	misses := m.misses
	if err := m.tree(ctx, refs); err != nil {
		return fmt.Errorf("manifest of %q: %w", n.row, err)
	}
	if level > 0 && m.misses == misses {
		m.setKnown(n.root)
	}
	return nil
}

func (m *marking) isKnown(root []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[string(root)]
	return ok
}

// setKnown says that all of a tree is marked. Marks stay, so that is true for the rest of the cycle.
func (m *marking) setKnown(root []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= markKnownMax {
		clear(m.known)
	}
	m.known[string(root)] = struct{}{}
}

// tree marks everything under references. Memory is one node a level.
func (m *marking) tree(ctx context.Context, refs []ref) error {
	stack := [][]ref{refs}
	var lists []erasure.Location // of the nodes on the stack but the first
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(*top) == 0 {
			stack = stack[:len(stack)-1]
			if len(lists) > 0 { // only now is all below it marked
				m.setWalked(lists[len(lists)-1])
				lists = lists[:len(lists)-1]
			}
			continue
		}
		var r ref
		r, *top = (*top)[0], (*top)[1:]
		if r.kind == refZero {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		at, err := m.chunk(ctx, r.id)
		if err != nil {
			return err
		}
		if r.kind != refList || at == nil || m.isWalked(*at) {
			continue
		}
		if len(stack) >= nodeLevelsMax {
			return errBadNode
		}
		if err := m.turn(ctx); err != nil {
			return err
		}
		node, err := m.s.readChunk(ctx, r, false)
		if err != nil {
			return err
		}
		_, below, err := decodeNode(node)
		if err != nil {
			return fmt.Errorf("list %x: %w: %w", r.id[:8], ErrCorrupt, err)
		}
		stack, lists = append(stack, below), append(lists, *at)
	}
	return nil
}

// chunk marks one chunk and returns where it lies; nil when it is not in the chunk map.
func (m *marking) chunk(ctx context.Context, id index.ID) (*erasure.Location, error) {
	c, ok, err := m.s.durableChunk(ctx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		// It is lost, or the map leads astray. Which of the two, the proof of the index tells that goes with the scan.
		if len(m.missing) >= markMissingMax {
			return nil, fmt.Errorf("more than %d chunks are not in the chunk map: %w", markMissingMax, ErrCorrupt)
		}
		m.missing[id] = struct{}{}
		m.misses++
		return nil, nil
	}
	at := erasure.Location(c.Location)
	if m.pin(at) {
		m.chunks++
	}
	return &at, nil
}

// durableChunk finds a chunk in the chunk map, and waits for one that is on its way into the log: what an upload in flight holds may
// be. A chunk that could not be appended is absent, and so will its upload be.
func (s *Store) durableChunk(ctx context.Context, id index.ID) (index.Chunk, bool, error) {
	for {
		p := s.pending.get(id) // first: it leaves there when it is in the map
		c, ok, err := s.chunks.LookupChunk(id)
		if err != nil || ok || p == nil {
			return c, ok, s.indexError(err)
		}
		select {
		case <-p.ready:
		case <-ctx.Done():
			return c, false, context.Cause(ctx)
		}
		if p.err != nil {
			return c, false, nil
		}
		if err := s.log.Sync(ctx); err != nil {
			return c, false, logError("sync", err)
		}
	}
}

func (m *marking) isWalked(at erasure.Location) bool {
	seg, i := m.segs[at.Segment()], at.Ordinal()
	return seg != nil && int(i/64) < len(seg.walked) && seg.walked[i/64]>>(i%64)&1 != 0
}

func (m *marking) setWalked(at erasure.Location) {
	seg, i := m.segs[at.Segment()], at.Ordinal()
	if seg != nil && int(i/64) < len(seg.walked) {
		seg.walked[i/64] |= 1 << (i % 64)
	}
}

// heldAll marks what uploads in flight and open objects hold.
func (m *marking) heldAll(ctx context.Context) error {
	roots, ids := m.s.pins.held()
	for _, id := range ids {
		if _, err := m.chunk(ctx, id); err != nil {
			return err
		}
	}
	for _, root := range roots {
		if err := m.mark(ctx, named{root: root, row: []byte("in progress")}); err != nil {
			return err
		}
		if err := m.turn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scan marks what the catalog names, and proves the index on the way: a mark that rests on a damaged one is worth nothing.
func (m *marking) scan(ctx context.Context, seen func()) error {
	err := m.s.idx.Scan(ctx, namingTables, func(t index.Table, e index.Entry) error {
		n, err := rowNames(t, e.Key, e.Value)
		if err != nil {
			return err
		}
		if err := m.mark(ctx, n); err != nil {
			return err
		}
		seen()
		return m.drain(ctx)
	})
	if err != nil {
		return m.s.indexError(err)
	}
	return m.drain(ctx)
}

// segments returns the marks by segment number.
func (m *marking) segments() []*segmentMarks {
	all := make([]*segmentMarks, 0, len(m.segs))
	for _, g := range m.segs {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *segmentMarks) int {
		if a.info.ID < b.info.ID {
			return -1
		}
		return 1
	})
	return all
}
