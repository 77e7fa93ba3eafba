package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

// A model is what the index is compared with: plain sorted maps, and the log of what was done, from which
// a crash is recovered.
type model struct {
	rows   map[Table]map[string]Entry
	chunks map[ID]Chunk
	csn    uint64
	log    []logged // everything, ever
}

// logged is one step of the model's log; log positions count them.
type logged struct {
	csn    uint64 // of ops; 0 for chunks
	ops    []Op
	put    []Chunk
	remove []Chunk
}

func newModel() *model {
	return &model{rows: make(map[Table]map[string]Entry), chunks: make(map[ID]Chunk)}
}

func (m *model) clone() *model {
	c := *m
	c.rows = make(map[Table]map[string]Entry)
	for t, rows := range m.rows {
		c.rows[t] = maps.Clone(rows)
	}
	c.chunks = maps.Clone(m.chunks)
	return &c
}

func (m *model) apply(csn uint64, ops []Op) {
	for _, op := range ops {
		if m.rows[op.Table] == nil {
			m.rows[op.Table] = make(map[string]Entry)
		}
		if op.Delete {
			delete(m.rows[op.Table], string(op.Key))
		} else {
			m.rows[op.Table][string(op.Key)] = Entry{Key: op.Key, Value: op.Value, Rev: csn}
		}
	}
	m.csn = csn
	m.log = append(m.log, logged{csn: csn, ops: ops})
}

func (m *model) put(chunks []Chunk) {
	for _, c := range chunks {
		m.chunks[c.ID] = c
	}
	m.log = append(m.log, logged{put: chunks})
}

func (m *model) remove(chunks []Chunk) {
	for _, c := range chunks {
		if m.chunks[c.ID] == c {
			delete(m.chunks, c.ID)
		}
	}
	m.log = append(m.log, logged{remove: chunks})
}

func (m *model) totals() (t Totals) {
	for _, c := range m.chunks {
		t.Chunks++
		t.Bytes += int64(c.Size)
	}
	return t
}

// sorted returns the rows with lo <= key < hi.
func (m *model) sorted(t Table, lo, hi []byte) []Entry {
	var out []Entry
	for _, e := range m.rows[t] {
		if bytes.Compare(e.Key, lo) >= 0 && keyBefore(e.Key, hi) {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return bytes.Compare(out[i].Key, out[j].Key) < 0 })
	return out
}

func sameEntry(a, b Entry) bool {
	return a.Rev == b.Rev && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

// catalogReader is what View and Stage have in common.
type catalogReader interface {
	Reader
	IterReader
}

// check compares everything that r says with m.
func (m *model) check(t *rapid.T, r catalogReader) {
	for _, table := range catalogTables {
		want := m.sorted(table, nil, nil)
		it := r.Iter(table, nil, nil)
		for i, w := range want {
			if !it.Next() {
				t.Fatalf("%s: %d rows, want %d (%v)", table, i, len(want), it.Err())
			}
			if !sameEntry(it.Entry(), w) {
				t.Fatalf("%s: row %d is %v, want %v", table, i, it.Entry(), w)
			}
			if e, ok, err := r.Get(table, w.Key); err != nil || !ok || !sameEntry(e, w) {
				t.Fatalf("%s: Get %q = %v %v %v, want %v", table, w.Key, e, ok, err, w)
			}
		}
		if it.Next() || it.Err() != nil {
			t.Fatalf("%s: more than %d rows: %v %v", table, len(want), it.Entry(), it.Err())
		}
		it.Close()
	}
}

// checkSeeks walks about one table with random seeks and compares each step.
func (m *model) checkSeeks(t *rapid.T, r catalogReader) {
	table := drawTable(t)
	lo, hi := rapid.SliceOfN(drawKeyByte, 0, 3).Draw(t, "lo"), rapid.SliceOfN(drawKeyByte, 0, 3).Draw(t, "hi")
	if len(hi) == 0 {
		hi = nil
	}
	want := m.sorted(table, lo, hi)
	if e, ok, err := r.First(table, lo, hi); err != nil || ok != (len(want) > 0) || ok && !sameEntry(e, want[0]) {
		t.Fatalf("First = %v %v %v, want %v", e, ok, err, want)
	}
	it := r.Iter(table, lo, hi)
	defer it.Close()
	at := 0
	for range rapid.IntRange(0, 20).Draw(t, "steps") {
		if rapid.IntRange(0, 2).Draw(t, "seek") == 0 {
			target := rapid.SliceOfN(drawKeyByte, 0, 4).Draw(t, "target")
			it.Seek(target)
			at = sort.Search(len(want), func(i int) bool { return bytes.Compare(want[i].Key, target) >= 0 })
		}
		ok := it.Next()
		if ok != (at < len(want)) || ok && !sameEntry(it.Entry(), want[at]) {
			t.Fatalf("%s from %q to %q: at %d got %v %v %v, want %v", table, lo, hi, at, ok, it.Entry(), it.Err(), want)
		}
		if ok {
			at++
		}
	}
}

func (m *model) checkChunks(t *rapid.T, db *DB) {
	if got, want := db.Totals(), m.totals(); got != want {
		t.Fatalf("Totals = %+v, want %+v", got, want)
	}
	for n := range modelChunks {
		id := testChunk(n).ID
		want, known := m.chunks[id]
		if got, ok, err := db.LookupChunk(id); err != nil || ok != known || got != want {
			t.Fatalf("LookupChunk = %v %v %v, want %v %v", got, ok, err, want, known)
		}
	}
	seen := make(map[ID]Chunk)
	err := db.IterChunks(func(c Chunk) error {
		if _, twice := seen[c.ID]; twice {
			return fmt.Errorf("%x twice", c.ID)
		}
		seen[c.ID] = c
		return nil
	})
	if err != nil || !maps.Equal(seen, m.chunks) {
		t.Fatalf("IterChunks: %v, %d chunks, want %d", err, len(seen), len(m.chunks))
	}
}

const modelChunks = 40

// Few tables and keys of few bytes, so that histories of one row and neighbours in order are common.
var (
	drawKeyByte = rapid.SampledFrom([]byte{0, 1, 2, 'a', 'b', 0xFE, 0xFF})
	drawKey     = rapid.SliceOfN(drawKeyByte, 1, 4)
)

func drawTable(t *rapid.T) Table {
	return rapid.SampledFrom([]Table{Buckets, Objects, Objects, Meta}).Draw(t, "table")
}

func drawOps(t *rapid.T) []Op {
	ops := make([]Op, rapid.IntRange(0, 12).Draw(t, "ops"))
	for i := range ops {
		ops[i] = Op{Table: drawTable(t), Key: drawKey.Draw(t, "key"), Delete: rapid.IntRange(0, 2).Draw(t, "delete") == 0}
		if !ops[i].Delete {
			ops[i].Value = bytes.Repeat([]byte{byte(i)}, rapid.SampledFrom([]int{0, 1, 10, 300, 5000}).Draw(t, "value"))
		}
	}
	return ops
}

func drawChunks(t *rapid.T) []Chunk {
	chunks := make([]Chunk, rapid.IntRange(0, 10).Draw(t, "chunks"))
	for i := range chunks {
		chunks[i] = testChunk(rapid.IntRange(0, modelChunks-1).Draw(t, "chunk"))
		chunks[i].Location[27] = byte(rapid.IntRange(0, 3).Draw(t, "location"))
		chunks[i].Size += uint32(rapid.IntRange(0, 1).Draw(t, "size"))
	}
	return chunks
}

// An oldView is a view that stays open while the index goes on, with what it must go on saying.
type oldView struct {
	view *View
	want *model
}

// A countedContext is canceled when it was asked a number of times.
type countedContext struct {
	context.Context
	left int
}

func (c *countedContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// machine drives the index and the model.
type machine struct {
	t       *rapid.T
	dir     string
	path    string
	db      *DB
	model   *model
	files   int
	covered int // entries of the model's log that the file must cover after the last checkpoint
	frozen  int // and those that it will cover when what is frozen is written; -1: nothing is
	old     []oldView
}

func (m *machine) closeViews() {
	for _, o := range m.old {
		o.want.check(m.t, o.view)
		o.view.Close()
	}
	m.old = nil
}

// reopen opens the file at path and applies what the log has past it.
func (m *machine) reopen(path string) {
	m.path = path
	m.db = mustOpen(m.t, path)
	m.db.chunkRowsMax = 3 // so that most checkpoints are written in several transactions
	p := m.db.Position()
	from := 0
	if len(p.Log) > 0 {
		if _, err := fmt.Sscanf(string(p.Log), "entry %d", &from); err != nil {
			m.t.Fatalf("log position %q", p.Log)
		}
	}
	if from != m.covered {
		m.t.Fatalf("the file covers %d entries of the log, want %d", from, m.covered)
	}
	m.frozen = -1
	for _, l := range m.model.log[from:] {
		if l.csn > 0 {
			if l.csn <= p.CSN {
				m.t.Fatalf("the file covers CSN %d, but not the entry with %d", p.CSN, l.csn)
			}
			commit(m.t, m.db, l.csn, l.ops...)
		}
		if err := m.db.PutChunks(l.put); err != nil {
			m.t.Fatalf("PutChunks: %v", err)
		}
		if err := m.db.RemoveChunks(l.remove); err != nil {
			m.t.Fatalf("RemoveChunks: %v", err)
		}
	}
}

func (m *machine) position() Position {
	return Position{CSN: m.model.csn, Log: fmt.Appendf(nil, "entry %d", len(m.model.log))}
}

func (m *machine) stage(t *rapid.T) {
	st, err := m.db.Stage()
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer st.Discard()
	next := m.model.clone()
	for range rapid.IntRange(1, 3).Draw(t, "mutations") {
		csn := next.csn + uint64(rapid.IntRange(1, 2).Draw(t, "gap"))
		ops := drawOps(t)
		if err := st.Apply(csn, ops); err != nil {
			t.Fatalf("Apply: %v", err)
		}
		next.apply(csn, ops)
	}
	next.check(t, st)
	next.checkSeeks(t, st)
	if m.db.Freeze(m.position()) {
		t.Fatalf("Freeze under an open stage")
	}
	if rapid.IntRange(0, 3).Draw(t, "discard") == 0 {
		return
	}
	st.Publish()
	m.model = next
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"stage":  m.stage,
		"stage2": m.stage,
		"put": func(t *rapid.T) {
			chunks := drawChunks(t)
			if err := m.db.PutChunks(chunks); err != nil {
				t.Fatalf("PutChunks: %v", err)
			}
			m.model.put(chunks)
		},
		"remove": func(t *rapid.T) {
			chunks := drawChunks(t)
			if err := m.db.RemoveChunks(chunks); err != nil {
				t.Fatalf("RemoveChunks: %v", err)
			}
			m.model.remove(chunks)
		},
		"view": func(t *rapid.T) {
			view, err := m.db.View()
			if err != nil {
				t.Fatalf("View: %v", err)
			}
			if view.CSN() != m.model.csn {
				t.Fatalf("View at CSN %d, want %d", view.CSN(), m.model.csn)
			}
			m.model.checkSeeks(t, view)
			m.old = append(m.old, oldView{view, m.model.clone()})
		},
		"old view": func(t *rapid.T) {
			if len(m.old) == 0 {
				return
			}
			o := m.old[0]
			m.old = m.old[1:]
			o.want.check(t, o.view)
			o.want.checkSeeks(t, o.view)
			o.view.Close()
		},
		"chunks": func(t *rapid.T) { m.model.checkChunks(t, m.db) },
		"freeze": func(t *rapid.T) {
			if got, want := m.db.Freeze(m.position()), m.frozen < 0; got != want {
				t.Fatalf("Freeze = %v, want %v", got, want)
			} else if got {
				m.frozen = len(m.model.log)
			}
		},
		"write frozen": func(t *rapid.T) {
			if err := m.db.WriteFrozen(context.Background()); err != nil {
				t.Fatalf("WriteFrozen: %v", err)
			}
			if m.frozen >= 0 {
				m.covered, m.frozen = m.frozen, -1
			}
		},
		"write frozen, interrupted": func(t *rapid.T) {
			ctx := &countedContext{Context: context.Background(), left: rapid.IntRange(0, 8).Draw(t, "transactions")}
			err := m.db.WriteFrozen(ctx)
			switch {
			case err == nil && m.frozen >= 0:
				m.covered, m.frozen = m.frozen, -1
			case err != nil && !errors.Is(err, context.Canceled):
				t.Fatalf("WriteFrozen: %v", err)
			}
		},
		"verify": func(t *rapid.T) {
			if err := m.db.Verify(context.Background()); err != nil {
				t.Fatalf("Verify: %v", err)
			}
		},
		"restart": func(t *rapid.T) {
			m.closeViews()
			if err := m.db.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			if _, err := os.Stat(m.path + cleanSuffix); err != nil {
				t.Fatalf("no clean mark: %v", err)
			}
			m.reopen(m.path)
		},
		"crash": func(t *rapid.T) {
			m.closeViews()
			m.files++
			next := filepath.Join(m.dir, fmt.Sprint(m.files))
			copyFile(t, m.path, next)
			if err := m.db.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			if err := os.Remove(m.path); err != nil {
				t.Fatalf("%v", err)
			}
			m.reopen(next)
		},
		"": func(t *rapid.T) {
			view, err := m.db.View()
			if err != nil {
				t.Fatalf("View: %v", err)
			}
			defer view.Close()
			m.model.check(t, view)
		},
	}
}

// TestModel runs random histories against the model: stages, checkpoints in two steps, crashes that lose
// what is not in the file, and old views that must not change.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "casd-index")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{t: t, dir: dir, path: filepath.Join(dir, "0"), model: newModel(), frozen: -1}
		m.reopen(m.path)
		t.Repeat(m.actions())
		m.closeViews()
		m.model.checkChunks(t, m.db)
		if err := m.db.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	})
}

// TestModelTables writes to every table: the state machine concentrates on a few.
func TestModelTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	db := mustOpen(t, path)
	for i, table := range catalogTables {
		commit(t, db, uint64(i+1), Op{Table: table, Key: []byte("key"), Value: fmt.Append(nil, table)})
	}
	if err := db.Checkpoint(t.Context(), Position{CSN: uint64(len(catalogTables))}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, path)
	defer db.Close()
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for i, table := range slices.Backward(catalogTables[:]) {
		e, ok, err := view.Get(table, []byte("key"))
		if err != nil || !ok || string(e.Value) != fmt.Sprint(table) || e.Rev != uint64(i+1) {
			t.Fatalf("%s: %v %v %v", table, e, ok, err)
		}
	}
}
