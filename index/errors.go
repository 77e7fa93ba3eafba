package index

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrCorrupt is matched by every error that says that the file is damaged: delete it and rebuild from the log.
var ErrCorrupt = errors.New("index: corrupt")

// ErrLocked is matched when another process, or another DB of this one, has the file open.
var ErrLocked = errors.New("index: in use by another process")

// ErrClosed is matched by every call after Close.
var ErrClosed = errors.New("index: closed")

// ErrBadOp is matched when a row cannot be staged: its table is unknown, its key or value has an impossible
// length, or its CSN is not greater than the last.
var ErrBadOp = errors.New("index: bad operation")

// A CorruptError says what is damaged. It matches ErrCorrupt.
type CorruptError struct {
	Table  Table  // 0 when it is not one row that is damaged
	Key    []byte // of the row; may be damaged itself
	Reason string
	Stack  string // of the panic that showed the damage, if one did
}

func (e *CorruptError) Error() string {
	if e.Table == 0 {
		return "index: corrupt: " + e.Reason
	}
	return fmt.Sprintf("index: corrupt: %s %.100x: %s", e.Table, e.Key, e.Reason)
}

// Is makes errors.Is(e, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// guard makes of a panic an error that matches ErrCorrupt. bbolt panics when it meets pages that make no
// sense, and touching a mapped page that is gone (a truncated file, a failing disk) is a fault. Use it around bbolt and nothing else:
//
//	defer guard(&err, debug.SetPanicOnFault(true))
//
// SetPanicOnFault concerns the calling goroutine only and is set back here.
func guard(err *error, panicOnFault bool) {
	debug.SetPanicOnFault(panicOnFault)
	if r := recover(); r != nil {
		*err = &CorruptError{Reason: fmt.Sprintf("reading the file: %v", r), Stack: string(debug.Stack())}
	}
}
