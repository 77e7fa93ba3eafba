package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/casd/casd/httpapi/admin"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/s3"
)

// A Store is what all protocols together need of the store.
type Store interface {
	s3.Store
	admin.Store
}

// Options of New. Store and Credentials are required; the zero value of every other field works.
type Options struct {
	Store       Store            // normally a *cas.Store
	Credentials auth.Credentials // of the root user

	// Domain makes virtual-host-style requests to BUCKET.Domain work beside path-style ones. Empty: path-style only.
	Domain string
	// Region is the one that clients must sign for; empty means us-east-1.
	Region string

	Logger    *slog.Logger         // what an operator acts on; nil discards
	AccessLog *slog.Logger         // one record for each request; nil discards
	Metrics   *prometheus.Registry // what /metrics serves and our own metrics are registered with; nil means a new one

	// AdminSeparate moves /healthz, /readyz, /metrics and /-/ from Handler to AdminHandler.
	AdminSeparate bool

	Limits          Limits
	ShutdownTimeout time.Duration // how long Serve lets requests finish when its context ends; 0 means 30 s

	Version string           // shown by the admin API
	Clock   func() time.Time // for signatures; nil means time.Now
}

// Limits bound what clients can make the server hold or wait for. The zero value of each field means its default. Not configurable, since
// S3 fixes them: 2 KiB of user metadata, keys of 1,024 bytes, 1,000 keys in DeleteObjects, 10,000 parts of at
// most 5 GiB.
type Limits struct {
	// Requests is how many S3 and admin API requests may be under way at once; further ones are answered 503 SlowDown. Health checks and metrics are
	// not counted. Default 1,024.
	Requests int
	// HeaderBytes bounds the request line and headers together; more is answered 431. Default 32 KiB.
	HeaderBytes int
	// XMLBytes bounds XML bodies but that of DeleteObjects; they are held in memory. More is answered MaxMessageLengthExceeded. Default 2 MiB.
	XMLBytes int64
	// DeleteBytes is XMLBytes for DeleteObjects, whose 1,000 keys of 1,024 bytes may each be six times as long in XML. Default 8 MiB.
	DeleteBytes int64
	// HeaderTimeout is how long a client may take to send its headers. Default 30 s.
	HeaderTimeout time.Duration
	// IdleTimeout is how long an idle connection is kept. Default 120 s.
	IdleTimeout time.Duration
	// StallTimeout ends a request whose body does not arrive, or whose response is not taken (64 KiB at a time), for so long. Default 60 s.
	StallTimeout time.Duration
	// DrainBytes and DrainTimeout bound how much of the body of a request that was refused early is read and thrown away, so that the
	// client sees the answer instead of a reset connection. Defaults 16 MiB and 5 s.
	DrainBytes   int64
	DrainTimeout time.Duration
	// KeepAlive is how long a completion or copy may work before white space is sent to keep the client waiting, and how
	// often. Default 10 s.
	KeepAlive time.Duration
	// Progress is how often an operation of the admin API tells how far it is. Default 1 s.
	Progress time.Duration
}

func (o Options) withDefaults() (Options, error) {
	o.Region = cmp.Or(o.Region, "us-east-1")
	o.Domain = strings.ToLower(strings.Trim(o.Domain, "."))
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.AccessLog = cmp.Or(o.AccessLog, slog.New(slog.DiscardHandler))
	o.Metrics = cmp.Or(o.Metrics, prometheus.NewRegistry())
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 30*time.Second)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	l := &o.Limits
	l.Requests = cmp.Or(l.Requests, 1024)
	l.HeaderBytes = cmp.Or(l.HeaderBytes, 32<<10)
	l.XMLBytes = cmp.Or(l.XMLBytes, 2<<20)
	l.DeleteBytes = cmp.Or(l.DeleteBytes, 8<<20)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, 30*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 120*time.Second)
	l.StallTimeout = cmp.Or(l.StallTimeout, 60*time.Second)
	l.DrainBytes = cmp.Or(l.DrainBytes, 16<<20)
	l.DrainTimeout = cmp.Or(l.DrainTimeout, 5*time.Second)
	l.KeepAlive = cmp.Or(l.KeepAlive, 10*time.Second)
	l.Progress = cmp.Or(l.Progress, time.Second)

	if o.Store == nil {
		return o, errors.New("httpapi: Options.Store is missing")
	}
	if err := o.Credentials.Validate(); err != nil {
		return o, fmt.Errorf("httpapi: root credentials: %w", err)
	}
	if l.Requests < 0 || l.HeaderBytes < 0 || l.XMLBytes < 0 || l.DeleteBytes < 0 || l.HeaderTimeout < 0 || l.IdleTimeout < 0 || l.StallTimeout < 0 ||
		l.DrainBytes < 0 || l.DrainTimeout < 0 || l.KeepAlive < 0 || l.Progress < 0 || o.ShutdownTimeout < 0 {
		return o, errors.New("httpapi: limits may not be negative")
	}
	return o, nil
}
