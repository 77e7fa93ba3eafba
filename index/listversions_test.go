package index

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ListVersions returns every row once, newest first, in pages of any size, from any place.
func TestListVersions(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		db := mustOpen(t, filepath.Join(dir, fmt.Sprint(n)))
		defer db.Close()
		type version struct {
			key string
			csn uint64
		}
		fragment := rapid.SampledFrom([]string{"a", "/", "b", "\x00", "\xff"})
		drawVersion := func(label string) version {
			return version{fragment.Draw(t, label+" k1") + fragment.Draw(t, label+" k2"), rapid.Uint64Range(1, 5).Draw(t, label+" csn")}
		}
		var versions []version
		ops := []Op{putObject("other", "a", 1, "v"), putObject("bucke", "a", 1, "v")}
		for range rapid.IntRange(0, 30).Draw(t, "versions") {
			if v := drawVersion("v"); !slices.Contains(versions, v) {
				versions = append(versions, v)
				ops = append(ops, putObject("bucket", v.key, v.csn, "v"))
			}
		}
		commit(t, db, 1, ops...)
		slices.SortFunc(versions, func(a, b version) int {
			if a.key != b.key {
				return strings.Compare(a.key, b.key)
			}
			return int(b.csn) - int(a.csn)
		})
		view, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		q := Query{Bucket: "bucket", Max: rapid.IntRange(1, 5).Draw(t, "max"), Delimiter: rapid.SampledFrom([]string{"", "/"}).Draw(t, "delimiter")}
		if rapid.Bool().Draw(t, "after") {
			after := drawVersion("after")
			if q.After = after.key; rapid.Bool().Draw(t, "after version") {
				q.AfterCSN = after.csn
			}
		}
		var want []string
		for _, v := range versions {
			if v.key < q.After || v.key == q.After && (q.AfterCSN == 0 || v.csn >= q.AfterCSN) {
				continue
			}
			item := fmt.Sprintf("key %q %d", v.key, v.csn)
			if i := strings.Index(v.key, "/"); q.Delimiter != "" && i >= 0 {
				item = fmt.Sprintf("prefix %q", v.key[:i+1])
			}
			if len(want) == 0 || want[len(want)-1] != item {
				want = append(want, item)
			}
		}
		var got []string
		for page := q; ; {
			r, err := ListVersions(view, page)
			if err != nil || len(r.Items) > q.Max {
				t.Fatalf("ListVersions(%+v) = %d items, %v", page, len(r.Items), err)
			}
			for _, it := range r.Items {
				if it.IsPrefix {
					got = append(got, fmt.Sprintf("prefix %q", it.Key))
				} else {
					got = append(got, fmt.Sprintf("key %q %d", it.Key, it.CSN))
				}
			}
			if page.After, page.SkipAfterPrefix, page.AfterCSN = r.Next, r.NextIsPrefix, r.NextCSN; !r.Truncated {
				break
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("ListVersions(%+v):\ngot  %q\nwant %q", q, got, want)
		}
	})
}

func TestListVersionsBadQuery(t *testing.T) {
	db := openTemp(t)
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for _, q := range []Query{{AfterCSN: 1}, {After: "a/", SkipAfterPrefix: true, AfterCSN: 1}, {After: "a", AfterUploadID: "u"}} {
		q.Bucket, q.Max = "b", 1
		if _, err := ListVersions(view, q); !errors.Is(err, ErrBadQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, list := range []func(IterReader, Query) (Result, error){List, ListUploads} {
		if _, err := list(view, Query{Bucket: "b", After: "a", AfterCSN: 1, Max: 1}); !errors.Is(err, ErrBadQuery) {
			t.Error(err)
		}
	}
}
