package erasure

import (
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Class says what a segment is for. One Metadata and one Data segment are open at a time.
type Class uint8

const (
	Metadata Class = 1 // mutations, list chunks, small objects
	Data     Class = 2 // bulk chunks, and the batches that rest on them
	Snapshot Class = 3 // a whole catalog; see NewSnapshot
)

// SegmentID numbers segments; numbers are never reused. 0 is no segment.
type SegmentID uint64

// A Record is one framed entry of the log. Kind and Label are opaque to this package; they are kept in the record
// table of the stripe and in the directory stripes of a sealed segment, so that they can be listed without reading bodies.
type Record struct {
	Kind  uint8  // not 0
	Label []byte // at most 255 bytes
	Body  []byte // at most MaxBodyBytes
}

// MaxBodyBytes bounds the body of one record.
const MaxBodyBytes = 16 << 20

// LocationBytes is the size of a Location.
const LocationBytes = 28

// A Location says where a durable record lies. It is opaque to everyone else and may be stored.
type Location [LocationBytes]byte

// A Placed record is durable.
type Placed struct {
	Kind     uint8
	Label    []byte
	Location Location
	Seq      uint64 // store-wide stripe sequence of its stripe
}

// A Verdict says for ever that segment Segment ends after its first Stripes stripes. Later stripes of it are void.
type Verdict struct {
	Segment SegmentID
	Stripes uint32   // how many stripes count
	Digest  [16]byte // digest of the last stripe that counts; zero when Stripes is 0, or when that stripe is damaged beyond repair
}

// A Position is a point in the log: every stripe with a sequence up to Seq is durable and was reported by OnDurable.
type Position struct {
	Seq     uint64
	Segment SegmentID // where stripe Seq lies; 0 when Seq is 0
	Stripe  uint32
	Digest  [16]byte // its digest
}

// A Replayed record is what Replay yields. Body is nil unless its kind was asked for.
type Replayed struct {
	Placed
	Body []byte
}

// SegmentInfo describes one live segment.
type SegmentInfo struct {
	ID           SegmentID
	Class        Class
	K, M         int
	Stripes      uint32
	Records      uint32
	PayloadBytes int64 // record tables and records, before parity and padding
	StoredBytes  int64 // on disk over all n shard files: headers, parity and padding included, preallocation not
	FirstSeq     uint64
	LastSeq      uint64
	Sealed       bool // has directory stripes and a footer
	Ended        bool // a verdict ended it
	ShardsAbsent int  // shard files that no present directory holds
}

// A Member is one data directory that belongs to the store.
type Member struct {
	ID    string `json:"id"`              // random, 32 hex digits
	Path  string `json:"path"`            // where it was seen last; informative, never trusted
	State string `json:"state,omitempty"` // StateDraining, StateHealing or StateJoining; empty is normal
	// Joined says that it came after the creation and that Path is to be trusted: it is used there when it is not given.
	Joined bool `json:"joined,omitempty"`
}

// States of a member that are written down.
const (
	StateDraining = "draining" // takes no new shard files
	StateHealing  = "healing"  // took the place of another one and may lack shard files that it should have
	StateJoining  = "joining"  // is being added: not yet in use, and it holds nothing
)

// A Code is an erasure code: K data shards and M parity shards.
type Code struct {
	K int `json:"k"`
	M int `json:"m"`
}

// DirInfo tells how one data directory is.
type DirInfo struct {
	Member
	State  string // how it is: "online", "full", "healing", "draining", "offline", "absent"
	Reason string // why it is not online
	Free   int64  // bytes that may still be written; 0 when it cannot be asked
	Total  int64  // bytes of its file system that are in use or free
	Shards int    // shard files of live segments that lie there
	Bytes  int64  // of these files, preallocation not included
	Device uint64 // st_dev
}

// Creation is what a new store is made with. It is written into every directory's format.json.
type Creation struct {
	K, M   int             // 0, 0 means the default for the number of directories
	Params json.RawMessage // opaque creation options of the layers above
}

// Options of Open. The zero value of each field works unless said otherwise.
type Options struct {
	Dirs                 []string       // data directories, any order; at least one
	FS                   FS             // nil means the operating system's
	Create               *Creation      // when every directory is empty, create the store so; nil refuses instead
	OnDurable            func([]Placed) // called in the order of the stripes of a segment and never concurrently, before the Commit or Sync that made the records durable returns; must not call the log
	SegmentBytes         int64          // payload at which a data segment is sealed; 0 means 1 GiB
	MetadataSegmentBytes int64          // physical bytes a directory at which a metadata segment is sealed; 0 means 16 MiB
	StripeBytes          int            // payload at which a bulk stripe is closed; 0 means 4 MiB
	UnsyncedBytes        int64          // bound of bulk payload held in memory until it is synced; 0 means 64 MiB
	IOTimeout            time.Duration  // a directory that hangs longer in one write or fsync is offline; 0 means 30 s
	Code                 Code           // of new segments from now on; zero leaves it as it is
	AllowNetworkFS       bool
	Rand                 io.Reader             // where nonces and identities come from; nil means crypto/rand
	Logger               *slog.Logger          // nil discards
	Metrics              prometheus.Registerer // nil registers nothing
}
