package cas

import (
	"context"
	"errors"
	"log/slog"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// memberRow is a data directory, under its ID. The list in format.json of the directories is the authority; this one says what it was when
// the catalog was written.
type memberRow struct {
	Path  string `cbor:"1,keyasint"`
	State string `cbor:"2,keyasint,omitempty"` // draining, healing; empty is normal
}

// membersTx makes the member list of the catalog that of the log. It writes only what differs.
func membersTx(infos []erasure.DirInfo) prepareFunc {
	return func(r index.Reader) (*tx, error) {
		t := &tx{}
		want := map[string]memberRow{}
		for _, d := range infos {
			want[d.ID] = memberRow{Path: d.Path, State: d.Member.State}
		}
		for lo := []byte{}; ; {
			e, ok, err := r.First(index.Members, lo, []byte{0xff})
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			var row memberRow
			if err := decodeRow(index.Members, e.Key, e.Value, &row); err != nil {
				return nil, err
			}
			switch now, member := want[string(e.Key)]; {
			case !member:
				t.remove(index.Members, e.Key)
			case row == now:
				delete(want, string(e.Key))
			}
			lo = append(append([]byte{}, e.Key...), 0)
		}
		for _, d := range infos { // in an order that does not depend on chance
			if row, ok := want[d.ID]; ok {
				t.put(index.Members, []byte(d.ID), row)
				delete(want, d.ID)
			}
		}
		return t, nil
	}
}

// followMembers brings the member list of the catalog up to that of the log. That it cannot be written now does not matter: the next
// change, or start, does it.
func (s *Store) followMembers(ctx context.Context) {
	err := s.update(ctx, nil, membersTx(s.log.Dirs()))
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "the member list of the catalog is behind", slog.Any("error", err))
	}
}
