package cas

import (
	"github.com/casd/casd/index"
)

// sabotage is what tests do to a cycle: bugs that must be caught, and places where something else happens. It is zero otherwise.
type sabotage struct {
	at            func(where string)
	noPin         bool // dedup hits are not marked
	noBarrier     bool // what mutations publish is not queued
	noHeld        bool // what uploads in flight hold is not marked
	noCheckpoint  bool // segments are dropped before the checkpoint
	wrongLocation bool // the chunk map is told of the copy of another chunk
	noReadBack    bool // copies are not read back
}

// confuse exchanges the locations of copies in the chunk map.
func (b *sabotage) confuse(c *cycle) error {
	if !b.wrongLocation || len(c.copies) < 2 {
		return nil
	}
	rows := make([]index.Chunk, len(c.copies))
	for i := range c.copies {
		row, _, err := c.s.chunks.LookupChunk(c.copies[i].old.ID)
		if err != nil {
			return err
		}
		row.ID = c.copies[(i+1)%len(c.copies)].old.ID
		rows[i] = row
	}
	return c.s.chunks.PutChunks(rows)
}

func (b *sabotage) reached(where string) {
	if b.at != nil {
		b.at(where)
	}
}
