package cas

import (
	"context"

	"github.com/casd/casd/index"
)

// List returns one page of the current objects of a bucket. Error: ErrNoSuchBucket.
func (s *Store) List(_ context.Context, r ListRequest) (res ListResult, err error) {
	if err := s.complete(); err != nil {
		return res, err
	}
	err = s.view(func(v *index.View) error {
		if _, err := getBucket(v, r.Bucket); err != nil {
			return err
		}
		page, err := index.List(v, index.Query{Bucket: r.Bucket, Prefix: r.Prefix, Delimiter: r.Delimiter, After: r.After,
			SkipAfterPrefix: r.SkipAfterPrefix, Max: r.Max})
		if err != nil {
			return err
		}
		res = ListResult{Truncated: page.Truncated, Next: page.Next, NextIsPrefix: page.NextIsPrefix, Items: make([]ListItem, 0, len(page.Items))}
		for _, it := range page.Items {
			if it.IsPrefix {
				res.Items = append(res.Items, ListItem{Prefix: it.Key})
				continue
			}
			var row versionRow
			if err := decodeRow(index.Objects, it.Entry.Key, it.Entry.Value, &row); err != nil {
				return err
			}
			o := row.info(r.Bucket, it.Key)
			o.Metadata, o.Headers = nil, nil
			res.Items = append(res.Items, ListItem{Object: o})
		}
		return nil
	})
	return res, err
}

// ListUploads returns one page of the multipart uploads in progress, by key and then by time of initiation. Error: ErrNoSuchBucket.
func (s *Store) ListUploads(_ context.Context, r UploadListRequest) (res UploadList, err error) {
	if err := s.complete(); err != nil {
		return res, err
	}
	err = s.view(func(v *index.View) error {
		if _, err := getBucket(v, r.Bucket); err != nil {
			return err
		}
		page, err := index.ListUploads(v, index.Query{Bucket: r.Bucket, Prefix: r.Prefix, Delimiter: r.Delimiter, After: r.AfterKey,
			AfterUploadID: r.AfterID, SkipAfterPrefix: r.SkipAfterPrefix, Max: r.Max})
		if err != nil {
			return err
		}
		res = UploadList{Truncated: page.Truncated, NextKey: page.Next, NextID: page.NextUploadID, NextIsPrefix: page.NextIsPrefix}
		for _, it := range page.Items {
			if it.IsPrefix {
				res.Items = append(res.Items, UploadListItem{Prefix: it.Key})
				continue
			}
			var row uploadRow
			if err := decodeRow(index.Uploads, it.Entry.Key, it.Entry.Value, &row); err != nil {
				return err
			}
			res.Items = append(res.Items, UploadListItem{Upload: row.upload(r.Bucket, it.Key, it.UploadID)})
		}
		return nil
	})
	return res, err
}
