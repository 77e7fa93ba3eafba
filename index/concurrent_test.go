package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestConcurrent lets readers, writers of chunks, checkpoints and verifications run against a committer whose every mutation
// sets a number of rows to its CSN: a view in which they differ, or lag behind what was published, is torn.
func TestConcurrent(t *testing.T) {
	const mutations, width, readers = 600, 12, 3
	db := openTemp(t)
	var published, putChunks atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	work := func(step func() error) {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := step(); err != nil && ctx.Err() == nil {
					t.Error(err)
					stop()
				}
			}
		})
	}
	key := func(i int) []byte { return fmt.Appendf(nil, "key%02d", i) }

	for range readers {
		work(func() error {
			atLeast := published.Load()
			return readMutation(db, atLeast, width, key)
		})
		work(func() error {
			n := putChunks.Load()
			if n == 0 {
				return nil
			}
			for _, i := range []uint64{0, n / 2, n - 1} {
				if c, ok, err := db.LookupChunk(testChunk(int(i)).ID); err != nil || !ok || c != testChunk(int(i)) {
					return fmt.Errorf("chunk %d of %d: %v %v %w", i, n, c, ok, err)
				}
			}
			return nil
		})
	}
	work(func() error { return db.Verify(ctx) })
	work(func() error { return db.WriteFrozen(ctx) })
	work(func() error {
		n, seen := putChunks.Load(), uint64(0)
		if err := db.IterChunks(func(Chunk) error { seen++; return nil }); err != nil || seen < n {
			return fmt.Errorf("IterChunks: %d of at least %d chunks: %w", seen, n, err)
		}
		return nil
	})
	work(func() error { // one more than the committer's, for the locks
		return db.PutChunks([]Chunk{testChunk(0), testChunk(1), testChunk(0)})
	})

	for csn := uint64(1); csn <= mutations && ctx.Err() == nil; csn++ {
		ops := []Op{{Table: Meta, Key: binary.BigEndian.AppendUint64([]byte("old"), csn-1), Delete: true}, {Table: Meta, Key: binary.BigEndian.AppendUint64([]byte("old"), csn)}}
		for i := range width {
			ops = append(ops, Op{Table: Meta, Key: key(i), Value: binary.BigEndian.AppendUint64(nil, csn)})
		}
		commit(t, db, csn, ops...)
		published.Store(csn)
		if err := db.PutChunks([]Chunk{testChunk(int(csn) - 1)}); err != nil {
			t.Error(err)
		}
		putChunks.Store(csn)
		if csn%10 == 0 {
			db.Freeze(Position{CSN: csn})
		}
	}
	stop()
	group.Wait()
	if err := db.Checkpoint(t.Context(), Position{CSN: mutations}); err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if got := db.Totals().Chunks; got != mutations {
		t.Errorf("%d chunks, want %d", got, mutations)
	}
	if err := readMutation(db, mutations, width, key); err != nil {
		t.Error(err)
	}
}

// readMutation opens a view and checks that it shows exactly one mutation, not older than atLeast.
func readMutation(db *DB, atLeast uint64, width int, key func(int) []byte) error {
	view, err := db.View()
	if err != nil {
		return err
	}
	defer view.Close()
	csn := view.CSN()
	if csn < atLeast {
		return fmt.Errorf("a view of %d after %d was published", csn, atLeast)
	}
	if csn == 0 {
		return nil
	}
	it := view.Iter(Meta, nil, nil)
	defer it.Close()
	rows := 0
	for it.Next() {
		e := it.Entry()
		rows++
		if rows <= width && (string(e.Key) != string(key(rows-1)) || binary.BigEndian.Uint64(e.Value) != csn || e.Rev != csn) {
			return fmt.Errorf("a view of %d has %q=%x@%d", csn, e.Key, e.Value, e.Rev)
		}
		if rows > width && binary.BigEndian.Uint64(e.Key[3:]) != csn {
			return fmt.Errorf("a view of %d has %q", csn, e.Key)
		}
		if got, ok, err := view.Get(Meta, e.Key); err != nil || !ok || got.Rev != e.Rev {
			return fmt.Errorf("Get %q = %v %v %w", e.Key, got, ok, err)
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if rows != width+1 {
		return fmt.Errorf("a view of %d has %d rows, want %d", csn, rows, width+1)
	}
	return nil
}

// TestSnapshotBetween lets things happen between the two steps of opening a view: loading the state, and beginning to
// read the file.
func TestSnapshotBetween(t *testing.T) {
	steps := map[string]func(db *DB, csn uint64){
		"publish":      func(db *DB, csn uint64) { fillSome(t, db, csn) },
		"freeze":       func(db *DB, csn uint64) { db.Freeze(Position{CSN: csn}) },
		"write frozen": func(db *DB, _ uint64) { _ = db.WriteFrozen(t.Context()) },
		"commit": func(db *DB, _ uint64) { // WriteFrozen up to where readers of the file see the rows
			s := db.state.Load()
			err := db.writePart(t.Context(), func(tx *bolt.Tx, w *checkpointWriter) error { return w.writeLast(tx, s, s.frozenChunks.sorted()) })
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, sequence := range map[string][]string{
		"publish":                  {"publish"},
		"freeze":                   {"freeze"},
		"checkpoint":               {"freeze", "write frozen"},
		"publish, freeze":          {"publish", "freeze"},
		"publish, checkpoint":      {"publish", "freeze", "write frozen"},
		"publish, two checkpoints": {"publish", "freeze", "write frozen", "publish", "freeze", "write frozen"},
		"publish, in mid-write":    {"publish", "freeze", "commit"},
		"in mid-write":             {"freeze", "commit"},
		"in mid-write, publish":    {"freeze", "commit", "publish"},
		"written, then publish":    {"write frozen", "publish"},
		"written, then checkpoint": {"write frozen", "publish", "freeze", "write frozen"},
	} {
		for _, frozen := range []bool{false, true} {
			db := openTemp(t)
			fillSome(t, db, 1)
			if frozen {
				db.Freeze(Position{CSN: 1})
			}
			csn, calls := uint64(1), 0
			s, tx, err := db.snapshotBy(func() (*bolt.Tx, error) {
				if calls++; calls == 1 {
					for _, step := range sequence {
						if step == "publish" {
							csn++
						}
						steps[step](db, csn)
					}
				}
				return db.begin()
			})
			if err != nil {
				t.Fatal(err)
			}
			view := &View{layers: layers{active: s.active, frozen: s.frozen, tx: tx}}
			r, err := List(view, Query{Bucket: "bucket", Max: 100})
			if err != nil || uint64(len(r.Items)) != view.CSN() {
				t.Errorf("%s, frozen=%v: a view of %d has %d rows, %v", name, frozen, view.CSN(), len(r.Items), err)
			}
			if calls > 2 {
				t.Errorf("%s, frozen=%v: %d calls", name, frozen, calls)
			}
			view.Close()
		}
	}
}
