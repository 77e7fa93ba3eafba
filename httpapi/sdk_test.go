//lint:file-ignore SA1019 feature/s3/manager is what tools in the field upload with.

package httpapi_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// apiCode is the S3 code of an SDK error.
func apiCode(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestSDKObjects(t *testing.T) {
	s := startServer(t)
	c, ctx := s.sdk(), t.Context()
	bucket := aws.String("sdk-objects")
	if _, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	keys := []string{
		"plain", "dir/", "dir/file", "a//b", "//lead", "./dot", "../up", "a/../b", "sp ace", "pl+us", "per%cent", "per%2Fcent", "ünï/çødé/日本", "tab\tnew\nline",
		"q?u=e&r#y", "quote\"'<>&", "\x01\x02control", "trailing/", "~-_.!*'()", strings.Repeat("k", 1024),
	}
	for i, k := range keys {
		body := noise(1 + i*100_003%400_000)
		out, err := c.PutObject(ctx, &awss3.PutObjectInput{
			Bucket: bucket, Key: aws.String(k), Body: bytes.NewReader(body), ContentType: aws.String("text/x-test"), CacheControl: aws.String("no-cache"),
			Metadata: map[string]string{"one": "1", "two": "zwei drei"},
		})
		if err != nil {
			t.Fatalf("put %q: %v", k, err)
		}
		if aws.ToString(out.ChecksumCRC32) == "" { // what the SDK sends by default came back
			t.Errorf("put %q: no checksum", k)
		}
		got, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String(k), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatalf("get %q: %v", k, err)
		}
		b, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(b, body) {
			t.Fatalf("get %q: %d bytes of %d, %v", k, len(b), len(body), err)
		}
		if got.Metadata["one"] != "1" || got.Metadata["two"] != "zwei drei" || aws.ToString(got.ContentType) != "text/x-test" || aws.ToString(got.CacheControl) != "no-cache" || aws.ToString(got.ChecksumCRC32) != aws.ToString(out.ChecksumCRC32) {
			t.Errorf("get %q: %+v", k, got)
		}
	}
	var listed []string
	for p := awss3.NewListObjectsV2Paginator(c, &awss3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(3), EncodingType: types.EncodingTypeUrl}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			k, err := url.QueryUnescape(aws.ToString(o.Key))
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, k)
		}
	}
	if len(listed) != len(keys) {
		t.Errorf("listed %d keys of %d: %q", len(listed), len(keys), listed)
	}
	if _, err := c.DeleteBucket(ctx, &awss3.DeleteBucketInput{Bucket: bucket}); apiCode(err) != "BucketNotEmpty" {
		t.Errorf("delete a full bucket: %v", err)
	}
	del := &types.Delete{}
	slices.Sort(listed) // control characters come first, which XML cannot hold
	for _, k := range listed[len(listed)-5:] {
		del.Objects = append(del.Objects, types.ObjectIdentifier{Key: aws.String(k)})
	}
	out, err := c.DeleteObjects(ctx, &awss3.DeleteObjectsInput{Bucket: bucket, Delete: del})
	if err != nil || len(out.Deleted) != 5 || len(out.Errors) != 0 {
		t.Fatalf("delete objects: %+v, %v", out, err)
	}
	for _, k := range listed[:len(listed)-5] {
		if _, err := c.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: aws.String(k)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("plain")}); apiCode(err) != "NoSuchKey" {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := c.DeleteBucket(ctx, &awss3.DeleteBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
}

func TestSDKMultipart(t *testing.T) {
	s := startServer(t)
	c, ctx := s.sdk(), t.Context()
	bucket := aws.String("sdk-multipart")
	if _, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	body := noise(11<<20 + 12345)
	up := manager.NewUploader(c, func(u *manager.Uploader) { u.PartSize = 5 << 20 })
	if _, err := up.Upload(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: aws.String("big"), Body: bytes.NewReader(body)}); err != nil {
		t.Fatal(err)
	}
	head, err := c.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: bucket, Key: aws.String("big"), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(aws.ToString(head.ETag), `-3"`) || !strings.HasSuffix(aws.ToString(head.ChecksumCRC32), "-3") || head.ChecksumType != types.ChecksumTypeComposite {
		t.Errorf("head: %+v", head)
	}
	buf := manager.NewWriteAtBuffer(nil)
	if _, err := manager.NewDownloader(c).Download(ctx, buf, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("big")}); err != nil || !bytes.Equal(buf.Bytes(), body) {
		t.Fatalf("download: %d bytes, %v", len(buf.Bytes()), err)
	}
	part, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("big"), PartNumber: aws.Int32(2), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(part.Body); err != nil || !bytes.Equal(b, body[5<<20:10<<20]) || aws.ToInt32(part.PartsCount) != 3 {
		t.Errorf("part 2: %d bytes, parts %d, %v", len(b), aws.ToInt32(part.PartsCount), err)
	}

	for _, algorithm := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme} {
		in := &awss3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("full"), ChecksumAlgorithm: algorithm, ChecksumType: types.ChecksumTypeFullObject}
		mp, err := c.CreateMultipartUpload(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for i, off := 1, 0; off < len(body); i, off = i+1, off+6<<20 {
			p, err := c.UploadPart(ctx, &awss3.UploadPartInput{Bucket: bucket, Key: in.Key, UploadId: mp.UploadId, PartNumber: aws.Int32(int32(i)), ChecksumAlgorithm: algorithm, Body: bytes.NewReader(body[off:min(off+6<<20, len(body))])})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, types.CompletedPart{ETag: p.ETag, PartNumber: aws.Int32(int32(i)), ChecksumCRC32: p.ChecksumCRC32, ChecksumCRC32C: p.ChecksumCRC32C, ChecksumCRC64NVME: p.ChecksumCRC64NVME})
		}
		complete := &awss3.CompleteMultipartUploadInput{Bucket: bucket, Key: in.Key, UploadId: mp.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}, ChecksumType: types.ChecksumTypeFullObject}
		done, err := c.CompleteMultipartUpload(ctx, complete)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.CompleteMultipartUpload(ctx, complete)
		if err != nil || aws.ToString(again.ETag) != aws.ToString(done.ETag) {
			t.Errorf("%s: completed again: %v", algorithm, err)
		}
		// The SDK verifies the checksum of the whole object while reading.
		got, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: in.Key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, body) {
			t.Errorf("%s: %d bytes, %v", algorithm, len(b), err)
		}
		if got.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%s: type %q", algorithm, got.ChecksumType)
		}
	}
}

func TestSDKCopies(t *testing.T) {
	s := startServer(t)
	c, ctx := s.sdk(), t.Context()
	bucket := aws.String("sdk-copies")
	if _, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	body := noise(6<<20 + 7)
	if _, err := c.PutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: aws.String("src/ü +"), Body: bytes.NewReader(body), Metadata: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	source := aws.String("sdk-copies/" + url.PathEscape("src/ü +"))
	out, err := c.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: source, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	if err != nil || aws.ToString(out.CopyObjectResult.ChecksumSHA256) == "" {
		t.Fatalf("copy: %+v, %v", out, err)
	}
	got, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("copy"), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, body) || got.Metadata["a"] != "b" {
		t.Errorf("copy: %d bytes, %v, %v", len(b), got.Metadata, err)
	}
	if _, err := c.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("sdk-copies/copy"), MetadataDirective: types.MetadataDirectiveReplace, ContentType: aws.String("x/y")}); err != nil {
		t.Fatal(err)
	}
	head, err := c.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: bucket, Key: aws.String("copy")})
	if err != nil || aws.ToString(head.ContentType) != "x/y" || len(head.Metadata) != 0 {
		t.Errorf("after REPLACE: %+v, %v", head, err)
	}
	if _, err := c.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("sdk-copies/copy")}); apiCode(err) != "InvalidRequest" {
		t.Errorf("copy onto itself: %v", err)
	}

	mp, err := c.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("joined")})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for i, r := range []string{"bytes=0-5242879", "bytes=5242880-6291462", ""} {
		in := &awss3.UploadPartCopyInput{Bucket: bucket, Key: aws.String("joined"), UploadId: mp.UploadId, PartNumber: aws.Int32(int32(i + 1)), CopySource: source}
		if i == 1 {
			continue // too small in the middle
		}
		if r != "" {
			in.CopySourceRange = aws.String(r)
		}
		p, err := c.UploadPartCopy(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: in.PartNumber, ETag: p.CopyPartResult.ETag, ChecksumCRC32: p.CopyPartResult.ChecksumCRC32})
	}
	if _, err := c.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{Bucket: bucket, Key: aws.String("joined"), UploadId: mp.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
		t.Fatal(err)
	}
	joined, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("joined")})
	if err != nil {
		t.Fatal(err)
	}
	want := append(append([]byte(nil), body[:5242880]...), body...)
	if b, err := io.ReadAll(joined.Body); err != nil || !bytes.Equal(b, want) {
		t.Errorf("joined: %d bytes of %d, %v", len(b), len(want), err)
	}
}

// withoutSeek is a body of unknown hash: over HTTP it can only be sent in signed chunks or unsigned.
type withoutSeek struct{ io.Reader }

func TestSDKStreaming(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	c := s.sdk()
	bucket := aws.String("sdk-streaming")
	if _, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	body := noise(3 << 20)
	unsigned := func(o *awss3.Options) {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
	for i, a := range []types.ChecksumAlgorithm{"", types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
		in := &awss3.PutObjectInput{Bucket: bucket, Key: aws.String(fmt.Sprint("k", i)), Body: bytes.NewReader(body), ChecksumAlgorithm: a}
		if _, err := s.sdk(unsigned).PutObject(ctx, in); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		got, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: in.Key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, body) {
			t.Errorf("%s: %d bytes, %v", a, len(b), err)
		}
	}
}

func TestSDKPresigned(t *testing.T) {
	s := startServer(t)
	c, ctx := s.sdk(), t.Context()
	bucket := aws.String("sdk-presigned")
	if _, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	p := awss3.NewPresignClient(c)
	put, err := p.PresignPutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: aws.String("a b+c/ü"), Metadata: map[string]string{"m": "v"}, ContentType: aws.String("text/plain")})
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("presigned body")
	req, _ := http.NewRequest(put.Method, put.URL, bytes.NewReader(body))
	req.Header = put.SignedHeader.Clone()
	if r := s.send(req); r.StatusCode != 200 {
		t.Fatalf("presigned put: %s\n%s\n%s", r.Status, put.URL, r.body)
	}
	get, err := p.PresignGetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("a b+c/ü"), ResponseContentType: aws.String("x/override")}, awss3.WithPresignExpires(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	req, _ = http.NewRequest(get.Method, get.URL, nil)
	r := s.send(req)
	if r.StatusCode != 200 || !bytes.Equal(r.body, body) || r.Header.Get("Content-Type") != "x/override" || r.Header.Get("X-Amz-Meta-M") != "v" {
		t.Errorf("presigned get: %s %q %v", r.Status, r.body, r.Header)
	}
	if strings.Contains(s.access.String(), "X-Amz-Signature") || strings.Contains(s.access.String(), "Credential") {
		t.Error("the access log holds a signature")
	}
}

func TestMinioGo(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	endpoint := strings.TrimPrefix(s.URL, "http://")
	for _, trailing := range []bool{false, true} {
		c, err := minio.New(endpoint, &minio.Options{Creds: miniocreds.NewStaticV4(testCredentials.AccessKey, testCredentials.SecretKey, ""), TrailingHeaders: trailing})
		if err != nil {
			t.Fatal(err)
		}
		bucket := fmt.Sprintf("minio-go-%v", trailing)
		if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		for i, size := range []int{0, 1, 100_000, 6 << 20} {
			body := noise(size)
			key := fmt.Sprintf("dir/ob ject+%d", i)
			o := minio.PutObjectOptions{PartSize: 5 << 20, UserMetadata: map[string]string{"Name": "wert"}}
			if _, err := c.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(size), o); err != nil {
				t.Fatalf("trailing %v: put %d: %v", trailing, size, err)
			}
			// A stream without length: parts.
			if _, err := c.PutObject(ctx, bucket, key+"-stream", withoutSeek{bytes.NewReader(body)}, -1, o); err != nil {
				t.Fatalf("trailing %v: stream %d: %v", trailing, size, err)
			}
			for _, k := range []string{key, key + "-stream"} {
				got, err := c.GetObject(ctx, bucket, k, minio.GetObjectOptions{})
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(got)
				if err != nil || !bytes.Equal(b, body) {
					t.Errorf("get %s: %d bytes of %d, %v", k, len(b), size, err)
				}
			}
			st, err := c.StatObject(ctx, bucket, key, minio.StatObjectOptions{Checksum: true})
			if err != nil || st.UserMetadata["Name"] != "wert" {
				t.Errorf("stat: %+v, %v", st, err)
			}
		}
		n := 0
		for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true, MaxKeys: 2}) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			n++
		}
		if n != 8 {
			t.Errorf("listed %d", n)
		}
		objects := c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true})
		for e := range c.RemoveObjects(ctx, bucket, objects, minio.RemoveObjectsOptions{}) {
			t.Errorf("remove: %+v", e)
		}
		if err := c.RemoveBucket(ctx, bucket); err != nil {
			t.Error(err)
		}
	}
}
