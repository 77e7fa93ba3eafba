package cas

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// gcStateKey is the row of Meta that tells when the last cycle began.
var gcStateKey = []byte("gc")

type gcStateRow struct {
	Began int64 `cbor:"1,keyasint"`
}

// noteCycle writes down that a cycle begins.
func (s *Store) noteCycle(ctx context.Context, began time.Time) error {
	return s.updateIn(ctx, erasure.TierCompact, nil, func(index.Reader) (*tx, error) {
		t := &tx{}
		t.put(index.Meta, gcStateKey, gcStateRow{Began: began.UnixNano()})
		return t, nil
	})
}

// gcRetry is how long the background waits after a cycle that could not begin or ended early.
const gcRetry = time.Minute

// gcLoop looks every GCInterval whether enough may have become garbage, and runs a cycle then, and once a day in any case.
func (s *Store) gcLoop(ctx context.Context) {
	for {
		pause := s.untilCycle()
		if pause <= 0 {
			switch _, err := s.collect(ctx, GCRequest{Rate: s.opts.GCRate}, true); {
			case err == nil:
				continue
			case errors.Is(err, ErrConflict) || ctx.Err() != nil:
			default:
				s.opts.Logger.Warn("a cycle that reclaims space ended early; it is tried again", slog.Any("error", err))
			}
			pause = gcRetry
		}
		t := time.NewTimer(min(pause, time.Hour)) // the clock may be set
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// gcAtLeast is how often a cycle runs even when next to nothing was deleted: what became garbage before a restart is not counted.
const gcAtLeast = 24 * time.Hour

// enoughFreed tells whether so much lost a name since the last cycle that a cycle may be worth its while.
func (s *Store) enoughFreed() bool {
	freed := s.freed.Load()
	return float64(freed) >= s.opts.GCThreshold*float64(s.opts.SegmentBytes) || freed > 0 && float64(freed) >= gcStoreGarbage*float64(s.idx.Totals().Bytes)
}

// untilCycle tells how long it is until the next cycle of the background may be due.
func (s *Store) untilCycle() time.Duration {
	var row gcStateRow
	err := s.view(func(v *index.View) (err error) {
		row, _, _, err = getRow[gcStateRow](v, index.Meta, gcStateKey)
		return err
	})
	if err != nil {
		return gcRetry
	}
	now := s.opts.Clock()
	if row.Began == 0 { // of a new store
		row.Began = s.opened.UnixNano()
	}
	since := now.Sub(time.Unix(0, row.Began))
	if since < 0 { // the clock was set back: how long it is since then nobody knows
		since = s.opts.GCInterval
	}
	switch {
	case since < s.opts.GCInterval:
		return s.opts.GCInterval - since
	case since >= gcAtLeast || s.enoughFreed():
		return 0
	}
	return min(s.opts.GCInterval, gcAtLeast-since)
}

// expireUploads aborts multipart uploads that nothing happened to for UploadExpiry.
func (s *Store) expireUploads(ctx context.Context) (n int64, err error) {
	if s.opts.UploadExpiry < 0 {
		return 0, nil
	}
	before := s.opts.Clock().Add(-s.opts.UploadExpiry).UnixNano()
	type stale struct{ bucket, key, id string }
	var after []byte
	for {
		var found []stale
		var rows int
		err := s.view(func(v *index.View) error {
			it := v.Iter(index.Uploads, after, nil)
			defer it.Close()
			for rows < 1000 && it.Next() {
				rows++
				e := it.Entry()
				after = append(slices.Clone(e.Key), 0)
				var row uploadRow
				if err := decodeRow(index.Uploads, e.Key, e.Value, &row); err != nil {
					return err
				}
				bucket, key, id, err := index.ParseUploadKey(e.Key)
				if err != nil {
					return err
				}
				last, err := lastUsed(v, id, row, before)
				if err == nil && last < before {
					found = append(found, stale{bucket, key, id})
				}
				if err != nil {
					return err
				}
			}
			return it.Err()
		})
		if err != nil {
			return n, err
		}
		s.sabotage.reached("expiring")
		for _, u := range found {
			err := s.abortUpload(ctx, u.bucket, u.key, u.id, func(r index.Reader, row uploadRow) error {
				if last, err := lastUsed(r, u.id, row, before); err != nil || last >= before {
					return cmp.Or(err, errUploadUsed)
				}
				return nil
			})
			switch {
			case errors.Is(err, errUploadUsed): // a part came in since
			case err == nil:
				n++
				s.opts.Logger.Info("abandoned upload removed", slog.String("bucket", u.bucket), slog.String("key", u.key), slog.String("upload", u.id))
			case !errors.Is(err, ErrNoSuchUpload) && !errors.Is(err, ErrNoSuchBucket):
				return n, err
			}
		}
		if rows < 1000 {
			return n, nil
		}
	}
}

var errUploadUsed = errors.New("cas: the upload is in use")

// lastUsed tells when something last happened to an upload, or any time that is not before enough.
func lastUsed(r index.Reader, id string, row uploadRow, enough int64) (last int64, err error) {
	if last = row.Initiated; last >= enough {
		return last, nil
	}
	err = eachPart(r, id, 0, func(_ int, p partRow) (bool, error) {
		last = max(last, p.Modified)
		return last < enough, nil
	})
	return last, err
}

// uploadExpiry is the default of Options.UploadExpiry.
const uploadExpiry = 7 * 24 * time.Hour
