package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/casd/casd/cas"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A table prints rows in columns. Its cells are safe for a terminal whatever a key or a file name holds.
type table struct{ tw *tabwriter.Writer }

func newTable(w io.Writer, heads ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(heads) > 0 {
		t.row(heads...)
	}
	return t
}

func (t table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.tw, "\t")
		}
		fmt.Fprint(t.tw, plain(c))
	}
	fmt.Fprintln(t.tw)
}

// oneLine joins the lines of a message: errors that were joined have one each.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

func (t table) end() error { return t.tw.Flush() }

// plain quotes what is not printable.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func comma(n int64) string { return humanize.Comma(n) }

// times writes from when to when.
func times(began, ended time.Time) string {
	if began.IsZero() {
		return "-"
	}
	s := began.Local().Format(time.DateTime)
	if !ended.IsZero() {
		s += ", " + ended.Sub(began).Round(time.Millisecond).String()
	}
	return s
}

// more says how many entries a bounded list does not show.
func more(w io.Writer, shown int, total int64) {
	if n := total - int64(shown); n > 0 {
		fmt.Fprintf(w, "... and %s more\n", comma(n))
	}
}

// printLost lists the objects that are beyond repair.
func printLost(w io.Writer, lost []cas.LostObject, total int64) error {
	if total = max(total, int64(len(lost))); total == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nlost: %s object versions and parts have bytes that are beyond repair; what else they hold can be read\n", comma(total))
	t := newTable(w, "BUCKET", "KEY", "VERSION", "UPLOAD", "CHUNKS")
	for _, o := range lost {
		upload := "-"
		if o.UploadID != "" {
			upload = fmt.Sprintf("%s part %d", o.UploadID, o.Part)
		}
		version := o.VersionID
		if version == "" {
			version = "-"
		}
		t.row(o.Bucket, o.Key, version, upload, comma(o.Chunks))
	}
	if err := t.end(); err != nil {
		return err
	}
	more(w, len(lost), total)
	return nil
}
