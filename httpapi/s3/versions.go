package s3

import (
	"errors"
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

const (
	versionHeader = "x-amz-version-id"
	markerHeader  = "x-amz-delete-marker"
)

var errEmptyVersion = s3err.Argument("versionId", "", "Version id cannot be the empty string")

// version reads versionId from the query; it is empty when there is none.
func (q *request) version() (string, error) {
	v, ok := q.query.get("versionId")
	if ok && v == "" {
		return "", errEmptyVersion
	}
	return v, nil
}

// versionAction is what IAM calls an action on a version that the request names.
func versionAction(action string, named bool) string {
	if named {
		switch action {
		case "s3:GetObject", "s3:DeleteObject":
			return action + "Version"
		case "s3:GetObjectAcl":
			return "s3:GetObjectVersionAcl"
		case "s3:GetObjectTagging":
			return "s3:GetObjectVersionTagging"
		}
	}
	return action
}

// setVersion says which version it is, in a bucket that has or had versions.
func setVersion(h http.Header, info *cas.ObjectInfo) {
	if info.Versioned {
		h[versionHeader] = []string{info.VersionID}
	}
}

// copyVersions says which version was copied, and which was made of it if made is not nil.
func copyVersions(source, made *cas.ObjectInfo) (h [][2]string) {
	if source.Versioned {
		h = append(h, [2]string{"x-amz-copy-source-version-id", source.VersionID})
	}
	if made != nil && made.Versioned {
		h = append(h, [2]string{versionHeader, made.VersionID})
	}
	return h
}

// versionError explains what went wrong with a version that a request names, or with the newest one.
func versionError(err error, id string) error {
	var marker *cas.DeleteMarkerError
	switch {
	case errors.Is(err, cas.ErrInvalidVersion):
		return s3err.Argument("versionId", id, s3err.InvalidVersion.Message)
	case !errors.As(err, &marker):
		return err
	case marker.Named:
		return s3err.MethodNotAllowed.With("Method", http.MethodGet).With("ResourceType", "DeleteMarker").
			WithHeader("Allow", http.MethodDelete).WithHeader(markerHeader, "true").WithHeader(versionHeader, marker.VersionID).
			WithHeader("Last-Modified", marker.Modified.UTC().Format(http.TimeFormat))
	}
	return s3err.NoSuchKey.WithHeader(markerHeader, "true").WithHeader(versionHeader, marker.VersionID)
}

func (q *request) putBucketVersioning() error {
	data, err := q.small(q.api.o.XMLBytes, false)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return s3err.MissingRequestBody
	}
	var conf versioningConfiguration
	if err := decodeXML(data, "VersioningConfiguration", &conf); err != nil {
		return err
	}
	to, err := conf.versioning()
	if err != nil {
		return err
	}
	if err := q.api.store.SetVersioning(q.Context(), q.bucket, to); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// versioning is what the document asks for.
func (c *versioningConfiguration) versioning() (cas.Versioning, error) {
	if len(c.Status) > 1 || len(c.MFADelete) > 1 || len(c.Others) > 0 {
		return "", s3err.MalformedXML
	}
	if len(c.Status) == 0 || c.Status[0] == "" {
		return "", s3err.IllegalVersioning
	}
	to := cas.Versioning(c.Status[0])
	if to != cas.VersioningEnabled && to != cas.VersioningSuspended {
		return "", s3err.MalformedXML
	}
	if len(c.MFADelete) > 0 {
		switch c.MFADelete[0] {
		case "", "Disabled": // which it is
		case "Enabled":
			return "", s3err.NotImplemented.WithMessage("MFA delete is not implemented.")
		default:
			return "", s3err.MalformedXML
		}
	}
	return to, nil
}

func (q *request) getBucketVersioning() error {
	b, err := q.api.store.Bucket(q.Context(), q.bucket)
	if err != nil {
		return err
	}
	x := newXML(true)
	x.root("VersioningConfiguration")
	x.optional("Status", string(b.Versioning))
	x.close("VersioningConfiguration")
	x.respond(q.w, http.StatusOK)
	return nil
}

func (q *request) listVersions() error {
	p, err := q.listPage()
	if err != nil {
		return err
	}
	keyMarker := q.query.value("key-marker")
	idMarker, hasID := q.query.get("version-id-marker")
	switch {
	case hasID && keyMarker == "":
		return s3err.Argument("version-id-marker", idMarker, "A version-id marker cannot be specified without a key marker.")
	case hasID && idMarker == "":
		return s3err.Argument("version-id-marker", "", "A version-id marker cannot be empty.")
	}
	pos := p.marked(keyMarker)
	l, err := q.api.store.ListVersions(q.Context(), cas.VersionListRequest{
		Bucket: q.bucket, Prefix: p.prefix, Delimiter: p.delimiter,
		AfterKey: pos.after, AfterID: idMarker, SkipAfterPrefix: pos.skipsIt, Max: p.max,
	})
	if errors.Is(err, cas.ErrInvalidVersion) {
		return s3err.Argument("version-id-marker", idMarker, s3err.InvalidVersion.Message)
	}
	if err != nil {
		return err
	}
	truncated := l.Truncated && p.max > 0
	x := newXML(true)
	x.url = p.encoding == "url"
	x.root("ListVersionsResult")
	x.text("Name", q.bucket)
	x.key("Prefix", p.prefix)
	x.key("KeyMarker", keyMarker)
	x.text("VersionIdMarker", idMarker)
	if truncated {
		x.key("NextKeyMarker", l.NextKey)
		x.optional("NextVersionIdMarker", l.NextID)
	}
	x.int("MaxKeys", int64(p.max))
	if p.delimiter != "" {
		x.key("Delimiter", p.delimiter)
	}
	x.optional("EncodingType", p.encoding)
	x.bool("IsTruncated", truncated)
	for i := range l.Items {
		if l.Items[i].Prefix == "" {
			q.listedVersion(x, &l.Items[i])
		}
	}
	for i := range l.Items {
		if prefix := l.Items[i].Prefix; prefix != "" {
			x.open("CommonPrefixes")
			x.key("Prefix", prefix)
			x.close("CommonPrefixes")
		}
	}
	x.close("ListVersionsResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

// listedVersion writes a version or a delete marker.
func (q *request) listedVersion(x *xmlDoc, it *cas.VersionListItem) {
	o := &it.Object
	element := "Version"
	if it.Marker {
		element = "DeleteMarker"
	}
	x.open(element)
	x.key("Key", o.Key)
	x.text("VersionId", o.VersionID)
	x.bool("IsLatest", it.Latest)
	x.time("LastModified", o.Modified)
	if !it.Marker {
		x.etag(o.ETag)
		if o.Checksum.Algorithm != "" {
			x.text("ChecksumAlgorithm", o.Checksum.Algorithm)
			x.optional("ChecksumType", o.Checksum.Type)
		}
		x.int("Size", o.Size)
	}
	q.owner(x, "Owner", o.Owner)
	if !it.Marker {
		x.text("StorageClass", storageClass(o.StorageClass))
	}
	x.close(element)
}
