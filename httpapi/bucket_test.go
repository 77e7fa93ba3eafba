package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/casd/casd/httpapi"
)

func TestCreateBucketAgain(t *testing.T) {
	s := startServer(t)
	r := s.must(200, "PUT", "/bucket", nil)
	if r.Header.Get("Location") != "/bucket" {
		t.Errorf("Location %q", r.Header.Get("Location"))
	}
	s.must(200, "PUT", "/bucket/key", []byte("x"))
	s.must(200, "PUT", "/bucket", []byte(`<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></CreateBucketConfiguration>`))
	s.must(200, "GET", "/bucket/key", nil)
	if r := s.must(200, "HEAD", "/bucket", nil); r.Header.Get("X-Amz-Bucket-Region") != "us-east-1" {
		t.Errorf("region %q", r.Header.Get("X-Amz-Bucket-Region"))
	}
	s.must(200, "GET", "/bucket?max-keys=1", nil, "x-amz-expected-bucket-owner", testCredentials.AccessKey)

	west := startServer(t, func(o *httpapi.Options) { o.Region = "eu-west-1" })
	doc := []byte(`<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>`)
	send := func(method, path string, body []byte) response {
		req, _ := http.NewRequest(method, west.URL+path, bytes.NewReader(body))
		signFor(req, body, "eu-west-1")
		return west.send(req)
	}
	if r := send("PUT", "/bucket", doc); r.StatusCode != 200 {
		t.Errorf("%s: %s", r.Status, r.body)
	}
	if r := send("PUT", "/bucket", doc); r.StatusCode != 409 || r.errorCode() != "BucketAlreadyOwnedByYou" {
		t.Errorf("again: %s %s", r.Status, r.body)
	}
	if r := send("GET", "/bucket?location", nil); !bytes.Contains(r.body, []byte(`>eu-west-1</LocationConstraint>`)) {
		t.Errorf("location: %s", r.body)
	}
	if r := west.do("GET", "/bucket", nil); r.StatusCode != 400 || element(r.body, "Region") != "eu-west-1" {
		t.Errorf("signed for another region: %s %s", r.Status, r.body)
	}
}

func TestListBucketsPages(t *testing.T) {
	s := startServer(t)
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("bucket-%d", i)
		want = append(want, name)
		s.must(200, "PUT", "/"+name, nil)
	}
	s.must(200, "PUT", "/other", nil)
	var got []string
	for token, pages := "", 0; ; pages++ {
		path := "/?prefix=bucket-&max-buckets=3"
		if token != "" {
			path += "&continuation-token=" + url.QueryEscape(token)
		}
		r := s.must(200, "GET", path, nil)
		for _, b := range strings.Split(string(r.body), "<Bucket>")[1:] {
			got = append(got, element([]byte(b), "Name"))
		}
		if token = element(r.body, "ContinuationToken"); token == "" || pages > 5 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
