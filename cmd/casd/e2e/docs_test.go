package e2e

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
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

func names(re *regexp.Regexp, text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}
