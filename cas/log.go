package cas

import (
	"context"
	"encoding/json"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// A recordLog is what the store needs of its log. *erasure.Log is the one for local directories; its value types carry
// nothing that ties them to files. Another implementation passes the same conformance suite.
type recordLog interface {
	StoreID() [16]byte
	Params() json.RawMessage
	// Code returns the erasure code of new segments.
	Code() erasure.Code
	// Created tells whether this opening made the store.
	Created() bool

	// SetVerdicts tells the log which segments ended where. A contradiction is an error.
	SetVerdicts([]erasure.Verdict) error
	// SetDropped tells the log which segments were dropped: they do not count, whoever brings them back.
	SetDropped([]erasure.SegmentID)
	// FindEnds reads the verdicts and drops that lie in the log behind a stripe sequence and sets those that count.
	FindEnds(ctx context.Context, after uint64, kind uint8, decode func(erasure.Replayed) (erasure.Ends, error)) (erasure.Ends, error)
	// CheckPosition returns erasure.ErrAhead when the log does not hold p, and erasure.ErrDropped when that was dropped.
	CheckPosition(p erasure.Position) error
	// Replay yields every record after a stripe sequence in order. Bodies are read of the kinds that are asked for.
	Replay(ctx context.Context, after uint64, bodies func(kind uint8) bool, fn func(erasure.Replayed) error) error
	// Recover decides where unsealed segments end, heals what it accepted and makes the log writable.
	Recover(ctx context.Context) ([]erasure.Verdict, error)

	// Append takes a record. It is durable only after a Commit or Sync that covers its handle. It may block until there is room.
	// erasure.ErrNoSpace: what is left is kept for higher tiers, or for nobody.
	Append(ctx context.Context, r erasure.Record, c erasure.Class, t erasure.Tier) (*erasure.Handle, error)
	// Commit makes everything appended as metadata, muts, and deps durable as one. erasure.ErrRetry asks for the same again,
	// with the verdicts that TakeVerdicts gives.
	Commit(ctx context.Context, muts []erasure.Record, deps []*erasure.Handle, t erasure.Tier) error
	TakeVerdicts() []erasure.Verdict
	// Sync makes everything appended so far durable.
	Sync(ctx context.Context) error
	// IsLive tells whether a segment is part of the store, as far as it can be seen. A location in one that is not is none. Dropped tells whether
	// it was dropped.
	IsLive(erasure.SegmentID) bool
	Dropped(erasure.SegmentID) bool
	// ReadSegment calls fn for every durable record of one live segment in order; what cannot be had makes the error at its end.
	ReadSegment(ctx context.Context, id erasure.SegmentID, bodies func(kind uint8) bool, fn func(erasure.Replayed) error) error
	// ReadBackAll reads records past every cache, from their own places and from nowhere else. fn is called for each, or returns what ends it.
	ReadBackAll(ctx context.Context, locs []erasure.Location, fn func(i int, body []byte, err error) error) error
	// Roll seals the open segments.
	Roll(ctx context.Context) error
	// Retire takes segments out of the live set; Drop removes those for which a drop is durable.
	Retire([]erasure.SegmentID) error
	Drop(ctx context.Context, ids []erasure.SegmentID) error
	// NewSnapshot begins a snapshot segment. LatestSnapshots returns those that are complete, the newest first.
	NewSnapshot(ctx context.Context) (*erasure.SnapshotWriter, error)
	LatestSnapshots() []erasure.SegmentID
	// Read appends the body of a record to dst. Errors: erasure.ErrNotFound, erasure.ErrCorrupt; any other is "unknown".
	Read(ctx context.Context, l erasure.Location, dst []byte) ([]byte, error)

	// Segments describes the live segments by number.
	Segments() []erasure.SegmentInfo
	// ScrubSegment reads and checks a segment, and repairs it.
	ScrubSegment(context.Context, erasure.SegmentID, erasure.ScrubOptions) (erasure.ScrubResult, error)
	// Damaged returns the segments that miss shard files which could be written anew now, the newest first.
	Damaged() []erasure.SegmentID
	// TakeSuspects returns the segments in which a read since the last call met damage.
	TakeSuspects() []erasure.SegmentID

	directoryLog

	Position() erasure.Position
	WriteState() error
	// Room is WriteState for one tier.
	Room(t erasure.Tier) error
	Stats() erasure.Stats
	Close(ctx context.Context) error
}

// A chunkMap finds chunks.
type chunkMap interface {
	LookupChunk(index.ID) (index.Chunk, bool, error)
	PutChunks([]index.Chunk) error
}
