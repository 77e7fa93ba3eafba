package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// refused starts a server that must not become ready, and returns what it said.
func refused(t *testing.T, dirs []string, flags ...string) string {
	t.Helper()
	s := &casdtest.Server{Config: casdtest.Config{Bin: bin, Dirs: dirs, Work: t.TempDir()}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...)
	out, errs, exit, err := s.Casd(ctx, append(args, dirs...)...)
	if err != nil || exit != 3 {
		t.Fatalf("casd serve %s: exit code %d, %v, want 3\n%s%s", strings.Join(dirs, " "), exit, err, out, errs)
	}
	t.Logf("refused: %s", lastLine(errs))
	return lastLine(errs)
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func wantIn(t *testing.T, message string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(message, p) {
			t.Errorf("message %q does not say %q", message, p)
		}
	}
}

// TestTwoProcesses starts a second server, and casd stats, over the directories of a running one.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	s := serve(t)
	pid := strconv.Itoa(s.PID())
	wantIn(t, refused(t, s.Dirs), pid)
	_, errs, exit, err := s.Casd(t.Context(), append([]string{"stats"}, s.Dirs...)...)
	if err != nil || exit != 3 {
		t.Errorf("casd stats of a running store: exit %d, %v", exit, err)
	}
	wantIn(t, errs, pid)
	if !s.Running() {
		t.Error("the first server ended")
	}
	stop(t, s)
	start(t, s) // the locks are gone
}

// TestWrongDirectories gives each wrong set of directories, and wants an error that names the directory.
func TestWrongDirectories(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := sdk(s)
	mustCreateBucket(t, c, "bucket")
	body := bytesOf(1, 1<<20)
	put := func() {
		t.Helper()
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key"), Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	stop(t, s)
	other := serve(t)
	stop(t, other)
	with := func(i int, dir string) []string {
		dirs := append([]string(nil), s.Dirs...)
		dirs[i] = dir
		return dirs
	}

	t.Run("foreign", func(t *testing.T) {
		wantIn(t, refused(t, with(2, other.Dirs[2])), other.Dirs[2])
	})
	t.Run("duplicate", func(t *testing.T) {
		copied := filepath.Join(t.TempDir(), "copy")
		copyTree(t, s.Dirs[1], copied)
		wantIn(t, refused(t, append(with(0, s.Dirs[0]), copied)), copied)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(s.Dirs[1], link); err != nil {
			t.Fatal(err)
		}
		wantIn(t, refused(t, append(with(0, s.Dirs[0]), link)), s.Dirs[1])
		wantIn(t, refused(t, append(with(0, s.Dirs[0]), s.Dirs[1])), s.Dirs[1])
	})
	t.Run("newer format", func(t *testing.T) {
		newer := filepath.Join(t.TempDir(), "newer")
		copyTree(t, s.Dirs[3], newer)
		path := filepath.Join(newer, "format.json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var format map[string]any
		if err := json.Unmarshal(b, &format); err != nil {
			t.Fatal(err)
		}
		if _, ok := format["version"]; !ok {
			t.Fatalf("format.json has no version: %s", b)
		}
		format["version"] = 1000
		if b, err = json.Marshal(format); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		wantIn(t, refused(t, with(3, newer)), newer)
	})
	t.Run("not a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		wantIn(t, refused(t, with(0, file)), file)
	})
	t.Run("none of a store", func(t *testing.T) {
		_, errs, exit, err := s.Casd(t.Context(), "stats", t.TempDir())
		if err != nil || exit != 3 {
			t.Errorf("casd stats of an empty directory: exit %d, %v, %s", exit, err, errs)
		}
	})
	t.Run("too few of a store", func(t *testing.T) {
		// Three of six directories of 4+2: no chunk can be read and nothing may be written, but nothing is denied either.
		few := t.TempDir()
		dirs := casdtest.DataDirs(few, 3)
		for i, dir := range dirs {
			copyTree(t, s.Dirs[i], dir)
		}
		f := serveDirs(t, t.TempDir(), dirs)
		c := sdk(f, noRetry)
		out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")})
		if err == nil {
			_, err = io.ReadAll(out.Body)
			_ = out.Body.Close() // broken off
		}
		if err == nil || strings.Contains(err.Error(), "NoSuch") || strings.Contains(err.Error(), "NotFound") {
			t.Errorf("get with three of six directories: %v", err)
		}
		_, err = c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("new"), Body: strings.NewReader("new")})
		wantCode(t, err, "ServiceUnavailable")
		_, err = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")})
		wantCode(t, err, "ServiceUnavailable")
		if v := metric(t, f, "casd_writable"); v != 0 {
			t.Errorf("casd_writable is %v", v)
		}
	})
	t.Run("any order, two missing", func(t *testing.T) {
		order := []string{s.Dirs[5], s.Dirs[0], s.Dirs[3], s.Dirs[2]}
		s.Dirs = order
		start(t, s)
		mustObject(t, c, "bucket", "key", body)
		put()
		stop(t, s)
	})
}

// A slowBody sends data in pieces with pauses.
type slowBody struct {
	data  []byte
	pause time.Duration
	begun chan struct{} // closed with the first piece
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.begun != nil {
		close(b.begun)
		b.begun = nil
	} else {
		time.Sleep(b.pause)
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 64<<10)], b.data)
	b.data = b.data[n:]
	return n, nil
}

// presignedPut starts a PUT of body in the background and returns its outcome.
func presignedPut(t *testing.T, c *s3.Client, key string, body io.Reader, size int64) <-chan error {
	t.Helper()
	p, err := s3.NewPresignClient(c).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("shutdown"), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, p.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close() // only the status matters
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %s", resp.Status)
			}
		}
		done <- err
	}()
	return done
}

// TestGracefulShutdown sends SIGTERM in the middle of uploads: those that end within the limit are stored, others leave nothing.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	s := serve(t, "--shutdown-timeout", "4s")
	c := sdk(s, noRetry)
	mustCreateBucket(t, c, "shutdown")
	quick, slow := bytesOf(1, 1<<20), bytesOf(2, 4<<20)
	quickBegun, slowBegun := make(chan struct{}), make(chan struct{})
	quickDone := presignedPut(t, c, "quick", &slowBody{data: quick, pause: 50 * time.Millisecond, begun: quickBegun}, int64(len(quick))) // 0.8 s
	slowDone := presignedPut(t, c, "slow", &slowBody{data: slow, pause: 500 * time.Millisecond, begun: slowBegun}, int64(len(slow)))     // 32 s
	<-quickBegun
	<-slowBegun
	waitInFlight(t, s, 2)
	begun := time.Now()
	stop(t, s)
	took := time.Since(begun)
	if err := <-quickDone; err != nil {
		t.Errorf("the upload that ended within the limit: %v", err)
	}
	if err := <-slowDone; err == nil {
		t.Error("the upload that did not end within the limit was acknowledged")
	}
	if took > 20*time.Second {
		t.Errorf("the shutdown took %s with a limit of 4s", took)
	}
	start(t, s)
	mustObject(t, c, "shutdown", "quick", quick)
	_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("shutdown"), Key: aws.String("slow")})
	wantCode(t, err, "NotFound")

	// A second signal ends the process at once.
	slowBegun = make(chan struct{})
	slowDone = presignedPut(t, c, "slow", &slowBody{data: slow, pause: 500 * time.Millisecond, begun: slowBegun}, int64(len(slow)))
	<-slowBegun
	waitInFlight(t, s, 1)
	if err := s.Signal(15); err != nil {
		t.Fatal(err)
	}
	waitLog(t, s, `"msg":"stopping"`, 2)
	begun = time.Now()
	if err := s.Signal(15); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if took := time.Since(begun); took > 2*time.Second || s.ExitCode() != 3 {
		t.Errorf("after a second signal the process took %s to end with code %d", took, s.ExitCode())
	}
	<-slowDone
}

// waitInFlight waits until the server is at work on n requests beside the one that asks.
func waitInFlight(t *testing.T, s *casdtest.Server, n float64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if metric(t, s, inFlightRequests) >= n {
			return
		}
	}
	t.Fatalf("%s does not reach %v", inFlightRequests, n)
}

// inFlightRequests is the gauge of requests under way.
const inFlightRequests = "casd_http_requests_in_flight"

func waitLog(t *testing.T, s *casdtest.Server, part string, times int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Count(s.LogTail(1<<20), part) >= times {
			return
		}
	}
	t.Fatalf("the log does not hold %s %d times", part, times)
}

// TestSettings starts the binary with a flag, a variable and a settings file that contradict one another.
func TestSettings(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for i := range 2 {
		if err := os.MkdirAll(filepath.Join(base, fmt.Sprintf("d%d", i+1)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(base, "casd.yaml")
	content := fmt.Sprintf("listen: 127.0.0.1:1\nadmin-listen: 127.0.0.1:1\nregion: from-file\nlog-format: text\ndirs: ['%s/d{1...2}']\n", base)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	// --listen is a flag (the harness adds it), the admin listener a variable, the region and directories stand in the file.
	s, err := casdtest.Start(casdtest.Config{Bin: bin, Work: filepath.Join(base, "work"), Flags: []string{"--config", config}, Env: []string{"CASD_ADMIN_LISTEN=127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	if s.Admin == "" || s.Admin == "127.0.0.1:1" || s.Admin == s.Addr {
		t.Errorf("admin listener %q", s.Admin)
	}
	if !strings.Contains(s.LogTail(100), "msg=ready") {
		t.Errorf("the log is not text:\n%s", s.LogTail(5))
	}
	c := sdk(s, func(o *s3.Options) { o.Region = "from-file" })
	mustCreateBucket(t, c, "bucket")
	// /healthz on the S3 listener is now an S3 request, without a signature.
	resp := mustGet(t, s, s.URL()+"/healthz")
	_ = resp.Body.Close() // only the status matters
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("/healthz on the S3 listener beside an admin listener: %s", resp.Status)
	}
	if _, err := s.Stats(""); err == nil {
		t.Error("casd stats with the default region was let in by a server of another one")
	}
	stop(t, s)
	if _, errs, exit, _ := s.Casd(t.Context(), "serve", "--config", config, "--no-such-flag"); exit != 3 || !strings.Contains(errs, "no-such-flag") {
		t.Errorf("an unknown flag: exit %d, %s", exit, errs)
	}
}

// TestGeneratedCredentials starts without credentials in the environment.
func TestGeneratedCredentials(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dirs := casdtest.DataDirs(base, 3)
	s, err := casdtest.Start(casdtest.Config{Bin: bin, Dirs: dirs, Work: base, Env: []string{"CASD_ROOT_USER=", "CASD_ROOT_PASSWORD="}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	log := s.LogTail(1000)
	wantIn(t, log, "root credentials created", "root-credentials.json")
	var creds struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "root-credentials.json")
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, %v", path, info, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		last := creds
		if err := json.Unmarshal(b, &creds); err != nil || last.AccessKey != "" && last != creds {
			t.Fatalf("%s: %v, or it differs from the others", path, err)
		}
	}
	if strings.Contains(log, creds.SecretKey) || len(creds.SecretKey) < 20 {
		t.Error("the secret is in the log, or short")
	}
	_, err = sdk(s, noRetry).ListBuckets(t.Context(), &s3.ListBucketsInput{})
	wantCode(t, err, "InvalidAccessKeyId")
	env := append(s.Environ(), "CASD_ROOT_USER="+creds.AccessKey, "CASD_ROOT_PASSWORD="+creds.SecretKey)
	out, err := client{t: t, path: bin, env: env}.try("stats", "--endpoint", s.URL())
	if err != nil || !strings.Contains(out, "dedup ratio") {
		t.Errorf("casd stats with the generated credentials: %v\n%s", err, out)
	}
}

// TestStarting asks a server that has not opened its store yet: a first directory that is locked for a while would do, but
// what can be seen from outside is that it listens at once and never answers a request wrongly before it is ready.
func TestStarting(t *testing.T) {
	t.Parallel()
	s := serve(t)
	mustCreateBucket(t, sdk(s), "bucket")
	for range 5 {
		s.Kill()
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		c := sdk(s, noRetry)
		ready := false
		for deadline := time.Now().Add(time.Minute); !ready && time.Now().Before(deadline); {
			resp := mustGet(t, s, s.URL()+"/healthz")
			_ = resp.Body.Close() // only the status matters
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("/healthz: %s", resp.Status)
			}
			resp = mustGet(t, s, s.URL()+"/readyz")
			_ = resp.Body.Close() // only the status matters
			ready = resp.StatusCode == http.StatusOK
			if _, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("bucket")}); err != nil && (ready || !strings.Contains(err.Error(), "503")) {
				t.Fatalf("HEAD of a bucket, ready %v: %v", ready, err)
			}
		}
		if !ready {
			t.Fatal("the server does not become ready")
		}
	}
}

// TestAddressInUse wants a clear error.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantIn(t, refused(t, []string{t.TempDir()}, "--listen", l.Addr().String()), "address already in use", l.Addr().String())
}
