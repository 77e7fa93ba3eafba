package index

import (
	"bytes"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// LookupChunk finds id in the chunk map. An error matches ErrCorrupt: the map does not know, which is not the same as absent.
func (db *DB) LookupChunk(id ID) (Chunk, bool, error) {
	v, ok, err := db.lookup(db.state.Load(), &id)
	if err != nil || !ok || v.deleted {
		return Chunk{}, false, err
	}
	return v.chunk(id), true, nil
}

// lookup finds id in the overlays of s, then in the file. The read transaction begins after the overlays were
// looked at: a row that left them by then is in the file.
func (db *DB) lookup(s *state, id *ID) (chunkValue, bool, error) {
	if v, ok := s.activeChunks.get(id); ok {
		return v, true, nil
	}
	return db.lookupFrozen(s, id)
}

// lookupFrozen is lookup without the active overlay.
func (db *DB) lookupFrozen(s *state, id *ID) (chunkValue, bool, error) {
	if v, ok := s.frozenChunks.get(id); ok {
		return v, true, nil
	}
	tx, err := db.begin()
	if err != nil {
		return chunkValue{}, false, err
	}
	defer rollback(tx)
	c, ok, err := lookupFile(tx, id)
	return valueOf(&c), ok, err
}

func lookupFile(tx *bolt.Tx, id *ID) (c Chunk, ok bool, err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	bucket := tx.Bucket(tableChunks.bucketName())
	if bucket == nil {
		return Chunk{}, false, &CorruptError{Table: tableChunks, Reason: "the table is missing"}
	}
	row := bucket.Get(id[:])
	if row == nil {
		return Chunk{}, false, nil
	}
	c, _, err = readChunk(id[:], row)
	return c, err == nil, err
}

// readChunk copies a row of the chunk map out of the mapped file and decodes it.
func readChunk(id, row []byte) (Chunk, uint128, error) {
	var buf [32 + chunkRowBytes]byte
	if len(id) != 32 || len(row) != chunkRowBytes {
		return decodeChunk(bytes.Clone(id), row)
	}
	copy(buf[:32], id)
	copy(buf[32:], row)
	c, hash, err := decodeChunk(buf[:32], buf[32:])
	return c, hash, err
}

// PutChunks writes rows of the chunk map; of two calls with one ID the later wins. They are visible at once, and in
// Totals. When an error is returned, some rows may have been written: a repetition does no harm.
func (db *DB) PutChunks(chunks []Chunk) error {
	return db.changeChunks(chunks, func(c *Chunk, _ chunkValue, _ bool) (chunkValue, bool) {
		return valueOf(c), true
	})
}

// RemoveChunks removes the rows that are still as given: those whose location was changed by a later PutChunks stay.
func (db *DB) RemoveChunks(chunks []Chunk) error {
	return db.changeChunks(chunks, func(c *Chunk, old chunkValue, known bool) (chunkValue, bool) {
		return chunkValue{deleted: true}, known && old == valueOf(c)
	})
}

// changeChunks replaces the row of every chunk by what change makes of it (false: leave it), and keeps the totals.
func (db *DB) changeChunks(chunks []Chunk, change func(c *Chunk, old chunkValue, known bool) (chunkValue, bool)) error {
	db.freezing.RLock() // the active overlay stays the active one
	defer db.freezing.RUnlock()
	s := db.state.Load()
	var delta Totals
	defer func() { db.addTotals(delta) }()
	for i := range chunks {
		c := &chunks[i]
		old, known, err := db.lookup(s, &c.ID) // a slow page is read here, without a lock on the shard
		if err != nil {
			return err
		}
		shard := s.activeChunks.shard(&c.ID)
		shard.mu.Lock()
		// What lies under the active overlay cannot have changed; the row in it can.
		if now, ok := shard.rows[c.ID]; ok {
			old, known = now, ok
		}
		known = known && !old.deleted
		if v, ok := change(c, old, known); ok {
			s.activeChunks.set(shard, c.ID, v)
			if known {
				delta.Chunks--
				delta.Bytes -= int64(old.size)
			}
			if !v.deleted {
				delta.Chunks++
				delta.Bytes += int64(v.size)
			}
		}
		shard.mu.Unlock()
	}
	return nil
}

func (db *DB) addTotals(delta Totals) {
	db.totalsMu.Lock()
	db.totals.Chunks += delta.Chunks
	db.totals.Bytes += delta.Bytes
	db.totalsMu.Unlock()
}

// iterBatchRows is how many rows of the file are read in one read transaction by IterChunks.
const iterBatchRows = 4096

// IterChunks calls fn with every row of the chunk map, in no particular order, until fn returns an error, which it returns. A row that is
// there all the time is given exactly once, as it was at some moment during the call; one that comes
// or goes meanwhile may be missed. No lock and no read transaction is held while fn runs.
func (db *DB) IterChunks(fn func(Chunk) error) error {
	batch := make([]Chunk, 0, iterBatchRows)
	for part := range 256 { // all IDs with this first byte
		over, err := db.iterPart(byte(part), batch, fn)
		if err != nil {
			return err
		}
		for id, v := range over {
			if v.deleted {
				continue
			}
			if err := fn(v.chunk(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// iterPart calls fn with the rows of the file whose ID begins with first, but for those that an overlay
// had when it began; it returns the rows of the overlays.
//
// Those are copied once. A row that a checkpoint moves into the file afterwards is
// recognised by the copy and not given twice.
func (db *DB) iterPart(first byte, batch []Chunk, fn func(Chunk) error) (over map[ID]chunkValue, err error) {
	over = make(map[ID]chunkValue)
	s := db.state.Load()
	for _, o := range [...]*chunkOverlay{s.frozenChunks, s.activeChunks} { // the newest last: it wins
		if o != nil {
			o.copyPart(first, over)
		}
	}
	from := []byte{first}
	for from != nil {
		if batch, from, err = db.readPart(from, batch[:0]); err != nil {
			return nil, err
		}
		for _, c := range batch {
			if _, ok := over[c.ID]; ok {
				continue
			}
			if err := fn(c); err != nil {
				return nil, err
			}
		}
	}
	return over, nil
}

// copyPart copies the rows whose ID begins with first.
func (o *chunkOverlay) copyPart(first byte, rows map[ID]chunkValue) {
	s := o.shard(&ID{first})
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, v := range s.rows {
		if id[0] == first {
			rows[id] = v
		}
	}
}

// readPart appends up to cap(batch) rows of the file to batch, from the key from on, as long as IDs begin with its first byte. It
// returns where to go on, nil at the end.
func (db *DB) readPart(from []byte, batch []Chunk) (_ []Chunk, next []byte, err error) {
	tx, err := db.begin()
	if err != nil {
		return nil, nil, err
	}
	defer rollback(tx)
	defer guard(&err, debug.SetPanicOnFault(true))
	bucket := tx.Bucket(tableChunks.bucketName())
	if bucket == nil {
		return nil, nil, &CorruptError{Table: tableChunks, Reason: "the table is missing"}
	}
	cursor := bucket.Cursor()
	last := from
	for key, row := cursor.Seek(from); key != nil && key[0] == from[0]; key, row = cursor.Next() {
		if len(batch) == cap(batch) {
			return batch, bytes.Clone(key), nil
		}
		c, _, err := readChunk(key, row)
		if err != nil {
			return nil, nil, err
		}
		if order := bytes.Compare(c.ID[:], last); order < 0 || order == 0 && len(batch) > 0 {
			return nil, nil, &CorruptError{Table: tableChunks, Key: bytes.Clone(key), Reason: "rows are out of order"}
		}
		batch = append(batch, c)
		last = batch[len(batch)-1].ID[:]
	}
	return batch, nil, nil
}
