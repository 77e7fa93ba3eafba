package s3

import (
	"net/http"
	"strings"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// failedCondition is PreconditionFailed with the header that did not hold.
func failedCondition(header string) error { return s3err.PreconditionFailed.With("Condition", header) }

// etagListed tells whether a list of ETags, as in If-Match, has this one. Quotes may be missing, and "*" is any.
func etagListed(list []string, etag string) bool {
	for _, l := range list {
		for e := range strings.SplitSeq(l, ",") {
			e = strings.TrimSpace(e)
			if e == "*" {
				return true
			}
			e = strings.TrimPrefix(e, "W/")
			if len(e) >= 2 && e[0] == '"' && e[len(e)-1] == '"' {
				e = e[1 : len(e)-1]
			}
			if e == etag {
				return true
			}
		}
	}
	return false
}

// conditionHeaders names the four conditions of a read, plain or with a prefix for the source of a copy.
type conditionHeaders struct{ match, noneMatch, modified, unmodified string }

var (
	readConditions = conditionHeaders{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
	copyConditions = conditionHeaders{"X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match", "X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since"}
)

// outcome of the conditions of a read.
type outcome uint8

const (
	holds outcome = iota
	failed
	notModified
)

// evaluate checks the conditions of a read in the order of RFC 9110, section 13.2.2, and says which header decided. A date that is not one is
// ignored, and so is If-Unmodified-Since beside If-Match, and If-Modified-Since beside If-None-Match.
func (c conditionHeaders) evaluate(h http.Header, etag string, modified time.Time) (outcome, string) {
	modified = modified.Truncate(time.Second) // as far as clients see
	if v := h[c.match]; len(v) > 0 {
		if !etagListed(v, etag) {
			return failed, c.match
		}
	} else if t, ok := date(h, c.unmodified); ok && modified.After(t) {
		return failed, c.unmodified
	}
	if v := h[c.noneMatch]; len(v) > 0 {
		if etagListed(v, etag) {
			return notModified, c.noneMatch
		}
	} else if t, ok := date(h, c.modified); ok && !modified.After(t) {
		return notModified, c.modified
	}
	return holds, ""
}

// date reads a date header; ok is false when it is missing or malformed.
func date(h http.Header, name string) (t time.Time, ok bool) {
	v := h.Get(name)
	if v == "" {
		return t, false // parsing would make errors on every read
	}
	t, err := http.ParseTime(v)
	return t, err == nil
}

// writeCondition reads If-Match and If-None-Match of a write. It returns nil when there are none. Like AWS it knows only "*" for If-None-Match,
// and not both together.
func (q *request) writeCondition() (cas.Condition, error) {
	match, noneMatch := q.Header["If-Match"], q.Header["If-None-Match"]
	if len(noneMatch) > 0 && (len(noneMatch) > 1 || len(match) > 0 || strings.TrimSpace(noneMatch[0]) != "*") {
		return nil, s3err.Header("If-None-Match")
	}
	if len(match) == 0 && len(noneMatch) == 0 {
		return nil, nil
	}
	return func(current *cas.ObjectInfo) error {
		if len(match) > 0 {
			if current == nil {
				return s3err.NoSuchKey
			}
			if !etagListed(match, current.ETag) {
				return failedCondition("If-Match")
			}
		}
		if len(noneMatch) > 0 && current != nil {
			return failedCondition("If-None-Match")
		}
		return nil
	}, nil
}
