package cas

import "time"

// Long operations: what they are asked, how they tell where they are, and what they report. Times are wall-clock, sizes
// bytes. Every list in a report is bounded by listedMax; its Total says how many there were.

// listedMax bounds each list in a report.
const listedMax = 1000

// Progress tells how far an operation is.
type Progress struct {
	Operation string    `json:"operation"` // scrub, gc, check, heal, drain, rebalance, rebuild-index
	Phase     string    `json:"phase,omitempty"`
	Done      int64     `json:"done"`
	Total     int64     `json:"total"` // 0: not known yet
	Unit      string    `json:"unit"`  // bytes or items
	Began     time.Time `json:"began"`
}

// A ProgressFunc is told about progress at most a few times a second, from one goroutine at a time. It must not block.
type ProgressFunc func(Progress)

// A ScrubLevel says how deep a scrub looks.
type ScrubLevel string

const (
	ScrubShards ScrubLevel = "shards" // every shard of every stripe: checksums, identities, parity, directories
	ScrubChunks ScrubLevel = "chunks" // and every chunk, decoded and hashed
	ScrubDeep   ScrubLevel = "deep"   // and that every manifest's chunks exist, and that index and log agree

	ScrubHeal ScrubLevel = "heal" // only in receipts: what was healed in the background
)

// ScrubRequest asks for a scrub of the whole store.
type ScrubRequest struct {
	Level    ScrubLevel // empty means ScrubChunks
	NoRepair bool       // report only
	Rate     int64      // bytes a second over all directories; 0 means no limit
	Progress ProgressFunc
}

// A Finding is one damage that a scrub met.
type Finding struct {
	Dir      string `json:"dir,omitempty" cbor:"1,keyasint,omitempty"`
	File     string `json:"file,omitempty" cbor:"2,keyasint,omitempty"`
	Segment  uint64 `json:"segment" cbor:"3,keyasint"`
	Stripe   uint32 `json:"stripe" cbor:"4,keyasint"`
	Offset   int64  `json:"offset" cbor:"5,keyasint"`
	Kind     string `json:"kind" cbor:"6,keyasint"` // see erasure's Finding constants; chunk, mutation, manifest and index come from above the log
	Detail   string `json:"detail,omitempty" cbor:"7,keyasint,omitempty"`
	Repaired bool   `json:"repaired" cbor:"8,keyasint"`
	Lost     bool   `json:"lost" cbor:"9,keyasint"`
}

// A LostObject is a version, or a part of an upload in progress, some bytes of which are beyond repair.
type LostObject struct {
	Bucket    string `json:"bucket" cbor:"1,keyasint"`
	Key       string `json:"key" cbor:"2,keyasint"`
	VersionID string `json:"version_id,omitempty" cbor:"3,keyasint,omitempty"`
	UploadID  string `json:"upload_id,omitempty" cbor:"4,keyasint,omitempty"`
	Part      int    `json:"part,omitempty" cbor:"5,keyasint,omitempty"`
	Chunks    int64  `json:"chunks" cbor:"6,keyasint"` // of it that are lost
}

// Outcomes of an operation, best first.
const (
	OutcomeWhole    = "whole"    // nothing was wrong
	OutcomeRepaired = "repaired" // something was, and all of it is mended
	OutcomeDamaged  = "damaged"  // something is wrong and not mended, but nothing is lost as far as is known
	OutcomeLost     = "lost"     // something is beyond repair
)

// A Receipt is what a scrub leaves behind, durably.
type Receipt struct {
	ID             string           `json:"id" cbor:"1,keyasint"` // sorts by time
	Level          ScrubLevel       `json:"level" cbor:"2,keyasint"`
	Repair         bool             `json:"repair" cbor:"3,keyasint"`
	Background     bool             `json:"background" cbor:"4,keyasint"`
	Began          time.Time        `json:"began" cbor:"5,keyasint"`
	Ended          time.Time        `json:"ended" cbor:"6,keyasint"`
	Complete       bool             `json:"complete" cbor:"7,keyasint"` // false: it was interrupted, or could not read everything
	Reason         string           `json:"reason,omitempty" cbor:"8,keyasint,omitempty"`
	Outcome        string           `json:"outcome" cbor:"9,keyasint"`
	Segments       int64            `json:"segments" cbor:"10,keyasint"`
	Stripes        int64            `json:"stripes" cbor:"11,keyasint"`
	Records        int64            `json:"records" cbor:"12,keyasint"`
	Chunks         int64            `json:"chunks" cbor:"13,keyasint"`  // decoded and hashed
	Objects        int64            `json:"objects" cbor:"14,keyasint"` // whose manifests were walked
	BytesRead      map[string]int64 `json:"bytes_read" cbor:"15,keyasint"`
	ShardsBad      int64            `json:"shards_bad" cbor:"16,keyasint"`
	ShardsRepaired int64            `json:"shards_repaired" cbor:"17,keyasint"`
	FilesRebuilt   int64            `json:"files_rebuilt" cbor:"18,keyasint"`
	StripesLost    int64            `json:"stripes_lost" cbor:"19,keyasint"`
	Findings       []Finding        `json:"findings" cbor:"20,keyasint"`
	FindingsTotal  int64            `json:"findings_total" cbor:"21,keyasint"`
	LostChunks     int64            `json:"lost_chunks" cbor:"22,keyasint"`
	Lost           []LostObject     `json:"lost" cbor:"23,keyasint"`
	LostTotal      int64            `json:"lost_total" cbor:"24,keyasint"`
}

// GCRequest asks for a cycle of mark and compact.
type GCRequest struct {
	DryRun    bool    // mark and report, change nothing
	Threshold float64 // garbage in a segment, of what it takes on disk, from which it is compacted; 0 means 0.25
	Recode    bool    // compact every segment whose code is not the store's, too
	Rate      int64   // bytes copied a second; 0 means no limit
	Progress  ProgressFunc
}

// A GCReport tells what a cycle did.
type GCReport struct {
	Began          time.Time   `json:"began"`
	Ended          time.Time   `json:"ended"`
	DryRun         bool        `json:"dry_run"`
	ChunksLive     int64       `json:"chunks_live"`
	SegmentsTotal  int64       `json:"segments_total"`
	Dropped        int64       `json:"segments_dropped"` // in a dry run: would be
	StoredBytes    int64       `json:"stored_bytes"`     // of all segments before
	GarbageBytes   int64       `json:"garbage_bytes"`    // of these, estimated
	ReclaimedBytes int64       `json:"reclaimed_bytes"`  // stored bytes of what was dropped
	CopiedBytes    int64       `json:"copied_bytes"`     // record bodies copied out of what was dropped
	CopiedChunks   int64       `json:"copied_chunks"`
	Snapshots      int         `json:"snapshots"`        // written on the way
	UploadsExpired int64       `json:"uploads_expired"`  // rows of uploads without an upload that were removed
	Segments       []GCSegment `json:"segments"`         // most garbage first
	Reason         string      `json:"reason,omitempty"` // why the cycle ended early
}

// A GCSegment tells what a cycle made of one segment.
type GCSegment struct {
	ID          uint64 `json:"id"`
	Class       string `json:"class"`
	Code        string `json:"code"` // such as 4+2
	StoredBytes int64  `json:"stored_bytes"`
	LiveBytes   int64  `json:"live_bytes"` // of record bodies
	Dropped     bool   `json:"dropped"`
	Skipped     string `json:"skipped,omitempty"` // why it was left alone
}

// CheckRequest asks whether index = f(log).
type CheckRequest struct {
	Rate     int64 // bytes read a second; 0 means no limit
	Progress ProgressFunc
}

// A CheckReport tells what a check found.
type CheckReport struct {
	Began            time.Time    `json:"began"`
	Ended            time.Time    `json:"ended"`
	CSN              uint64       `json:"csn"` // up to which the log was compared
	Mutations        int64        `json:"mutations"`
	Rows             int64        `json:"rows"`
	Chunks           int64        `json:"chunks"`
	Objects          int64        `json:"objects"`
	Differences      []string     `json:"differences"`
	DifferencesTotal int64        `json:"differences_total"`
	Lost             []LostObject `json:"lost"`
	LostTotal        int64        `json:"lost_total"`
	Outcome          string       `json:"outcome"`
}

// Status describes a running store.
type Status struct {
	StoreID  string      `json:"store_id"`
	State    string      `json:"state"` // ok, degraded, read-only, failed
	Reasons  []string    `json:"reasons"`
	Code     string      `json:"code"` // of new segments, such as 4+2
	CSN      uint64      `json:"csn"`
	Dirs     []DirStatus `json:"dirs"`
	Stats    Stats       `json:"stats"`
	Segments int         `json:"segments"`
	Damaged  int         `json:"segments_damaged"` // with shards that are missing or known to be bad
	Index    IndexStatus `json:"index"`
	Running  []Progress  `json:"running"`

	LastScrub *Receipt  `json:"last_scrub,omitempty"` // without its lists
	NextScrub time.Time `json:"next_scrub"`
	LastGC    *GCReport `json:"last_gc,omitempty"` // without its list; since the start
}

// A DirStatus describes a data directory.
type DirStatus struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	State  string `json:"state"` // online, full, healing, draining, offline, absent
	Reason string `json:"reason,omitempty"`
	Free   int64  `json:"free_bytes"`
	Total  int64  `json:"total_bytes"`
	Device uint64 `json:"device"`
	Shards int    `json:"shard_files"` // of live segments
	Bytes  int64  `json:"shard_bytes"`
}

// IndexStatus describes the index.
type IndexStatus struct {
	Path      string `json:"path"`
	FileBytes int64  `json:"file_bytes"`
	Overlay   int    `json:"overlay_entries"`
	Trouble   string `json:"trouble,omitempty"`
}
