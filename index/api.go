package index

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Table is one ordered table of the catalog. The numbers are part of the format.
type Table uint8

const (
	Buckets  Table = 1  // bucket name -> bucket
	Objects  Table = 2  // ObjectKey(bucket, key, csn) -> version; newest version of a key first
	Uploads  Table = 3  // UploadKey(bucket, key, upload ID) -> multipart upload
	Parts    Table = 4  // PartKey(upload ID, part number) -> part
	Usage    Table = 5  // bucket name -> counters
	Domains  Table = 6  // domain number -> dedup domain and its BLAKE3 key
	Users    Table = 7  // users, keys and groups
	Policies Table = 8  // policies
	Segments Table = 9  // segments and drops
	Verdicts Table = 10 // segment number -> verdict
	Members  Table = 11 // directory ID -> member
	Meta     Table = 12 // everything else of the store: receipts, marks
)

// An Entry is one row. Key and Value must not be changed; they stay valid after the view that gave them is closed.
type Entry struct {
	Key, Value []byte
	Rev        uint64 // CSN of the mutation that wrote it
}

// An Op writes or deletes one row.
type Op struct {
	_      struct{} `cbor:",toarray"`
	Table  Table
	Key    []byte
	Value  []byte
	Delete bool
}

// A Reader reads one consistent state of the catalog.
type Reader interface {
	// Get finds one row; ok is false when it is absent.
	Get(t Table, key []byte) (e Entry, ok bool, err error)
	// First finds the first row with lo <= key < hi; a nil hi means to the end of the table.
	First(t Table, lo, hi []byte) (e Entry, ok bool, err error)
}

// ID is a chunk ID.
type ID [32]byte

// A Chunk is one row of the chunk map.
type Chunk struct {
	ID       ID
	Location [28]byte // opaque
	Size     uint32   // plain bytes
	Encoding uint8    // opaque
}

// A Position says what a checkpoint covers.
type Position struct {
	CSN uint64 // every mutation up to CSN is in it
	Log []byte // opaque log position
}

// Totals of the chunk map, overlay included.
type Totals struct {
	Chunks int64
	Bytes  int64 // sum of Size
}

// Options of Open.
type Options struct {
	Path        string                // the bbolt file; its directory is made when missing
	LockTimeout time.Duration         // how long to wait for another process to let go of the file; 0 means 2 s
	NoSync      bool                  // for tests only
	Logger      *slog.Logger          // nil discards
	Metrics     prometheus.Registerer // nil registers nothing
}
