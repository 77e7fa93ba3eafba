package index

import (
	"errors"
	"fmt"
)

// ErrStageOpen is returned when a second Stage is asked for.
var ErrStageOpen = errors.New("index: a stage is open")

// A Stage is the committer's next state of the catalog: the published state with its own writes on top. It is
// used by one goroutine, and ended by Publish or Discard.
type Stage struct {
	db     *DB
	layers layers // active is the overlay that is being written
}

// Stage opens the one Stage.
func (db *DB) Stage() (*Stage, error) {
	db.changing.Lock()
	if db.staging {
		db.changing.Unlock()
		return nil, ErrStageOpen
	}
	db.staging = true
	db.changing.Unlock()

	s, tx, err := db.snapshot()
	if err != nil {
		db.endStage()
		return nil, err
	}
	return &Stage{db: db, layers: layers{active: s.active.clone(), frozen: s.frozen, tx: tx}}, nil
}

func (db *DB) endStage() {
	db.changing.Lock()
	db.staging = false
	db.changing.Unlock()
}

// CSN returns the CSN of the newest mutation in the stage.
func (st *Stage) CSN() uint64 { return st.layers.active.csn }

// Get finds one row, staged or published.
func (st *Stage) Get(t Table, key []byte) (Entry, bool, error) {
	if st.layers.tx == nil {
		return Entry{}, false, ErrClosed
	}
	return st.layers.get(t, key)
}

// First finds the first row with lo <= key < hi, staged or published; a nil hi means to the end of the table.
func (st *Stage) First(t Table, lo, hi []byte) (Entry, bool, error) {
	if st.layers.tx == nil {
		return Entry{}, false, ErrClosed
	}
	return st.layers.first(t, lo, hi)
}

// Iter is View.Iter. It must not be used after an Apply that follows it.
func (st *Stage) Iter(t Table, lo, hi []byte) *Iter {
	if st.layers.tx == nil {
		return &Iter{err: ErrClosed}
	}
	return st.layers.iter(t, lo, hi)
}

// Apply writes the ops of mutation csn, in their order, or none of them and returns an error that matches ErrBadOp. csn must
// be greater than all that were applied before, published or not; several mutations may be applied before a
// Publish. The stage keeps the keys and values: they must not be changed any more.
func (st *Stage) Apply(csn uint64, ops []Op) error {
	if st.layers.tx == nil {
		return ErrClosed
	}
	working := st.layers.active
	if csn <= working.csn {
		return fmt.Errorf("%w: CSN %d follows %d", ErrBadOp, csn, working.csn)
	}
	for i := range ops {
		if err := ops[i].check(); err != nil {
			return fmt.Errorf("%w: CSN %d, number %d: %w", ErrBadOp, csn, i, err)
		}
	}
	for i := range ops {
		op := &ops[i]
		row := overlayRow{key: rowKey(op.Key), rev: csn, deleted: op.Delete}
		if !op.Delete {
			row.value = op.Value
		}
		working.set(op.Table, row)
	}
	working.csn = csn
	return nil
}

// Load puts rows of a table into the stage as they are, with their revisions: how a catalog that was written elsewhere comes back. It
// returns an error that matches ErrBadOp, and then has put none. The stage keeps keys and values.
func (st *Stage) Load(t Table, rows []Entry) error {
	if st.layers.tx == nil {
		return ErrClosed
	}
	for i := range rows {
		op := Op{Table: t, Key: rows[i].Key, Value: rows[i].Value}
		if err := op.check(); err != nil {
			return fmt.Errorf("%w: number %d: %w", ErrBadOp, i, err)
		}
	}
	for i := range rows {
		st.layers.active.set(t, overlayRow{key: rowKey(rows[i].Key), value: rows[i].Value, rev: rows[i].Rev})
	}
	return nil
}

// SetCSN says that the state is the one after mutation csn, which must not be less than what it was: the end of a Load.
func (st *Stage) SetCSN(csn uint64) error {
	if st.layers.tx == nil {
		return ErrClosed
	}
	if csn < st.layers.active.csn {
		return fmt.Errorf("%w: CSN %d follows %d", ErrBadOp, csn, st.layers.active.csn)
	}
	st.layers.active.csn = csn
	return nil
}

func (op *Op) check() error {
	switch {
	case !op.Table.valid():
		return fmt.Errorf("%s is not in the catalog", op.Table)
	case len(op.Key) == 0 || len(op.Key) > KeyBytesMax:
		return fmt.Errorf("a key of %d bytes", len(op.Key))
	case len(op.Value) > ValueBytesMax:
		return fmt.Errorf("a value of %d bytes", len(op.Value))
	}
	return nil
}

// Publish makes what was applied visible to every View opened from now on, and ends the stage.
func (st *Stage) Publish() {
	if st.layers.tx == nil {
		return
	}
	db := st.db
	db.changing.Lock()
	next := *db.state.Load()
	next.active = st.layers.active
	db.state.Store(&next)
	db.staging = false
	db.changing.Unlock()
	st.release()
}

// Discard ends the stage without a trace. After Publish it does nothing.
func (st *Stage) Discard() {
	if st.layers.tx == nil {
		return
	}
	st.release()
	st.db.endStage()
}

func (st *Stage) release() {
	rollback(st.layers.tx)
	st.layers.tx = nil
	st.layers.active = &overlay{csn: st.layers.active.csn} // readers own it now, or nobody
}
