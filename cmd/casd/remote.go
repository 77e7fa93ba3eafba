package main

import (
	"bufio"
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
)

// An adminClient asks a running server. Its methods mirror those of *cas.Store.
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

const (
	adminTimeout  = 60 * time.Second // of a GET
	adminBytesMax = 64 << 20         // of an answer, or of one line of a stream
	// adminSilenceMax is how long a stream may be quiet. The server says something each second.
	adminSilenceMax = 60 * time.Second
)

var errSilent = fmt.Errorf("nothing was heard for %s; the operation ends with the connection, run the command again to go on", adminSilenceMax)

// A remoteError is what the server answered.
type remoteError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *remoteError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

func (c *adminClient) Stats(ctx context.Context, bucket string) (s cas.Stats, err error) {
	query := url.Values{}
	if bucket != "" {
		query.Set("bucket", bucket)
	}
	return s, c.get(ctx, "/-/stats", query, &s)
}

func (c *adminClient) Status(ctx context.Context) (s cas.Status, err error) {
	return s, c.get(ctx, "/-/status", nil, &s)
}

func (c *adminClient) Receipts(ctx context.Context, max int) (r []cas.Receipt, err error) {
	return r, c.get(ctx, "/-/receipts", url.Values{"max": {strconv.Itoa(max)}}, &r)
}

func (c *adminClient) Scrub(ctx context.Context, r cas.ScrubRequest) (receipt cas.Receipt, err error) {
	query := url.Values{"repair": {strconv.FormatBool(!r.NoRepair)}, "rate": {strconv.FormatInt(r.Rate, 10)}}
	if r.Level != "" {
		query.Set("level", string(r.Level))
	}
	return receipt, c.operate(ctx, "/-/scrub", query, r.Progress, &receipt)
}

func (c *adminClient) GC(ctx context.Context, r cas.GCRequest) (report cas.GCReport, err error) {
	query := url.Values{"dry_run": {strconv.FormatBool(r.DryRun)}, "rate": {strconv.FormatInt(r.Rate, 10)}}
	if r.Threshold != 0 {
		query.Set("threshold", strconv.FormatFloat(r.Threshold, 'g', -1, 64))
	}
	if r.Recode {
		query.Set("recode", "ec")
	}
	return report, c.operate(ctx, "/-/gc", query, r.Progress, &report)
}

func (c *adminClient) Check(ctx context.Context, r cas.CheckRequest) (report cas.CheckReport, err error) {
	return report, c.operate(ctx, "/-/check", url.Values{"rate": {strconv.FormatInt(r.Rate, 10)}}, r.Progress, &report)
}

func (c *adminClient) AddDir(ctx context.Context, path string) (d cas.DirStatus, err error) {
	return d, c.operate(ctx, "/-/dirs/add", url.Values{"path": {path}}, nil, &d)
}

func (c *adminClient) ReplaceDir(ctx context.Context, dir, path string, progress cas.ProgressFunc) (d cas.DirStatus, err error) {
	return d, c.operate(ctx, "/-/dirs/replace", url.Values{"dir": {dir}, "path": {path}}, progress, &d)
}

func (c *adminClient) DrainDir(ctx context.Context, dir string, progress cas.ProgressFunc) (d cas.DirStatus, err error) {
	return d, c.operate(ctx, "/-/dirs/drain", url.Values{"dir": {dir}}, progress, &d)
}

func (c *adminClient) RemoveDir(ctx context.Context, dir string, lost bool) error {
	return c.operate(ctx, "/-/dirs/remove", url.Values{"dir": {dir}, "lost": {strconv.FormatBool(lost)}}, nil, &struct{}{})
}

func (c *adminClient) Rebalance(ctx context.Context, progress cas.ProgressFunc) (int64, error) {
	var result struct {
		Moved int64 `json:"moved"`
	}
	err := c.operate(ctx, "/-/rebalance", nil, progress, &result)
	return result.Moved, err
}

// get sends a GET and decodes the JSON answer into v.
func (c *adminClient) get(ctx context.Context, path string, query url.Values, v any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adminBytesMax))
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.endpoint, path, err)
	}
	return nil
}

// operate sends a POST, passes on the progress that it tells, and decodes its result into v.
func (c *adminClient) operate(ctx context.Context, path string, query url.Values, progress cas.ProgressFunc, v any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(adminSilenceMax, func() { cancel(errSilent) })
	defer watchdog.Stop()
	resp, err := c.send(ctx, http.MethodPost, path, query)
	if err != nil {
		if context.Cause(ctx) == errSilent { //nolint:errorlint // we set it ourselves
			return errSilent
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return wentAway(err)
		}
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, adminBytesMax)
	for lines.Scan() {
		watchdog.Reset(adminSilenceMax)
		var l struct {
			Progress *cas.Progress   `json:"progress"`
			Result   json.RawMessage `json:"result"`
			Error    *remoteError    `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("%s%s: %w", c.endpoint, path, err)
		}
		switch {
		case l.Error != nil:
			return l.Error
		case l.Result != nil:
			if err := json.Unmarshal(l.Result, v); err != nil {
				return fmt.Errorf("%s%s: %w", c.endpoint, path, err)
			}
			return nil
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return wentAway(err)
}

func wentAway(err error) error {
	return fmt.Errorf("the server went away before the operation had ended; run the command again to go on: %w", err)
}

// send sends a signed request without a body. A status other than 200 is an error.
func (c *adminClient) send(ctx context.Context, method, path string, query url.Values) (*http.Response, error) {
	creds, err := rootFromEnvironment()
	if err != nil {
		return nil, err
	}
	if creds == (auth.Credentials{}) {
		return nil, fmt.Errorf("set %s and %s to the server's root credentials", envUser, envPassword)
	}
	base, err := url.Parse(strings.TrimSuffix(c.endpoint, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("--endpoint %q is not a URL such as http://127.0.0.1:9000", c.endpoint)
	}
	base.Path += path
	base.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, base.String(), nil)
	if err != nil {
		return nil, err
	}
	auth.Sign(req, creds, c.region, "", time.Now())
	client, err := c.httpClient()
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", base.Redacted(), resp.Status, err)
	}
	var answer remoteError
	if json.Unmarshal(body, &answer) == nil && answer.Code != "" {
		return nil, fmt.Errorf("%s://%s: %w", base.Scheme, base.Host, &answer)
	}
	return nil, fmt.Errorf("%s: %s: %s", base.Redacted(), resp.Status, strings.TrimSpace(string(body[:min(len(body), 1000)])))
}

// httpClient has no time-out of its own: a stream may take days.
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
	return &http.Client{Transport: transport}, nil
}
