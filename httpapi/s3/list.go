package s3

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// listPage is what both versions of ListObjects have in common.
type listPage struct {
	prefix, delimiter string
	encoding          string
	max               int
	result            cas.ListResult
}

// maxKeys reads a parameter like max-keys: more than 1,000 is 1,000.
func (q *request) maxKeys(name string) (int, error) {
	v := q.query.value(name)
	if v == "" {
		return listKeysMax, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	switch {
	case err != nil:
		return 0, s3err.Argument(name, v, "Provided "+name+" not an integer or within integer range")
	case n < 0:
		return 0, s3err.Argument(name, v, "Argument "+name+" must be an integer between 0 and 2147483647")
	}
	return int(min(n, listKeysMax)), nil
}

// encodingType reads encoding-type.
func (q *request) encodingType() (string, error) {
	v, ok := q.query.get("encoding-type")
	if ok && v != "url" && v != "" {
		return "", s3err.Argument("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
	return v, nil
}

func (q *request) listPage() (p listPage, err error) {
	p.prefix, p.delimiter = q.query.value("prefix"), q.query.value("delimiter")
	if p.encoding, err = q.encodingType(); err != nil {
		return p, err
	}
	p.max, err = q.maxKeys("max-keys")
	return p, err
}

// A position is where a page begins.
type position struct {
	after   string
	skipsIt bool // after is a common prefix that was listed: nothing under it is
}

// marked is the position of a marker, which names an entry of a listing. If it lies in a common prefix, that one counts as passed: common
// prefixes are listed when they are greater than the marker, like keys. The start-after of ListObjectsV2 is about keys instead.
func (p *listPage) marked(key string) position {
	if p.delimiter != "" && len(key) > len(p.prefix) && strings.HasPrefix(key, p.prefix) {
		if i := strings.Index(key[len(p.prefix):], p.delimiter); i >= 0 {
			return position{key[:len(p.prefix)+i+len(p.delimiter)], true}
		}
	}
	return position{key, false}
}

func (q *request) list(p *listPage, pos position) (err error) {
	p.result, err = q.api.store.List(q.Context(), cas.ListRequest{
		Bucket: q.bucket, Prefix: p.prefix, Delimiter: p.delimiter,
		After: pos.after, SkipAfterPrefix: pos.skipsIt, Max: p.max,
	})
	if p.max == 0 {
		p.result.Truncated = false
	}
	return err
}

func (q *request) listObjects() error {
	p, err := q.listPage()
	if err != nil {
		return err
	}
	marker := q.query.value("marker")
	pos := p.marked(marker)
	for { // A page that is cut short before its first entry has nothing that its client could go on from.
		if err := q.list(&p, pos); err != nil {
			return err
		}
		if !p.result.Truncated || len(p.result.Items) > 0 {
			break
		}
		if err := context.Cause(q.Context()); err != nil {
			return err
		}
		pos = position{p.result.Next, p.result.NextIsPrefix}
	}
	x := newXML(true)
	x.url = p.encoding == "url"
	x.root("ListBucketResult")
	x.text("Name", q.bucket)
	x.key("Prefix", p.prefix)
	x.key("Marker", marker)
	if n := len(p.result.Items); p.result.Truncated && p.delimiter != "" && n > 0 {
		last := &p.result.Items[n-1] // and not result.Next, which may be a key that is not shown, of a prefix that is yet to be
		x.key("NextMarker", last.Prefix+last.Object.Key)
	}
	x.int("MaxKeys", int64(p.max))
	if p.delimiter != "" {
		x.key("Delimiter", p.delimiter)
	}
	x.optional("EncodingType", p.encoding)
	x.bool("IsTruncated", p.result.Truncated)
	q.contents(x, &p, true)
	x.close("ListBucketResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

func (q *request) listObjectsV2() error {
	if v := q.query.value("list-type"); v != "2" {
		return s3err.Argument("list-type", v, "Invalid List Type specified in Request")
	}
	p, err := q.listPage()
	if err != nil {
		return err
	}
	startAfter := q.query.value("start-after")
	pos := position{after: startAfter}
	token, hasToken := q.query.get("continuation-token")
	if token != "" { // an empty one is none
		var ok bool
		if pos, ok = decodeToken(token); !ok {
			return s3err.Argument("continuation-token", token, "The continuation token provided is incorrect")
		}
	}
	fetchOwner := strings.EqualFold(q.query.value("fetch-owner"), "true")
	if err := q.list(&p, pos); err != nil {
		return err
	}
	x := newXML(true)
	x.url = p.encoding == "url"
	x.root("ListBucketResult")
	x.text("Name", q.bucket)
	x.key("Prefix", p.prefix)
	if hasToken {
		x.text("ContinuationToken", token)
	}
	if p.result.Truncated {
		x.text("NextContinuationToken", encodeToken(position{p.result.Next, p.result.NextIsPrefix}))
	}
	if q.query.has("start-after") {
		x.key("StartAfter", startAfter)
	}
	x.int("KeyCount", int64(len(p.result.Items)))
	x.int("MaxKeys", int64(p.max))
	if p.delimiter != "" {
		x.key("Delimiter", p.delimiter)
	}
	x.optional("EncodingType", p.encoding)
	x.bool("IsTruncated", p.result.Truncated)
	q.contents(x, &p, fetchOwner)
	x.close("ListBucketResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

// contents writes the keys, then the common prefixes.
func (q *request) contents(x *xmlDoc, p *listPage, owner bool) {
	for i := range p.result.Items {
		it := &p.result.Items[i]
		if it.Prefix != "" {
			continue
		}
		o := &it.Object
		x.open("Contents")
		x.key("Key", o.Key)
		x.time("LastModified", o.Modified)
		x.etag(o.ETag)
		if o.Checksum.Algorithm != "" {
			x.text("ChecksumAlgorithm", o.Checksum.Algorithm)
			x.optional("ChecksumType", o.Checksum.Type)
		}
		x.int("Size", o.Size)
		if owner {
			q.owner(x, "Owner", o.Owner)
		}
		x.text("StorageClass", storageClass(o.StorageClass))
		x.close("Contents")
	}
	for i := range p.result.Items {
		if prefix := p.result.Items[i].Prefix; prefix != "" {
			x.open("CommonPrefixes")
			x.key("Prefix", prefix)
			x.close("CommonPrefixes")
		}
	}
}

// owner writes a user.
func (q *request) owner(x *xmlDoc, element, id string) {
	root := &q.api.o.Root
	if id == "" || id == root.ID {
		x.owner(element, root.ID, root.DisplayName)
		return
	}
	x.owner(element, id, id)
}

func storageClass(c string) string {
	if c == "" {
		return "STANDARD"
	}
	return c
}

// A continuation token is base64 of the version 1, a byte that is 1 when the position is a common prefix, and the key. Clients may not
// look into it.
func encodeToken(p position) string {
	b := append(make([]byte, 0, len(p.after)+2), 1, 0)
	if p.skipsIt {
		b[1] = 1
	}
	return base64.URLEncoding.EncodeToString(append(b, p.after...))
}

func decodeToken(s string) (p position, ok bool) {
	b, err := base64.URLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 2 || b[0] != 1 || b[1] > 1 || !validUTF8(string(b[2:])) {
		return p, false
	}
	return position{string(b[2:]), b[1] == 1}, true
}
