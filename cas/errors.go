package cas

import "errors"

// What callers branch on. Errors are wrapped with the operation and the name.
var (
	ErrNoSuchBucket       = errors.New("cas: no such bucket")
	ErrNoSuchKey          = errors.New("cas: no such key")
	ErrNoSuchVersion      = errors.New("cas: no such version")
	ErrInvalidVersion     = errors.New("cas: not a version ID") // of this store
	ErrDeleteMarker       = errors.New("cas: version is a delete marker")
	ErrNoSuchUpload       = errors.New("cas: no such upload")
	ErrBucketExists       = errors.New("cas: bucket exists")
	ErrBucketNotEmpty     = errors.New("cas: bucket is not empty")
	ErrPreconditionFailed = errors.New("cas: precondition failed")
	ErrInvalidPart        = errors.New("cas: part was not uploaded or its ETag differs")
	ErrInvalidPartOrder   = errors.New("cas: parts are not in ascending order")
	ErrPartTooSmall       = errors.New("cas: part is smaller than 5 MiB and not the last")
	ErrTooLarge           = errors.New("cas: object is larger than 5 TiB, or part larger than 5 GiB")
	ErrBadDigest          = errors.New("cas: bytes differ from the client's digest")
	ErrCorrupt            = errors.New("cas: corrupt")                 // bytes exist but cannot be rebuilt
	ErrReadOnly           = errors.New("cas: store is read-only")      // too few directories; writes may work again later
	ErrBusy               = errors.New("cas: busy, try again")         // a bound was reached
	ErrNoSpace            = errors.New("cas: no space left on device") // PUT cannot go on
	ErrClosed             = errors.New("cas: store is closed")
	ErrIncomplete         = errors.New("cas: part of the log is out of reach") // what is not found may exist
	ErrInUse              = errors.New("cas: another process has the store open")
	ErrNotImplemented     = errors.New("cas: not implemented")
	ErrNoSuchDir          = errors.New("cas: no such data directory")
	ErrConflict           = errors.New("cas: not possible in this state") // of directories and operations; the message says why
	ErrUnknownOutcome     = errors.New("cas: outcome unknown")            // the log failed in mid-commit: the connection must be closed without an answer
)
