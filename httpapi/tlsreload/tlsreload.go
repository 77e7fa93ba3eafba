// Package tlsreload keeps a TLS configuration whose certificate follows its files, so that renewing a certificate
// needs no restart.
package tlsreload

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkInterval is the least time between two looks at the files.
const checkInterval = time.Second

// stamp tells one version of a file from another without reading it.
type stamp struct {
	modified time.Time
	size     int64
}

type reloader struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex // guards what follows; held while the files are read
	cert    *tls.Certificate
	stamps  [2]stamp
	checked time.Time
}

// New returns a configuration (TLS 1.2 and later, HTTP/1.1) that serves the certificate in certFile with the key in keyFile, both PEM.
// Handshakes look at the files at most once a second and load them when they changed; when the new pair is unusable, the old one stays and the
// reason is logged. logger may be nil.
func New(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	return newConfig(certFile, keyFile, logger, time.Now)
}

func newConfig(certFile, keyFile string, logger *slog.Logger, now func() time.Time) (*tls.Config, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	r := &reloader{certFile: certFile, keyFile: keyFile, log: logger, now: now}
	stamps, err := r.stat()
	if err != nil {
		return nil, fmt.Errorf("tlsreload: %w", err)
	}
	if err := r.load(stamps); err != nil {
		return nil, err
	}
	r.checked = now()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.current(), nil
		},
	}, nil
}

func (r *reloader) stat() (s [2]stamp, err error) {
	for i, name := range []string{r.certFile, r.keyFile} {
		st, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = stamp{st.ModTime(), st.Size()}
	}
	return s, nil
}

func (r *reloader) load(stamps [2]stamp) error {
	cert, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	if err != nil {
		return fmt.Errorf("tlsreload: load %s and %s: %w", r.certFile, r.keyFile, err)
	}
	r.cert, r.stamps = &cert, stamps
	return nil
}

func (r *reloader) current() *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.checked) < checkInterval {
		return r.cert
	}
	r.checked = now
	stamps, err := r.stat()
	if err == nil && stamps == r.stamps {
		return r.cert
	}
	if err == nil {
		err = r.load(stamps) // a half-written pair fails here and is tried again at the next look
		if err == nil {
			r.log.Info("TLS certificate reloaded", slog.String("file", r.certFile))
			return r.cert
		}
	}
	r.log.Warn("TLS certificate not reloaded, the old one stays", slog.Any("error", err))
	return r.cert
}
