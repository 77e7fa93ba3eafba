package cas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// The background scrub. A pass goes through the segments by number, repairs what it finds, and leaves a receipt. How far it is
// lies in a row of the table meta, so that a restart goes on there.
const (
	passKey      = "scrub/pass" // a pass that is not done: passRow
	lastScrubKey = "scrub/last" // receipt of the last scrub, without its lists

	scheduleInterval = time.Minute      // between looks whether a pass is due
	passSaveInterval = 10 * time.Minute // between savings of how far a pass is

	// A pass spreads its load: it is slow enough to take half of the interval, but not slower than this, bytes a second over all
	// directories, and never faster than Options.ScrubRate. With no limit set it does not hold back.
	passRateMin = 8 << 20

	passLossyMax = 4096 // segments with loss that a pass remembers over a restart; each was reported when it was met
)

// passRow is a pass that is under way.
type passRow struct {
	Receipt    Receipt  `cbor:"1,keyasint"` // so far
	Next       uint64   `cbor:"2,keyasint"` // segments below it are done
	End        uint64   `cbor:"3,keyasint"` // last segment that was there when it began
	Unmended   int64    `cbor:"4,keyasint,omitempty"`
	Lost       int64    `cbor:"5,keyasint,omitempty"`
	Unreadable int64    `cbor:"6,keyasint,omitempty"`
	Mutations  int64    `cbor:"7,keyasint,omitempty"`
	Blind      bool     `cbor:"8,keyasint,omitempty"`
	Lossy      []uint64 `cbor:"9,keyasint,omitempty"`
}

// errPaused ends a turn of the background scrub in favour of one that was asked for.
var errPaused = errors.New("cas: another scrub runs")

// schedule runs passes when they are due, until the store closes.
func (s *Store) schedule(ctx context.Context) {
	t := time.NewTicker(scheduleInterval)
	defer t.Stop()
	for {
		if err := s.scrubIfDue(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errPaused) {
			s.opts.Logger.Warn("the background scrub ended early, it goes on later", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// nextScrub tells when the next pass is due; when one is under way, that is when it began. ok is false when there is none to come.
func (s *Store) nextScrub() (due time.Time, ok bool) {
	if s.opts.ScrubInterval <= 0 {
		return time.Time{}, false
	}
	last := s.created
	if r := s.lastScrub.Load(); r != nil && r.covers(s.opts.ScrubLevel) {
		last = r.Ended
	}
	if began := s.passBegan.Load(); began != nil {
		return *began, true
	}
	return last.Add(s.opts.ScrubInterval), true
}

// covers tells whether a receipt is as good as that of a pass of a level.
func (r *Receipt) covers(level ScrubLevel) bool {
	order := map[ScrubLevel]int{ScrubShards: 1, ScrubChunks: 2, "": 2, ScrubDeep: 3}
	return r.Complete && r.Repair && order[r.Level] >= order[level]
}

// scrubIfDue runs a pass to its end, or on from where it was, when it is due.
func (s *Store) scrubIfDue(ctx context.Context) error {
	due, ok := s.nextScrub()
	if !ok || s.opts.Clock().Before(due) || s.operations.isRunning("scrub") || s.WriteState() != nil {
		return nil
	}
	op, ctx, err := s.beginOperation(ctx, "scrub", "background-scrub")
	if err != nil {
		return err
	}
	defer op.end()
	p := &pass{scrubRun: s.newScrubRun(nil, nil)}
	p.op = op
	if err := p.load(); err != nil {
		return err
	}
	return p.turn(ctx)
}

// A pass is a turn of the background scrub.
type pass struct {
	*scrubRun
	row   passRow
	infos []erasure.SegmentInfo
	saved time.Time
}

// load takes up the pass that is under way, or begins one.
func (p *pass) load() error {
	s := p.s
	ok := false
	err := s.view(func(v *index.View) (err error) {
		p.row, _, ok, err = getRow[passRow](v, index.Meta, []byte(passKey))
		return err
	})
	if err != nil {
		return err
	}
	p.infos = s.log.Segments()
	if !ok {
		p.row = passRow{Receipt: s.newReceipt(s.opts.ScrubLevel, true, true)}
		if n := len(p.infos); n > 0 {
			p.row.End = uint64(p.infos[n-1].ID)
		}
	}
	s.passBegan.Store(&p.row.Receipt.Began)
	r := &p.row.Receipt
	if r.BytesRead == nil {
		r.BytesRead = map[string]int64{}
	}
	p.r = r
	p.list = findingList{total: r.FindingsTotal, unmended: p.row.Unmended, lost: p.row.Lost, unreadable: p.row.Unreadable}
	for _, f := range r.Findings {
		p.list.keep(f)
	}
	p.mutations, p.blind = p.row.Mutations, p.row.Blind
	for _, id := range p.row.Lossy {
		p.lossy[erasure.SegmentID(id)] = nil
	}
	for _, info := range p.infos {
		if uint64(info.ID) <= p.row.End {
			p.total += info.StoredBytes
		}
		if uint64(info.ID) < p.row.Next {
			p.base += info.StoredBytes
		}
	}
	p.pace = &pacer{rate: passRate(p.total, s.opts.ScrubInterval, s.opts.ScrubRate), busy: s.clientsBusy}
	p.yield = func() error {
		if s.operations.isRunning("scrub") {
			return errPaused
		}
		return nil
	}
	p.saved = s.opts.Clock()
	return nil
}

// passRate is how fast a pass over so many bytes goes.
func passRate(total int64, interval time.Duration, limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	return min(limit, max(passRateMin, int64(float64(total)/(interval.Seconds()/2))))
}

// turn goes on until the pass is done or something is in the way.
func (p *pass) turn(ctx context.Context) error {
	for _, info := range p.infos {
		id := uint64(info.ID)
		if id < p.row.Next || id > p.row.End {
			continue
		}
		before := *p.r
		before.BytesRead = nil
		list, lossy := p.list, len(p.lossy)
		if err := p.segment(ctx, info.ID); err != nil {
			p.undo(before, list) // the segment is read again
			p.save(context.WithoutCancel(ctx))
			return err
		}
		if len(p.lossy) > lossy {
			p.s.healer.suspects(info.ID) // so that it is told now what is lost, not when the pass is done
			p.s.healer.poke()
		}
		p.row.Next = id + 1
		p.base += info.StoredBytes
		p.read = 0
		if p.s.opts.Clock().Sub(p.saved) >= passSaveInterval {
			p.save(ctx)
		}
	}
	err := p.above(ctx)
	if err != nil {
		p.save(context.WithoutCancel(ctx))
		return err
	}
	p.finish(nil)
	p.s.keepReceipt(ctx, p.r, passKey)
	p.s.passBegan.Store(nil)
	return nil
}

// undo takes back what was counted of a segment that was not read to its end, but for the bytes.
func (p *pass) undo(before Receipt, list findingList) {
	before.BytesRead = p.r.BytesRead
	*p.r, p.list = before, list
}

// save writes down how far the pass is.
func (p *pass) save(ctx context.Context) {
	r := p.r
	r.Findings, r.FindingsTotal = p.list.findings, p.list.total
	p.row.Unmended, p.row.Lost, p.row.Unreadable = p.list.unmended, p.list.lost, p.list.unreadable
	p.row.Mutations, p.row.Blind = p.mutations, p.blind
	p.row.Lossy = nil
	for id := range p.lossy {
		if len(p.row.Lossy) < passLossyMax {
			p.row.Lossy = append(p.row.Lossy, uint64(id))
		}
	}
	err := p.s.update(ctx, nil, func(index.Reader) (*tx, error) {
		t := &tx{}
		t.put(index.Meta, []byte(passKey), p.row)
		return t, nil
	})
	if err != nil {
		p.s.opts.Logger.Warn("how far the background scrub is was not written down", slog.Any("error", err))
		return
	}
	p.saved = p.s.opts.Clock()
}

// loadSchedule finds out about earlier scrubs.
func (s *Store) loadSchedule() error {
	return s.view(func(v *index.View) error {
		last, _, ok, err := getRow[Receipt](v, index.Meta, []byte(lastScrubKey))
		if err != nil {
			return fmt.Errorf("last scrub: %w", err)
		}
		if ok {
			s.lastScrub.Store(&last)
			s.metrics.scrubbed(&last)
		}
		p, _, ok, err := getRow[passRow](v, index.Meta, []byte(passKey))
		if ok {
			s.passBegan.Store(&p.Receipt.Began)
		}
		return err
	})
}
