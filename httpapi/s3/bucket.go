package s3

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// bucketsMax is how many buckets a page of ListBuckets has at most.
const bucketsMax = 10000

func (q *request) listBuckets() error {
	limit := bucketsMax
	if v, ok := q.query.get("max-buckets"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > bucketsMax {
			return s3err.Argument("max-buckets", v, "Argument max-buckets must be an integer between 1 and 10000")
		}
		limit = n
	}
	if v := q.query.value("bucket-region"); v != "" && v != q.api.o.Region {
		return s3err.Argument("bucket-region", v, "Argument value "+v+" is not a valid AWS Region")
	}
	var after string
	if v := q.query.value("continuation-token"); v != "" {
		b, err := base64.RawURLEncoding.DecodeString(v)
		if err != nil {
			return s3err.Argument("continuation-token", v, "The continuation token provided is incorrect")
		}
		after = string(b)
	}
	prefix := q.query.value("prefix")
	buckets, more, err := q.api.store.ListBuckets(q.Context(), prefix, after, limit)
	if err != nil {
		return err
	}
	id := q.auth.Identity
	x := newXML(true)
	x.root("ListAllMyBucketsResult")
	x.owner("Owner", id.ID, id.DisplayName)
	x.open("Buckets")
	for i := range buckets {
		x.open("Bucket")
		x.text("Name", buckets[i].Name)
		x.time("CreationDate", buckets[i].Created)
		x.text("BucketRegion", q.api.region(buckets[i]))
		x.close("Bucket")
	}
	x.close("Buckets")
	if more && len(buckets) > 0 {
		x.text("ContinuationToken", base64.RawURLEncoding.EncodeToString([]byte(buckets[len(buckets)-1].Name)))
	}
	x.optional("Prefix", prefix)
	x.close("ListAllMyBucketsResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

// region is where a bucket is; we have one region.
func (a *API) region(b cas.Bucket) string {
	if b.Region != "" {
		return b.Region
	}
	return a.o.Region
}

func (q *request) createBucket() error {
	data, err := q.small(q.api.o.XMLBytes, false)
	if err != nil {
		return err
	}
	var conf createBucketConfiguration
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := decodeXML(data, "CreateBucketConfiguration", &conf); err != nil {
			return err
		}
	}
	if conf.Bucket != nil || conf.Location != nil {
		return s3err.NotImplemented.WithMessage("Directory buckets are not implemented.")
	}
	if conf.Tags != nil {
		return s3err.NotImplemented.WithMessage("Tags of buckets are not implemented.")
	}
	// There is one region. No constraint means it, and us-east-1 is none, as on AWS.
	if c := conf.LocationConstraint; c != "" && (c != q.api.o.Region || c == "us-east-1") {
		return s3err.InvalidLocationConstraint.With("LocationConstraint", c)
	}
	b := cas.Bucket{Name: q.bucket, Owner: q.auth.Identity.ID, Region: conf.LocationConstraint}
	existing, err := q.api.store.CreateBucket(q.Context(), b)
	if errors.Is(err, cas.ErrBucketExists) {
		switch {
		case q.api.ownerID(existing.Owner) != q.auth.Identity.ID && !q.auth.Identity.Root:
			return s3err.BucketAlreadyExists
		case q.api.o.Region != "us-east-1":
			return s3err.BucketAlreadyOwnedByYou
		}
		// In us-east-1 creating one's own bucket again succeeds.
	} else if err != nil {
		return err
	}
	q.w.Header()["Location"] = []string{"/" + q.bucket}
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) headBucket() error {
	b, err := q.api.store.Bucket(q.Context(), q.bucket)
	if err != nil {
		return err
	}
	h := q.w.Header()
	h["x-amz-bucket-region"] = []string{q.api.region(b)}
	h["x-amz-access-point-alias"] = []string{"false"}
	h["Content-Type"] = xmlContentType
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) deleteBucket() error {
	if err := q.api.store.DeleteBucket(q.Context(), q.bucket); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (q *request) getBucketLocation() error {
	b, err := q.api.store.Bucket(q.Context(), q.bucket)
	if err != nil {
		return err
	}
	region := q.api.region(b)
	if region == "us-east-1" {
		region = ""
	}
	x := newXML(true)
	x.root("LocationConstraint")
	x.b = appendEscapedXML(x.b, region)
	x.close("LocationConstraint")
	x.respond(q.w, http.StatusOK)
	return nil
}
