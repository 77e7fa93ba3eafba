package cas

import (
	"context"
	"errors"

	"github.com/casd/casd/index"
)

// List returns one page of the current objects of a bucket. Keys whose newest version is a delete marker are passed over by seeking; after 10,000
// of them in a row the page ends there, short or even empty, with Truncated. Error: ErrNoSuchBucket.
func (s *Store) List(_ context.Context, r ListRequest) (res ListResult, err error) {
	if err := s.complete(); err != nil {
		return res, err
	}
	err = s.view(func(v *index.View) error {
		b, err := getBucket(v, r.Bucket)
		if err != nil {
			return err
		}
		q := index.Query{Bucket: r.Bucket, Prefix: r.Prefix, Delimiter: r.Delimiter, After: r.After, SkipAfterPrefix: r.SkipAfterPrefix, Max: r.Max}
		var bad error // what Visible met
		if b.versioned() {
			q.Visible = func(e index.Entry) bool {
				var row markerRow
				if err := decodeRow(index.Objects, e.Key, e.Value, &row); err != nil {
					bad = err
				}
				return !row.Marker
			}
		}
		page, err := index.List(v, q)
		if err = errors.Join(err, bad); err != nil {
			return err
		}
		res = ListResult{Truncated: page.Truncated, Next: page.Next, NextIsPrefix: page.NextIsPrefix, Items: make([]ListItem, 0, len(page.Items))}
		for _, it := range page.Items {
			if it.IsPrefix {
				res.Items = append(res.Items, ListItem{Prefix: it.Key})
				continue
			}
			o, err := s.listed(&b, r.Bucket, it)
			if err != nil {
				return err
			}
			res.Items = append(res.Items, ListItem{Object: o.info()})
		}
		return nil
	})
	return res, err
}

// listed makes a version of an entry of a list, without what lists do not show.
func (s *Store) listed(b *bucketRow, bucket string, it index.Item) (version, error) {
	v := version{ok: true, s: s, bucket: bucket, key: it.Key, versioned: b.versioned(), csn: it.CSN}
	err := decodeRow(index.Objects, it.Entry.Key, it.Entry.Value, &v.row)
	v.row.Attributes.Metadata, v.row.Attributes.Headers = nil, nil
	return v, err
}

// ListVersions returns one page of the versions and delete markers of a bucket, by key and then newest first. Errors: ErrNoSuchBucket, ErrInvalidVersion.
func (s *Store) ListVersions(_ context.Context, r VersionListRequest) (res VersionList, err error) {
	if err := s.complete(); err != nil {
		return res, err
	}
	err = s.view(func(v *index.View) error {
		b, err := getBucket(v, r.Bucket)
		if err != nil {
			return err
		}
		q := index.Query{Bucket: r.Bucket, Prefix: r.Prefix, Delimiter: r.Delimiter, After: r.AfterKey, SkipAfterPrefix: r.SkipAfterPrefix, Max: r.Max}
		newest, err := s.newest(v, &b, r.Bucket, r.AfterKey)
		if err != nil {
			return err
		}
		if !r.SkipAfterPrefix {
			if q.AfterCSN, err = newest.position(v, r.AfterID); err != nil {
				return err
			}
		}
		page, err := index.ListVersions(v, q)
		if err != nil {
			return err
		}
		res = VersionList{Truncated: page.Truncated, NextKey: page.Next, NextIsPrefix: page.NextIsPrefix, Items: make([]VersionListItem, 0, len(page.Items))}
		before := "" // the key of the last row
		for _, it := range page.Items {
			if it.IsPrefix {
				res.Items = append(res.Items, VersionListItem{Prefix: it.Key})
				continue
			}
			o, err := s.listed(&b, r.Bucket, it)
			if err != nil {
				return err
			}
			latest := it.Key != before
			if it.Key == r.AfterKey { // what lies above may have been on the page before
				latest = newest.csn == it.CSN
			}
			before = it.Key
			res.Items = append(res.Items, VersionListItem{Object: o.info(), Marker: o.row.Marker, Latest: latest})
			res.NextID = o.id()
			if o.null() && it.Key == page.Next {
				if res.NextID, err = o.nullPosition(v); err != nil {
					return err
				}
			}
		}
		if !page.Truncated || page.NextIsPrefix {
			res.NextID = ""
		}
		return nil
	})
	return res, err
}

// position is the CSN of a version ID as a place in the list of the key whose newest version is v. It is 0, past all versions, for no ID and for that of
// a null version that is gone.
func (v *version) position(r index.Reader, id string) (csn uint64, err error) {
	switch id {
	case "":
		return 0, nil
	case nullVersion:
		null, err := v.findNull(r)
		return null.csn, err
	}
	return v.s.versions.csn(id)
}

// nullPosition names the place of a null version in a list so that position finds it when the version is gone by then.
func (v *version) nullPosition(r index.Reader) (string, error) {
	older, err := v.below(r)
	if err != nil || !older.ok {
		return nullVersion, err
	}
	return v.s.versions.id(v.csn), nil
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
