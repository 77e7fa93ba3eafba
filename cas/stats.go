package cas

import (
	"context"

	"github.com/casd/casd/index"
)

// Stats returns the sizes of the store, or of one bucket: then Buckets is 1, and Objects, LogicalBytes and Uploads are the
// bucket's, while what is shared between buckets (unique, payload and stored bytes, chunks, ratios) stays that of the store.
// Error: ErrNoSuchBucket.
func (s *Store) Stats(_ context.Context, bucket string) (st Stats, err error) {
	var all, one usageRow
	err = s.view(func(v *index.View) error {
		if bucket != "" {
			if _, err := getBucket(v, bucket); err != nil {
				return err
			}
		}
		it := v.Iter(index.Usage, nil, nil)
		defer it.Close()
		for it.Next() {
			var u usageRow
			if err := decodeRow(index.Usage, it.Entry().Key, it.Entry().Value, &u); err != nil {
				return err
			}
			st.Buckets++
			all.add(u)
			if string(it.Entry().Key) == bucket {
				one = u
			}
		}
		return it.Err()
	})
	if err != nil {
		return Stats{}, err
	}
	totals, sizes := s.idx.Totals(), s.log.Stats()
	st.UniqueBytes = totals.Bytes + all.Inline
	st.PayloadBytes, st.StoredBytes, st.Chunks = sizes.PayloadBytes, sizes.StoredBytes, totals.Chunks
	if st.UniqueBytes > 0 {
		st.DedupRatio = float64(all.Bytes) / float64(st.UniqueBytes)
	}
	if st.PayloadBytes > 0 {
		st.TotalRatio = float64(all.Bytes) / float64(st.PayloadBytes)
	}
	if bucket != "" {
		st.Buckets, all = 1, one
	}
	st.Objects, st.LogicalBytes, st.Uploads = all.Objects, all.Bytes, all.Uploads
	return st, nil
}

func (u *usageRow) add(d usageRow) {
	u.Objects += d.Objects
	u.Bytes += d.Bytes
	u.Inline += d.Inline
	u.Uploads += d.Uploads
}
