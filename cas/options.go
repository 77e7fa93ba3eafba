package cas

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/casd/casd/erasure"
)

// Options of Open. The zero value of each field works unless said otherwise.
type Options struct {
	Dirs           []string // data directories, at least one
	IndexDir       string   // where the index lies; empty means inside the first healthy data directory
	K, M           int      // erasure code of new segments; 0, 0 means that of the store, and for a new one the default for the number of directories
	NoCreate       bool     // refuse to create a store in empty directories
	AllowNetworkFS bool

	SegmentBytes       int64         // payload of a data segment; 0 means 1 GiB
	CheckpointInterval time.Duration // 0 means 5 s
	CheckpointEntries  int           // overlay entries that force a checkpoint; 0 means 65,536
	OverlayBytesMax    int64         // past it commits wait for the checkpoint; 0 means 256 MiB
	CacheBytes         int64         // chunk cache; 0 means 128 MiB
	MemoryBytes        int64         // buffers of all uploads and downloads together; 0 means 1 GiB
	IOTimeout          time.Duration // see erasure.Options

	// OnDemand is for commands on a stopped store: nothing is healed, probed, scrubbed or collected but by a call, so that what a call reports
	// is all that was done.
	OnDemand bool

	// Work in the background. The intervals are from one end to the next start; 0 means never.
	ScrubInterval time.Duration // between full scrubs that repair
	ScrubRate     int64         // bytes a second over all directories that a background scrub reads; 0 means no limit
	ScrubLevel    ScrubLevel    // of the background scrub; empty means ScrubChunks
	GCInterval    time.Duration // between looks whether enough garbage has gathered for a cycle
	GCThreshold   float64       // garbage in a segment, of what it takes on disk, from which it is compacted: 0 < t <= 1; 0 means 0.25
	GCRate        int64         // bytes a second that a background cycle copies; 0 means no limit

	// UploadExpiry is how long nothing may happen to a multipart upload before a cycle of GC removes it; 0 means 7 days, less than
	// 0 never.
	UploadExpiry time.Duration

	FS      erasure.FS            // nil means the operating system's; the index is always on the latter
	Clock   func() time.Time      // nil means time.Now
	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing

	metadataSegmentBytes int64 // see erasure.Options; tests make them small

	byHand         bool                                                                // tests heal and scrub by hand
	rebuild        *rebuild                                                            // RebuildIndex is at work
	wrapCheckpoint func(write func(context.Context) error) func(context.Context) error // tests make it fail
}
