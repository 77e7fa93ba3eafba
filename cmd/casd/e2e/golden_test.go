package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// The golden stores are small stores that earlier versions wrote: testdata/golden-vN.tar.gz is the data directories of one
// that was killed, and golden-vN.json what it held. Every later version must open them and give back the same.
//
// go test ./cmd/casd/e2e -run TestGolden -write-golden writes the one of the current format, if it is not there yet.
var (
	writeGolden = flag.Bool("write-golden", false, "write the golden store of the current format version")
	goldenNow   = "golden-v1" // of the format that this version writes
)

// A golden describes what a golden store holds.
type golden struct {
	Objects []goldenObject      `json:"objects"`
	Uploads map[string][]string `json:"uploads"` // key -> ETags of its parts
}

type goldenObject struct {
	Bucket      string            `json:"bucket"`
	Key         string            `json:"key"`
	Size        int64             `json:"size"`
	SHA256      string            `json:"sha256"`
	ETag        string            `json:"etag"`
	ContentType string            `json:"content_type"`
	Metadata    map[string]string `json:"metadata"`
	CRC32       string            `json:"crc32"`
	Parts       int32             `json:"parts"`
}

func TestGolden(t *testing.T) {
	if *writeGolden {
		makeGolden(t)
	}
	archives, err := filepath.Glob("testdata/golden-v*.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no golden store in testdata: %v", err)
	}
	for _, archive := range archives {
		name := archive[:len(archive)-len(".tar.gz")]
		b, err := os.ReadFile(name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var want golden
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		for _, lost := range [][]string{nil, {"d2", "d5"}, {"d1"}} {
			t.Run(fmt.Sprintf("%s without %v", filepath.Base(name), lost), func(t *testing.T) {
				t.Parallel()
				base := t.TempDir()
				if out, err := exec.Command("tar", "-xzf", archive, "-C", base).CombinedOutput(); err != nil {
					t.Fatalf("tar: %v\n%s", err, out)
				}
				dirs := casdtest.DataDirs(base, 6)
				for _, d := range lost {
					if err := os.RemoveAll(filepath.Join(base, d)); err != nil {
						t.Fatal(err)
					}
					dirs = slices.DeleteFunc(dirs, func(dir string) bool { return filepath.Base(dir) == d })
				}
				s := serveDirs(t, t.TempDir(), dirs)
				if got := readGolden(t, sdk(s)); !bytes.Equal(mustJSON(t, got), mustJSON(t, want)) {
					t.Errorf("the golden store now holds\n%s\nwant\n%s", mustJSON(t, got), mustJSON(t, want))
				}
				// It can be written too, and the same bytes again are known.
				before := stats(t, s, "")
				putGolden(t, sdk(s), "golden", "again", textOf(t, 3, 1<<20))
				if grown := stats(t, s, "").UniqueBytes - before.UniqueBytes; grown != 0 {
					t.Errorf("bytes that the golden store holds were stored again: %d", grown)
				}
			})
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func putGolden(t *testing.T, c *s3.Client, bucket, key string, body []byte) {
	t.Helper()
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body),
		ContentType: aws.String("text/golden"), CacheControl: aws.String("max-age=7"), Metadata: map[string]string{"made-by": "casd"}}); err != nil {
		t.Fatal(err)
	}
}

// textOf is n bytes of text, the second half of it like the first, which keeps the archive small.
func textOf(t *testing.T, seed uint64, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeText(&b, rand.New(rand.NewPCG(seed, 0)), n/2+1); err != nil {
		t.Fatal(err)
	}
	half := b.Bytes()[:n/2+1]
	return slices.Concat(half, half)[:n]
}

// makeGolden fills a store with one of everything that the format has, kills it, and packs it.
func makeGolden(t *testing.T) {
	archive, err := filepath.Abs(filepath.Join("testdata", goldenNow+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err == nil {
		t.Fatalf("%s is there: a golden store is written once", archive)
	}
	s := serve(t, "--segment-bytes", "2MiB", "--checkpoint-interval", "200ms")
	c := sdk(s)
	mustCreateBucket(t, c, "golden")
	mustCreateBucket(t, c, "empty")
	text := bytes.Repeat([]byte("compressible text of the golden store. "), 10_000)
	for key, body := range map[string][]byte{"empty": nil, "inline": bytesOf(1, 500), "one chunk": bytesOf(2, 5000), "many chunks": textOf(t, 3, 1<<20), "text": text,
		"dir//../ü %2F+": bytesOf(4, 700), "overwritten": bytesOf(5, 70_000), "deleted": bytesOf(6, 70_000)} {
		putGolden(t, c, "golden", key, body)
	}
	putGolden(t, c, "golden", "overwritten", bytesOf(7, 70_000))
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("golden"), Key: aws.String("deleted")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("golden"), Key: aws.String("copy"), CopySource: aws.String("golden/text")}); err != nil {
		t.Fatal(err)
	}
	upload := func(key string, complete bool) {
		up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("golden"), Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for n, body := range [][]byte{slices.Repeat(textOf(t, 3, 1<<20), 5), text} {
			number := aws.Int32(int32(n + 1))
			p, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: aws.String("golden"), Key: &key, UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(body)})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, types.CompletedPart{PartNumber: number, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32})
		}
		if complete {
			if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String("golden"), Key: &key, UploadId: up.UploadId,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	upload("multipart", true)
	upload("upload in progress", false)
	stop(t, s) // a clean end, a start, and then a crash: verdicts and sealed segments, and an open tail
	start(t, s)
	putGolden(t, c, "golden", "after the restart", bytesOf(8, 20_000))
	s.Kill()
	start(t, s) // recovers the tail
	putGolden(t, c, "golden", "in the tail", bytesOf(9, 20_000))
	want := readGolden(t, c)
	s.Kill()

	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--sparse", "-czf", archive}
	for i := range 6 {
		names = append(names, fmt.Sprintf("d%d", i+1))
	}
	tar := exec.Command("tar", names...)
	tar.Dir = filepath.Dir(s.Dirs[0])
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join("testdata", goldenNow+".json"), mustJSON(t, want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readGolden reads everything that the store holds.
func readGolden(t *testing.T, c *s3.Client) golden {
	t.Helper()
	got := golden{Uploads: map[string][]string{}}
	buckets, err := c.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets.Buckets {
		list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b.Name})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b.Name, Key: o.Key, ChecksumMode: types.ChecksumModeEnabled})
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			n, err := io.Copy(h, out.Body)
			if err != nil {
				t.Fatal(err)
			}
			got.Objects = append(got.Objects, goldenObject{Bucket: *b.Name, Key: *o.Key, Size: n, SHA256: hex.EncodeToString(h.Sum(nil)), ETag: aws.ToString(out.ETag),
				ContentType: aws.ToString(out.ContentType), Metadata: out.Metadata, CRC32: aws.ToString(out.ChecksumCRC32), Parts: aws.ToInt32(out.PartsCount)})
		}
		uploads, err := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: b.Name})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uploads.Uploads {
			parts, err := c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: b.Name, Key: u.Key, UploadId: u.UploadId})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parts.Parts {
				got.Uploads[*u.Key] = append(got.Uploads[*u.Key], *p.ETag)
			}
		}
	}
	return got
}
