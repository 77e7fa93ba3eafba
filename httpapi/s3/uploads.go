package s3

import (
	"net/http"
	"strconv"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

func (q *request) listParts() error {
	limit, err := q.maxKeys("max-parts")
	if err != nil {
		return err
	}
	encoding, err := q.encodingType()
	if err != nil {
		return err
	}
	after := 0
	if v := q.query.value("part-number-marker"); v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 0 {
			return s3err.Argument("part-number-marker", v, "Provided part-number-marker not an integer or within integer range")
		}
		after = int(n)
	}
	l, err := q.api.store.ListParts(q.Context(), cas.PartListRequest{
		Bucket: q.bucket, Key: q.key, UploadID: q.query.value("uploadId"), After: after, Max: limit,
	})
	if err != nil {
		return err
	}
	x := newXML(true)
	x.url = encoding == "url"
	x.root("ListPartsResult")
	x.text("Bucket", q.bucket)
	x.key("Key", q.key)
	x.text("UploadId", q.query.value("uploadId"))
	q.owner(x, "Initiator", l.Upload.Owner)
	q.owner(x, "Owner", l.Upload.Owner)
	x.text("StorageClass", storageClass(l.Upload.StorageClass))
	x.int("PartNumberMarker", int64(after))
	next := 0
	if n := len(l.Parts); n > 0 {
		next = l.Parts[n-1].Number
	}
	x.int("NextPartNumberMarker", int64(next))
	x.int("MaxParts", int64(limit))
	x.optional("EncodingType", encoding)
	x.bool("IsTruncated", l.Truncated && limit > 0)
	if l.Upload.Checksum.Algorithm != "" {
		x.text("ChecksumAlgorithm", l.Upload.Checksum.Algorithm)
		x.optional("ChecksumType", l.Upload.Checksum.Type)
	}
	for i := range l.Parts {
		p := &l.Parts[i]
		x.open("Part")
		x.int("PartNumber", int64(p.Number))
		x.time("LastModified", p.Modified)
		x.etag(p.ETag)
		x.checksum(p.Checksum)
		x.int("Size", p.Size)
		x.close("Part")
	}
	x.close("ListPartsResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

func (q *request) listUploads() error {
	p := listPage{prefix: q.query.value("prefix"), delimiter: q.query.value("delimiter")}
	var err error
	if p.encoding, err = q.encodingType(); err != nil {
		return err
	}
	if p.max, err = q.maxKeys("max-uploads"); err != nil {
		return err
	}
	keyMarker, idMarker := q.query.value("key-marker"), q.query.value("upload-id-marker")
	if keyMarker == "" {
		idMarker = "" // means nothing without a key
	}
	pos := p.marked(keyMarker)
	if pos.skipsIt {
		idMarker = ""
	}
	l, err := q.api.store.ListUploads(q.Context(), cas.UploadListRequest{
		Bucket: q.bucket, Prefix: p.prefix, Delimiter: p.delimiter,
		AfterKey: pos.after, AfterID: idMarker, SkipAfterPrefix: pos.skipsIt, Max: p.max,
	})
	if err != nil {
		return err
	}
	truncated := l.Truncated && p.max > 0
	x := newXML(true)
	x.url = p.encoding == "url"
	x.root("ListMultipartUploadsResult")
	x.text("Bucket", q.bucket)
	x.key("KeyMarker", keyMarker)
	x.text("UploadIdMarker", idMarker)
	if truncated {
		x.key("NextKeyMarker", l.NextKey)
		x.text("NextUploadIdMarker", l.NextID)
	}
	x.key("Prefix", p.prefix)
	if p.delimiter != "" {
		x.key("Delimiter", p.delimiter)
	}
	x.optional("EncodingType", p.encoding)
	x.int("MaxUploads", int64(p.max))
	x.bool("IsTruncated", truncated)
	for i := range l.Items {
		it := &l.Items[i]
		if it.Prefix != "" {
			continue
		}
		u := &it.Upload
		x.open("Upload")
		x.key("Key", u.Key)
		x.text("UploadId", u.ID)
		q.owner(x, "Initiator", u.Owner)
		q.owner(x, "Owner", u.Owner)
		x.text("StorageClass", storageClass(u.StorageClass))
		x.time("Initiated", u.Initiated)
		if u.Checksum.Algorithm != "" {
			x.text("ChecksumAlgorithm", u.Checksum.Algorithm)
			x.optional("ChecksumType", u.Checksum.Type)
		}
		x.close("Upload")
	}
	for i := range l.Items {
		if prefix := l.Items[i].Prefix; prefix != "" {
			x.open("CommonPrefixes")
			x.key("Prefix", prefix)
			x.close("CommonPrefixes")
		}
	}
	x.close("ListMultipartUploadsResult")
	x.respond(q.w, http.StatusOK)
	return nil
}
