package httpapi_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
	"github.com/casd/casd/httpapi/auth"
)

func TestAdmin(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", []byte("0123456789"))
	for _, p := range []string{"/healthz", "/readyz", "/metrics"} {
		for _, method := range []string{"GET", "HEAD"} {
			req, _ := http.NewRequest(method, s.URL+p, nil)
			if r := s.send(req); r.StatusCode != 200 {
				t.Errorf("%s %s: %s", method, p, r.Status)
			}
		}
		// Whatever else is asked of these names comes from an S3 client that takes them for buckets.
		for method, code := range map[string]string{"PUT": "InvalidBucketName", "POST": "MethodNotAllowed", "DELETE": "MethodNotAllowed"} {
			for _, sign := range []bool{true, false} {
				req := s.request(method, p, []byte("x"))
				if !sign {
					req.Header.Del("Authorization")
				}
				r := s.send(req)
				status := map[string]int{"InvalidBucketName": 400, "MethodNotAllowed": 405}[code]
				if r.StatusCode != status || r.errorCode() != code || r.Header.Get("X-Amz-Request-Id") == "" || (status == 405) != (r.Header.Get("Allow") == "GET, HEAD") {
					t.Errorf("%s %s: %s %v %s", method, p, r.Status, r.Header, r.body)
				}
			}
		}
	}
	var st cas.Stats
	r := s.must(200, "GET", "/-/stats", nil)
	if err := json.Unmarshal(r.body, &st); err != nil || st.Objects != 1 || st.LogicalBytes != 10 || st.Buckets != 1 {
		t.Errorf("%s, %v", r.body, err)
	}
	for _, name := range []string{"objects", "logical_bytes", "unique_bytes", "payload_bytes", "stored_bytes", "chunks", "dedup_ratio"} {
		if !strings.Contains(string(r.body), `"`+name+`":`) {
			t.Errorf("no %s in %s", name, r.body)
		}
	}
	r = s.must(200, "GET", "/-/stats?bucket=bucket", nil)
	if err := json.Unmarshal(r.body, &st); err != nil || st.Objects != 1 {
		t.Errorf("%s, %v", r.body, err)
	}
	for status, path := range map[int]string{404: "/-/stats?bucket=none", 200: "/-/version"} {
		s.must(status, "GET", path, nil)
	}
	for _, p := range []string{"/-", "/-/", "/-/nothing", "/-/stats/"} {
		s.must(404, "GET", p, nil)
	}
	s.must(405, "POST", "/-/stats", nil)
	req, _ := http.NewRequest("GET", s.URL+"/-/stats", nil)
	auth.Sign(req, auth.Credentials{AccessKey: "SOMEBODY", SecretKey: "12345678"}, region, "", time.Now())
	if r := s.send(req); r.StatusCode != 403 || !strings.Contains(string(r.body), "InvalidAccessKeyId") {
		t.Errorf("%s %s", r.Status, r.body)
	}

	metrics := string(s.must(200, "GET", "/metrics", nil).body)
	for _, line := range []string{
		`casd_http_requests_total{operation="PutObject",status="200"} 1`, `casd_http_requests_total{operation="AdminStats",status="403"} 1`,
		`casd_http_request_bytes_total 10`, `casd_http_request_seconds_count{operation="CreateBucket"} 1`, `casd_http_requests_in_flight 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
}

func TestAdminSeparate(t *testing.T) {
	api, err := httpapi.New(httpapi.Options{Store: openStore(t), Credentials: testCredentials, AdminSeparate: true})
	if err != nil {
		t.Fatal(err)
	}
	main, admin := httptest.NewServer(api.Handler()), httptest.NewServer(api.AdminHandler())
	defer main.Close()
	defer admin.Close()
	get := func(url string) int {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for path, want := range map[string][2]int{"/healthz": {403, 200}, "/readyz": {403, 200}, "/metrics": {403, 200}, "/-/stats": {403, 403}, "/bucket": {403, 404}, "/": {403, 404}} {
		if a, b := get(main.URL+path), get(admin.URL+path); a != want[0] || b != want[1] {
			t.Errorf("%s: %d on the main listener, %d on the admin's", path, a, b)
		}
	}
}

// The access log has one line for each request, with what operators ask for.
func TestAccessLog(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	r := s.must(200, "PUT", "/bucket/a%20b", []byte("0123456789"), "User-Agent", "tester/1.0")
	s.fails(404, "NoSuchKey", "GET", "/bucket/none", nil)
	waitFor(t, func() bool { return strings.Count(s.access.String(), "\n") == 3 })
	lines := strings.Split(strings.TrimSpace(s.access.String()), "\n")
	var put, get map[string]any
	for line, into := range map[string]*map[string]any{lines[1]: &put, lines[2]: &get} {
		if err := json.Unmarshal([]byte(line), into); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range map[string]any{
		"request_id": r.Header.Get("X-Amz-Request-Id"), "method": "PUT", "operation": "PutObject", "bucket": "bucket", "key": "a b", "client": "127.0.0.1",
		"access_key": testCredentials.AccessKey, "status": 200.0, "error_code": "", "bytes_in": 10.0, "bytes_out": 0.0, "user_agent": "tester/1.0",
	} {
		if put[k] != v {
			t.Errorf("%s is %v, want %v", k, put[k], v)
		}
	}
	if get["error_code"] != "NoSuchKey" || get["status"] != 404.0 || get["operation"] != "GetObject" || get["bytes_out"].(float64) == 0 {
		t.Errorf("%v", get)
	}
}

// Serve speaks TLS, and only HTTP/1.1.
func TestServeTLS(t *testing.T) {
	api, err := httpapi.New(httpapi.Options{Store: openStore(t), Credentials: testCredentials, AdminSeparate: true})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewTLSServer(nil) // for its certificate and a client that trusts it
	defer ts.Close()
	main, err1 := net.Listen("tcp", "127.0.0.1:0")
	admin, err2 := net.Listen("tcp", "127.0.0.1:0")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, main, admin, &tls.Config{Certificates: ts.TLS.Certificates, NextProtos: []string{"http/1.1"}})
	}()
	for addr, want := range map[string]int{"https://" + main.Addr().String() + "/": 403, "https://" + admin.Addr().String() + "/healthz": 200} {
		res, err := ts.Client().Get(addr)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want || res.ProtoMajor != 1 {
			t.Errorf("%s: %s %s", addr, res.Proto, res.Status)
		}
	}
	ts.Client().CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
