package erasure

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"
)

// A Move is one shard file that should go to another directory.
type Move struct {
	Segment  SegmentID
	Shard    int
	From, To string // IDs of directories; From is empty when no present directory holds the file
	Bytes    int64  // length of the file
}

// balancedPart is by how much the fill levels of two directories may differ, as a part of their size.
const balancedPart = 0.05

// plannerAge is how long a plan to empty a directory goes by what it saw of the others: asking all of them for each of a hundred thousand
// files would take longer than some moves.
const plannerAge = time.Second

// A planner plans moves. It knows how much room there was when it was made.
type planner struct {
	l    *Log
	room []room
}

// A room is what a directory that is in service has.
type room struct {
	d           *dir
	total, free int64 // of its file system
	target      bool  // it may take shard files
}

// level is how full the directory is, from 0 to 1.
func (r room) level(more int64) float64 {
	return float64(r.total-r.free+more) / float64(max(r.total, 1))
}

func (l *Log) newPlanner() *planner {
	p := &planner{l: l}
	candidates := l.candidates()
	for _, d := range l.dirs() {
		if !d.readable() {
			continue
		}
		info, err := d.space()
		if err == nil {
			p.room = append(p.room, room{d, info.Total, info.Free, slices.Contains(candidates, d) && !d.healing()})
		}
	}
	return p
}

// DrainPlan yields the moves that empty a directory, named by its ID: each when it is asked for, as things are then. When the
// directory is out of service the shard files that no present directory holds are among them.
//
// A target holds no other shard of the segment and is online, neither draining nor healing; of these it is on the device with
// the fewest other shards of the segment, and has most room. A shard file without a target comes with an error, which matches ErrNoHome and
// says how many directories are needed, or ErrNoSpace. Open segments are left out: Roll seals them.
func (l *Log) DrainPlan(dir string) iter.Seq2[Move, error] {
	return func(yield func(Move, error) bool) {
		d := l.member(dir)
		if d == nil {
			yield(Move{}, &DirError{Path: dir, Reason: "is not a member of the store"})
			return
		}
		gone := !d.readable()
		var p *planner
		var made time.Time
		for _, s := range l.liveSegments() { // those of now; what has been dropped since is passed over
			for shard := range s.homes {
				from := s.dirOf(shard)
				if from != d && !(gone && from == nil) || l.lookup(s.id) != s {
					continue
				}
				open, bytes := s.extent()
				if open || from == nil && (bytes == 0 || shard >= s.n()) {
					continue
				}
				m := Move{Segment: s.id, Shard: shard, Bytes: bytes}
				if from != nil {
					m.From = from.id
				}
				if p == nil || time.Since(made) > plannerAge {
					p, made = l.newPlanner(), time.Now()
				}
				to, err := p.haven(s, shard, bytes, d)
				if err == nil {
					m.To = to.d.id
					to.free -= bytes
				}
				if !yield(m, err) {
					return
				}
			}
		}
	}
}

// extent tells whether a segment is open, and the length of its shard files.
func (s *segment) extent() (open bool, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.stored
}

// haven chooses the directory for a shard file that leaves a directory.
func (p *planner) haven(s *segment, shard int, bytes int64, leaves *dir) (*room, error) {
	usable, vacant := 0, 0
	var best *room
	same := 0
	for i := range p.room {
		r := &p.room[i]
		if !r.target || r.d == leaves {
			continue
		}
		if usable++; !p.vacant(s, shard, r.d) {
			continue
		}
		if vacant++; !p.takes(r, bytes, TierDelete) {
			continue
		}
		n := s.onDevice(shard, r.d.device)
		if best == nil || cmp.Or(cmp.Compare(n, same), cmp.Compare(best.free, r.free)) < 0 {
			best, same = r, n
		}
	}
	switch {
	case best != nil:
		return best, nil
	case vacant > 0:
		return nil, fmt.Errorf("%w: no directory without a shard of segment %016x has room for %d bytes", ErrNoSpace, uint64(s.id), bytes)
	}
	n := max(s.n(), 1)
	return nil, fmt.Errorf("%w: segment %016x has the code %d+%d, so it needs %d directories besides %s, and %d are online, neither draining nor healing; add some, or change the code and rewrite old segments",
		ErrNoHome, uint64(s.id), s.k, s.m, n, leaves.path, usable)
}

// takes tells whether a file finds room in a directory without taking what a tier leaves free.
func (p *planner) takes(r *room, bytes int64, t Tier) bool {
	return r.free-bytes >= max(p.l.floor(t, r.total), fullFreeBytes)
}

// vacant tells whether a directory has no other shard of the segment, in use or not.
func (p *planner) vacant(s *segment, shard int, d *dir) bool {
	for i := range s.homes {
		if s.dirOf(i) == d || i != shard && slices.Contains(p.l.duplicates.of(s.id, i), d) {
			return false
		}
	}
	return true
}

// onDevice counts the other shards of the segment on a device.
func (s *segment) onDevice(shard int, device uint64) (n int) {
	for i := range s.homes {
		if d := s.dirOf(i); i != shard && d != nil && d.device == device {
			n++
		}
	}
	return n
}

// BalancePlan yields moves that make things more even: each when it is asked for, as things are then, and no shard file twice. First,
// shards of one segment that share a device go to a device that has fewer. Then shard files go from fuller to emptier directories until
// the fill levels are within 5 % of the size, or no file is small enough to bring them together.
func (l *Log) BalancePlan() iter.Seq2[Move, error] {
	return func(yield func(Move, error) bool) {
		done := map[SegmentID]uint16{} // by shard: yielded
		for {
			p := l.newPlanner()
			segs := l.liveSegments()
			m, ok := p.spread(segs, done)
			if !ok {
				m, ok = p.level(segs, done)
			}
			if !ok {
				return
			}
			done[m.Segment] |= 1 << m.Shard
			if !yield(m, nil) {
				return
			}
		}
	}
}

// eligible yields the shard files that may be moved.
func eligible(segs []*segment, done map[SegmentID]uint16) iter.Seq2[*segment, int] {
	return func(yield func(*segment, int) bool) {
		for _, s := range segs {
			if open, bytes := s.extent(); open || !s.known || bytes == 0 {
				continue
			}
			for shard := range s.n() {
				if d := s.dirOf(shard); d == nil || !d.readable() || done[s.id]&(1<<shard) != 0 {
					continue
				}
				if !yield(s, shard) {
					return
				}
			}
		}
	}
}

// spread finds a shard file that shares its device with another one of its segment and could go to a device that has fewer.
func (p *planner) spread(segs []*segment, done map[SegmentID]uint16) (Move, bool) {
	if len(p.room) == 0 || !slices.ContainsFunc(p.room, func(r room) bool { return r.d.device != p.room[0].d.device }) {
		return Move{}, false
	}
	for s, shard := range eligible(segs, done) {
		from := s.dirOf(shard)
		if from == nil {
			continue
		}
		here := s.onDevice(shard, from.device)
		if here == 0 {
			continue
		}
		_, bytes := s.extent()
		var best *room
		least := here
		for i := range p.room {
			r := &p.room[i]
			n := s.onDevice(shard, r.d.device)
			if !r.target || n > least || best == nil && n == least || !p.takes(r, bytes, TierUpload) || !p.vacant(s, shard, r.d) {
				continue
			}
			if best == nil || n < least || r.free > best.free {
				best, least = r, n
			}
		}
		if best != nil {
			return Move{s.id, shard, from.id, best.d.id, bytes}, true
		}
	}
	return Move{}, false
}

// level finds the largest shard file that brings the levels of a full and an emptier directory together without making the emptier
// one the fuller.
func (p *planner) level(segs []*segment, done map[SegmentID]uint16) (Move, bool) {
	byLevel := slices.Clone(p.room)
	slices.SortStableFunc(byLevel, func(a, b room) int { return cmp.Compare(a.level(0), b.level(0)) })
	for _, from := range slices.Backward(byLevel) {
		if from.d.draining() {
			continue
		}
		for _, to := range byLevel {
			if from.level(0)-to.level(0) <= balancedPart {
				break
			}
			if !to.target || to.d.device == from.d.device {
				continue
			}
			var best Move
			for s, shard := range eligible(segs, done) {
				_, bytes := s.extent()
				if s.dirOf(shard) != from.d || bytes <= best.Bytes || !p.takes(&to, bytes, TierUpload) || to.level(bytes) > from.level(-bytes) ||
					s.onDevice(shard, to.d.device) > s.onDevice(shard, from.d.device) || !p.vacant(s, shard, to.d) {
					continue
				}
				best = Move{s.id, shard, from.d.id, to.d.id, bytes}
			}
			if best.Bytes > 0 {
				return best, true
			}
		}
	}
	return Move{}, false
}
