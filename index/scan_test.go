package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestScanShowsEveryRow changes the catalog and writes checkpoints while a scan is under way: what was there all the time must
// be shown, whichever layer it lies in.
func TestScanShowsEveryRow(t *testing.T) {
	db := openTemp(t)
	var csn uint64
	put := func(key, value string) {
		csn++
		commit(t, db, csn, Op{Table: Objects, Key: []byte(key), Value: []byte(value)})
	}
	for i := range 3 * scanBatchRows {
		put(fmt.Sprintf("file %06d", i), "old")
	}
	if err := db.Checkpoint(t.Context(), Position{CSN: csn}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		put(fmt.Sprintf("frozen %06d", i), "new")
	}
	put("file 000007", "changed")
	db.Freeze(Position{CSN: csn})
	for i := range 50 {
		put(fmt.Sprintf("active %06d", i), "new")
	}
	put("file 000008", "changed")
	csn++
	commit(t, db, csn, Op{Table: Objects, Key: []byte("file 000009"), Delete: true})

	seen := map[string]string{}
	shown := 0
	err := db.Scan(t.Context(), []Table{Objects, Parts}, func(table Table, e Entry) error {
		if table != Objects {
			t.Errorf("row of table %v", table)
		}
		seen[string(e.Key)+"="+string(e.Value)] = ""
		if shown++; shown == scanBatchRows { // the front is in the middle of the file
			if err := db.WriteFrozen(t.Context()); err != nil {
				t.Fatal(err)
			}
			put("a new row before the front", "x")
			if err := db.Checkpoint(t.Context(), Position{CSN: csn}); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"file 000007=changed", "file 000008=changed"}
	for i := range 3 * scanBatchRows {
		if i < 7 || i > 9 {
			want = append(want, fmt.Sprintf("file %06d=old", i))
		}
	}
	for i := range 50 {
		want = append(want, fmt.Sprintf("frozen %06d=new", i), fmt.Sprintf("active %06d=new", i))
	}
	for _, w := range want {
		if _, ok := seen[w]; !ok {
			t.Errorf("%s was not shown", w)
		}
	}
}

// TestScanProves damages pages of the file: a scan that skipped rows must not end well.
func TestScanProves(t *testing.T) {
	good := newDamagedFile(t)
	damaged := 0
	for page := 4; page*4096 < len(good.data); page++ {
		path := filepath.Join(t.TempDir(), "index")
		writeFile(t, path, good.data, good.size)
		if err := os.WriteFile(path+cleanSuffix, good.mark, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(Options{Path: path, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		count := func(Table, Entry) error { rows++; return nil }
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(good.data[page*4096 : (page+1)*4096])
		b[10]++ // the number of elements
		if _, err := f.WriteAt(b, int64(page)*4096); err != nil {
			t.Fatal(err)
		}
		f.Close()
		err = db.Scan(t.Context(), []Table{Objects}, count)
		switch {
		case err == nil && rows < damageRows:
			t.Errorf("page %d: %d rows were shown and nothing was said", page, rows)
		case err != nil && !errors.Is(err, ErrCorrupt):
			t.Errorf("page %d: %v", page, err)
		case err != nil:
			damaged++
		}
		_ = db.Close() // of a damaged file
	}
	if damaged == 0 {
		t.Error("no damage was ever found")
	}
}

// TestLoad brings rows back with their revisions.
func TestLoad(t *testing.T) {
	db := openTemp(t)
	st, err := db.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Load(Users, []Entry{{Key: []byte("a"), Value: []byte("1"), Rev: 7}, {Key: []byte("b"), Value: []byte("2"), Rev: 12}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Load(Users, []Entry{{Key: []byte("c")}, {}}); !errors.Is(err, ErrBadOp) {
		t.Errorf("row without a key: %v", err)
	}
	if err := st.SetCSN(10); err != nil {
		t.Fatal(err)
	}
	if err := st.SetCSN(9); !errors.Is(err, ErrBadOp) {
		t.Errorf("CSN that goes back: %v", err)
	}
	st.Publish()
	if err := st.Load(Users, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("load after the end: %v", err)
	}
	commit(t, db, 11, Op{Table: Users, Key: []byte("a"), Value: []byte("3")})
	if err := db.Checkpoint(t.Context(), Position{CSN: 11}); err != nil {
		t.Fatal(err)
	}
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for key, want := range map[string]uint64{"a": 11, "b": 12} {
		if e, ok, err := v.Get(Users, []byte(key)); err != nil || !ok || e.Rev != want {
			t.Errorf("%s: revision %d, %v, %v, want %d", key, e.Rev, ok, err, want)
		}
	}
	if _, ok, _ := v.Get(Users, []byte("c")); ok {
		t.Error("a row of a refused batch was loaded")
	}
}
