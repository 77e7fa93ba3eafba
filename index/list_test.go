package index

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naiveList is what List should return for all pages together: every key in turn, no seeks. keys are visible ones, sorted.
func naiveList(keys []string, q Query) (items []string) {
	last := ""
	for _, key := range keys {
		if !strings.HasPrefix(key, q.Prefix) || key <= q.After || q.SkipAfterPrefix && strings.HasPrefix(key, q.After) {
			continue
		}
		item := "key " + key
		if q.Delimiter != "" {
			if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
				item = "prefix " + key[:len(q.Prefix)+i+len(q.Delimiter)]
			}
		}
		if item != last {
			items = append(items, item)
		}
		last = item
	}
	return items
}

func itemNames(r Result) (names []string) {
	for _, item := range r.Items {
		if item.IsPrefix {
			names = append(names, "prefix "+item.Key)
		} else {
			names = append(names, "key "+item.Key)
		}
	}
	return names
}

// listPages lists all pages.
func listPages(t tester, r IterReader, q Query, list func(IterReader, Query) (Result, error)) (all Result, pages int) {
	t.Helper()
	for {
		page, err := list(r, q)
		if err != nil {
			t.Fatalf("List(%+v): %v", q, err)
		}
		if len(page.Items) > q.Max {
			t.Fatalf("List(%+v): %d items", q, len(page.Items))
		}
		all.Items = append(all.Items, page.Items...)
		all.seeks += page.seeks
		pages++
		if !page.Truncated {
			return all, pages
		}
		if page.Next < q.After && !page.NextIsPrefix {
			t.Fatalf("List(%+v) goes back to %q", q, page.Next)
		}
		q.After, q.SkipAfterPrefix, q.AfterUploadID = page.Next, page.NextIsPrefix, page.NextUploadID
	}
}

// visible hides rows with the value "marker".
func visible(e Entry) bool { return string(e.Value) != "marker" }

// drawListed writes a random history of keys over a file, a frozen and an active overlay, and returns which keys are visible in "bucket".
func drawListed(t *rapid.T, db *DB) []string {
	state := make(map[string]bool)
	csn := uint64(0)
	drawListedKey := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte("ab//\x00\xff")), 1, 5).Draw(t, "key"))
	})
	for layer := range 3 {
		for range rapid.IntRange(0, 25).Draw(t, "versions") {
			csn++
			key, value := drawListedKey.Draw(t, "key"), rapid.SampledFrom([]string{"object", "object", "marker"}).Draw(t, "value")
			bucket := rapid.SampledFrom([]string{"bucket", "bucket", "bucket", "bucket\x00", "buckeu", "bucke"}).Draw(t, "bucket")
			commit(t, db, csn, putObject(bucket, key, csn, value))
			if bucket == "bucket" {
				state[key] = value == "object"
			}
		}
		if layer < 2 {
			db.Freeze(Position{CSN: csn})
		}
		if layer < 1 {
			if err := db.WriteFrozen(t.Context()); err != nil {
				t.Fatalf("WriteFrozen: %v", err)
			}
		}
	}
	var keys []string
	for key, v := range state {
		if v {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	return keys
}

func TestListEqualsNaive(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		db := mustOpen(t, filepath.Join(dir, fmt.Sprint(n)))
		defer db.Close()
		keys := drawListed(t, db)
		view, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		fragment := rapid.SampledFrom([]string{"", "", "a", "/", "b/", "a/b", "\x00", "\xff", "a\x00", "//"})
		for range 10 {
			q := Query{Bucket: "bucket", Visible: visible, Prefix: fragment.Draw(t, "prefix"), Max: rapid.SampledFrom([]int{1, 2, 3, 1000}).Draw(t, "max"),
				Delimiter: rapid.SampledFrom([]string{"", "/", "/", "//", "a", "\x00"}).Draw(t, "delimiter"),
				After:     fragment.Draw(t, "after") + fragment.Draw(t, "after")}
			q.SkipAfterPrefix = q.After != "" && rapid.Bool().Draw(t, "skip")
			got, _ := listPages(t, view, q, List)
			if want := naiveList(keys, q); !reflect.DeepEqual(itemNames(got), want) {
				t.Fatalf("List(%+v) of %q:\ngot  %q\nwant %q", q, keys, itemNames(got), want)
			}
		}
	})
}

func TestListItems(t *testing.T) {
	db := openTemp(t)
	commit(t, db, 1, putObject("b", "a", 1, "old"), putObject("b", "p/x", 1, "x"), putObject("b", "z", 1, "z"))
	commit(t, db, 5, putObject("b", "a", 5, "new"))
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	r, err := List(view, Query{Bucket: "b", Delimiter: "/", Max: 2})
	if err != nil || !r.Truncated || r.Next != "p/" || !r.NextIsPrefix || !reflect.DeepEqual(r.Prefixes(), []string{"p/"}) {
		t.Fatalf("List = %+v, %v", r, err)
	}
	if keys := r.Keys(); len(keys) != 1 || keys[0].Key != "a" || keys[0].CSN != 5 || string(keys[0].Entry.Value) != "new" || keys[0].Entry.Rev != 5 {
		t.Fatalf("Keys = %+v", keys)
	}
	for _, q := range []Query{{Bucket: "b", Max: -1}, {Bucket: "b", Max: 1, SkipAfterPrefix: true}, {Bucket: "b", Max: 1, AfterUploadID: "u"}} {
		if _, err := List(view, q); !errors.Is(err, ErrBadQuery) {
			t.Errorf("List(%+v) = %v", q, err)
		}
	}
	if r, err := List(view, Query{Bucket: "b"}); err != nil || r.Truncated || len(r.Items) > 0 {
		t.Errorf("List of at most 0 = %+v, %v", r, err)
	}
	if r, err := List(view, Query{Bucket: "b", Max: 3, Visible: func(e Entry) bool { return string(e.Value) != "z" }}); err != nil || r.Truncated {
		t.Errorf("truncated although nothing visible follows: %+v, %v", r, err)
	}
}

// TestListCost counts how often a listing descends a tree: per item, not per row that it skips.
func TestListCost(t *testing.T) {
	db := openTemp(t)
	const prefixes, keys, versions = 20, 300, 50
	var ops []Op
	for p := range prefixes {
		for k := range keys {
			ops = append(ops, putObject("b", fmt.Sprintf("p%03d/key%04d", p, k), 1, "v"))
		}
	}
	for v := range versions {
		for k := range 20 {
			ops = append(ops, putObject("b", fmt.Sprintf("versions%02d", k), uint64(100+v), "v"))
		}
	}
	commit(t, db, 1000, ops...)
	check := func(layer string, sources int) {
		view, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		r, err := List(view, Query{Bucket: "b", Delimiter: "/", Max: 1000})
		if err != nil || len(r.Items) != prefixes+20 {
			t.Fatalf("%s: %d items, %v", layer, len(r.Items), err)
		}
		if most := (len(r.Items) + 1) * sources; r.seeks > most {
			t.Errorf("%s: %d seeks for %d items, want at most %d", layer, r.seeks, len(r.Items), most)
		}
		if r, err = List(view, Query{Bucket: "b", Prefix: "p000/", Max: 1000}); err != nil || len(r.Items) != keys || r.seeks > sources {
			t.Errorf("%s: %d seeks for %d neighbours in a row, want at most %d (%v)", layer, r.seeks, len(r.Items), sources, err)
		}
	}
	check("active overlay", 2) // and the file, which is empty
	if !db.Freeze(Position{CSN: 1000}) {
		t.Fatal("Freeze")
	}
	check("frozen overlay", 2)
	if err := db.WriteFrozen(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("file", 1)
}

// TestListBound lists a bucket with nothing but delete markers.
func TestListBound(t *testing.T) {
	db := openTemp(t)
	const markers = 2*hiddenRowsMax + 10
	ops := make([]Op, 0, markers)
	for k := range markers {
		ops = append(ops, putObject("b", fmt.Sprintf("k%06d", k), 1, "marker"))
	}
	commit(t, db, 1, append(ops, putObject("b", "z", 1, "object"))...)
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	asked := 0
	q := Query{Bucket: "b", Max: 10, Visible: func(e Entry) bool { asked++; return visible(e) }}
	r, err := List(view, q)
	if err != nil || !r.Truncated || len(r.Items) != 0 || r.Next != fmt.Sprintf("k%06d", hiddenRowsMax-1) || asked != hiddenRowsMax {
		t.Fatalf("List = %+v, %v after %d rows", r, err, asked)
	}
	all, pages := listPages(t, view, q, List)
	if names := itemNames(all); !reflect.DeepEqual(names, []string{"key z"}) || pages != 3 {
		t.Fatalf("%q in %d pages", names, pages)
	}
}

func TestListUploads(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		db := mustOpen(t, filepath.Join(dir, fmt.Sprint(n)))
		defer db.Close()
		fragment := rapid.SampledFrom([]string{"a", "/", "b", "\x00", "\xff"})
		type upload struct{ key, id string }
		var uploads []upload
		seen := make(map[upload]bool)
		for range rapid.IntRange(0, 30).Draw(t, "uploads") {
			u := upload{fragment.Draw(t, "k1") + fragment.Draw(t, "k2"), fragment.Draw(t, "id") + fragment.Draw(t, "id2")}
			if !seen[u] {
				uploads = append(uploads, u)
			}
			seen[u] = true
		}
		ops := []Op{{Table: Uploads, Key: UploadKey("other", "a", "a")}, {Table: Uploads, Key: UploadKey("bucke", "a", "a")}}
		for _, u := range uploads {
			ops = append(ops, Op{Table: Uploads, Key: UploadKey("bucket", u.key, u.id)})
		}
		commit(t, db, 1, ops...)
		sort.Slice(uploads, func(i, j int) bool {
			a, b := uploads[i], uploads[j]
			return a.key < b.key || a.key == b.key && a.id < b.id
		})
		view, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		q := Query{Bucket: "bucket", Max: rapid.IntRange(1, 5).Draw(t, "max"), Delimiter: rapid.SampledFrom([]string{"", "/"}).Draw(t, "delimiter")}
		if rapid.Bool().Draw(t, "after") {
			q.After = fragment.Draw(t, "a1") + fragment.Draw(t, "a2")
			if rapid.Bool().Draw(t, "after upload") {
				q.AfterUploadID = fragment.Draw(t, "a3")
			}
		}
		var want []string
		for _, u := range uploads {
			if u.key < q.After || u.key == q.After && (q.AfterUploadID == "" || u.id <= q.AfterUploadID) {
				continue
			}
			item := "key " + u.key + " " + u.id
			if i := strings.Index(u.key, "/"); q.Delimiter != "" && i >= 0 {
				item = "prefix " + u.key[:i+1]
			}
			if len(want) == 0 || want[len(want)-1] != item {
				want = append(want, item)
			}
		}
		all, _ := listPages(t, view, q, ListUploads)
		var got []string
		for _, item := range all.Items {
			if item.IsPrefix {
				got = append(got, "prefix "+item.Key)
			} else {
				got = append(got, "key "+item.Key+" "+item.UploadID)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("ListUploads(%+v):\ngot  %q\nwant %q", q, got, want)
		}
	})
}
