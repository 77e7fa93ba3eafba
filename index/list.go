package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// hiddenRowsMax is how many rows in a row a listing passes without finding anything to return before it stops short, with
// Truncated and a place to go on: a bound on the work of one call when everything in sight is invisible.
const hiddenRowsMax = 10_000

// ErrBadQuery is matched when a Query makes no sense.
var ErrBadQuery = errors.New("index: bad query")

// A Query asks for keys of one bucket.
type Query struct {
	Bucket    string
	Prefix    string // only keys that begin with it
	Delimiter string // keys that have it after Prefix are grouped by what precedes it; "" groups nothing

	// After: only keys strictly greater. With SkipAfterPrefix it is a common prefix that was already
	// returned, and everything that begins with it is skipped too. In ListUploads with AfterUploadID, uploads
	// of the key After with greater upload IDs are included.
	After           string
	SkipAfterPrefix bool
	AfterUploadID   string // ListUploads only
	AfterCSN        uint64 // ListVersions only: if not 0, versions of the key After with lesser CSNs are included

	Max int // most items to return; for 0 the result is empty and not truncated

	// Visible is asked about the newest version of each key (List) or each row; if it says
	// false the key does not count, nor does a prefix under which nothing else is. nil: everything is visible.
	Visible func(Entry) bool
}

// An Item is a key, or a common prefix that stands for all keys that begin with it.
type Item struct {
	Key      string // the key or the common prefix, Delimiter included
	IsPrefix bool
	CSN      uint64 // List and ListVersions: of the version, as in its row's key
	UploadID string // ListUploads
	Entry    Entry  // zero for a prefix
}

// A Result is one page of a listing.
type Result struct {
	Items     []Item // keys and prefixes in order of Key
	Truncated bool   // there may be more: repeat the query with what follows

	Next         string // After of the next query
	NextIsPrefix bool   // SkipAfterPrefix of the next query
	NextUploadID string // AfterUploadID of the next query, ListUploads only
	NextCSN      uint64 // AfterCSN of the next query, ListVersions only

	seeks int // how often a tree was descended
}

// Keys returns the items that are keys.
func (r *Result) Keys() []Item {
	return r.filter(false)
}

// Prefixes returns the common prefixes.
func (r *Result) Prefixes() []string {
	var prefixes []string
	for _, item := range r.filter(true) {
		prefixes = append(prefixes, item.Key)
	}
	return prefixes
}

func (r *Result) filter(isPrefix bool) []Item {
	var items []Item
	for _, item := range r.Items {
		if item.IsPrefix == isPrefix {
			items = append(items, item)
		}
	}
	return items
}

// An IterReader is what a listing reads: a View or a Stage.
type IterReader interface {
	Iter(t Table, lo, hi []byte) *Iter
}

// List returns the keys of q.Bucket, by the newest version of each. It seeks over older versions and over all keys under
// a common prefix, so that it costs about as much as it returns, and stops after 10,000 invisible keys in a row: then Items may be
// short, even empty, with Truncated set. An error matches ErrCorrupt or ErrBadQuery.
func List(r IterReader, q Query) (Result, error) {
	return list(r, Objects, q, false)
}

// ListVersions returns all versions of q.Bucket in order of key, newest first. It is like List, but every row counts.
func ListVersions(r IterReader, q Query) (Result, error) {
	return list(r, Objects, q, true)
}

// ListUploads returns the multipart uploads of q.Bucket in order of key, then upload ID. It is like List, but every
// row counts.
func ListUploads(r IterReader, q Query) (Result, error) {
	return list(r, Uploads, q, true)
}

func list(r IterReader, t Table, q Query, everyRow bool) (Result, error) {
	if q.Max < 0 || q.SkipAfterPrefix && q.After == "" || t == Objects && q.AfterUploadID != "" ||
		q.AfterCSN != 0 && (t != Objects || !everyRow || q.After == "" || q.SkipAfterPrefix) {
		return Result{}, ErrBadQuery
	}
	if q.Max == 0 {
		return Result{}, nil
	}
	l := newLister(r, t, &q)
	l.everyRow = everyRow
	defer l.iter.Close()
	err := l.run()
	l.result.seeks = l.iter.seeks
	return l.result, err
}

// A lister is one listing in progress.
type lister struct {
	query    *Query
	table    Table
	everyRow bool   // not only the first row of each key counts
	bucket   []byte // beginning of all keys of rows of the bucket
	iter     *Iter
	result   Result
	hidden   int
}

func newLister(r IterReader, t Table, q *Query) *lister {
	l := &lister{query: q, table: t, bucket: appendField(nil, q.Bucket)}
	lo := appendEscaped(l.bucket[:len(l.bucket):len(l.bucket)], q.Prefix)
	l.iter = r.Iter(t, lo, prefixEnd(lo))
	if after := l.after(); after != nil {
		l.iter.Seek(after)
	}
	return l
}

// after returns where rows past q.After begin; nil at the beginning.
func (l *lister) after() []byte {
	q := l.query
	switch {
	case q.SkipAfterPrefix:
		return l.pastPrefix(q.After)
	case q.AfterUploadID != "":
		return append(UploadKey(q.Bucket, q.After, q.AfterUploadID), 0)
	case q.AfterCSN != 0:
		return append(ObjectKey(q.Bucket, q.After, q.AfterCSN), 0)
	case q.After != "":
		// A key is not the empty string, so the empty After needs no place of its own.
		return l.pastKey(q.After)
	}
	return nil
}

// pastKey returns what sorts after all rows of key and before those of the next.
func (l *lister) pastKey(key string) []byte {
	return appendPast(l.bucket[:len(l.bucket):len(l.bucket)], key)
}

// pastPrefix returns what sorts after all rows of keys that begin with prefix.
func (l *lister) pastPrefix(prefix string) []byte {
	return prefixEnd(appendEscaped(l.bucket[:len(l.bucket):len(l.bucket)], prefix))
}

// commonPrefix returns the common prefix that key belongs to.
func (l *lister) commonPrefix(key string) (string, bool) {
	q := l.query
	if q.Delimiter == "" {
		return "", false
	}
	i := strings.Index(key[len(q.Prefix):], q.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(q.Prefix)+i+len(q.Delimiter)], true
}

func (l *lister) run() error {
	for l.iter.Next() {
		item, err := l.parse(l.iter.Entry())
		if err != nil {
			return err
		}
		if l.query.Visible != nil && !l.query.Visible(item.Entry) {
			if l.hide(item) {
				return nil
			}
			continue
		}
		if len(l.result.Items) == l.query.Max {
			l.result.Truncated = true
			return nil
		}
		l.hidden = 0
		l.add(item)
	}
	return l.iter.Err()
}

// parse splits the key of e, which begins with the bucket and the prefix unless the file is damaged.
func (l *lister) parse(e Entry) (item Item, err error) {
	item.Entry = e
	var rest []byte
	ok := bytes.HasPrefix(e.Key, l.bucket)
	if ok {
		item.Key, rest, ok = cutField(e.Key[len(l.bucket):])
	}
	switch {
	case l.table == Uploads:
		item.UploadID = string(rest)
	case len(rest) == 8:
		item.CSN = ^binary.BigEndian.Uint64(rest)
	default:
		ok = false
	}
	if !ok || !strings.HasPrefix(item.Key, l.query.Prefix) {
		return Item{}, badKey(l.table, e.Key)
	}
	return item, nil
}

// add puts item, or its common prefix, at the end of the result, and moves on to what comes after it.
func (l *lister) add(item Item) {
	r := &l.result
	prefix, ok := l.commonPrefix(item.Key)
	if ok {
		item = Item{Key: prefix, IsPrefix: true}
		l.iter.Seek(l.pastPrefix(prefix))
	} else {
		l.skipVersions(item.Key)
	}
	r.Items = append(r.Items, item)
	l.next(item)
}

// next makes the page end behind item.
func (l *lister) next(item Item) {
	r := &l.result
	r.Next, r.NextIsPrefix, r.NextUploadID = item.Key, item.IsPrefix, item.UploadID
	if l.everyRow {
		r.NextCSN = item.CSN
	}
}

// skipVersions moves on past the older versions of key, where they do not count.
func (l *lister) skipVersions(key string) {
	if !l.everyRow {
		l.iter.Seek(l.pastKey(key))
	}
}

// hide passes an invisible item. It returns true when there were too many.
func (l *lister) hide(item Item) bool {
	l.skipVersions(item.Key)
	if l.hidden++; l.hidden < hiddenRowsMax {
		return false
	}
	l.result.Truncated = true
	l.next(item)
	return true
}
