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
	errs := make([]error, len(req.Objects))
	keys := make([]string, 0, len(req.Objects)) // of those that are deleted together
	index := make([]int, 0, len(req.Objects))
	for i := range req.Objects {
		o := &req.Objects[i]
		if errs[i] = q.checkDelete(o); errs[i] != nil {
			continue
		}
		if o.ETag != nil {
			match := []string{*o.ETag}
			_, errs[i] = q.api.store.Delete(q.Context(), q.bucket, o.key(), func(current *cas.ObjectInfo) error {
				switch {
				case current == nil:
					return s3err.NoSuchKey
				case !etagListed(match, current.ETag):
					return failedCondition("If-Match")
				}
				return nil
			})
			continue
		}
		keys, index = append(keys, o.key()), append(index, i)
	}
	if len(keys) > 0 {
		results, err := q.api.store.DeleteMany(q.Context(), q.bucket, keys)
		if err != nil {
			return err
		}
		for i, r := range results {
			errs[index[i]] = r.Err
		}
	}
	for _, err := range errs {
		if errors.Is(err, cas.ErrUnknownOutcome) {
			return err // no key may be called deleted or not
		}
	}
	x := newXML(true)
	x.root("DeleteResult")
	for i := range req.Objects {
		o := &req.Objects[i]
		switch {
		case errs[i] != nil:
			e, internal := told(errs[i])
			if internal {
				q.entry.Err = errs[i]
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
	if o.VersionID != nil && *o.VersionID != "" {
		if _, err := checkVersion(*o.VersionID, true); err != nil {
			return err
		}
	}
	return q.authorize("s3:DeleteObject", q.bucket, o.key())
}
