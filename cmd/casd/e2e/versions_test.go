package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// TestVersionsByAWSSDK does with versions what programs do, over a restart with a new index.
func TestVersionsByAWSSDK(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := sdk(s)
	bucket, key := aws.String("versions"), aws.String("dir/key")
	mustCreateBucket(t, c, *bucket)
	status := func(to types.BucketVersioningStatus) {
		t.Helper()
		if _, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: to}}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.GetBucketVersioning(t.Context(), &s3.GetBucketVersioningInput{Bucket: bucket}); err != nil || got.Status != to {
			t.Fatalf("%+v %v", got, err)
		}
	}
	put := func(body string) string {
		t.Helper()
		out, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(out.VersionId)
	}
	get := func(id *string) string {
		t.Helper()
		out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: id})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Body.Close()
		b, err := io.ReadAll(out.Body)
		if err != nil || id != nil && aws.ToString(out.VersionId) != *id {
			t.Fatal(aws.ToString(out.VersionId), err)
		}
		return string(b)
	}
	if id := put("null"); id != "" {
		t.Errorf("unversioned: %q", id)
	}
	status(types.BucketVersioningStatusEnabled)
	one, two := put("one"), put("two")
	del, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: key})
	if err != nil || !aws.ToBool(del.DeleteMarker) {
		t.Fatalf("%+v %v", del, err)
	}
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
	wantCode(t, err, "NoSuchKey")
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: del.VersionId})
	wantCode(t, err, "MethodNotAllowed")
	stop(t, s)
	if err := os.Remove(indexOf(t, s)); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	c = sdk(s)
	if a, b, n := get(&one), get(&two), get(aws.String("null")); a != "one" || b != "two" || n != "null" {
		t.Errorf("%q %q %q", a, b, n)
	}
	copied, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: bucket, Key: key, CopySource: aws.String("versions/dir/key?versionId=" + one)})
	if err != nil || aws.ToString(copied.CopySourceVersionId) != one || aws.ToString(copied.VersionId) == "" || get(nil) != "one" {
		t.Fatalf("%+v %v", copied, err)
	}
	status(types.BucketVersioningStatusSuspended)
	if id := put("new null"); id != "null" {
		t.Errorf("suspended: %q", id)
	}
	// All of it, page by page, and away with it.
	var seen []string
	var objects []types.ObjectIdentifier
	pages := s3.NewListObjectVersionsPaginator(c, &s3.ListObjectVersionsInput{Bucket: bucket, MaxKeys: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			seen = append(seen, aws.ToString(v.VersionId))
			objects = append(objects, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
		}
		for _, m := range page.DeleteMarkers {
			objects = append(objects, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
		}
	}
	if !slices.Equal(seen, []string{"null", aws.ToString(copied.VersionId), two, one}) || len(objects) != 5 {
		t.Errorf("%q", seen)
	}
	_, err = c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket})
	wantCode(t, err, "BucketNotEmpty")
	gone, err := c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: objects}})
	if err != nil || len(gone.Errors) > 0 || len(gone.Deleted) != len(objects) {
		t.Fatalf("%+v %v", gone, err)
	}
	if _, err := c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
}

func TestVersionsByMinioGo(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c, err := minio.New(strings.TrimPrefix(s.URL(), "http://"), &minio.Options{Creds: miniocreds.NewStaticV4(casdtest.User, casdtest.Password, ""),
		Region: casdtest.Region, Transport: http.DefaultTransport.(*http.Transport).Clone()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, bucket := t.Context(), "minio-versions"
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: casdtest.Region}); err != nil {
		t.Fatal(err)
	}
	if err := c.EnableVersioning(ctx, bucket); err != nil {
		t.Fatal(err)
	}
	if v, err := c.GetBucketVersioning(ctx, bucket); err != nil || !v.Enabled() {
		t.Fatalf("%+v %v", v, err)
	}
	var ids []string
	for _, body := range []string{"one", "two", "three"} {
		info, err := c.PutObject(ctx, bucket, "a/key", strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
		if err != nil || info.VersionID == "" {
			t.Fatalf("%+v %v", info, err)
		}
		ids = append(ids, info.VersionID)
	}
	o, err := c.GetObject(ctx, bucket, "a/key", minio.GetObjectOptions{VersionID: ids[1]})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, []byte("two")) {
		t.Fatalf("%s %v", got, err)
	}
	_ = o.Close() // read to its end
	if err := c.RemoveObject(ctx, bucket, "a/key", minio.RemoveObjectOptions{VersionID: ids[1]}); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveObject(ctx, bucket, "a/key", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.StatObject(ctx, bucket, "a/key", minio.StatObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		t.Fatal(err)
	}
	var listed, markers []minio.ObjectInfo
	for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{WithVersions: true, Recursive: true, Prefix: "a/"}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.IsDeleteMarker {
			markers = append(markers, o)
		} else {
			listed = append(listed, o)
		}
	}
	if len(listed) != 2 || listed[0].VersionID != ids[2] || listed[1].VersionID != ids[0] || listed[0].IsLatest || len(markers) != 1 || !markers[0].IsLatest {
		t.Fatalf("%+v %+v", listed, markers)
	}
	all := make(chan minio.ObjectInfo)
	go func() {
		defer close(all)
		for _, o := range append(listed, markers...) {
			all <- o
		}
	}()
	for r := range c.RemoveObjectsWithResult(ctx, bucket, all, minio.RemoveObjectsOptions{}) {
		if r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
	if err := c.RemoveBucket(ctx, bucket); err != nil {
		t.Fatal(err)
	}
}

func TestVersionsByAWSCLI(t *testing.T) {
	t.Parallel()
	for _, path := range awsClients(t) {
		s := serve(t)
		cli := client{t: t, path: path, args: []string{"--endpoint-url", s.URL(), "--output", "json"}, env: clientEnv(t, s), dir: t.TempDir()}
		cli.run("s3", "mb", "s3://cli")
		cli.run("s3api", "put-bucket-versioning", "--bucket", "cli", "--versioning-configuration", "Status=Enabled")
		if out := cli.run("s3api", "get-bucket-versioning", "--bucket", "cli"); !strings.Contains(out, `"Enabled"`) {
			t.Fatal(out)
		}
		for _, body := range []string{"one", "two"} {
			if err := os.WriteFile(filepath.Join(cli.dir, "file"), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			cli.run("s3", "cp", "--only-show-errors", "file", "s3://cli/key")
		}
		cli.run("s3", "rm", "s3://cli/key")
		var l struct {
			Versions, DeleteMarkers []struct {
				Key, VersionId string
				IsLatest       bool
			}
		}
		if err := json.Unmarshal([]byte(cli.run("s3api", "list-object-versions", "--bucket", "cli")), &l); err != nil || len(l.Versions) != 2 || len(l.DeleteMarkers) != 1 || !l.DeleteMarkers[0].IsLatest {
			t.Fatalf("%+v %v", l, err)
		}
		cli.run("s3api", "get-object", "--bucket", "cli", "--key", "key", "--version-id", l.Versions[1].VersionId, "back")
		if b, err := os.ReadFile(filepath.Join(cli.dir, "back")); err != nil || string(b) != "one" {
			t.Fatalf("%s %v", b, err)
		}
		cli.run("s3api", "delete-object", "--bucket", "cli", "--key", "key", "--version-id", l.DeleteMarkers[0].VersionId)
		if out := cli.run("s3", "cp", "s3://cli/key", "-"); !strings.Contains(out, "two") {
			t.Fatal(out)
		}
		for _, v := range l.Versions {
			cli.run("s3api", "delete-object", "--bucket", "cli", "--key", v.Key, "--version-id", v.VersionId)
		}
		cli.run("s3", "rb", "s3://cli")
	}
}
