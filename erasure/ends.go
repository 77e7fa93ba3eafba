package erasure

import (
	"context"
	"log/slog"
	"slices"
)

// Ends are what records in the log say of segments: where they end, and that they are gone.
type Ends struct {
	Verdicts []Verdict
	Drops    []SegmentID
}

// An endRecord is a record that holds Ends, and where it lies.
type endRecord struct {
	segment SegmentID
	stripe  uint32
	ends    Ends
}

// FindEnds reads verdicts and drops out of the log behind a sequence and sets those that count, as SetVerdicts and SetDropped do.
// kind is that of the records that may hold them, and decode gives those of one. It returns what was set, the oldest first. It
// is called after SetVerdicts, SetDropped and SetLive with what the catalog holds, before Replay.
//
// A stripe that a later verdict voids may hold ends too, which then never counted and may say something else; so may a segment
// that was dropped later, and what counted of that is in the catalog: see Drop. Sequences follow time, so the latest records are
// looked at first.
//
// A drop that is believed wrongly loses data. When a part of the log cannot be read, other than of segments that the drops
// concern, the verdict that voids a drop may be there: no drop counts then. Replay reports the damage.
func (l *Log) FindEnds(ctx context.Context, after uint64, kind uint8, decode func(Replayed) (Ends, error)) (Ends, error) {
	var all []endRecord
	r := &replay{l: l, bodies: func(k uint8) bool { return k == kind }, fn: func(st stripeInfo, r Replayed) error {
		if r.Kind != kind {
			return nil
		}
		e, err := decode(r)
		if len(e.Verdicts) > 0 || len(e.Drops) > 0 {
			all = append(all, endRecord{r.Location.Segment(), st.number, e})
		}
		return err
	}}
	if err := r.run(ctx, after); err != nil {
		return Ends{}, err
	}
	found := l.countingEnds(all, true)
	for id := range r.hurt {
		// What lies in a segment is older than the record that drops it, so it cannot void that record; and what it says of
		// others is in the catalog.
		if !slices.Contains(found.Drops, id) && len(found.Drops) > 0 {
			l.log.LogAttrs(ctx, slog.LevelWarn, "dropped segments are kept until the log can be read", slog.Uint64("damaged", uint64(id)), slog.Int("segments", len(found.Drops)))
			found = l.countingEnds(all, false)
			break
		}
	}
	if err := l.SetVerdicts(found.Verdicts); err != nil {
		return Ends{}, err
	}
	l.SetDropped(found.Drops)
	return found, nil
}

// countingEnds returns what counts of records that are in the order of the log.
func (l *Log) countingEnds(all []endRecord, drops bool) (found Ends) {
	ended, dropped := map[SegmentID]uint32{}, map[SegmentID]bool{}
	l.segMu.RLock()
	defer l.segMu.RUnlock()
	for _, r := range slices.Backward(all) {
		end, ok := ended[r.segment]
		if v, known := l.verdicts[r.segment]; known {
			end, ok = v.Stripes, true
		}
		if ok && r.stripe >= end || dropped[r.segment] || l.voids.has(r.segment) {
			continue
		}
		for _, v := range r.ends.Verdicts {
			ended[v.Segment] = v.Stripes
		}
		found.Verdicts = append(found.Verdicts, r.ends.Verdicts...)
		for _, id := range r.ends.Drops {
			if drops && !dropped[id] {
				dropped[id] = true
				found.Drops = append(found.Drops, id)
			}
		}
	}
	slices.Reverse(found.Verdicts)
	slices.Reverse(found.Drops)
	return found
}
