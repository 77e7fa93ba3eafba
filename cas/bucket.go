package cas

import (
	"context"
	"errors"
	"fmt"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

func getBucket(r index.Reader, name string) (bucketRow, error) {
	row, _, ok, err := getRow[bucketRow](r, index.Buckets, []byte(name))
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrNoSuchBucket, name)
	}
	return row, err
}

// view runs fn on the published state.
func (s *Store) view(fn func(v *index.View) error) error {
	v, err := s.idx.View()
	if err != nil {
		return s.indexError(err)
	}
	defer v.Close()
	return s.unproven(s.indexError(fn(v)))
}

// unproven takes back "there is no such thing" when the log could not be replayed to its end: unknown is not missing.
func (s *Store) unproven(err error) error {
	if !s.incomplete {
		return err
	}
	for _, missing := range []error{ErrNoSuchBucket, ErrNoSuchKey, ErrNoSuchVersion, ErrNoSuchUpload} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w: as far as it can be read: %s", ErrIncomplete, err)
		}
	}
	return err
}

// complete refuses lists while they might leave something out: who mirrors by them would delete what they do not show.
func (s *Store) complete() error {
	if s.incomplete {
		return ErrIncomplete
	}
	return nil
}

// indexError notices a damaged index: nothing can be found reliably any more, so the process must end and a start
// build the index anew.
func (s *Store) indexError(err error) error {
	if errors.Is(err, index.ErrCorrupt) {
		s.idx.Distrust()
		s.fail(err)
		s.die(err)
	}
	return err
}

// CreateBucket makes a bucket. ErrBucketExists comes with the bucket that exists.
func (s *Store) CreateBucket(ctx context.Context, b Bucket) (Bucket, error) {
	row := bucketRow{Created: s.opts.Clock().UnixNano(), Owner: b.Owner, Region: b.Region, Domain: defaultDomain}
	var found bucketRow
	err := s.updateIn(ctx, erasure.TierUpload, nil, func(r index.Reader) (*tx, error) {
		var ok bool
		var err error
		if found, _, ok, err = getRow[bucketRow](r, index.Buckets, []byte(b.Name)); err != nil {
			return nil, err
		}
		if ok {
			return nil, fmt.Errorf("%w: %s", ErrBucketExists, b.Name)
		}
		t := &tx{}
		t.put(index.Buckets, []byte(b.Name), row)
		t.put(index.Usage, []byte(b.Name), usageRow{})
		return t, nil
	})
	if errors.Is(err, ErrBucketExists) {
		return found.bucket(b.Name), err
	}
	return row.bucket(b.Name), err
}

// SetVersioning enables or suspends versions of a bucket; what is in it stays as it is. Errors: ErrNoSuchBucket, and one when asked for Unversioned.
func (s *Store) SetVersioning(ctx context.Context, name string, to Versioning) error {
	if to != VersioningEnabled && to != VersioningSuspended {
		return fmt.Errorf("cas: versioning of a bucket cannot become %q", to)
	}
	return s.update(ctx, nil, func(r index.Reader) (*tx, error) {
		row, err := getBucket(r, name)
		if err != nil {
			return nil, err
		}
		t := &tx{}
		if row.Versioning != to {
			row.Versioning = to
			t.put(index.Buckets, []byte(name), row)
		}
		return t, nil
	})
}

// DeleteBucket removes a bucket without versions and delete markers; multipart uploads in progress are aborted. Errors: ErrNoSuchBucket, ErrBucketNotEmpty.
func (s *Store) DeleteBucket(ctx context.Context, name string) error {
	errUploads := errors.New("uploads in progress")
	lo, hi := index.BucketRange(name)
	for {
		err := s.update(ctx, nil, func(r index.Reader) (*tx, error) {
			if _, err := getBucket(r, name); err != nil {
				return nil, err
			}
			if _, ok, err := r.First(index.Objects, lo, hi); err != nil {
				return nil, err
			} else if ok {
				return nil, fmt.Errorf("%w: %s", ErrBucketNotEmpty, name)
			}
			if _, ok, err := r.First(index.Uploads, lo, hi); err != nil {
				return nil, err
			} else if ok {
				return nil, errUploads
			}
			t := &tx{}
			t.remove(index.Buckets, []byte(name))
			t.remove(index.Usage, []byte(name))
			return t, nil
		})
		if !errors.Is(err, errUploads) {
			return err
		}
		if err := s.abortFirstUpload(ctx, name); err != nil && !errors.Is(err, ErrNoSuchUpload) {
			return err
		}
	}
}

// abortFirstUpload makes DeleteBucket progress.
func (s *Store) abortFirstUpload(ctx context.Context, name string) error {
	var key, id string
	err := s.view(func(v *index.View) error {
		lo, hi := index.BucketRange(name)
		e, ok, err := v.First(index.Uploads, lo, hi)
		if err != nil || !ok {
			return err
		}
		_, key, id, err = index.ParseUploadKey(e.Key)
		return err
	})
	if err != nil || id == "" {
		return err
	}
	return s.AbortUpload(ctx, name, key, id)
}

// Bucket finds a bucket: ErrNoSuchBucket.
func (s *Store) Bucket(_ context.Context, name string) (b Bucket, err error) {
	err = s.view(func(v *index.View) error {
		row, err := getBucket(v, name)
		b = row.bucket(name)
		return err
	})
	return b, err
}

// ListBuckets lists buckets by name: those with prefix that are greater than after, at most max. more tells whether
// there are others.
func (s *Store) ListBuckets(_ context.Context, prefix, after string, max int) (bs []Bucket, more bool, err error) {
	if err := s.complete(); err != nil {
		return nil, false, err
	}
	err = s.view(func(v *index.View) error {
		lo := []byte(prefix)
		if after >= prefix {
			lo = append([]byte(after), 0)
		}
		it := v.Iter(index.Buckets, lo, nil)
		defer it.Close()
		for it.Next() {
			name := string(it.Entry().Key)
			if len(name) < len(prefix) || name[:len(prefix)] != prefix {
				return nil
			}
			if len(bs) == max {
				more = true
				return nil
			}
			var row bucketRow
			if err := decodeRow(index.Buckets, it.Entry().Key, it.Entry().Value, &row); err != nil {
				return err
			}
			bs = append(bs, row.bucket(name))
		}
		return it.Err()
	})
	return bs, more, err
}
