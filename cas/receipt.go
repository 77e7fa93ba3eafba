package cas

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// Receipts are rows of the Meta table, under "receipt/" and their ID. The log holds them as it holds everything, so they
// survive the index.
const (
	receiptPrefix = "receipt/"
	receiptEnd    = "receipt0" // after every key with that prefix
	receiptsMax   = 100        // kept; older ones go with the next

	// A receipt is one row of a mutation: its lists are bounded in bytes too.
	findingsBytesMax = 512 << 10
	lostBytesMax     = 384 << 10
	detailBytesMax   = 512
)

// newReceipt begins a receipt.
func (s *Store) newReceipt(level ScrubLevel, repair, background bool) Receipt {
	began := s.opts.Clock().UTC()
	tag := make([]byte, 3)
	rand.Read(tag) // never fails
	return Receipt{
		ID: began.Format("20060102T150405.000000Z-") + hex.EncodeToString(tag), Level: level, Repair: repair, Background: background,
		Began: began, BytesRead: map[string]int64{}, Findings: []Finding{}, Lost: []LostObject{},
	}
}

// keepReceipt makes a receipt durable and lets go of the oldest, and of the rows of Meta that are named. When that cannot
// be, the receipt says so.
func (s *Store) keepReceipt(ctx context.Context, r *Receipt, obsolete ...string) {
	s.receipts.Lock()
	defer s.receipts.Unlock()
	old, err := s.receiptKeys()
	if err == nil {
		err = s.update(ctx, nil, func(index.Reader) (*tx, error) {
			t := &tx{}
			t.put(index.Meta, []byte(receiptPrefix+r.ID), *r)
			if r.Level != ScrubHeal {
				t.put(index.Meta, []byte(lastScrubKey), r.brief())
			}
			for _, key := range obsolete {
				t.remove(index.Meta, []byte(key))
			}
			for i := 0; i <= len(old)-receiptsMax; i++ {
				t.remove(index.Meta, old[i])
			}
			return t, nil
		})
	}
	if err != nil {
		r.addReason("the receipt is not kept: " + err.Error())
		if !errors.Is(err, ErrReadOnly) && !errors.Is(err, ErrNoSpace) {
			s.opts.Logger.Warn("the receipt of a scrub is not kept", slog.Any("error", err))
		}
	}
	if r.Level != ScrubHeal {
		brief := r.brief()
		s.lastScrub.Store(&brief)
		s.metrics.scrubbed(&brief)
	}
}

// receiptKeys returns the keys of all receipts, the oldest first.
func (s *Store) receiptKeys() (keys [][]byte, err error) {
	err = s.view(func(v *index.View) error {
		it := v.Iter(index.Meta, []byte(receiptPrefix), []byte(receiptEnd))
		defer it.Close()
		for it.Next() {
			keys = append(keys, it.Entry().Key)
		}
		return it.Err()
	})
	return keys, err
}

// Receipts returns the receipts of past scrubs, the newest first, at most max of them; 100 are kept.
func (s *Store) Receipts(ctx context.Context, max int) ([]Receipt, error) {
	keys, err := s.receiptKeys()
	if err != nil {
		return nil, err
	}
	rs := []Receipt{}
	for i := len(keys) - 1; i >= 0 && len(rs) < max; i-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := s.view(func(v *index.View) error { // one view each: a receipt may be large
			r, _, ok, err := getRow[Receipt](v, index.Meta, keys[i])
			if ok {
				rs = append(rs, r)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("receipt %s: %w", keys[i], err)
		}
	}
	return rs, nil
}

// brief is the receipt without its lists.
func (r *Receipt) brief() Receipt {
	b := *r
	b.Findings, b.Lost = []Finding{}, []LostObject{}
	return b
}

func (r *Receipt) addReason(why string) {
	if r.Reason != "" {
		r.Reason += "; "
	}
	r.Reason += clip(why)
}

// clip bounds what goes into a receipt as text.
func clip(s string) string {
	if len(s) > detailBytesMax {
		return s[:detailBytesMax] + "..."
	}
	return s
}

// A findingList gathers findings within bounds.
type findingList struct {
	findings   []Finding
	total      int64
	bytes      int
	unmended   int64 // neither repaired nor lost
	lost       int64
	unreadable int64 // of what is not known
}

func (l *findingList) add(f Finding) {
	f.Detail = clip(f.Detail)
	l.total++
	switch {
	case f.Lost:
		l.lost++
	case f.Repaired:
	case f.Kind == erasure.FindingUnreadable:
		l.unreadable++
	default:
		l.unmended++
	}
	l.keep(f)
}

// keep lists a finding if there is room.
func (l *findingList) keep(f Finding) {
	size := len(f.Dir) + len(f.File) + len(f.Detail) + 64
	if len(l.findings) < listedMax && l.bytes+size <= findingsBytesMax {
		l.findings = append(l.findings, f)
		l.bytes += size
	}
}
