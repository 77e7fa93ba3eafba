package erasure

import (
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/klauspost/reedsolomon"
)

// A segment is what is known of one live segment. Identity (id, class and, once known, k, m, nonce) never changes after
// Open made it public. Where its shard files are may change at any time: dirOf and setDir. gate has a lock of its own; the rest is
// guarded by mu.
type segment struct {
	id    SegmentID
	class Class
	known bool // k, m and nonce are: some header or footer of it was readable
	k, m  int
	nonce id16
	homes []atomic.Pointer[dir] // which directory holds shard i; nil when no present directory does. Never made longer or shorter
	moves atomic.Uint32         // how often a home changed

	gate gate // whoever reads or writes the files of a segment that is not open goes through it

	settled chan struct{} // of a segment of this run: closed when it takes no more, since it is sealed or a verdict ends it

	mu       sync.Mutex
	open     bool // this process appends to it
	unproven bool // a snapshot that is not sealed and read back
	sealed   bool
	ended    bool // a verdict ends it
	verdict  Verdict
	surveyed bool   // stripes is valid
	lost     uint32 // durable stripes that the survey did not find
	tail     int    // stripes[tail:] were past every synced mark when they were surveyed
	stripes  []stripeInfo
	tables   [][]byte // of stripes; only while open

	// sums over the stripes that count, known when sealed, surveyed or open
	count      uint32
	records    uint32
	payload    int64
	stored     int64 // of one shard file
	firstSeq   uint64
	lastSeq    uint64
	digest     id16
	dirBlock   uint32 // of a sealed segment
	dirStripes uint32
}

func (s *segment) n() int { return s.k + s.m }

// newHomes returns the homes of a segment with n shards on the given directories.
func newHomes(n int, dirs ...*dir) []atomic.Pointer[dir] {
	homes := make([]atomic.Pointer[dir], n)
	for i, d := range dirs {
		homes[i].Store(d)
	}
	return homes
}

// dirOf returns the directory that holds a shard now, or nil when no present one does. Who needs directory and path of one
// file asks once: the next answer may be another one.
func (s *segment) dirOf(shard int) *dir {
	if shard >= len(s.homes) {
		return nil
	}
	return s.homes[shard].Load()
}

// setDir makes d, or nothing, the home of a shard when it was old until now. Readers that hold old may still use it.
func (s *segment) setDir(shard int, old, d *dir) bool {
	if shard >= len(s.homes) || !s.homes[shard].CompareAndSwap(old, d) {
		return false
	}
	s.moves.Add(1)
	return true
}

// homeDirs returns the directories of all shards, as they are now.
func (s *segment) homeDirs() []*dir {
	ds := make([]*dir, s.n())
	for i := range ds {
		ds[i] = s.dirOf(i)
	}
	return ds
}

// holds tells whether d holds a shard of the segment.
func (s *segment) holds(d *dir) bool {
	for i := range s.homes {
		if s.homes[i].Load() == d {
			return true
		}
	}
	return false
}

// path is that of a shard file in a directory.
func (s *segment) path(d *dir, shard int) string {
	return filepath.Join(d.segments(), shardName(s.id, s.class, shard))
}

// absent counts the shard files that no present directory holds.
func (s *segment) absent() (n int) {
	for i := range s.n() {
		if s.dirOf(i) == nil {
			n++
		}
	}
	return n
}

// summarize computes the sums from s.stripes. The caller holds s.mu.
func (s *segment) summarize() {
	s.count, s.records, s.payload, s.stored, s.firstSeq, s.lastSeq, s.digest = 0, 0, 0, 0, 0, 0, id16{}
	for _, st := range s.stripes {
		s.add(st)
	}
}

func (s *segment) add(st stripeInfo) {
	if s.firstSeq == 0 {
		s.firstSeq = st.seq
	}
	s.count = st.number + 1
	s.records = st.ordinal + st.records
	s.payload += int64(st.payload)
	s.stored += st.stored()
	s.lastSeq = st.seq
	s.digest = st.digest
}

// info returns what List shows. The caller holds s.mu.
func (s *segment) info() SegmentInfo {
	return SegmentInfo{
		ID: s.id, Class: s.class, K: s.k, M: s.m, Stripes: s.count, Records: s.records, PayloadBytes: s.payload,
		StoredBytes: s.stored * int64(s.n()), FirstSeq: s.firstSeq, LastSeq: s.lastSeq,
		Sealed: s.sealed, Ended: s.ended, ShardsAbsent: s.absent(),
	}
}

// belongs tells whether h is a header of this segment.
func (s *segment) belongs(store id16, h header) bool {
	return h.store == store && h.segment == s.id && h.class == s.class &&
		(!s.known || h.nonce == s.nonce && int(h.k) == s.k && int(h.m) == s.m)
}

// codecs keeps one Reed-Solomon codec for each code in use. The matrix is that of reedsolomon.New without options: part
// of the format, pinned by a golden file.
type codecs struct {
	mu sync.Mutex
	m  map[[2]int]reedsolomon.Encoder
}

func (c *codecs) get(k, m int) (reedsolomon.Encoder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[[2]int{k, m}]; e != nil {
		return e, nil
	}
	e, err := reedsolomon.New(k, m)
	if err != nil {
		return nil, err
	}
	if c.m == nil {
		c.m = map[[2]int]reedsolomon.Encoder{}
	}
	c.m[[2]int{k, m}] = e
	return e, nil
}
