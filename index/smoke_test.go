package index

import (
	"path/filepath"
	"testing"
)

func TestSmoke(t *testing.T) {
	p := filepath.Join(t.TempDir(), "sub", "index")
	db, err := Open(Options{Path: p})
	if err != nil {
		t.Fatal(err)
	}
	st, err := db.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Apply(1, []Op{{Table: Objects, Key: ObjectKey("b", "a/x", 1), Value: []byte("v")}, {Table: Objects, Key: ObjectKey("b", "c", 1), Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	st.Publish()
	if err := db.PutChunks([]Chunk{{ID: ID{1}, Size: 7}, {ID: ID{2}, Size: 7}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		r, err := List(v, Query{Bucket: "b", Delimiter: "/", Max: 10})
		if err != nil || len(r.Items) != 2 {
			t.Fatal(r, err)
		}
		if _, ok, err := db.LookupChunk(ID{2}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		v.Close()
		if err := db.Checkpoint(t.Context(), Position{CSN: 1, Log: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := db.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		if db.Totals() != (Totals{2, 14}) || db.Position().CSN != 1 {
			t.Fatal(db.Totals(), db.Position())
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db, err = Open(Options{Path: p}); err != nil {
			t.Fatal(err)
		}
	}
}
