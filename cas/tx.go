package cas

import (
	"bytes"

	"github.com/casd/casd/index"
)

// A tx is a transaction as data: what must still be true, and what is then written.
type tx struct {
	reads []read
	ops   []txOp
	usage map[string]usageRow // bucket -> what is added to its counters
	freed int64               // plain bytes that one row less names

	// committed is called with the mutation's CSN and time when the transaction is durable and visible, before its
	// submitter is answered.
	committed func(csn uint64, now int64)
}

// A txOp is a write whose key may end in the inverted CSN of its mutation, and whose value may depend on its time.
type txOp struct {
	table   index.Table
	key     func(csn uint64) []byte
	value   func(csn uint64, now int64) (any, error) // nil deletes
	deleted bool
}

// A read is a precondition: the row that was seen under a key, or first in a range, is still the one.
type read struct {
	table  index.Table
	lo, hi []byte // hi is nil for one key
	found  bool
	key    []byte // of a range: which was first
	rev    uint64
}

// holds looks whether a precondition is still true.
func (p *read) holds(r index.Reader) (bool, error) {
	var e index.Entry
	var ok bool
	var err error
	if p.hi == nil {
		e, ok, err = r.Get(p.table, p.lo)
	} else {
		e, ok, err = r.First(p.table, p.lo, p.hi)
	}
	if err != nil || ok != p.found {
		return false, err
	}
	return !ok || e.Rev == p.rev && (p.hi == nil || bytes.Equal(e.Key, p.key)), nil
}

func (t *tx) holds(r index.Reader) (bool, error) {
	for i := range t.reads {
		if ok, err := t.reads[i].holds(r); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// A recorder is a Reader that remembers what was read as preconditions of a transaction.
type recorder struct {
	index.Reader
	tx *tx
}

func (r recorder) Get(t index.Table, key []byte) (index.Entry, bool, error) {
	e, ok, err := r.Reader.Get(t, key)
	if err == nil {
		r.tx.reads = append(r.tx.reads, read{table: t, lo: bytes.Clone(key), found: ok, rev: e.Rev})
	}
	return e, ok, err
}

func (r recorder) First(t index.Table, lo, hi []byte) (index.Entry, bool, error) {
	e, ok, err := r.Reader.First(t, lo, hi)
	if err == nil {
		r.tx.reads = append(r.tx.reads, read{table: t, lo: bytes.Clone(lo), hi: bytes.Clone(hi), found: ok, key: bytes.Clone(e.Key), rev: e.Rev})
	}
	return e, ok, err
}

// put writes a row; remove deletes one.
func (t *tx) put(table index.Table, key []byte, row any) {
	t.putAt(table, func(uint64) []byte { return key }, func(uint64, int64) (any, error) { return row, nil })
}

// putAt writes a row whose key and value rest on the CSN and the time of the commit.
func (t *tx) putAt(table index.Table, key func(csn uint64) []byte, value func(csn uint64, now int64) (any, error)) {
	t.ops = append(t.ops, txOp{table: table, key: key, value: value})
}

func (t *tx) remove(table index.Table, key []byte) {
	key = bytes.Clone(key)
	t.ops = append(t.ops, txOp{table: table, key: func(uint64) []byte { return key }, deleted: true})
}

// use adds to the counters of a bucket.
func (t *tx) use(bucket string, d usageRow) {
	if t.usage == nil {
		t.usage = make(map[string]usageRow, 1)
	}
	u := t.usage[bucket]
	u.add(d)
	t.usage[bucket] = u
}

// effects turns the transaction into the writes of mutation csn at time now. r is the state that it meets.
func (t *tx) effects(r index.Reader, csn uint64, now int64) ([]index.Op, error) {
	ops := make([]index.Op, 0, len(t.ops)+len(t.usage))
	for _, o := range t.ops {
		op := index.Op{Table: o.table, Key: o.key(csn), Delete: o.deleted}
		if !o.deleted {
			row, err := o.value(csn, now)
			if err != nil {
				return nil, err
			}
			if op.Value, err = encodeRow(row); err != nil {
				return nil, err
			}
		}
		ops = append(ops, op)
	}
	for bucket, d := range t.usage { // one bucket a transaction in practice, so map order does not matter
		u, _, _, err := getRow[usageRow](r, index.Usage, []byte(bucket))
		if err != nil {
			return nil, err
		}
		u.add(d)
		value, err := encodeRow(u)
		if err != nil {
			return nil, err
		}
		ops = append(ops, index.Op{Table: index.Usage, Key: []byte(bucket), Value: value})
	}
	return ops, nil
}
