// Package casdtest runs the real casd binary for end-to-end tests and benchmarks: it starts it over directories, waits until
// it is ready, kills or stops it by its process ID, starts it again, and reads what it tells of itself.
package casdtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/casd/casd/httpapi/auth"
)

// Credentials that every server of this package is started with.
const (
	User     = "casdtest"
	Password = "casdtest-secret-0123456789"
	Region   = "us-east-1"
)

// readyTimeout is how long a start may take before it counts as failed.
const readyTimeout = 2 * time.Minute

// A Config says what to run.
type Config struct {
	Bin   string   // the casd binary
	Dirs  []string // data directories; made when missing
	Work  string   // where the log and the address file go
	Flags []string // further flags of casd serve
	Env   []string // further variables
}

// A Server is a casd process, or was one: Kill and Stop end it, Start begins another over the same directories.
type Server struct {
	Config
	Addr    string // host:port of S3
	Admin   string // host:port of the admin listener, if there is one
	LogPath string // what all processes of this server wrote to stderr
	Scheme  string // http, or https with --tls-cert
	Client  *http.Client

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// DataDirs names n directories below base.
func DataDirs(base string, n int) []string {
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = filepath.Join(base, fmt.Sprintf("d%d", i+1))
	}
	return dirs
}

// Start starts a server over c.Dirs and returns when it is ready.
func Start(c Config) (*Server, error) {
	for _, dir := range append([]string{c.Work}, c.Dirs...) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	s := &Server{Config: c, Scheme: "http", LogPath: filepath.Join(c.Work, "server.log"), Client: &http.Client{Timeout: time.Minute}}
	for _, f := range c.Flags {
		if strings.HasPrefix(f, "--tls-cert") {
			s.Scheme = "https"
		}
	}
	return s, s.Start()
}

// Start starts the process again, on the address it had before. It does not make directories that are gone.
func (s *Server) Start() error {
	if err := s.Launch(); err != nil {
		return err
	}
	if err := s.WaitReady(readyTimeout); err != nil {
		s.Kill()
		return err
	}
	return nil
}

// Launch starts the process and waits only until it listens.
func (s *Server) Launch() error {
	log, err := os.OpenFile(s.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	listen := "127.0.0.1:0"
	if s.Addr != "" {
		listen = s.Addr
	}
	addressFile := filepath.Join(s.Work, "address")
	if err := os.Remove(addressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args := append([]string{"serve", "--listen", listen, "--address-file", addressFile}, s.Flags...)
	s.cmd = exec.Command(s.Bin, append(args, s.Dirs...)...)
	s.cmd.Env = s.Environ()
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(done)
	}()
	deadline := time.Now().Add(readyTimeout)
	for {
		b, err := os.ReadFile(addressFile)
		if err == nil {
			lines := strings.Fields(string(b))
			s.Addr = lines[0]
			if len(lines) > 1 {
				s.Admin = lines[1]
			}
			return nil
		}
		if err := s.pause(deadline, "it does not listen"); err != nil {
			return err
		}
	}
}

// pause waits a moment; it fails when the process has ended or the deadline has passed.
func (s *Server) pause(deadline time.Time, what string) error {
	select {
	case <-s.done:
		return fmt.Errorf("casd ended (%s); its log ends so:\n%s", s.cmd.ProcessState, s.LogTail(20))
	case <-time.After(5 * time.Millisecond):
	}
	if time.Now().After(deadline) {
		return fmt.Errorf("casd: %s; its log ends so:\n%s", what, s.LogTail(20))
	}
	return nil
}

// WaitReady polls /readyz until it is 200.
func (s *Server) WaitReady(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		resp, err := s.Client.Get(s.AdminURL() + "/readyz")
		if err == nil {
			_ = resp.Body.Close() // only the status matters
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := s.pause(deadline, "it does not become ready"); err != nil {
			return err
		}
	}
}

// URL is the endpoint for S3 clients.
func (s *Server) URL() string { return s.Scheme + "://" + s.Addr }

// AdminURL is the endpoint of /-/, /metrics, /healthz and /readyz.
func (s *Server) AdminURL() string {
	if s.Admin != "" {
		return s.Scheme + "://" + s.Admin
	}
	return s.URL()
}

// Environ is the environment of the process, fit for casd's own commands and for AWS clients too.
func (s *Server) Environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CASD_") && !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	env = append(env, "CASD_ROOT_USER="+User, "CASD_ROOT_PASSWORD="+Password)
	return append(env, s.Env...)
}

// PID is the process ID.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Running tells whether the process has not ended.
func (s *Server) Running() bool {
	if s.cmd == nil || s.done == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (s *Server) Kill() {
	if s.Running() {
		_ = s.cmd.Process.Kill() // an error means that it has just ended
		<-s.done
	}
}

// Do sends a signed request for /path. The payload is not signed, which costs the client no hashing. size is that of body,
// which may be nil.
func (s *Server) Do(ctx context.Context, method, path string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	return s.Send(req)
}

// Send signs and sends a request.
func (s *Server) Send(req *http.Request) (*http.Response, error) {
	auth.Sign(req, auth.Credentials{AccessKey: User, SecretKey: Password}, Region, auth.UnsignedPayload, time.Now())
	return s.Client.Do(req)
}

// WantOK turns a status other than 200 into an error that holds the beginning of the body.
func WantOK(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return errors.Join(fmt.Errorf("%s: %s", resp.Status, b), err)
}

// Random is an endless stream of incompressible bytes that depends on seed alone.
func Random(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// Signal sends sig to the process.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Stop sends SIGTERM and returns the exit code; after timeout it kills.
func (s *Server) Stop(timeout time.Duration) (int, error) {
	if !s.Running() {
		return -1, errors.New("casd is not running")
	}
	if err := s.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
		s.Kill()
		return -1, fmt.Errorf("casd did not stop within %s; its log ends so:\n%s", timeout, s.LogTail(20))
	}
}

// ExitCode is that of the process that ended last.
func (s *Server) ExitCode() int { return s.cmd.ProcessState.ExitCode() }

// LogTail returns the last n lines of the log.
func (s *Server) LogTail(n int) string {
	b, err := os.ReadFile(s.LogPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Stats are the keys of casd stats --json that tests look at.
type Stats struct {
	Objects      int64   `json:"objects"`
	LogicalBytes int64   `json:"logical_bytes"`
	UniqueBytes  int64   `json:"unique_bytes"`
	PayloadBytes int64   `json:"payload_bytes"`
	StoredBytes  int64   `json:"stored_bytes"`
	Chunks       int64   `json:"chunks"`
	DedupRatio   float64 `json:"dedup_ratio"`
	Uploads      int64   `json:"uploads"`
}

// Casd runs another command of the binary with the server's credentials; stdout and stderr come back apart.
func (s *Server) Casd(ctx context.Context, args ...string) (stdout, stderr string, exit int, err error) {
	cmd := exec.CommandContext(ctx, s.Bin, args...)
	cmd.Env = s.Environ()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = nil
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode(), err
}

// Stats asks the running server by casd stats.
func (s *Server) Stats(bucket string) (Stats, error) {
	args := []string{"stats", "--json", "--endpoint", s.AdminURL()}
	if bucket != "" {
		args = append(args, "--bucket", bucket)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, errs, exit, err := s.Casd(ctx, args...)
	if err != nil {
		return Stats{}, err
	}
	if exit != 0 {
		return Stats{}, fmt.Errorf("casd stats: exit %d: %s", exit, errs)
	}
	var st Stats
	return st, json.Unmarshal([]byte(out), &st)
}

// Metric sums all series of one name in /metrics; a name that is not there counts 0.
func (s *Server) Metric(name string) (float64, error) {
	resp, err := s.Client.Get(s.AdminURL() + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("/metrics: %s", resp.Status)
	}
	return sumMetric(resp.Body, name)
}

func sumMetric(r io.Reader, name string) (sum float64, err error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		rest, ok := strings.CutPrefix(scanner.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, scanner.Err()
}

// PeakRSS is the most memory in bytes that the running process has held.
func (s *Server) PeakRSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc status has no VmHWM")
}

// CPUTime is what the running process has used so far, user and system together.
func (s *Server) CPUTime() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the state on, the third field
	if len(fields) < 13 {
		return 0, errors.New("/proc stat is too short")
	}
	user, errU := strconv.ParseInt(fields[11], 10, 64)
	system, errS := strconv.ParseInt(fields[12], 10, 64)
	const ticks = 100 // a second, on every Linux architecture that Go runs on
	return time.Duration(user+system) * time.Second / ticks, errors.Join(errU, errS)
}
