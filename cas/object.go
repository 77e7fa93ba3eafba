package cas

import (
	"context"
	"fmt"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// replace writes row as the newest version of a key whose newest one is c: beside the others where versions are kept, else in place of the null
// version. It returns what is filled in when it is committed.
func (t *tx) replace(r index.Reader, b *bucketRow, c *version, row versionRow) (*version, error) {
	made := c.blank()
	row.Own, row.Null = b.Versioning == VersioningEnabled, 0
	if row.Own {
		row.Null = c.nullBelow()
	} else {
		null, err := c.findNull(r)
		if err != nil {
			return nil, err
		}
		if null.ok {
			t.drop(&null)
		}
	}
	made.ok, made.row = true, row
	t.putAt(index.Objects, func(csn uint64) []byte { return index.ObjectKey(c.bucket, c.key, csn) },
		func(_ uint64, now int64) (any, error) {
			row := row // the transaction may be applied again
			row.Modified = now
			return row, nil
		})
	t.use(c.bucket, usageRow{Objects: count(made.live()) - count(c.live()), Bytes: row.Content.Size, Inline: int64(len(row.Content.Inline))})
	t.committed = func(csn uint64, now int64) { made.csn, made.row.Modified = csn, now }
	return &made, nil
}

// drop removes a version. It leaves the count of objects as it is, which depends on what is the newest then.
func (t *tx) drop(v *version) {
	t.remove(index.Objects, v.rowKey())
	t.freed += v.row.Content.Size
	t.use(v.bucket, usageRow{Bytes: -v.row.Content.Size, Inline: -int64(len(v.row.Content.Inline))})
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Put stores an object. It is durable and visible when Put returns nil. Errors: ErrNoSuchBucket, ErrTooLarge, those of
// Body, Finish and If, and those of a store that cannot write.
func (s *Store) Put(ctx context.Context, r PutRequest) (ObjectInfo, error) {
	if err := s.admit(r.Bucket, func(v index.Reader, b *bucketRow) error {
		c, err := s.newest(v, b, r.Bucket, r.Key)
		if err != nil || r.If == nil {
			return err
		}
		return c.check(r.If)
	}); err != nil {
		return ObjectInfo{}, err
	}
	u := s.newUpload()
	defer u.end()
	c, err := u.ingest(ctx, r.Body, r.Digest, partBytesMax)
	if err != nil {
		return ObjectInfo{}, fmt.Errorf("put %s/%s: %w", r.Bucket, r.Key, err)
	}
	row := versionRow{Content: c}
	if r.Finish != nil {
		a, err := r.Finish(c.Size)
		if err != nil {
			return ObjectInfo{}, err
		}
		row.Attributes = a.row()
	}
	return s.putVersion(ctx, r.Bucket, r.Key, u.deps, func(index.Reader) (versionRow, error) { return row, nil }, r.If)
}

// admit refuses early what would be refused in the end.
func (s *Store) admit(bucket string, also func(r index.Reader, b *bucketRow) error) error {
	if err := s.WriteState(); err != nil {
		return err
	}
	return s.view(func(v *index.View) error {
		b, err := getBucket(v, bucket)
		if err != nil {
			return err
		}
		return also(v, &b)
	})
}

// putVersion commits a version that make returns.
func (s *Store) putVersion(ctx context.Context, bucket, key string, deps []*pendingChunk, make func(index.Reader) (versionRow, error), cond Condition) (ObjectInfo, error) {
	var made *version
	err := s.updateIn(ctx, erasure.TierUpload, deps, func(r index.Reader) (*tx, error) {
		b, err := getBucket(r, bucket)
		if err != nil {
			return nil, err
		}
		c, err := s.newest(r, &b, bucket, key)
		if err != nil {
			return nil, err
		}
		if err := c.check(cond); err != nil {
			return nil, err
		}
		row, err := make(r)
		if err != nil {
			return nil, err
		}
		t := &tx{}
		made, err = t.replace(r, &b, &c, row)
		return t, err
	})
	if err != nil {
		return ObjectInfo{}, err
	}
	return made.info(), nil
}

// Copy makes a new object of the bytes of another; none of them moves. Errors: ErrNoSuchBucket, ErrNoSuchKey,
// ErrNoSuchVersion, ErrInvalidVersion, *DeleteMarkerError, and those of Attributes and If.
func (s *Store) Copy(ctx context.Context, r CopyRequest) (ObjectInfo, error) {
	return s.putVersion(ctx, r.Bucket, r.Key, nil, func(v index.Reader) (versionRow, error) {
		// The source is read inside the transaction: should it go in between, the copy is decided again.
		from, err := s.getVersion(v, GetRequest{Bucket: r.SourceBucket, Key: r.SourceKey, VersionID: r.SourceVersion})
		if err != nil {
			return versionRow{}, err
		}
		a, err := r.Attributes(from.info())
		row := from.row
		row.Attributes, row.UploadID = a.row(), ""
		return row, err
	}, r.If)
}

// Stat describes an object. Errors: ErrNoSuchBucket, ErrNoSuchKey, ErrNoSuchVersion, ErrInvalidVersion, *DeleteMarkerError.
func (s *Store) Stat(_ context.Context, r GetRequest) (info ObjectInfo, err error) {
	err = s.view(func(v *index.View) error {
		found, err := s.getVersion(v, r)
		if err == nil {
			info = found.info()
		}
		return err
	})
	return info, err
}
