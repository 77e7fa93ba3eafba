package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestContinueForEmptyBodies sends what botocore sends: an expectation with every PUT, on one connection.
func TestContinueForEmptyBodies(t *testing.T) {
	server := httptest.NewServer(continueEmpty(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("ETag", "x")
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, body := range []string{"", "body", "", ""} {
		fmt.Fprintf(conn, "PUT /b/k HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n", len(body))
		for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
			line, err := in.ReadString('\n')
			if err != nil || line != want {
				t.Fatalf("with a body of %d bytes: %q, %v, want %q", len(body), line, err, want)
			}
		}
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") != "x" {
			t.Fatalf("with a body of %d bytes: %v, %v", len(body), resp, err)
		}
	}
	// Who does not expect it is not sent it.
	fmt.Fprintf(conn, "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("without an expectation: %q, %v", line, err)
	}
}
