package s3

import (
	"net/http"
	"strconv"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/digest"
	"github.com/casd/casd/httpapi/s3err"
)

func (q *request) putObject() error {
	cond, err := q.writeCondition()
	if err != nil {
		return err
	}
	attrs, err := q.parseAttributes()
	if err != nil {
		return err
	}
	extra, err := parseAlgorithm(q.Header.Get("X-Amz-Checksum-Algorithm"))
	if err != nil {
		return err
	}
	b, err := q.openBody(digest.MD5|extra, putBytesMax, false)
	if err != nil {
		return err
	}
	if _, err := q.api.store.Bucket(q.Context(), q.bucket); err != nil { // before the client is told to go on
		return err
	}
	info, err := q.api.store.Put(q.Context(), cas.PutRequest{
		Bucket: q.bucket, Key: q.key, Body: b, Digest: b.hasher, If: cond,
		Finish: func(n int64) (cas.Attributes, error) {
			if err := b.verify(n); err != nil {
				return cas.Attributes{}, err
			}
			attrs.ETag, attrs.Checksum = b.attributes(extra)
			return attrs, nil
		},
	})
	if err != nil {
		return b.failed(err)
	}
	b.hasher.Release()
	h := q.w.Header()
	h["ETag"] = []string{`"` + info.ETag + `"`}
	setChecksum(h, info.Checksum)
	setVersion(h, &info)
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) deleteObject() error {
	version, err := q.version()
	if err != nil {
		return err
	}
	if len(q.Header["If-None-Match"]) > 0 { // no condition of a deletion
		return s3err.Header("If-None-Match")
	}
	cond, err := q.writeCondition()
	if err != nil {
		return err
	}
	res, err := q.api.store.DeleteVersion(q.Context(), cas.DeleteRequest{Bucket: q.bucket, Key: q.key, VersionID: version, Owner: q.auth.Identity.ID, If: cond})
	if err != nil {
		return versionError(err, version)
	}
	if h := q.w.Header(); res.Versioned {
		h[versionHeader] = []string{res.VersionID}
		if res.Marker {
			h[markerHeader] = []string{"true"}
		}
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

const partNumberMessage = "Part number must be an integer between 1 and 10000, inclusive"

// partNumber reads a part number of the query.
func partNumber(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > partsMax {
		return 0, s3err.Argument("partNumber", v, partNumberMessage)
	}
	return n, nil
}
