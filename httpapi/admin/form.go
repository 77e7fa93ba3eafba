package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A form reads the parameters of one request. Its methods keep the first error; one that nobody asked for is an error too,
// since a misspelt dry_run must not become a real run.
type form struct {
	values url.Values
	asked  []string
	err    error
}

func readForm(r *http.Request) *form {
	values, err := url.ParseQuery(r.URL.RawQuery)
	f := &form{values: values}
	if err != nil {
		f.err = badRequest("the query cannot be decoded")
	}
	return f
}

func (f *form) fail(format string, args ...any) {
	f.err = errors.Join(f.err, badRequest(fmt.Sprintf(format, args...)))
}

// text returns a parameter, or def when it is not there or empty.
func (f *form) text(name, def string) string {
	f.asked = append(f.asked, name)
	all := f.values[name]
	if len(all) > 1 {
		f.fail("%s is given more than once", name)
	}
	if len(all) == 0 || all[0] == "" {
		return def
	}
	return all[0]
}

// oneOf returns a parameter that has one of a few values; empty when it is not there.
func (f *form) oneOf(name string, values ...string) string {
	v := f.text(name, "")
	if v != "" && !slices.Contains(values, v) {
		f.fail("%s=%s is none of %s", name, v, strings.Join(values, ", "))
	}
	return v
}

// flag returns a parameter that is true or false.
func (f *form) flag(name string, def bool) bool {
	v := f.text(name, strconv.FormatBool(def))
	b, err := strconv.ParseBool(v)
	if err != nil {
		f.fail("%s=%s is neither true nor false", name, v)
	}
	return b
}

// number returns a whole number from min to max.
func (f *form) number(name string, def, min, max int64) int64 {
	v := f.text(name, strconv.FormatInt(def, 10))
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < min || n > max {
		f.fail("%s=%s is not a whole number from %d to %d", name, v, min, max)
	}
	return n
}

// fraction returns a number more than 0 and at most 1; 0 when it is not there.
func (f *form) fraction(name string) float64 {
	v := f.text(name, "")
	if v == "" {
		return 0
	}
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || !(x > 0 && x <= 1) {
		f.fail("%s=%s is not a number more than 0 and at most 1", name, v)
	}
	return x
}

// dir returns the ID or path of a data directory.
func (f *form) dir() string {
	v := f.text("dir", "")
	if v == "" {
		f.fail("dir is missing: the ID or the path of a data directory")
	}
	return v
}

// path returns an absolute path of this machine.
func (f *form) path() string {
	v := f.text("path", "")
	if !filepath.IsAbs(v) {
		f.fail("path=%s is not an absolute path on the server's machine", v)
	}
	return v
}

// done returns the first error. What belongs to a presigned request is no parameter.
func (f *form) done() error {
	for name := range f.values {
		if !slices.Contains(f.asked, name) && !strings.HasPrefix(name, "X-Amz-") {
			f.fail("there is no parameter %s here", name)
		}
	}
	return f.err
}
