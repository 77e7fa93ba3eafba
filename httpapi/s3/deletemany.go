package s3

import (
	"errors"
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

func (q *request) deleteObjects() error {
	if _, err := q.api.store.Bucket(q.Context(), q.bucket); err != nil {
		return err
	}
	data, err := q.small(q.api.o.DeleteBytes, true)
	if err != nil {
		return err
	}
	var req deleteRequest
	if err := decodeXML(data, "Delete", &req); err != nil {
		return err
	}
	if n := len(req.Objects); n == 0 || n > deleteKeysMax {
		return s3err.MalformedXML
	}
	for i := range req.Objects {
		if len(req.Objects[i].Keys) != 1 { // with two of them the client would not know which one is deleted
			return s3err.MalformedXML
		}
	}
	results := make([]cas.KeyResult, len(req.Objects))
	deletes := make([]cas.DeleteRequest, 0, len(req.Objects))
	index := make([]int, 0, len(req.Objects)) // of the objects of deletes
	for i := range req.Objects {
		o := &req.Objects[i]
		if results[i].Err = q.checkDelete(o); results[i].Err != nil {
			continue
		}
		d := cas.DeleteRequest{Key: o.key(), VersionID: o.version(), Owner: q.auth.Identity.ID}
		if o.ETag != nil {
			match := []string{*o.ETag}
			d.If = func(current *cas.ObjectInfo) error {
				switch {
				case current == nil:
					return s3err.NoSuchKey
				case !etagListed(match, current.ETag):
					return failedCondition("If-Match")
				}
				return nil
			}
		}
		deletes, index = append(deletes, d), append(index, i)
	}
	if len(deletes) > 0 {
		done, err := q.api.store.DeleteMany(q.Context(), q.bucket, deletes)
		if err != nil {
			return err
		}
		for i, r := range done {
			results[index[i]] = r
		}
	}
	for i := range results {
		if errors.Is(results[i].Err, cas.ErrUnknownOutcome) {
			return results[i].Err // no key may be called deleted or not
		}
	}
	x := newXML(true)
	x.root("DeleteResult")
	for i := range req.Objects {
		o, r := &req.Objects[i], &results[i]
		switch {
		case r.Err != nil:
			e, internal := told(r.Err)
			if internal {
				q.entry.Err = r.Err
			}
			if errors.Is(r.Err, cas.ErrInvalidVersion) {
				e = s3err.NoSuchVersion // here, unlike for a single object
			}
			x.open("Error")
			x.text("Key", o.key())
			if o.VersionID != nil {
				x.text("VersionId", *o.VersionID)
			}
			x.text("Code", e.Code)
			x.text("Message", e.Message)
			x.close("Error")
		case !req.Quiet:
			x.open("Deleted")
			x.text("Key", o.key())
			if o.VersionID != nil {
				x.text("VersionId", *o.VersionID)
			}
			if r.Marker && r.Versioned {
				x.bool("DeleteMarker", true)
				x.text("DeleteMarkerVersionId", r.VersionID)
			}
			x.close("Deleted")
		}
	}
	x.close("DeleteResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

// checkDelete tells why one key of DeleteObjects cannot be deleted.
func (q *request) checkDelete(o *deleteObject) error {
	switch {
	case o.key() == "":
		return s3err.InvalidRequest.WithMessage("The key must be specified.")
	case len(o.key()) > keyBytesMax:
		return s3err.KeyTooLong
	case o.LastModifiedTime != nil || o.Size != nil:
		return s3err.NotImplemented.WithMessage("Only ETag is implemented as a condition.")
	}
	return q.authorize(versionAction("s3:DeleteObject", o.version() != ""), q.bucket, o.key())
}
