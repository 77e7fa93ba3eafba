package index

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// A DB is an open index. Its methods may be called by any number of goroutines at once; Stage and Freeze
// belong to one, the committer.
//
// Lock order: verifying, writing, changing, freezing, totalsMu, a chunkShard.
type DB struct {
	path   string
	bolt   *bolt.DB
	file   *os.File // bolt's; closed by hand when bolt cannot be closed any more
	logger *slog.Logger
	stats  *metrics

	chunkRowsMax int // chunkRowsMax, less in tests

	state atomic.Pointer[state]

	// writing is held while the file is written, and by Verify while it reads a batch of rows.
	writing sync.Mutex
	saved   checkpoint    // what the file says; changed under writing and changing, read under either
	verify  *verification // in progress, or nil; guarded by writing, as is what it points to

	// verifying is held by the one Verify that runs.
	verifying sync.Mutex

	// changing is held to replace state.
	changing sync.Mutex
	staging  bool // a Stage is open; guarded by changing

	// freezing is held shared while the active chunk overlay is changed and exclusively while it is frozen, so that
	// a frozen one never changes.
	freezing sync.RWMutex

	totalsMu sync.Mutex
	totals   Totals

	broken  atomic.Pointer[error] // why bolt must not be touched any more
	suspect atomic.Bool           // no clean mark at the end
	closed  atomic.Bool
}

// A state is what readers see of the overlays. It is immutable, but for the rows of chunks.
type state struct {
	// generation counts the moves of rows from one layer to the next: a freeze and the end of a
	// checkpoint. Layers of one generation fit together; see DB.snapshot.
	generation uint64

	active, frozen             *overlay      // frozen may be nil
	activeChunks, frozenChunks *chunkOverlay // frozenChunks is nil when frozen is
	frozenPosition             Position      // what the file will cover when the frozen overlays are in it
}

// snapshot returns the published state and a read transaction that fits it.
//
// The state is loaded first. A transaction begun later may see rows that were written since. Those of its own frozen
// overlay do no harm, they are the same rows. Any others come from an overlay that was frozen after the
// state was loaded, and then the generation has moved.
func (db *DB) snapshot() (*state, *bolt.Tx, error) { return db.snapshotBy(db.begin) }

// snapshotBy is snapshot with what begins the transaction, for tests of what happens between the two.
func (db *DB) snapshotBy(begin func() (*bolt.Tx, error)) (*state, *bolt.Tx, error) {
	for {
		s := db.state.Load()
		tx, err := begin()
		if err != nil {
			return nil, nil, err
		}
		if db.state.Load().generation == s.generation {
			return s, tx, nil
		}
		rollback(tx)
	}
}

// begin begins a read transaction. The caller ends it with rollback, soon: pages that it may see are not reused.
func (db *DB) begin() (tx *bolt.Tx, err error) {
	if err := db.usable(); err != nil {
		return nil, err
	}
	defer func() {
		if errors.Is(err, ErrCorrupt) {
			db.poison(err) // a panic in there leaves bolt's locks held
		}
	}()
	defer guard(&err, debug.SetPanicOnFault(true))
	tx, err = db.bolt.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("index: beginning to read: %w", err)
	}
	return tx, nil
}

// rollback ends a read transaction. It can only return an error when it is ended twice.
func rollback(tx *bolt.Tx) { _ = tx.Rollback() }

// usable returns an error when bolt must not be touched.
func (db *DB) usable() error {
	if broken := db.broken.Load(); broken != nil {
		return *broken
	}
	if db.closed.Load() {
		return ErrClosed
	}
	return nil
}

// poison makes every later use of the file fail with err, which matches ErrCorrupt.
func (db *DB) poison(err error) {
	db.broken.CompareAndSwap(nil, &err)
}

// Position returns what the file covers: the zero Position when it is new. After a restart the caller applies again
// what the log has past it.
func (db *DB) Position() Position {
	db.changing.Lock()
	defer db.changing.Unlock()
	p := db.saved.position
	p.Log = append([]byte(nil), p.Log...)
	return p
}

// Totals returns the totals of the chunk map, overlays included.
func (db *DB) Totals() Totals {
	db.totalsMu.Lock()
	defer db.totalsMu.Unlock()
	return db.totals
}

// OverlayBytes estimates the memory that the overlays need, bytes. It grows until WriteFrozen: the caller must
// bound it, by letting writers wait.
func (db *DB) OverlayBytes() int64 {
	s := db.state.Load()
	n := s.active.size + int64(s.activeChunks.len()+s.frozenChunks.len())*chunkRowMemory
	if s.frozen != nil {
		n += s.frozen.size
	}
	return n
}

// OverlayEntries returns the number of rows in the overlays, tombstones included.
func (db *DB) OverlayEntries() int {
	s := db.state.Load()
	n := s.active.rows + s.activeChunks.len() + s.frozenChunks.len()
	if s.frozen != nil {
		n += s.frozen.rows
	}
	return n
}

// Sizes describe the file.
type Sizes struct {
	Rows      map[Table]uint64 // by table, as of the last checkpoint
	Chunks    uint64           // rows of the chunk map, as of the last checkpoint
	FileBytes int64            // length of the file
	FreePages int              // pages that hold nothing and will be reused
	PageBytes int              // length of a page
}

// Sizes returns the sizes of the file as of the last checkpoint; overlays are not in it.
func (db *DB) Sizes() (Sizes, error) {
	if err := db.usable(); err != nil {
		return Sizes{}, err
	}
	info, err := db.file.Stat()
	if err != nil {
		return Sizes{}, fmt.Errorf("index: %w", err)
	}
	stats := db.bolt.Stats()
	db.changing.Lock()
	defer db.changing.Unlock()
	sizes := Sizes{
		Rows:      make(map[Table]uint64, len(catalogTables)),
		Chunks:    db.saved.sums[tableChunks].rows,
		FileBytes: info.Size(),
		FreePages: stats.FreePageN + stats.PendingPageN,
		PageBytes: db.bolt.Info().PageSize,
	}
	for _, t := range catalogTables {
		sizes.Rows[t] = db.saved.sums[t].rows
	}
	return sizes, nil
}
