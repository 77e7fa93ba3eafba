package httpapi_test

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/digest"
)

func signFor(req *http.Request, body []byte, region string) {
	sum := sha256.Sum256(body)
	auth.Sign(req, testCredentials, region, hex.EncodeToString(sum[:]), time.Now())
}

func sign(req *http.Request, body []byte) { signFor(req, body, region) }

func md5Of(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// cloneWithBody is the same signed request with another body of the same length.
func cloneWithBody(req *http.Request, body []byte) *http.Request {
	r := req.Clone(req.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = nil
	r.ContentLength = int64(len(body))
	return r
}

type checksum struct{ header, value string }

// checksumsOf are the checksums of b with their headers.
func checksumsOf(b []byte) (c []checksum) {
	for _, a := range digest.Checksums {
		h := digest.New(a)
		h.Write(b)
		c = append(c, checksum{"X-Amz-Checksum-" + capitalized(a.String()), h.Base64(a)})
	}
	return c
}

func capitalized(s string) string { return s[:1] + strings.ToLower(s[1:]) }

// dial opens a connection of our own to the server.
func (s *server) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// head is the request as it goes over the wire, up to the empty line.
func head(req *http.Request) []byte {
	var b bytes.Buffer
	b.WriteString(req.Method + " " + req.URL.RequestURI() + " HTTP/1.1\r\nHost: " + req.Host + "\r\n")
	if req.Host == "" {
		b.Reset()
		b.WriteString(req.Method + " " + req.URL.RequestURI() + " HTTP/1.1\r\nHost: " + req.URL.Host + "\r\n")
	}
	if req.ContentLength > 0 {
		req.Header.Set("Content-Length", itoa(req.ContentLength))
	}
	_ = req.Header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

func itoa(n int64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// raw sends a request without body on a connection of its own and returns all that comes back.
func (s *server) raw(req *http.Request) string {
	s.t.Helper()
	req.Header.Set("Connection", "close")
	return s.rawSend(req, nil, false)
}

// rawSend sends a request with this body, whatever its headers say, and returns all that comes back.
func (s *server) rawSend(req *http.Request, body []byte, closeWrite bool) string {
	s.t.Helper()
	c := s.dial()
	if _, err := c.Write(append(head(req), body...)); err != nil {
		s.t.Fatal(err)
	}
	if closeWrite {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	b, err := io.ReadAll(c)
	if err != nil {
		s.t.Fatalf("read the answer: %v (after %q)", err, b)
	}
	return string(b)
}

// readResponse reads one response from a connection that may carry more.
func readResponse(r *bufio.Reader, method string) (response, error) {
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	b, err := io.ReadAll(res.Body)
	return response{res, b}, err
}
