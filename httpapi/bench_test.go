package httpapi_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// discardWriter is a response that nobody reads.
type discardWriter struct{ h http.Header }

func (d *discardWriter) Header() http.Header         { return d.h }
func (d *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardWriter) WriteHeader(int)             {}

// Workload: signed GETs of one 4 KiB object through the whole handler, without a network.
func BenchmarkGet4K(b *testing.B) { benchmarkGet(b, 4<<10) }

// Workload: as BenchmarkGet4K, 8 MiB.
func BenchmarkGet8M(b *testing.B) { benchmarkGet(b, 8<<20) }

func benchmarkGet(b *testing.B, size int) {
	s := startServer(b)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", noise(size))
	signed := s.request("GET", "/bucket/key", nil)
	h := s.api.Handler()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("GET", "/bucket/key", nil)
		r.Header, r.Host = signed.Header, signed.URL.Host
		h.ServeHTTP(&discardWriter{http.Header{}}, r)
	}
}

// Workload: signed lists of 1,000 keys.
func BenchmarkList1000(b *testing.B) {
	s := startServer(b)
	s.must(200, "PUT", "/bucket", nil)
	for i := range 1000 {
		s.must(200, "PUT", "/bucket/some/longer/prefix/key"+itoa(int64(i)), nil)
	}
	signed := s.request("GET", "/bucket?list-type=2", nil)
	h := s.api.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("GET", "/bucket?list-type=2", nil)
		r.Header, r.Host = signed.Header, signed.URL.Host
		h.ServeHTTP(&discardWriter{http.Header{}}, r)
	}
}

// Workload: PUT of the same 8 MiB again and again (all duplicates), payload signed by SHA-256, over loopback.
func BenchmarkPut8M(b *testing.B) {
	s := startServer(b)
	s.must(200, "PUT", "/bucket", nil)
	body := noise(8 << 20)
	req := s.request("PUT", "/bucket/key", body)
	b.SetBytes(8 << 20)
	b.ReportAllocs()
	for b.Loop() {
		r := req.Clone(b.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		if res := s.send(r); res.StatusCode != 200 {
			b.Fatal(res.Status)
		}
	}
}
