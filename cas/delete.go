package cas

import (
	"context"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// DeleteVersion deletes. Without a version ID the current object goes: for ever in an unversioned bucket; where versions are kept it stays
// under a delete marker, which is written even when there is nothing under it; and where they are suspended the marker takes the place
// of the null version. With a version ID that version goes for ever. A missing object or version is no error.
// Errors: ErrNoSuchBucket, ErrInvalidVersion, and those of If.
func (s *Store) DeleteVersion(ctx context.Context, r DeleteRequest) (DeleteResult, error) {
	var d deletion
	if err := s.update(ctx, nil, d.prepare(s, r)); err != nil {
		return DeleteResult{}, err
	}
	return d.result(), nil
}

// Delete is DeleteVersion of the current object. deleted tells whether there was one.
func (s *Store) Delete(ctx context.Context, bucket, key string, cond Condition) (deleted bool, err error) {
	res, err := s.DeleteVersion(ctx, DeleteRequest{Bucket: bucket, Key: key, If: cond})
	return res.Found, err
}

// A deletion is the outcome of one DeleteRequest; it counts when its transaction is committed.
type deletion struct {
	DeleteResult
	marker *version // that was written
}

func (d *deletion) result() DeleteResult {
	if d.marker != nil {
		d.VersionID = d.marker.id()
	}
	return d.DeleteResult
}

func (d *deletion) prepare(s *Store, q DeleteRequest) prepareFunc {
	return func(r index.Reader) (*tx, error) {
		*d = deletion{}
		b, err := getBucket(r, q.Bucket)
		if err != nil {
			return nil, err
		}
		c, err := s.newest(r, &b, q.Bucket, q.Key)
		if err != nil {
			return nil, err
		}
		d.Versioned = b.versioned()
		t := &tx{}
		switch {
		case q.VersionID != "":
			return t, d.remove(t, r, &c, q)
		case !d.Versioned:
			q.VersionID = nullVersion // the only one
			err := d.remove(t, r, &c, q)
			d.VersionID = ""
			return t, err
		}
		if err := c.check(q.If); err != nil {
			return nil, err
		}
		d.Found, d.Marker = c.live(), true
		d.marker, err = t.replace(r, &b, &c, versionRow{Marker: true, Attributes: attributesRow{Owner: q.Owner}})
		return t, err
	}
}

// remove removes one version for ever. c is the newest of its key.
func (d *deletion) remove(t *tx, r index.Reader, c *version, q DeleteRequest) error {
	v, err := c.find(r, q.VersionID)
	if err != nil {
		return err
	}
	if err := v.check(q.If); err != nil {
		return err
	}
	d.Found, d.Marker, d.VersionID = v.ok, v.ok && v.row.Marker, q.VersionID
	if !v.ok {
		return nil
	}
	t.drop(&v)
	if v.csn != c.csn {
		return nil
	}
	next := v.blank()
	if v.versioned {
		if next, err = v.below(r); err != nil {
			return err
		}
	}
	t.use(v.bucket, usageRow{Objects: count(next.live()) - count(v.live())})
	return nil
}

// A KeyResult is the outcome of one request of DeleteMany.
type KeyResult struct {
	DeleteResult
	Key string
	Err error
}

// DeleteMany does many deletions in one bucket, in their order; they share commits. The error is one that concerns all of them, such as
// ErrNoSuchBucket.
func (s *Store) DeleteMany(ctx context.Context, bucket string, deletes []DeleteRequest) ([]KeyResult, error) {
	if err := s.commitState(erasure.TierDelete); err != nil {
		return nil, err
	}
	if err := s.view(func(v *index.View) error {
		_, err := getBucket(v, bucket)
		return err
	}); err != nil {
		return nil, err
	}
	results := make([]KeyResult, len(deletes))
	deletions := make([]deletion, len(deletes))
	reqs := make([]*request, len(deletes))
	for i, q := range deletes {
		q.Bucket = bucket
		results[i].Key = q.Key
		reqs[i], results[i].Err = s.begin(ctx, erasure.TierDelete, nil, deletions[i].prepare(s, q))
	}
	for i, req := range reqs {
		if req != nil {
			results[i].Err = <-req.done
		}
		if results[i].Err == nil {
			results[i].DeleteResult = deletions[i].result()
		}
	}
	return results, nil
}
