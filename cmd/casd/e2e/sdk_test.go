package e2e

//lint:file-ignore SA1019 feature/s3/manager is what programs use today

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// sdk is a client of aws-sdk-go-v2 with its defaults: CRC trailers and all.
func sdk(s *casdtest.Server, options ...func(*s3.Options)) *s3.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	conf := aws.Config{
		Region:       casdtest.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(casdtest.User, casdtest.Password, ""),
		BaseEndpoint: aws.String(s.URL()),
		HTTPClient:   &http.Client{Transport: transport},
		// The defaults of config.LoadDefaultConfig:
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	return s3.NewFromConfig(conf, append([]func(*s3.Options){func(o *s3.Options) { o.UsePathStyle = true }}, options...)...)
}

func noRetry(o *s3.Options) { o.Retryer = aws.NopRetryer{} }

func mustCreateBucket(t *testing.T, c *s3.Client, name string) {
	t.Helper()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

// wantCode fails unless err is an S3 error with that code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(casdtest.Random(seed), b) // the stream is endless
	return b
}

func mustObject(t *testing.T, c *s3.Client, bucket, key string, want []byte) {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("get %q: %d bytes, %v, want %d", key, len(got), err, len(want))
	}
}

// TestAWSSDK runs aws-sdk-go-v2 through the core: put, get, ranges, multipart, copy, list, presign, conditions.
func TestAWSSDK(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c, ctx := sdk(s), t.Context()
	const bucket = "sdk"
	mustCreateBucket(t, c, bucket)
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("readyz")})
	if err == nil {
		t.Error("bucket readyz was created")
	}

	t.Run("put and get", func(t *testing.T) {
		for _, n := range []int{0, 1, 511, 512, 513, 64 << 10, 1 << 20, 9 << 20} {
			key, body := fmt.Sprintf("size/%d", n), bytesOf(uint64(n), n)
			put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body),
				ContentType: aws.String("text/x-test"), Metadata: map[string]string{"one": "1", "two": "zwei"}})
			if err != nil {
				t.Fatal(err)
			}
			mustObject(t, c, bucket, key, body)
			head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key})
			if err != nil || *head.ContentLength != int64(n) || *head.ETag != *put.ETag || *head.ContentType != "text/x-test" || head.Metadata["two"] != "zwei" {
				t.Errorf("head of %d bytes: %+v, %v", n, head, err)
			}
		}
	})
	t.Run("checksums", func(t *testing.T) {
		for _, algorithm := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
			key, body := "sum/"+string(algorithm), bytesOf(3, 100_000)
			// A reader that cannot seek makes the SDK send the checksum as a trailer; that needs TLS, so it is hashed before here.
			if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body), ChecksumAlgorithm: algorithm}); err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
			mustObject(t, c, bucket, key, body)
		}
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("bad"), Body: strings.NewReader("abc"), ChecksumCRC32: aws.String("AAAAAA==")})
		wantCode(t, err, "BadDigest")
		_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("bad")})
		wantCode(t, err, "NotFound")
	})
	t.Run("ranges", func(t *testing.T) {
		body := bytesOf(9<<20, 9<<20)
		for r, want := range map[string][]byte{"bytes=0-9": body[:10], "bytes=5000000-": body[5000000:], "bytes=-7": body[len(body)-7:], "bytes=1048570-1048580": body[1048570:1048581]} {
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("size/9437184"), Range: &r})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(out.Body)
			_ = out.Body.Close() // the bytes are compared
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v, want %d", r, len(got), err, len(want))
			}
		}
		_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("size/1"), Range: aws.String("bytes=1-")})
		wantCode(t, err, "InvalidRange")
	})
	t.Run("multipart", func(t *testing.T) {
		body := bytesOf(21, 23<<20)
		up := manager.NewUploader(c, func(u *manager.Uploader) { u.PartSize = 5 << 20 })
		out, err := up.Upload(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("multi"), Body: bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(strings.Trim(*out.ETag, `"`), "-5") {
			t.Errorf("ETag %s of 5 parts", *out.ETag)
		}
		mustObject(t, c, bucket, "multi", body)
		part, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("multi"), PartNumber: aws.Int32(2)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(part.Body)
		if err != nil || !bytes.Equal(got, body[5<<20:10<<20]) {
			t.Errorf("part 2: %d bytes, %v", len(got), err)
		}
		down := manager.NewDownloader(c)
		buf := manager.NewWriteAtBuffer(nil)
		if n, err := down.Download(ctx, buf, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("multi")}); err != nil || !bytes.Equal(buf.Bytes(), body) {
			t.Errorf("download: %d bytes, %v", n, err)
		}
	})
	t.Run("copy", func(t *testing.T) {
		if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copied"), CopySource: aws.String(bucket + "/multi")}); err != nil {
			t.Fatal(err)
		}
		mustObject(t, c, bucket, "copied", bytesOf(21, 23<<20))
		_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copied2"), CopySource: aws.String(bucket + "/multi"), CopySourceIfMatch: aws.String(`"no"`)})
		wantCode(t, err, "PreconditionFailed")
	})
	t.Run("conditions", func(t *testing.T) {
		put := func(body string, in s3.PutObjectInput) (*s3.PutObjectOutput, error) {
			in.Bucket, in.Key, in.Body = aws.String(bucket), aws.String("cond"), strings.NewReader(body)
			return c.PutObject(ctx, &in)
		}
		first, err := put("one", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = put("two", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
		wantCode(t, err, "PreconditionFailed")
		if _, err = put("three", s3.PutObjectInput{IfMatch: first.ETag}); err != nil {
			t.Fatal(err)
		}
		_, err = put("four", s3.PutObjectInput{IfMatch: first.ETag})
		wantCode(t, err, "PreconditionFailed")
		mustObject(t, c, bucket, "cond", []byte("three"))
	})
	t.Run("list", func(t *testing.T) {
		keys := []string{"l/a/1", "l/a/2", "l/b", "l/c//d", "l/c/../e", "l/ä ö+%2F", "l/z\u2028x", "l/~"}
		for _, k := range keys {
			if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &k, Body: strings.NewReader(k)}); err != nil {
				t.Fatalf("put %q: %v", k, err)
			}
			mustObject(t, c, bucket, k, []byte(k))
		}
		slices.Sort(keys)
		var got []string
		pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("l/"), MaxKeys: aws.Int32(3)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				got = append(got, *o.Key)
			}
		}
		if !slices.Equal(got, keys) {
			t.Errorf("listed %q, want %q", got, keys)
		}
		out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("l/"), Delimiter: aws.String("/")})
		if err != nil || len(out.CommonPrefixes) != 2 || len(out.Contents) != 4 {
			t.Errorf("delimited: %d prefixes, %d objects, %v", len(out.CommonPrefixes), len(out.Contents), err)
		}
	})
	t.Run("presign", func(t *testing.T) {
		p := s3.NewPresignClient(c)
		put, err := p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("pre signed/ü")})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(ctx, put.Method, put.URL, strings.NewReader("presigned"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("presigned PUT: %v, %v", resp, err)
		}
		_ = resp.Body.Close() // empty
		get, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("pre signed/ü")}, s3.WithPresignExpires(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		resp = mustGet(t, s, get.URL)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "presigned" {
			t.Errorf("presigned GET: %q, %v", body, err)
		}
		resp = mustGet(t, s, strings.Replace(get.URL, "pre", "prf", 1))
		_ = resp.Body.Close() // only the status matters
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("tampered presigned GET: %s", resp.Status)
		}
		log := s.LogTail(1000)
		if strings.Contains(log, casdtest.Password) || strings.Contains(log, "X-Amz-Signature") {
			t.Error("the log holds a secret or a presigned query")
		}
	})
	t.Run("delete many", func(t *testing.T) {
		out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
		if err != nil {
			t.Fatal(err)
		}
		var ids []types.ObjectIdentifier
		for _, o := range out.Contents {
			ids = append(ids, types.ObjectIdentifier{Key: o.Key})
		}
		del, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
		if err != nil || len(del.Errors) > 0 {
			t.Fatalf("delete %d: %v, %v", len(ids), del, err)
		}
		if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String(bucket)}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestMinioGo runs minio-go, which signs each chunk of its uploads, through the same, without and with trailers.
func TestMinioGo(t *testing.T) {
	t.Parallel()
	for _, trailers := range []bool{false, true} {
		t.Run(fmt.Sprintf("trailers %v", trailers), func(t *testing.T) { minioGo(t, trailers) })
	}
}

func minioGo(t *testing.T, trailers bool) {
	s := serve(t)
	ctx := t.Context()
	c, err := minio.New(s.Addr, &minio.Options{Creds: miniocreds.NewStaticV4(casdtest.User, casdtest.Password, ""), Region: casdtest.Region, TrailingHeaders: trailers})
	if err != nil {
		t.Fatal(err)
	}
	const bucket = "minio"
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	check := func(key string, want []byte) {
		t.Helper()
		o, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		got, err := io.ReadAll(o)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("get %q: %d bytes, %v, want %d", key, len(got), err, len(want))
		}
	}
	for _, n := range []int{0, 1, 5000, 1 << 20, 20 << 20} {
		body := bytesOf(uint64(n), n)
		variants := []minio.PutObjectOptions{{}, {DisableMultipart: true}, {PartSize: 5 << 20, ConcurrentStreamParts: true, NumThreads: 3}, {SendContentMd5: true}, {DisableContentSha256: true}}
		if trailers {
			variants = append(variants, minio.PutObjectOptions{Checksum: minio.ChecksumCRC32C}, minio.PutObjectOptions{Checksum: minio.ChecksumSHA256}, minio.PutObjectOptions{Checksum: minio.ChecksumCRC64NVME, PartSize: 5 << 20})
		}
		for i, opts := range variants {
			if _, err := c.PutObject(ctx, bucket, "key", bytes.NewReader(body), int64(n), opts); err != nil {
				t.Fatalf("put of %d bytes with options %d: %v", n, i, err)
			}
			check("key", body)
		}
	}
	body := bytesOf(77, 18<<20)
	if _, err := c.PutObject(ctx, bucket, "unknown size", io.LimitReader(casdtest.Random(77), int64(len(body))), -1, minio.PutObjectOptions{PartSize: 6 << 20}); err != nil {
		t.Fatal(err)
	}
	check("unknown size", body)
	if _, err := c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "composed"},
		minio.CopySrcOptions{Bucket: bucket, Object: "unknown size", MatchRange: true, Start: 0, End: 6<<20 - 1},
		minio.CopySrcOptions{Bucket: bucket, Object: "unknown size", MatchRange: true, Start: 1, End: 1000}); err != nil {
		t.Fatal(err)
	}
	check("composed", append(slices.Clone(body[:6<<20]), body[1:1001]...))
	var listed []string
	for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		listed = append(listed, o.Key)
	}
	if want := []string{"composed", "key", "unknown size"}; !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
	keys := make(chan minio.ObjectInfo)
	go func() {
		defer close(keys)
		for _, k := range listed {
			keys <- minio.ObjectInfo{Key: k}
		}
	}()
	for e := range c.RemoveObjects(ctx, bucket, keys, minio.RemoveObjectsOptions{}) {
		t.Errorf("remove %q: %v", e.ObjectName, e.Err)
	}
	if err := c.RemoveBucket(ctx, bucket); err != nil {
		t.Fatal(err)
	}
}

// TestDuplicateUploads asserts what a second upload of the same or slightly changed data costs.
func TestDuplicateUploads(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := sdk(s)
	mustCreateBucket(t, c, "dup")
	body := bytesOf(1, 64<<20)
	put := func(key string, body []byte) int64 {
		t.Helper()
		before := stats(t, s, "")
		if _, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("dup"), Key: &key, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
		return stats(t, s, "").PayloadBytes - before.PayloadBytes
	}
	first := put("first", body)
	if first < int64(len(body)) || first > int64(len(body))+int64(len(body))/50 {
		t.Errorf("%d random bytes became %d payload bytes", len(body), first)
	}
	if again := put("again", body); again > 128<<10 {
		t.Errorf("the same %d bytes again added %d payload bytes", len(body), again)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	changed := slices.Clone(body)
	for range 4 { // insertions move everything behind them
		at := rng.IntN(len(changed))
		changed = slices.Insert(changed, at, []byte("inserted")...)
	}
	if edited := put("edited", changed); edited > 8<<20 {
		t.Errorf("4 insertions into %d bytes added %d payload bytes", len(body), edited)
	}
	mustObject(t, c, "dup", "again", body)
	mustObject(t, c, "dup", "edited", changed)
	st := stats(t, s, "dup")
	if st.Objects != 3 || st.LogicalBytes != int64(2*len(body)+len(changed)) {
		t.Errorf("stats of the bucket: %+v", st)
	}
	stop(t, s)
	out, errs, exit, err := s.Casd(context.Background(), append([]string{"stats", "--json"}, s.Dirs...)...)
	if err != nil || exit != 0 || !strings.Contains(out, `"objects": 3`) {
		t.Errorf("casd stats of a stopped store: exit %d, %v\n%s%s", exit, err, out, errs)
	}
}
