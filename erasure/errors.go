package erasure

import (
	"errors"
	"fmt"
)

var (
	ErrNotFound       = errors.New("erasure: no such record")                      // proven absent: its segment is not live
	ErrCorrupt        = errors.New("erasure: fewer than k shards verify")          // matches every CorruptError
	ErrUnavailable    = errors.New("erasure: too many shards are out of reach")    // unknown, not lost: directories are absent, offline or unreadable
	ErrReadOnly       = errors.New("erasure: too few directories to write safely") // the membership rule forbids writing
	ErrNoSpace        = errors.New("erasure: no space left")
	ErrRetry          = errors.New("erasure: segment failed; commit again with its verdict")
	ErrUncertain      = errors.New("erasure: the outcome of a commit is unknown until a restart") // matches every error of a poisoned log
	ErrClosed         = errors.New("erasure: log is closed")
	ErrAhead          = errors.New("erasure: position is ahead of the log")
	ErrEmptyDirs      = errors.New("erasure: directories hold no store")
	ErrTooLarge       = errors.New("erasure: record too large")
	ErrSegmentOpen    = errors.New("erasure: segment still takes stripes")
	ErrDropped        = errors.New("erasure: segment was dropped")
	ErrSnapshotFailed = errors.New("erasure: snapshot could not be written; begin another one")
	ErrNoHome         = errors.New("erasure: no directory can take a shard file")
	ErrUnproven       = errors.New("erasure: record does not read back from where it was written") // see ReadBack
	ErrVerdict        = errors.New("erasure: conflicting verdicts")
	ErrInUse          = errors.New("erasure: data directory is in use") // shard files that are needed lie there, or may
)

// A CorruptError says which stripe has fewer than k valid shards although every shard was read. It matches ErrCorrupt.
type CorruptError struct {
	Segment SegmentID
	Stripe  uint32 // number in the segment; 0 when only the offset is known
	Offset  int64  // of the stripe in each shard file, bytes
	Valid   int    // shards that verify
	Need    int    // k
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("erasure: segment %016x offset %d (stripe %d): %d shards verify, %d are needed", uint64(e.Segment), e.Offset, e.Stripe, e.Valid, e.Need)
}

// Is makes a CorruptError match ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// A DirError says what is wrong with one data directory and what to do about it.
type DirError struct {
	Path   string
	Reason string
	Err    error // may be nil
}

func (e *DirError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("erasure: data directory %s: %s: %v", e.Path, e.Reason, e.Err)
	}
	return fmt.Sprintf("erasure: data directory %s: %s", e.Path, e.Reason)
}

// Unwrap returns the cause, if there is one.
func (e *DirError) Unwrap() error { return e.Err }

var (
	errSegmentFailed = errors.New("erasure: open segment failed")       // internal: repair, then try again
	errOffline       = errors.New("erasure: data directory is offline") // internal
	errHung          = errors.New("erasure: data directory does not answer")
	errUnlinked      = errors.New("erasure: shard file was removed or replaced")
)
