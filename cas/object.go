package cas

import (
	"context"
	"fmt"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A current is the newest version of a key as a transaction sees it.
type current struct {
	ok  bool
	key []byte // of its row
	row versionRow
}

func getCurrent(r index.Reader, bucket, key string) (c current, err error) {
	lo, hi := index.ObjectRange(bucket, key)
	e, ok, err := r.First(index.Objects, lo, hi)
	if err != nil || !ok {
		return c, err
	}
	c.ok, c.key = true, e.Key
	return c, decodeRow(index.Objects, e.Key, e.Value, &c.row)
}

func (c *current) info(bucket, key string) *ObjectInfo {
	if !c.ok {
		return nil
	}
	i := c.row.info(bucket, key)
	return &i
}

func check(cond Condition, c *current, bucket, key string) error {
	if cond == nil {
		return nil
	}
	return cond(c.info(bucket, key))
}

// replace writes row as the one version of bucket/key, in place of the current one.
func (t *tx) replace(bucket, key string, c *current, row versionRow) {
	if c.ok {
		t.drop(bucket, c)
	}
	t.putAt(index.Objects, func(csn uint64) []byte { return index.ObjectKey(bucket, key, csn) },
		func(_ uint64, now int64) (any, error) { row.Modified = now; return row, nil })
	t.use(bucket, usageRow{Objects: 1, Bytes: row.Content.Size, Inline: int64(len(row.Content.Inline))})
}

// drop removes the current version.
func (t *tx) drop(bucket string, c *current) {
	t.remove(index.Objects, c.key)
	t.freed += c.row.Content.Size
	t.use(bucket, usageRow{Objects: -1, Bytes: -c.row.Content.Size, Inline: -int64(len(c.row.Content.Inline))})
}

// Put stores an object. It is durable and visible when Put returns nil. Errors: ErrNoSuchBucket, ErrTooLarge, those of
// Body, Finish and If, and those of a store that cannot write.
func (s *Store) Put(ctx context.Context, r PutRequest) (ObjectInfo, error) {
	if err := s.admit(r.Bucket, func(v index.Reader) error {
		c, err := getCurrent(v, r.Bucket, r.Key)
		if err != nil || r.If == nil {
			return err
		}
		return check(r.If, &c, r.Bucket, r.Key)
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
	return s.putVersion(ctx, r.Bucket, r.Key, u.deps, func(index.Reader, *current) (versionRow, error) { return row, nil }, r.If)
}

// admit refuses early what would be refused in the end.
func (s *Store) admit(bucket string, also func(r index.Reader) error) error {
	if err := s.WriteState(); err != nil {
		return err
	}
	return s.view(func(v *index.View) error {
		if _, err := getBucket(v, bucket); err != nil {
			return err
		}
		return also(v)
	})
}

// putVersion commits a version that make returns.
func (s *Store) putVersion(ctx context.Context, bucket, key string, deps []*pendingChunk, make func(index.Reader, *current) (versionRow, error), cond Condition) (ObjectInfo, error) {
	var row versionRow
	var at int64
	err := s.updateIn(ctx, erasure.TierUpload, deps, func(r index.Reader) (*tx, error) {
		if _, err := getBucket(r, bucket); err != nil {
			return nil, err
		}
		c, err := getCurrent(r, bucket, key)
		if err != nil {
			return nil, err
		}
		if err := check(cond, &c, bucket, key); err != nil {
			return nil, err
		}
		if row, err = make(r, &c); err != nil {
			return nil, err
		}
		t := &tx{committed: func(_ uint64, now int64) { at = now }}
		t.replace(bucket, key, &c, row)
		return t, nil
	})
	if err != nil {
		return ObjectInfo{}, err
	}
	row.Modified = at
	return row.info(bucket, key), nil
}

// getVersion finds the version that a request names.
func getVersion(r index.Reader, q GetRequest) (versionRow, error) {
	if _, err := getBucket(r, q.Bucket); err != nil {
		return versionRow{}, err
	}
	if q.VersionID != "" && q.VersionID != nullVersion {
		return versionRow{}, fmt.Errorf("%w: %s/%s %q", ErrNoSuchVersion, q.Bucket, q.Key, q.VersionID)
	}
	c, err := getCurrent(r, q.Bucket, q.Key)
	if err == nil && !c.ok {
		err = fmt.Errorf("%w: %s/%s", ErrNoSuchKey, q.Bucket, q.Key)
		if q.VersionID != "" {
			err = fmt.Errorf("%w: %s/%s %q", ErrNoSuchVersion, q.Bucket, q.Key, q.VersionID)
		}
	}
	return c.row, err
}

// Copy makes a new object of the bytes of another; none of them moves. Errors: ErrNoSuchBucket, ErrNoSuchKey,
// ErrNoSuchVersion, and those of Attributes and If.
func (s *Store) Copy(ctx context.Context, r CopyRequest) (ObjectInfo, error) {
	return s.putVersion(ctx, r.Bucket, r.Key, nil, func(v index.Reader, _ *current) (versionRow, error) {
		// The source is read inside the transaction: should it go in between, the copy is decided again.
		row, err := getVersion(v, GetRequest{Bucket: r.SourceBucket, Key: r.SourceKey, VersionID: r.SourceVersion})
		if err != nil {
			return row, err
		}
		a, err := r.Attributes(row.info(r.SourceBucket, r.SourceKey))
		row.Attributes, row.UploadID = a.row(), ""
		return row, err
	}, r.If)
}

// Delete removes the current object; a missing key is no error. deleted tells whether there was one.
func (s *Store) Delete(ctx context.Context, bucket, key string, cond Condition) (deleted bool, err error) {
	err = s.update(ctx, nil, deleteTx(bucket, key, cond, &deleted))
	return deleted, err
}

func deleteTx(bucket, key string, cond Condition, deleted *bool) prepareFunc {
	return func(r index.Reader) (*tx, error) {
		if _, err := getBucket(r, bucket); err != nil {
			return nil, err
		}
		c, err := getCurrent(r, bucket, key)
		if err != nil {
			return nil, err
		}
		if err := check(cond, &c, bucket, key); err != nil {
			return nil, err
		}
		t := &tx{}
		if *deleted = c.ok; c.ok {
			t.drop(bucket, &c)
		}
		return t, nil
	}
}

// A KeyResult is the outcome for one key of DeleteMany.
type KeyResult struct {
	Key string
	Err error
}

// DeleteMany deletes many keys; they share commits. The error is one that concerns all of them, such as ErrNoSuchBucket.
func (s *Store) DeleteMany(ctx context.Context, bucket string, keys []string) ([]KeyResult, error) {
	if err := s.commitState(erasure.TierDelete); err != nil {
		return nil, err
	}
	if err := s.view(func(v *index.View) error {
		_, err := getBucket(v, bucket)
		return err
	}); err != nil {
		return nil, err
	}
	results := make([]KeyResult, len(keys))
	reqs := make([]*request, len(keys))
	for i, key := range keys {
		results[i].Key = key
		reqs[i], results[i].Err = s.begin(ctx, erasure.TierDelete, nil, deleteTx(bucket, key, nil, new(bool)))
	}
	for i, req := range reqs {
		if req != nil {
			results[i].Err = <-req.done
		}
	}
	return results, nil
}

// Stat describes an object. Errors: ErrNoSuchBucket, ErrNoSuchKey, ErrNoSuchVersion.
func (s *Store) Stat(_ context.Context, r GetRequest) (info ObjectInfo, err error) {
	err = s.view(func(v *index.View) error {
		row, err := getVersion(v, r)
		info = row.info(r.Bucket, r.Key)
		return err
	})
	return info, err
}
