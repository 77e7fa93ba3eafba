package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func fillSome(t *testing.T, db *DB, csn uint64) {
	t.Helper()
	commit(t, db, csn, putObject("bucket", fmt.Sprint("key", csn), csn, "value"))
	if err := db.PutChunks([]Chunk{testChunk(int(csn))}); err != nil {
		t.Fatal(err)
	}
}

func checkSome(t *testing.T, db *DB, csns ...uint64) {
	t.Helper()
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for _, csn := range csns {
		if _, ok, err := view.Get(Objects, ObjectKey("bucket", fmt.Sprint("key", csn), csn)); err != nil || !ok {
			t.Errorf("row %d: %v %v", csn, ok, err)
		}
		if _, ok, err := db.LookupChunk(testChunk(int(csn)).ID); err != nil || !ok {
			t.Errorf("chunk %d: %v %v", csn, ok, err)
		}
	}
	if r, err := List(view, Query{Bucket: "bucket", Max: 100}); err != nil || len(r.Items) != len(csns) {
		t.Errorf("%d keys, %v", len(r.Items), err)
	}
}

func TestCanceledCheckpoint(t *testing.T) {
	db := openTemp(t)
	var ops []Op
	for i := range 3 * cancelCheckRows {
		ops = append(ops, Op{Table: Meta, Key: fmt.Appendf(nil, "key%06d", i), Value: []byte("v")})
	}
	commit(t, db, 1, ops...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Checkpoint(ctx, Position{CSN: 1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Checkpoint = %v", err)
	}
	if db.Position().CSN != 0 || db.OverlayEntries() != len(ops) {
		t.Fatal("a canceled checkpoint left something")
	}
	if err := db.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Verify = %v", err)
	}
	if err := db.WriteFrozen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if db.Position().CSN != 1 || db.OverlayEntries() != 0 || db.OverlayBytes() != 0 {
		t.Fatalf("%+v, %d entries, %d bytes in overlays", db.Position(), db.OverlayEntries(), db.OverlayBytes())
	}
	sizes, err := db.Sizes()
	if err != nil || sizes.Rows[Meta] != uint64(len(ops)) || sizes.FileBytes <= 0 || sizes.PageBytes <= 0 {
		t.Fatalf("Sizes = %+v, %v", sizes, err)
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "down", "index")
	db := mustOpen(t, path)
	if _, err := Open(Options{Path: path, LockTimeout: time.Millisecond}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second Open = %v, want ErrLocked", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("Open without a path")
	}
	if _, err := Open(Options{Path: filepath.Dir(path)}); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("Open of a directory = %v", err)
	}
}

func TestForeignFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	for name, content := range map[string][]byte{
		"text":  []byte("this is no index\n"),
		"long":  bytes.Repeat([]byte("this is no index\n"), 10_000),
		"zeros": make([]byte, 1<<20),
	} {
		writeFile(t, path, content, int64(len(content)))
		if _, err := Open(Options{Path: path}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: Open = %v, want ErrCorrupt", name, err)
		}
	}
}

func TestOtherFormatVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	db := mustOpen(t, path)
	db.bolt.NoSync = true
	tx, err := db.bolt.Begin(true)
	if err == nil {
		err = tx.Bucket(metaBucket).Put(formatKey, []byte{2, 0, 0, 0})
	}
	if err = errors.Join(err, tx.Commit()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"clean", "not clean"} {
		if _, err := Open(Options{Path: path}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "format version") {
			t.Errorf("%s: Open = %v", how, err)
		}
	}
}

func TestMisuse(t *testing.T) {
	db := openTemp(t)
	st, err := db.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Stage(); !errors.Is(err, ErrStageOpen) {
		t.Errorf("second Stage = %v", err)
	}
	if err := db.Checkpoint(t.Context(), Position{}); !errors.Is(err, ErrStageOpen) {
		t.Errorf("Checkpoint under a stage = %v", err)
	}
	if err := st.Apply(5, nil); err != nil || st.CSN() != 5 {
		t.Errorf("Apply of nothing = %v, CSN %d", err, st.CSN())
	}
	good := Op{Table: Meta, Key: []byte("good")}
	for name, bad := range map[string]Op{
		"no table":      {Key: []byte("k")},
		"chunks":        {Table: tableChunks, Key: []byte("k")},
		"unknown table": {Table: tableMax + 1, Key: []byte("k")},
		"no key":        {Table: Meta},
		"long key":      {Table: Meta, Key: make([]byte, KeyBytesMax+1)},
		"long value":    {Table: Meta, Key: []byte("k"), Value: make([]byte, ValueBytesMax+1)},
	} {
		if err := st.Apply(6, []Op{good, bad}); !errors.Is(err, ErrBadOp) {
			t.Errorf("%s: Apply = %v", name, err)
		}
	}
	if err := st.Apply(5, []Op{good}); !errors.Is(err, ErrBadOp) {
		t.Errorf("Apply with an old CSN = %v", err)
	}
	if _, ok, err := st.Get(Meta, good.Key); ok || err != nil {
		t.Errorf("a refused Apply left something: %v %v", ok, err)
	}
	st.Discard()
	st.Discard()
	st.Publish()
	if _, _, err := st.Get(Meta, good.Key); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Discard = %v", err)
	}
	if err := st.Apply(6, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply after Discard = %v", err)
	}
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	if view.CSN() != 0 {
		t.Errorf("CSN = %d after a Discard", view.CSN())
	}
	if _, ok, err := view.Get(Meta, nil); ok || err != nil {
		t.Errorf("Get of no key = %v %v", ok, err)
	}
	view.Close()
	view.Close()
	if _, _, err := view.First(Meta, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("First after Close = %v", err)
	}
	if it := view.Iter(Meta, nil, nil); it.Next() || !errors.Is(it.Err(), ErrClosed) {
		t.Errorf("Iter after Close: %v", it.Err())
	}
}

func TestClosed(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "index"))
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, viewErr := db.View()
	_, stageErr := db.Stage()
	_, _, lookupErr := db.LookupChunk(ID{})
	for _, err := range []error{viewErr, stageErr, lookupErr, db.PutChunks([]Chunk{{}}), db.Checkpoint(t.Context(), Position{}), db.Verify(t.Context())} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, err := db.Sizes(); !errors.Is(err, ErrClosed) {
		t.Errorf("Sizes after Close: %v", err)
	}
}

// gauge returns the value of a gauge, of the given table if it has one.
func gauge(t *testing.T, registry *prometheus.Registry, name, table string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == table {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s for %q", name, table)
	return 0
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	path := filepath.Join(t.TempDir(), "index")
	for range 2 { // a second index in one process, after the first
		db, err := Open(Options{Path: path, NoSync: true, Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Path: path + "2", NoSync: true, Metrics: registry}); err == nil {
			t.Fatal("two indexes with one set of metrics")
		}
		csn := db.Position().CSN + 1
		fillSome(t, db, csn)
		if n := gauge(t, registry, "casd_index_overlay_entries", ""); n != 2 {
			t.Errorf("%v overlay entries", n)
		}
		if err := db.Checkpoint(t.Context(), Position{CSN: csn}); err != nil {
			t.Fatal(err)
		}
		if n := gauge(t, registry, "casd_index_rows", "objects"); n != float64(csn) {
			t.Errorf("%v objects after %d", n, csn)
		}
		if gauge(t, registry, "casd_index_file_bytes", "") <= 0 || gauge(t, registry, "casd_index_overlay_bytes", "") != 0 {
			t.Error("wrong sizes")
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
