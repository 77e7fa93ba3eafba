package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/tlsreload"
)

// serveOptions are the settings of casd serve.
type serveOptions struct {
	storeOptions
	listen, adminListen, addressFile string
	domain, region                   string
	tlsCert, tlsKey                  string
	shutdownTimeout                  time.Duration
	logLevel, logFormat              string
}

func newServeCommand(stderr io.Writer) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve [flags] DIR...",
		Short: "Serve a store over S3",
		Long: `Serve the store that lies in the data directories, in any order, and create it if they are all empty. Give each directory a
disk of its own. DIR{1...6} means DIR1 to DIR6, and DIR{01...12} pads with zeros.

The root credentials come from CASD_ROOT_USER and CASD_ROOT_PASSWORD. Without them a pair is made at the first start and kept
in root-credentials.json (0600) in the data directories; the log names the path.

SIGTERM and SIGINT stop accepting, let requests finish for --shutdown-timeout, and close the store; a second one ends at once.
GOMEMLIMIT is set from the memory flags unless the environment sets it.`,
		Example: `  casd serve ./data/d{1...6}
  casd serve --listen 0.0.0.0:9000 --ec 4+2 /mnt/disk{1...6}
  casd serve --listen :9443 --tls-cert server.crt --tls-key server.key --domain s3.example.com /mnt/disk{01...12}
  CASD_ROOT_USER=backup CASD_ROOT_PASSWORD=$(cat secret) casd serve --config /etc/casd/casd.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dirs, strays, err := loadSettings(cmd, args)
			if err != nil {
				return err
			}
			o.dirs = dirs
			return serve(cmd.Context(), o, strays, stderr)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:9000", "`ADDRESS` of S3, /healthz, /readyz, /metrics and /-/; port 0 picks a free one")
	f.StringVar(&o.adminListen, "admin-listen", "", "`ADDRESS` of their own for /healthz, /readyz, /metrics and /-/")
	f.StringVar(&o.addressFile, "address-file", "", "write the addresses in use to `FILE`, S3 first, one a line")
	f.StringVar(&o.domain, "domain", "", "`DOMAIN` under which bucket.DOMAIN is a bucket, beside the path style")
	f.StringVar(&o.region, "region", "us-east-1", "`REGION` that requests are signed for")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM `FILE` with the certificate chain; read again when it changes")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM `FILE` with its key")
	f.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 30*time.Second, "how long requests may go on after SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "json", "json or text")
	o.storeOptions.addFlags(f)
	o.storeOptions.addServeFlags(f)
	return cmd
}

func (o *serveOptions) validate() error {
	if len(o.dirs) == 0 {
		return errors.New("no data directories: name them as arguments, in CASD_DIRS, or under dirs in the settings file")
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if o.shutdownTimeout <= 0 {
		return errors.New("--shutdown-timeout must be more than 0")
	}
	if o.scrubInterval < 0 || o.gcInterval < 0 {
		return errors.New("--scrub-interval and --gc-interval may not be negative")
	}
	if !(o.gcThreshold > 0 && o.gcThreshold <= 1) {
		return fmt.Errorf("--gc-threshold %g is not more than 0 and at most 1", o.gcThreshold)
	}
	if o.ec.k != 0 && o.ec.k+o.ec.m > len(o.dirs) {
		return fmt.Errorf("--ec %s needs %d directories, %d are named", &o.ec, o.ec.k+o.ec.m, len(o.dirs))
	}
	return nil
}

// serve runs until ctx ends or a signal comes, and returns nil after an orderly end.
func serve(ctx context.Context, o serveOptions, strays []string, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	log, err := newLogger(stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	envCreds, err := rootFromEnvironment()
	if err != nil {
		return err
	}
	for _, name := range strays {
		log.Warn("environment variable is not a setting of casd", slog.String("name", name))
	}
	limitMemory(o.storeOptions, log)

	ctx, stop := signalled(cmp.Or(ctx, context.Background()), log)
	defer stop()

	var tlsConf *tls.Config
	if o.tlsCert != "" {
		if tlsConf, err = tlsreload.New(o.tlsCert, o.tlsKey, log); err != nil {
			return err
		}
	}
	listeners, err := o.openListeners()
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // no error matters once serving has ended
		}
	}()
	starting := startAnswering(listeners, tlsConf)
	log.Info("listening", slog.String("version", version), slog.String("address", listeners[0].Addr().String()), slog.Int("directories", len(o.dirs)))

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	began := time.Now()
	storeOptions := o.casOptions()
	storeOptions.Logger, storeOptions.Metrics = log, registry
	store, err := cas.Open(ctx, storeOptions)
	if err != nil {
		if ctx.Err() != nil {
			log.Info("stopped before the store was open")
			return nil
		}
		return err
	}
	serveErr := func() error {
		creds := envCreds
		if creds == (auth.Credentials{}) {
			if creds, err = rootFromDirs(o.dirs, log); err != nil {
				return err
			}
		}
		server, err := httpapi.New(httpapi.Options{
			Store: store, Credentials: creds, Domain: o.domain, Region: o.region, Version: version,
			Logger: log, AccessLog: log, Metrics: registry,
			AdminSeparate: o.adminListen != "", ShutdownTimeout: o.shutdownTimeout,
		})
		if err != nil {
			return err
		}
		if err := starting.release(); err != nil {
			return err
		}
		var admin net.Listener
		if o.adminListen != "" {
			admin = listeners[1]
		}
		log.Info("ready", slog.String("address", listeners[0].Addr().String()), slog.Float64("seconds", time.Since(began).Seconds()))
		return serveWhileAlive(ctx, server, store, listeners[0], admin, tlsConf)
	}()
	log.Info("closing the store")
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := errors.Join(serveErr, store.Close(closeCtx)); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// serveWhileAlive serves until ctx ends, which is no error, or the store dies, which is one: a service manager then starts
// the process again, and the start rebuilds what is derived.
func serveWhileAlive(ctx context.Context, server *httpapi.Server, store *cas.Store, listener, admin net.Listener, conf *tls.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-store.Dead():
			cancel()
		case <-ctx.Done():
		}
	}()
	return errors.Join(server.Serve(ctx, listener, admin, conf), store.DeadErr())
}

// closeTimeout bounds the last sync and checkpoint. What it cuts short is replayed from the log at the next start.
const closeTimeout = 60 * time.Second

// openListeners opens the S3 listener and, when asked for, the admin one, and writes the address file.
func (o *serveOptions) openListeners() (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
		}
	}()
	var addresses string
	for _, address := range []string{o.listen, o.adminListen} {
		if address == "" && len(listeners) > 0 {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
		addresses += l.Addr().String() + "\n"
	}
	if o.addressFile != "" {
		err = writeAtomically(o.addressFile, addresses)
	}
	return listeners, err
}

// writeAtomically never lets a reader see half of content.
func writeAtomically(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// signalled returns a context that the first SIGTERM or SIGINT ends; a second one ends the process.
func signalled(parent context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		select {
		case s := <-signals:
			log.Info("stopping", slog.String("signal", s.String()))
			cancel()
		case <-ctx.Done():
			return
		}
		s, ok := <-signals
		if ok {
			log.Warn("stopping at once", slog.String("signal", s.String()))
			os.Exit(exitFailed)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q is not json or text", format)
}

// rootFromEnvironment returns zero credentials when neither variable is set.
func rootFromEnvironment() (auth.Credentials, error) {
	c := auth.Credentials{AccessKey: os.Getenv(envUser), SecretKey: os.Getenv(envPassword)}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return auth.Credentials{}, fmt.Errorf("%s and %s go together", envUser, envPassword)
	}
	if c == (auth.Credentials{}) {
		return c, nil
	}
	if err := c.Validate(); err != nil {
		return auth.Credentials{}, fmt.Errorf("%s and %s: %w", envUser, envPassword, err)
	}
	return c, nil
}

// rootFromDirs keeps generated credentials in those directories that are part of the store. An empty one may be the mount
// point of a disk that is not mounted, and stays empty.
func rootFromDirs(dirs []string, log *slog.Logger) (auth.Credentials, error) {
	adopted := slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "format.json"))
		return err != nil
	})
	creds, path, created, err := auth.LoadOrCreateRoot(adopted)
	if err != nil {
		return auth.Credentials{}, err
	}
	message := "root credentials read"
	if created {
		message = "root credentials created"
	}
	log.Info(message, slog.String("path", path))
	return creds, nil
}

// limitMemory gives the garbage collector the sum of the bounds as its soft limit, with room for what they do not cover
// (overlay 256 MiB, unsynced stripes, bbolt, goroutines), so that its pace does not double the peak.
func limitMemory(o storeOptions, log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := cmp.Or(int64(o.memoryBytes), 1<<30) + cmp.Or(int64(o.cacheBytes), 128<<20) + 768<<20
	debug.SetMemoryLimit(limit)
	log.Debug("memory limit of the garbage collector", slog.Int64("bytes", limit))
}
