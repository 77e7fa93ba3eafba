package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// TestDocumentedMetrics compares /metrics with the table in docs/operations.md, both ways.
func TestDocumentedMetrics(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := sdk(s)
	mustCreateBucket(t, c, "bucket")
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key"), Body: strings.NewReader("body")}); err != nil {
		t.Fatal(err)
	}
	mustObject(t, c, "bucket", "key", []byte("body"))
	resp := mustGet(t, s, s.AdminURL()+"/metrics")
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	served := names(regexp.MustCompile(`(?m)^# TYPE (casd_\w+)`), string(page))
	docs, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := names(regexp.MustCompile("`(casd_[a-z_]+)`"), string(docs))
	for name := range served {
		if !documented[name] {
			t.Errorf("%s is not in docs/operations.md", name)
		}
	}
	for name := range documented {
		if !served[name] {
			t.Errorf("%s of docs/operations.md is not in /metrics", name)
		}
	}
}

// TestDocumentedFlags compares casd serve --help with the table in docs/operations.md, both ways.
func TestDocumentedFlags(t *testing.T) {
	t.Parallel()
	help, err := client{t: t, path: bin}.try("serve", "--help")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	offered := names(regexp.MustCompile(`(?m)^\s+(?:-h, )?(--[a-z-]+)`), help)
	delete(offered, "--help")
	documented := names(regexp.MustCompile("`(--[a-z-]+)`"), string(docs))
	for name := range offered {
		if !documented[name] {
			t.Errorf("%s is not in docs/operations.md", name)
		}
	}
	table := names(regexp.MustCompile("(?m)^\\| `(--[a-z-]+)`"), string(docs))
	for name := range table {
		if !offered[name] {
			t.Errorf("%s of docs/operations.md is no flag of casd serve", name)
		}
	}
}

// TestDocumentedAdminAPI sends the request of every row of the admin API in docs/operations.md, unsigned: what is there wants a signature.
func TestDocumentedAdminAPI(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(GET|POST) (/-/[a-z/]+)` \\|").FindAllStringSubmatch(string(docs), -1)
	if len(rows) < 13 {
		t.Fatalf("%d rows", len(rows))
	}
	s := serve(t)
	for _, row := range append(rows, []string{"", "GET", "/-/nothing"}) {
		req, err := http.NewRequestWithContext(t.Context(), row[1], s.AdminURL()+row[2], nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // only the status matters
		want := http.StatusForbidden
		if row[2] == "/-/nothing" {
			want = http.StatusNotFound
		}
		if resp.StatusCode != want {
			t.Errorf("%s %s: %s, want %d", row[1], row[2], resp.Status, want)
		}
	}
}

// TestDocumentedActions sends the request of every row of docs/s3.md, and compares the answer and the operation in the
// access log with what the row says.
func TestDocumentedActions(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../../docs/s3.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (\\w+) \\| `(\\w+) (/[^` ]*)( with x-amz-copy-source)?` \\| (yes|unset|no) \\|").FindAllStringSubmatch(string(docs), -1)
	if len(rows) < 90 {
		t.Fatalf("docs/s3.md has %d rows", len(rows))
	}
	s := serve(t)
	c := sdk(s)
	mustCreateBucket(t, c, "rows")
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("rows"), Key: aws.String("key"), Body: strings.NewReader("body")}); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		action, method, path, copies, promise := row[1], row[2], strings.Replace(row[3], "/bucket", "/rows", 1), row[4] != "", row[5]
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if copies {
			req.Header.Set("X-Amz-Copy-Source", "rows/key")
		}
		resp, err := s.Send(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // read to its end
		notImplemented := resp.StatusCode == http.StatusNotImplemented
		if notImplemented != (promise == "no") || resp.StatusCode >= 500 && !notImplemented || notImplemented && !bytes.Contains(body, []byte("<Code>NotImplemented</Code>")) {
			t.Errorf("%s (%s %s): %s, want it to be %q\n%s", action, method, path, resp.Status, promise, body)
		}
		if promise != "no" {
			id := resp.Header.Get("x-amz-request-id")
			if entry := logEntry(t, s, id); !strings.Contains(entry, `"operation":"`+action+`"`) {
				t.Errorf("%s (%s %s) is another operation in the log: %s", action, method, path, entry)
			}
		}
		mustCreate(t, c) // what the row may have deleted
	}
}

// mustCreate makes bucket rows and its key again if they are gone.
func mustCreate(t *testing.T, c *s3.Client) {
	t.Helper()
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("rows"), Key: aws.String("key")}); err == nil {
		return
	}
	if _, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("rows")}); err != nil {
		mustCreateBucket(t, c, "rows")
	}
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("rows"), Key: aws.String("key"), Body: strings.NewReader("body")}); err != nil {
		t.Fatal(err)
	}
}

// logEntry waits for the access line of a request, which is written just after the answer.
func logEntry(t *testing.T, s *casdtest.Server, id string) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for line := range strings.Lines(s.LogTail(10)) {
			if strings.Contains(line, id) && strings.HasSuffix(strings.TrimSpace(line), "}") {
				return line
			}
		}
	}
	t.Fatalf("request %s is not in the log", id)
	return ""
}

func names(re *regexp.Regexp, text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}

// TestFailureTable looks whether the tests that the failure table names are there.
func TestFailureTable(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## When things fail\n")
	section, _, _ = strings.Cut(section, "\n## ")
	wanted := names(regexp.MustCompile("`(Test[A-Za-z]+)`"), section)
	if len(wanted) < 20 {
		t.Fatalf("the table names %d tests", len(wanted))
	}
	there := map[string]bool{}
	for _, pattern := range []string{"*_test.go", "../../../cas/*_test.go", "../../../erasure/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for name := range names(regexp.MustCompile(`func (Test[A-Za-z]+)\(t \*testing\.T\)`), string(b)) {
				there[name] = true
			}
		}
	}
	for name := range wanted {
		if !there[name] {
			t.Errorf("there is no test %s", name)
		}
	}
}
