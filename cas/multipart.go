package cas

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// revisionKey is a row of Meta that every change of an upload's parts writes, so that Complete can tell that none came in
// between by one read instead of ten thousand.
func revisionKey(uploadID string) []byte { return []byte("upload-revision/" + uploadID) }

// newUploadID returns an ID that sorts by the time of initiation: 16 hex digits of nanoseconds, then 128 random bits.
func newUploadID(now time.Time) string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%016x%s", now.UnixNano(), hex.EncodeToString(b[:]))
}

func getUpload(r index.Reader, bucket, key, id string) (uploadRow, error) {
	if _, err := getBucket(r, bucket); err != nil {
		return uploadRow{}, err
	}
	row, _, ok, err := getRow[uploadRow](r, index.Uploads, index.UploadKey(bucket, key, id))
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s of %s/%s", ErrNoSuchUpload, id, bucket, key)
	}
	return row, err
}

// CreateUpload begins a multipart upload. Error: ErrNoSuchBucket.
func (s *Store) CreateUpload(ctx context.Context, r CreateUploadRequest) (Upload, error) {
	now := s.opts.Clock()
	id := newUploadID(now)
	row := uploadRow{Attributes: r.Attributes.row(), Initiated: now.UnixNano(), Domain: s.domain.number}
	err := s.updateIn(ctx, erasure.TierUpload, nil, func(v index.Reader) (*tx, error) {
		if _, err := getBucket(v, r.Bucket); err != nil {
			return nil, err
		}
		t := &tx{}
		t.put(index.Uploads, index.UploadKey(r.Bucket, r.Key, id), row)
		t.use(r.Bucket, usageRow{Uploads: 1})
		return t, nil
	})
	return row.upload(r.Bucket, r.Key, id), err
}

// Upload finds an upload in progress. Errors: ErrNoSuchBucket, ErrNoSuchUpload.
func (s *Store) Upload(_ context.Context, bucket, key, id string) (u Upload, err error) {
	err = s.view(func(v *index.View) error {
		row, err := getUpload(v, bucket, key, id)
		u = row.upload(bucket, key, id)
		return err
	})
	return u, err
}

// PutPart stores one part; one with the same number is replaced as a whole. Errors: as Put, and ErrNoSuchUpload.
func (s *Store) PutPart(ctx context.Context, r PartRequest) (Part, error) {
	if r.Number < 1 || r.Number > partNumberMax {
		return Part{}, fmt.Errorf("%w: part number %d", ErrInvalidPart, r.Number)
	}
	if err := s.admit(r.Bucket, func(v index.Reader, _ *bucketRow) error {
		_, err := getUpload(v, r.Bucket, r.Key, r.UploadID)
		return err
	}); err != nil {
		return Part{}, err
	}
	u := s.newUpload()
	defer u.end()
	c, err := u.ingest(ctx, r.Body, r.Digest, partBytesMax)
	if err != nil {
		return Part{}, fmt.Errorf("put part %d of %s/%s: %w", r.Number, r.Bucket, r.Key, err)
	}
	row := partRow{Content: c}
	if r.Finish != nil {
		a, err := r.Finish(c.Size)
		if err != nil {
			return Part{}, err
		}
		row.ETag, row.Checksum = a.ETag, a.Checksum.row()
	}
	err = s.updateIn(ctx, erasure.TierUpload, u.deps, func(v index.Reader) (*tx, error) {
		if _, err := getUpload(v, r.Bucket, r.Key, r.UploadID); err != nil {
			return nil, err
		}
		t := &tx{committed: func(_ uint64, now int64) { row.Modified = now }}
		key := index.PartKey(r.UploadID, r.Number)
		t.putAt(index.Parts, func(uint64) []byte { return key }, func(_ uint64, now int64) (any, error) {
			p := row
			p.Modified = now
			return p, nil
		})
		t.put(index.Meta, revisionKey(r.UploadID), r.Number)
		return t, nil
	})
	return row.part(r.Number), err
}

// removeUpload deletes the rows of an upload.
func (t *tx) removeUpload(r index.Reader, bucket, key, id string) error {
	t.remove(index.Uploads, index.UploadKey(bucket, key, id))
	t.remove(index.Meta, revisionKey(id))
	t.use(bucket, usageRow{Uploads: -1})
	return eachPart(r, id, 0, func(number int, p partRow) (bool, error) {
		t.remove(index.Parts, index.PartKey(id, number))
		t.freed += p.Content.Size
		return true, nil
	})
}

// eachPart walks the parts of an upload behind a number until fn returns false. It does not record preconditions: the
// revision row stands for all parts.
func eachPart(r index.Reader, id string, after int, fn func(number int, row partRow) (bool, error)) error {
	if rec, ok := r.(recorder); ok {
		r = rec.Reader
	}
	_, hi := index.PartRange(id)
	for lo := index.PartKey(id, after+1); ; {
		e, ok, err := r.First(index.Parts, lo, hi)
		if err != nil || !ok {
			return err
		}
		_, number, err := index.ParsePartKey(e.Key)
		if err != nil {
			return err
		}
		var row partRow
		if err := decodeRow(index.Parts, e.Key, e.Value, &row); err != nil {
			return err
		}
		if more, err := fn(number, row); err != nil || !more {
			return err
		}
		lo = index.PartKey(id, number+1)
	}
}

// AbortUpload gives an upload up. Errors: ErrNoSuchBucket, ErrNoSuchUpload.
func (s *Store) AbortUpload(ctx context.Context, bucket, key, id string) error {
	return s.abortUpload(ctx, bucket, key, id, func(index.Reader, uploadRow) error { return nil })
}

// abortUpload gives an upload up when may, asked inside the transaction, returns nil.
func (s *Store) abortUpload(ctx context.Context, bucket, key, id string, may func(index.Reader, uploadRow) error) error {
	return s.update(ctx, nil, func(r index.Reader) (*tx, error) {
		row, err := getUpload(r, bucket, key, id)
		if err != nil {
			return nil, err
		}
		if _, _, err := r.Get(index.Meta, revisionKey(id)); err != nil { // parts may not come in between
			return nil, err
		}
		if err := may(r, row); err != nil {
			return nil, err
		}
		t := &tx{}
		return t, t.removeUpload(r, bucket, key, id)
	})
}

// errPartsChanged makes CompleteUpload look again.
var errPartsChanged = errors.New("cas: parts changed while the upload was completed")

// CompleteUpload makes an object of the parts of an upload; none of their bytes move. Errors: ErrNoSuchBucket, ErrNoSuchUpload, ErrInvalidPart,
// ErrInvalidPartOrder, ErrPartTooSmall, ErrTooLarge, and those of Finish and If; the upload is then as it was. A repeated call gives
// the same answer as the first while the object is still the one that it made.
func (s *Store) CompleteUpload(ctx context.Context, r CompleteRequest) (ObjectInfo, error) {
	for {
		info, err := s.completeOnce(ctx, r)
		switch {
		case errors.Is(err, errPartsChanged):
		case errors.Is(err, ErrNoSuchUpload):
			done, ok, lookErr := s.completedBefore(r)
			if lookErr != nil {
				return info, lookErr
			}
			if ok {
				return done, nil
			}
			return info, err
		default:
			return info, err
		}
	}
}

// completedBefore finds the object of an upload that is complete.
func (s *Store) completedBefore(r CompleteRequest) (info ObjectInfo, ok bool, err error) {
	err = s.view(func(v *index.View) error {
		b, err := getBucket(v, r.Bucket)
		if err != nil {
			return err
		}
		c, err := s.newest(v, &b, r.Bucket, r.Key)
		if err != nil || !c.ok || c.row.UploadID != r.UploadID || c.row.PartCount != len(r.Parts) {
			return err
		}
		parts, err := s.partEntries(&c.row)
		if err != nil {
			return err
		}
		for i, p := range r.Parts {
			if parts[i].Number != p.Number || parts[i].ETag != p.ETag {
				return nil
			}
		}
		info, ok = c.info(), true
		return nil
	})
	return info, ok, err
}

func (s *Store) completeOnce(ctx context.Context, r CompleteRequest) (ObjectInfo, error) {
	if err := s.WriteState(); err != nil {
		return ObjectInfo{}, err
	}
	if len(r.Parts) == 0 || len(r.Parts) > partNumberMax {
		return ObjectInfo{}, fmt.Errorf("%w: %d parts", ErrInvalidPart, len(r.Parts))
	}
	if len(r.Parts) > manyParts { // their manifests are in memory at once
		if err := s.uploads.Acquire(ctx, uploadMemory); err != nil {
			return ObjectInfo{}, err
		}
		defer s.uploads.Release(uploadMemory)
	}
	var up uploadRow
	var rows []partRow
	var rev uint64
	err := s.view(func(v *index.View) (err error) {
		if up, err = getUpload(v, r.Bucket, r.Key, r.UploadID); err != nil {
			return err
		}
		e, _, err := v.Get(index.Meta, revisionKey(r.UploadID))
		if err != nil {
			return err
		}
		rev = e.Rev
		rows, err = chosenParts(v, r)
		return err
	})
	if err != nil {
		return ObjectInfo{}, err
	}
	u := s.newUpload()
	defer u.end()
	row := versionRow{UploadID: r.UploadID, PartCount: len(rows)}
	parts := make([]Part, len(rows))
	entries := make([]partEntry, len(rows))
	for i, p := range rows {
		n := r.Parts[i].Number
		parts[i] = p.part(n)
		entries[i] = partEntry{Number: n, Size: p.Content.Size, ETag: p.ETag, Checksum: p.Checksum.checksum().Value}
	}
	a, err := r.Finish(up.upload(r.Bucket, r.Key, r.UploadID), parts)
	if err != nil {
		return ObjectInfo{}, err
	}
	row.Attributes = a.row()
	if row.Content, err = u.join(rows); err != nil {
		return ObjectInfo{}, err
	}
	if err := u.keepParts(&row, entries); err != nil {
		return ObjectInfo{}, err
	}
	var made *version
	err = s.updateIn(ctx, erasure.TierUpload, u.deps, func(v index.Reader) (*tx, error) {
		b, err := getBucket(v, r.Bucket)
		if err != nil {
			return nil, err
		}
		if _, err := getUpload(v, r.Bucket, r.Key, r.UploadID); err != nil {
			return nil, err
		}
		if e, _, err := v.Get(index.Meta, revisionKey(r.UploadID)); err != nil {
			return nil, err
		} else if e.Rev != rev {
			return nil, errPartsChanged
		}
		c, err := s.newest(v, &b, r.Bucket, r.Key)
		if err != nil {
			return nil, err
		}
		if err := c.check(r.If); err != nil {
			return nil, err
		}
		t := &tx{}
		if made, err = t.replace(v, &b, &c, row); err != nil {
			return nil, err
		}
		return t, t.removeUpload(v, r.Bucket, r.Key, r.UploadID)
	})
	if err != nil {
		return ObjectInfo{}, err
	}
	return made.info(), nil
}

// chosenParts finds the parts that a client names and checks order, ETags and sizes.
func chosenParts(v index.Reader, r CompleteRequest) ([]partRow, error) {
	rows := make([]partRow, len(r.Parts))
	var total int64
	for i, p := range r.Parts {
		if i > 0 && p.Number <= r.Parts[i-1].Number {
			return nil, fmt.Errorf("%w: %d after %d", ErrInvalidPartOrder, p.Number, r.Parts[i-1].Number)
		}
	}
	for i, p := range r.Parts {
		row, _, ok, err := getRow[partRow](v, index.Parts, index.PartKey(r.UploadID, p.Number))
		if err != nil {
			return nil, err
		}
		if !ok || row.ETag != p.ETag {
			return nil, fmt.Errorf("%w: part %d", ErrInvalidPart, p.Number)
		}
		if sum := row.Checksum.checksum(); sum.Value != "" {
			if want, ok := p.Checksum[sum.Algorithm]; ok && want != sum.Value {
				return nil, fmt.Errorf("%w: part %d has another %s", ErrInvalidPart, p.Number, sum.Algorithm)
			}
		}
		if i < len(r.Parts)-1 && row.Content.Size < partBytesMin {
			return nil, fmt.Errorf("%w: part %d has %d bytes", ErrPartTooSmall, p.Number, row.Content.Size)
		}
		if total += row.Content.Size; total > objectBytesMax {
			return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, total)
		}
		rows[i] = row
	}
	return rows, nil
}

// join makes one manifest of those of the parts. A part that lies in its row becomes a chunk.
func (u *upload) join(rows []partRow) (content, error) {
	c := content{Domain: u.domain.number}
	m := u.newManifest()
	for _, p := range rows {
		c.Size += p.Content.Size
		if p.Content.Root == nil {
			if len(rows) == 1 {
				c.Inline = p.Content.Inline
				return c, nil
			}
			if p.Content.Size == 0 {
				continue
			}
			id, err := u.storeChunk(kindChunk, erasure.Metadata, p.Content.Inline)
			if err != nil {
				return c, err
			}
			if err := m.add(ref{kind: refChunk, size: p.Content.Size, id: id}, 0); err != nil {
				return c, err
			}
			continue
		}
		level, refs, err := decodeNode(p.Content.Root)
		if err != nil {
			return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		for _, r := range refs {
			if err := m.add(r, level-1); err != nil { // level is not used for leaves
				return c, err
			}
		}
	}
	var err error
	c.Root, err = m.root()
	return c, err
}

// keepParts puts the part table where it belongs: into the row, or into a chunk of its own.
func (u *upload) keepParts(row *versionRow, entries []partEntry) error {
	if len(entries) <= partsInRowMax {
		row.Parts = entries
		return nil
	}
	b, err := encodeRow(entries)
	if err != nil {
		return err
	}
	id, err := u.storeChunk(kindList, erasure.Metadata, b)
	row.PartTable, row.TableSize = id[:], uint32(len(b))
	return err
}

// partEntries reads the part table of an object.
func (s *Store) partEntries(row *versionRow) (parts []partEntry, err error) {
	parts = row.Parts
	if row.PartTable != nil {
		r := ref{kind: refList, size: int64(row.TableSize)}
		copy(r.id[:], row.PartTable)
		b, err := s.readChunk(s.ctx, r, true)
		if err != nil {
			return nil, err
		}
		if err := cborDec.Unmarshal(b, &parts); err != nil {
			return nil, fmt.Errorf("part table: %w: %w", ErrCorrupt, err)
		}
	}
	if len(parts) != row.PartCount {
		return nil, fmt.Errorf("part table of %d parts where %d belong: %w", len(parts), row.PartCount, ErrCorrupt)
	}
	return parts, nil
}

// ListParts lists the parts of an upload by number. Errors: ErrNoSuchBucket, ErrNoSuchUpload.
func (s *Store) ListParts(_ context.Context, r PartListRequest) (l PartList, err error) {
	err = s.view(func(v *index.View) error {
		row, err := getUpload(v, r.Bucket, r.Key, r.UploadID)
		if err != nil {
			return err
		}
		l.Upload = row.upload(r.Bucket, r.Key, r.UploadID)
		return eachPart(v, r.UploadID, r.After, func(number int, p partRow) (bool, error) {
			if len(l.Parts) >= r.Max {
				l.Truncated = true
				return false, nil
			}
			l.Parts = append(l.Parts, p.part(number))
			return true, nil
		})
	})
	return l, err
}
