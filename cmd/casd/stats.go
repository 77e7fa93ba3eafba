package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
)

func newStatsCommand(stderr io.Writer) *cobra.Command {
	var (
		store  storeOptions
		remote adminClient
		asJSON bool
		bucket string
	)
	cmd := &cobra.Command{
		Use:   "stats [flags] (--endpoint URL | DIR...)",
		Short: "Show logical bytes, stored bytes and the ratio",
		Long: `Show the sizes of a store: of a running server with --endpoint and the credentials of CASD_ROOT_USER and CASD_ROOT_PASSWORD,
or of a stopped one by its data directories.`,
		Example: `  casd stats --endpoint http://127.0.0.1:9000
  casd stats --endpoint http://127.0.0.1:9000 --bucket backups --json
  casd stats ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dirs, _, err := loadSettings(cmd, args)
			if err != nil {
				return err
			}
			if len(args) > 0 && cmd.Flags().Changed("endpoint") {
				return errors.New("either --endpoint or directories, not both")
			}
			var stats cas.Stats
			switch {
			case len(args) == 0 && remote.endpoint != "":
				stats, err = remote.stats(cmd.Context(), bucket)
			case len(dirs) > 0:
				store.dirs = dirs
				stats, err = statsOfDirs(cmd.Context(), store, bucket, stderr)
			default:
				err = errors.New("name a running server with --endpoint, or the data directories of a stopped one")
			}
			if err != nil {
				return err
			}
			return printStats(cmd.OutOrStdout(), stats, bucket, asJSON)
		},
	}
	f := cmd.Flags()
	remote.addFlags(cmd)
	f.BoolVar(&asJSON, "json", false, "print JSON, sizes in bytes")
	f.StringVar(&bucket, "bucket", "", "objects, logical bytes and uploads of bucket `NAME` only")
	store.addFlags(f)
	return cmd
}

// statsOfDirs opens the store, so it fails when a server has it open.
func statsOfDirs(ctx context.Context, o storeOptions, bucket string, stderr io.Writer) (cas.Stats, error) {
	log, err := newLogger(stderr, "warn", "text")
	if err != nil {
		return cas.Stats{}, err
	}
	options := o.casOptions()
	options.NoCreate, options.Logger = true, log
	store, err := cas.Open(ctx, options)
	if err != nil {
		return cas.Stats{}, err
	}
	stats, err := store.Stats(ctx, bucket)
	return stats, errors.Join(err, store.Close(ctx))
}

func printStats(w io.Writer, s cas.Stats, bucket string, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value, meaning string) { fmt.Fprintf(tw, "%s\t%s\t%s\n", name, value, meaning) }
	size := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	whole := ""
	if bucket != "" {
		whole = " (whole store)"
	}
	row("buckets", humanize.Comma(s.Buckets), "")
	row("objects", humanize.Comma(s.Objects), "")
	row("uploads", humanize.Comma(s.Uploads), "multipart uploads in progress")
	row("logical", size(s.LogicalBytes), "what clients stored")
	row("unique", size(s.UniqueBytes), "after dedup, before compression"+whole)
	row("payload", size(s.PayloadBytes), "records and framing, before parity"+whole)
	row("stored", size(s.StoredBytes), "on disk with parity and padding"+whole)
	row("chunks", humanize.Comma(s.Chunks), "")
	row("dedup ratio", fmt.Sprintf("%.2f", s.DedupRatio), "logical / unique")
	row("total ratio", fmt.Sprintf("%.2f", s.TotalRatio), "logical / payload")
	return tw.Flush()
}

// An adminClient asks a running server.
type adminClient struct {
	endpoint string // URL of the listener that serves /-/
	caFile   string // PEM of the authorities to trust instead of the system's
	region   string
}

func (c *adminClient) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.endpoint, "endpoint", "", "`URL` of a running server; of its admin listener if it has one")
	f.StringVar(&c.caFile, "tls-ca", "", "PEM `FILE` of the authorities to trust for an https endpoint")
	f.StringVar(&c.region, "region", "us-east-1", "`REGION` that the server was started with")
}

// adminTimeout bounds one request; adminBytesMax its answer.
const (
	adminTimeout  = 60 * time.Second
	adminBytesMax = 16 << 20
)

func (c *adminClient) stats(ctx context.Context, bucket string) (s cas.Stats, err error) {
	query := url.Values{}
	if bucket != "" {
		query.Set("bucket", bucket)
	}
	return s, c.get(ctx, "/-/stats", query, &s)
}

// get sends a signed GET and decodes the JSON answer into v.
func (c *adminClient) get(ctx context.Context, path string, query url.Values, v any) error {
	creds, err := rootFromEnvironment()
	if err != nil {
		return err
	}
	if creds == (auth.Credentials{}) {
		return fmt.Errorf("set %s and %s to the server's root credentials", envUser, envPassword)
	}
	base, err := url.Parse(strings.TrimSuffix(c.endpoint, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return fmt.Errorf("--endpoint %q is not a URL such as http://127.0.0.1:9000", c.endpoint)
	}
	base.Path += path
	base.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return err
	}
	auth.Sign(req, creds, c.region, "", time.Now())
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adminBytesMax))
	if err != nil {
		return fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", base.Redacted(), resp.Status, strings.TrimSpace(string(body[:min(len(body), 1000)])))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	return nil
}

func (c *adminClient) httpClient() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no PEM certificate", c.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: adminTimeout}, nil
}
