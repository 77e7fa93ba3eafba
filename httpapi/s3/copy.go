package s3

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/digest"
	"github.com/casd/casd/httpapi/s3err"
)

// A copySource is what x-amz-copy-source names.
type copySource struct{ bucket, key, version string }

// parseCopySource reads BUCKET/KEY[?versionId=ID], URL-encoded, with a leading slash or not.
func parseCopySource(v string) (s copySource, err error) {
	bad := func(why string) error { return s3err.Argument("x-amz-copy-source", v, why) }
	path, rawQuery, hasQuery := strings.Cut(v, "?")
	if hasQuery {
		params, ok := auth.ParseQuery(rawQuery)
		id, has := query(params).get("versionId")
		if !ok || !has || len(params) != 1 {
			return s, bad("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
		}
		if s.version = id; id == "" {
			return s, errEmptyVersion
		}
	}
	path, ok := unescapePath(path)
	if !ok {
		return s, bad("Invalid copy source encoding")
	}
	s.bucket, s.key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !validBucketName(s.bucket) {
		return s, bad("Invalid copy source bucket name")
	}
	if s.key == "" || !validUTF8(s.key) || len(s.key) > keyBytesMax {
		return s, bad("Invalid copy source object key")
	}
	return s, nil
}

// source reads the copy source of the request and asks whether it may be read.
func (q *request) source() (copySource, error) {
	s, err := parseCopySource(q.Header.Get("X-Amz-Copy-Source"))
	if err != nil {
		return s, err
	}
	return s, q.authorize(versionAction("s3:GetObject", s.version != ""), s.bucket, s.key)
}

// sourceCondition checks the conditions on the source of a copy; all of them fail with 412.
func (q *request) sourceCondition(src *cas.ObjectInfo) error {
	if result, header := copyConditions.evaluate(q.Header, src.ETag, src.Modified); result != holds {
		return failedCondition(strings.ToLower(header))
	}
	return nil
}

// explain names the source in the error that says that it is missing.
func (s copySource) explain(err error) error {
	switch {
	case errors.Is(err, cas.ErrInvalidVersion):
		return versionError(err, s.version)
	case errors.Is(err, cas.ErrDeleteMarker):
		return s3err.CopySourceIsMarker
	case errors.Is(err, cas.ErrNoSuchKey):
		return s3err.NoSuchKey.With("CopySource", s.bucket+"/"+s.key)
	}
	return err
}

// errSourceChanged restarts a copy whose source was replaced while its checksum was computed.
var errSourceChanged = errors.New("s3: the copy source changed")

func (q *request) copyObject() error {
	src, err := q.source()
	if err != nil {
		return err
	}
	cond, err := q.writeCondition()
	if err != nil {
		return err
	}
	replace, err := directive(q.Header.Get("X-Amz-Metadata-Directive"), "x-amz-metadata-directive")
	if err != nil {
		return err
	}
	if _, err := directive(q.Header.Get("X-Amz-Tagging-Directive"), "x-amz-tagging-directive"); err != nil {
		return err // there are no tags, so both directives mean the same
	}
	attrs, err := q.parseAttributes()
	if err != nil {
		return err
	}
	algorithm, err := parseAlgorithm(q.Header.Get("X-Amz-Checksum-Algorithm"))
	if err != nil {
		return err
	}
	class := attrs.StorageClass
	if has, err := q.hasBody(); err != nil {
		return err
	} else if has {
		return s3err.InvalidRequest.WithMessage("You cannot specify a body with x-amz-copy-source")
	}
	return q.slow(func(ctx context.Context) (*xmlDoc, error) {
		c := copying{q: q, src: src, cond: cond, attrs: attrs, replace: replace, class: class, algorithm: algorithm}
		info, err := c.run(ctx)
		if err != nil {
			return nil, src.explain(err)
		}
		x := newXML(false)
		x.header = copyVersions(&c.source, &info)
		x.root("CopyObjectResult")
		x.time("LastModified", info.Modified)
		x.etag(info.ETag)
		x.checksum(info.Checksum)
		if info.Checksum.Value != "" {
			x.optional("ChecksumType", info.Checksum.Type)
		}
		x.close("CopyObjectResult")
		return x, nil
	})
}

// directive reads COPY or REPLACE.
func directive(v, header string) (replace bool, err error) {
	switch v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	}
	return false, s3err.Argument(header, v, "Unknown metadata directive.")
}

// copying is one CopyObject.
type copying struct {
	q         *request
	src       copySource
	cond      cas.Condition
	attrs     cas.Attributes // of the request
	replace   bool
	class     string
	algorithm digest.Algorithm // asked for, or 0

	source cas.ObjectInfo // what was copied
}

// copyTries bounds how often a copy begins again because its source was replaced under it.
const copyTries = 5

func (c *copying) run(ctx context.Context) (info cas.ObjectInfo, err error) {
	for range copyTries {
		var computed cas.ObjectInfo // the source as its checksum was computed
		info, err = c.store(ctx, &computed)
		if !errors.Is(err, errSourceChanged) {
			return info, err
		}
		if computed, err = c.compute(ctx); err != nil {
			return info, err
		}
		info, err = c.store(ctx, &computed)
		if !errors.Is(err, errSourceChanged) {
			return info, err
		}
	}
	return info, s3err.SlowDown
}

// store copies; it fails with errSourceChanged when a checksum is needed that computed does not have for the present source.
func (c *copying) store(ctx context.Context, computed *cas.ObjectInfo) (cas.ObjectInfo, error) {
	q := c.q
	return q.api.store.Copy(ctx, cas.CopyRequest{
		SourceBucket: c.src.bucket, SourceKey: c.src.key, SourceVersion: c.src.version,
		Bucket: q.bucket, Key: q.key, If: c.cond,
		Attributes: func(source cas.ObjectInfo) (cas.Attributes, error) {
			if err := q.sourceCondition(&source); err != nil {
				return cas.Attributes{}, err
			}
			c.source = source
			class := c.class
			if class == "" {
				class = "STANDARD"
			}
			if c.src.bucket == q.bucket && c.src.key == q.key && (c.src.version == "" || !source.Versioned) && !c.replace && c.class == "" {
				return cas.Attributes{}, s3err.CopyOntoItself
			}
			out := source.Attributes
			if c.replace {
				out = c.attrs
				out.ETag, out.Checksum = source.ETag, source.Checksum
			}
			out.StorageClass, out.Owner = class, q.auth.Identity.ID
			if c.algorithm != 0 && (source.Checksum.Algorithm != c.algorithm.String() || source.Checksum.Type != digest.FullObject) {
				if computed.ETag != source.ETag || computed.Size != source.Size || computed.VersionID != source.VersionID || !computed.Modified.Equal(source.Modified) {
					return cas.Attributes{}, errSourceChanged
				}
				out.Checksum = computed.Checksum
			}
			return out, nil
		},
	})
}

// compute reads the source for a checksum that it does not have.
func (c *copying) compute(ctx context.Context) (cas.ObjectInfo, error) {
	o, err := c.q.api.store.Get(ctx, cas.GetRequest{Bucket: c.src.bucket, Key: c.src.key, VersionID: c.src.version})
	if err != nil {
		return cas.ObjectInfo{}, err
	}
	defer o.Close()
	h := digest.New(c.algorithm)
	defer h.Release()
	if n, err := o.WriteRange(ctx, h, 0, o.Info.Size); err != nil || n != o.Info.Size {
		return cas.ObjectInfo{}, errors.Join(err, errShort(n, o.Info.Size))
	}
	info := o.Info
	info.Checksum = cas.Checksum{Algorithm: c.algorithm.String(), Type: digest.FullObject, Value: h.Base64(c.algorithm)}
	return info, nil
}

func errShort(n, want int64) error {
	if n == want {
		return nil
	}
	return errors.New("s3: read " + strconv.FormatInt(n, 10) + " bytes of " + strconv.FormatInt(want, 10))
}

func (q *request) uploadPartCopy() error {
	number, err := partNumber(q.query.value("partNumber"))
	if err != nil {
		return err
	}
	src, err := q.source()
	if err != nil {
		return err
	}
	up, err := q.api.store.Upload(q.Context(), q.bucket, q.key, q.query.value("uploadId"))
	if err != nil {
		return err
	}
	o, err := q.api.store.Get(q.Context(), cas.GetRequest{Bucket: src.bucket, Key: src.key, VersionID: src.version})
	if err != nil {
		return src.explain(err)
	}
	r, err := q.copyRange(&o.Info)
	if err != nil {
		o.Close()
		return err
	}
	algorithm, _ := digest.Parse(up.Checksum.Algorithm)
	return q.slow(func(ctx context.Context) (*xmlDoc, error) {
		defer o.Close()
		from := o.NewReader(ctx, r.off, r.n)
		defer from.Close()
		h := digest.New(digest.MD5 | algorithm)
		part, err := q.api.store.PutPart(ctx, cas.PartRequest{
			Bucket: q.bucket, Key: q.key, UploadID: up.ID, Number: number, Body: from, Digest: h,
			Finish: func(n int64) (cas.Attributes, error) {
				if err := errShort(n, r.n); err != nil {
					return cas.Attributes{}, err
				}
				b := body{hasher: h}
				etag, sum := b.attributes(algorithm)
				return cas.Attributes{ETag: etag, Checksum: sum}, nil
			},
		})
		if err != nil {
			return nil, err
		}
		h.Release()
		x := newXML(false)
		x.header = copyVersions(&o.Info, nil)
		x.root("CopyPartResult")
		x.time("LastModified", part.Modified)
		x.etag(part.ETag)
		x.checksum(part.Checksum)
		x.close("CopyPartResult")
		return x, nil
	})
}

// copyRange checks the conditions on the source and reads x-amz-copy-source-range, which must lie within it.
func (q *request) copyRange(src *cas.ObjectInfo) (byteRange, error) {
	if err := q.sourceCondition(src); err != nil {
		return byteRange{}, err
	}
	r := byteRange{0, src.Size}
	if v := q.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		spec, ok := strings.CutPrefix(v, "bytes=")
		first, last, ok2 := strings.Cut(spec, "-")
		a, ok3 := parseBytes(first)
		b, ok4 := parseBytes(last)
		if !ok || !ok2 || !ok3 || !ok4 || b < a {
			return r, s3err.Argument("x-amz-copy-source-range", v, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
		}
		if b >= src.Size {
			return r, s3err.Argument("x-amz-copy-source-range", v, "Range specified is not valid for source object of size: "+strconv.FormatInt(src.Size, 10))
		}
		r = byteRange{a, b - a + 1}
	}
	if r.n > putBytesMax {
		return r, s3err.InvalidRequest.WithMessage("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	return r, nil
}
