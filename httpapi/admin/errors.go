package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/reqlog"
)

var (
	errStopping   = errors.New("the server is shutting down")
	errClientGone = errors.New("the client has gone")
)

// A badRequest says what is wrong with a parameter.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// adminErrors is the table of what operators are told; the first match wins, no match is InternalError.
var adminErrors = []struct {
	err    error
	code   string
	status int
}{
	{errStopping, "ShuttingDown", http.StatusServiceUnavailable},
	{errClientGone, "Cancelled", http.StatusServiceUnavailable},
	{cas.ErrNotImplemented, "NotImplemented", http.StatusNotImplemented},
	{cas.ErrNoSuchDir, "NoSuchDir", http.StatusNotFound},
	{cas.ErrConflict, "Conflict", http.StatusConflict},
	{cas.ErrReadOnly, "ReadOnly", http.StatusServiceUnavailable},
	{cas.ErrIncomplete, "Incomplete", http.StatusServiceUnavailable},
	{cas.ErrBusy, "Busy", http.StatusServiceUnavailable},
	{cas.ErrClosed, "ShuttingDown", http.StatusServiceUnavailable},
	{cas.ErrNoSpace, "NoSpace", http.StatusInsufficientStorage},
	{cas.ErrCorrupt, "Corrupt", http.StatusInternalServerError},
	{context.Canceled, "Cancelled", http.StatusServiceUnavailable},
}

// A problem is an error as operators are told it. Who holds the root credentials may see the whole message.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`

	status int
}

// problemOf translates an error, and notes it for the logs.
func problemOf(err error, e *reqlog.Entry) problem {
	p := problem{Code: "InternalError", Message: err.Error(), status: http.StatusInternalServerError}
	var bad badRequest
	if errors.As(err, &bad) {
		p.Code, p.status = "InvalidArgument", http.StatusBadRequest
	} else {
		for _, row := range adminErrors {
			if errors.Is(err, row.err) {
				p.Code, p.status = row.code, row.status
				break
			}
		}
	}
	e.ErrorCode = p.Code
	if p.status == http.StatusInternalServerError {
		e.Err = err
	}
	return p
}

// failWith answers with an error.
func failWith(w http.ResponseWriter, e *reqlog.Entry, err error) {
	p := problemOf(err, e)
	writeJSON(w, p.status, p)
}
