package httpapi_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/httpapi/auth"
)

// A chunkWriter is a client of its own that signs in chunks, written against AWS's description rather than our code.
type chunkWriter struct {
	key      []byte
	scope    string
	date     string
	previous string
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func (c *chunkWriter) sign(kind string, middle string, data []byte) string {
	sum := sha256.Sum256(data)
	c.previous = hex.EncodeToString(mac(c.key, kind+"\n"+c.date+"\n"+c.scope+"\n"+c.previous+"\n"+middle+hex.EncodeToString(sum[:])))
	return c.previous
}

func (c *chunkWriter) chunk(data []byte) string {
	sig := c.sign("AWS4-HMAC-SHA256-PAYLOAD", auth.EmptySHA256+"\n", data)
	s := fmt.Sprintf("%x;chunk-signature=%s\r\n", len(data), sig)
	if len(data) == 0 {
		return s
	}
	return s + string(data) + "\r\n"
}

func (c *chunkWriter) trailer(name, value string) string {
	return name + ":" + value + "\r\nx-amz-trailer-signature:" + c.sign("AWS4-HMAC-SHA256-TRAILER", "", []byte(name+":"+value+"\n")) + "\r\n"
}

// streamed makes the head of a streaming upload, and the writer of its chunks.
func (s *server) streamed(path, payload string, length int, headers ...string) (*http.Request, *chunkWriter) {
	s.t.Helper()
	req, err := http.NewRequest("PUT", s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "aws-chunked")
	if length >= 0 {
		req.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(length))
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	now := time.Now().UTC()
	auth.Sign(req, testCredentials, region, payload, now)
	_, sig, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
	c := &chunkWriter{date: now.Format("20060102T150405Z"), scope: now.Format("20060102") + "/" + region + "/s3/aws4_request", previous: sig}
	c.key = mac(mac(mac(mac([]byte("AWS4"+testCredentials.SecretKey), now.Format("20060102")), region), "s3"), "aws4_request")
	return req, c
}

func (s *server) sendBody(req *http.Request, body string) response {
	s.t.Helper()
	return s.send(cloneWithBody(req, []byte(body)))
}

func TestSignedStreaming(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	data := noise(150_000)
	const signed, trailing, unsigned = auth.StreamingSigned, auth.StreamingSignedTrailer, auth.StreamingUnsignedTrailer
	crc := checksumsOf(data)[1] // CRC32C
	trailerName := strings.ToLower(crc.header)

	good := func(c *chunkWriter) string {
		return c.chunk(data[:65536]) + c.chunk(data[65536:131072]) + c.chunk(data[131072:]) + c.chunk(nil)
	}
	for _, tc := range []struct {
		name, payload string
		length        int
		trailer       bool
		body          func(c *chunkWriter) string
		status        int
		code          string
	}{
		{"signed", signed, len(data), false, func(c *chunkWriter) string { return good(c) + "\r\n" }, 200, ""},
		{"signed, one chunk", signed, len(data), false, func(c *chunkWriter) string { return c.chunk(data) + c.chunk(nil) + "\r\n" }, 200, ""},
		{"signed, empty", signed, 0, false, func(c *chunkWriter) string { return c.chunk(nil) + "\r\n" }, 200, ""},
		{"signed with trailer", trailing, len(data), true, func(c *chunkWriter) string { return good(c) + c.trailer(trailerName, crc.value) + "\r\n" }, 200, ""},
		{"unsigned with trailer", unsigned, 5, true, func(*chunkWriter) string {
			return "5\r\nhello\r\n0\r\n" + trailerName + ":" + checksumsOf([]byte("hello"))[1].value + "\r\n\r\n"
		}, 200, ""},
		{"unsigned without trailer", unsigned, 5, false, func(*chunkWriter) string { return "5\r\nhello\r\n0\r\n\r\n" }, 200, ""},

		{"changed byte", signed, len(data), false, func(c *chunkWriter) string {
			b := []byte(good(c) + "\r\n")
			b[70_000] ^= 1
			return string(b)
		}, 403, "SignatureDoesNotMatch"},
		{"chunks swapped", signed, len(data), false, func(c *chunkWriter) string {
			a, b := c.chunk(data[:65536]), c.chunk(data[65536:131072])
			return b + a + c.chunk(data[131072:]) + c.chunk(nil) + "\r\n"
		}, 403, "SignatureDoesNotMatch"},
		{"last chunk missing", signed, len(data), false, func(c *chunkWriter) string { return c.chunk(data) }, 400, "IncompleteBody"},
		{"cut off with another end", signed, 65536, false, func(c *chunkWriter) string {
			a := c.chunk(data[:65536])
			c.chunk(data[65536:])
			return a + c.chunk(nil) + "\r\n"
		}, 403, "SignatureDoesNotMatch"},
		{"unsigned chunks in a signed body", signed, 5, false, func(*chunkWriter) string { return "5\r\nhello\r\n0\r\n\r\n" }, 403, "SignatureDoesNotMatch"},
		{"longer than declared", signed, len(data) - 1, false, func(c *chunkWriter) string { return good(c) + "\r\n" }, 400, "IncompleteBody"},
		{"shorter than declared", signed, len(data) + 1, false, func(c *chunkWriter) string { return good(c) + "\r\n" }, 400, "IncompleteBody"},
		{"no length", signed, -1, false, func(c *chunkWriter) string { return good(c) + "\r\n" }, 411, "MissingContentLength"},
		{"small chunks", signed, 200, false, func(c *chunkWriter) string {
			return c.chunk(data[:100]) + c.chunk(data[100:200]) + c.chunk(nil) + "\r\n"
		}, 400, "InvalidChunkSizeError"},
		{"malformed", unsigned, 5, false, func(*chunkWriter) string { return "five\r\nhello\r\n0\r\n\r\n" }, 400, "IncompleteBody"},
		{"wrong trailer signature", trailing, len(data), true, func(c *chunkWriter) string {
			return good(c) + trailerName + ":" + crc.value + "\r\nx-amz-trailer-signature:" + strings.Repeat("0", 64) + "\r\n\r\n"
		}, 403, "SignatureDoesNotMatch"},
		{"wrong checksum in the trailer", trailing, len(data), true, func(c *chunkWriter) string { return good(c) + c.trailer(trailerName, "AAAAAA==") + "\r\n" }, 400, "BadDigest"},
		{"malformed checksum in the trailer", trailing, len(data), true, func(c *chunkWriter) string { return good(c) + c.trailer(trailerName, "!") + "\r\n" }, 400, "InvalidRequest"},
		{"trailer missing", trailing, len(data), true, func(c *chunkWriter) string { return good(c) + "\r\n" }, 400, "MalformedTrailerError"},
		{"another trailer", unsigned, 5, true, func(*chunkWriter) string {
			return "5\r\nhello\r\n0\r\nx-amz-checksum-sha1:qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\n\r\n"
		}, 400, "MalformedTrailerError"},
		{"trailer that was not announced", unsigned, 5, false, func(*chunkWriter) string { return "5\r\nhello\r\n0\r\n" + trailerName + ":mnG7TA==\r\n\r\n" }, 400, "MalformedTrailerError"},
	} {
		var headers []string
		if tc.trailer {
			headers = []string{"X-Amz-Trailer", trailerName}
		}
		req, c := s.streamed("/bucket/key", tc.payload, tc.length, headers...)
		r := s.sendBody(req, tc.body(c))
		if r.StatusCode != tc.status || r.errorCode() != tc.code {
			t.Errorf("%s: %s %s, want %d %s\n%s", tc.name, r.Status, r.errorCode(), tc.status, tc.code, r.body)
		}
		got := s.do("GET", "/bucket/key", nil)
		if tc.status != 200 {
			if got.StatusCode != 404 {
				t.Errorf("%s: %d bytes were stored", tc.name, len(got.body))
			}
			continue
		}
		if got.Header.Get("Content-Encoding") != "" || len(got.body) != tc.length || !bytes.HasPrefix(data, got.body) && string(got.body) != "hello" {
			t.Errorf("%s: %d bytes, Content-Encoding %q", tc.name, len(got.body), got.Header.Get("Content-Encoding"))
		}
		if tc.trailer && r.Header.Get(crc.header) == "" {
			t.Errorf("%s: no checksum in the answer", tc.name)
		}
		s.must(204, "DELETE", "/bucket/key", nil)
	}
	// Chunks that nobody announced would be stored as they came.
	req, _ := http.NewRequest("PUT", s.URL+"/bucket/key", strings.NewReader("5\r\nhello\r\n0\r\n\r\n"))
	req.Header.Set("Content-Encoding", "aws-chunked")
	auth.Sign(req, testCredentials, region, auth.UnsignedPayload, time.Now())
	if r := s.send(req); r.StatusCode != 400 || r.errorCode() != "InvalidArgument" {
		t.Errorf("aws-chunked with UNSIGNED-PAYLOAD: %s %s", r.Status, r.body)
	}
	// Without a length at all.
	req, _ = http.NewRequest("PUT", s.URL+"/bucket/key", struct{ *strings.Reader }{strings.NewReader("hello")})
	req.ContentLength = -1
	auth.Sign(req, testCredentials, region, auth.UnsignedPayload, time.Now())
	if r := s.send(req); r.StatusCode != 411 || r.errorCode() != "MissingContentLength" {
		t.Errorf("Transfer-Encoding: chunked: %s %s", r.Status, r.body)
	}
	// More than one PUT takes.
	req, _ = http.NewRequest("PUT", s.URL+"/bucket/key", nil)
	auth.Sign(req, testCredentials, region, auth.UnsignedPayload, time.Now())
	req.Header.Set("Content-Length", fmt.Sprint(5<<30+1))
	req.Header.Set("Connection", "close")
	if raw := s.rawSend(req, nil, true); !strings.Contains(raw, "<Code>EntityTooLarge</Code>") || !strings.Contains(raw, "<MaxSizeAllowed>5368709120</MaxSizeAllowed>") {
		t.Errorf("too large: %s", raw)
	}
}

// Headers that a presigning client put into the query count as headers.
func TestHoistedHeaders(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	put := func(query, body string) response {
		req, err := http.NewRequest("PUT", s.URL+"/bucket/key?"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		auth.Presign(req, testCredentials, region, time.Now(), 60)
		return s.send(req)
	}
	if r := put("x-amz-meta-a=b&X-Amz-Storage-Class=GLACIER&x-id=PutObject", "hello"); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	if r := s.must(200, "HEAD", "/bucket/key", nil); r.Header.Get("X-Amz-Meta-A") != "b" || r.Header.Get("X-Amz-Storage-Class") != "GLACIER" {
		t.Errorf("%v", r.Header)
	}
	for query, code := range map[string]string{
		"x-amz-server-side-encryption=AES256": "NotImplemented", "x-amz-acl=public-read": "NotImplemented",
		"x-amz-tagging=a%3Db": "NotImplemented", "unknown=1": "NotImplemented",
	} {
		if r := put(query, "hello"); r.errorCode() != code {
			t.Errorf("%s: %s %s", query, r.Status, r.body)
		}
	}
	// Presigning clients compute the checksum of the empty body that they have then; it says nothing of the body that is sent.
	for _, query := range []string{
		"x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32", "X-Amz-Sdk-Checksum-Algorithm=CRC32", "x-amz-checksum-sha256=nonsense",
		"x-amz-checksum-algorithm=CRC32",
	} {
		r := put(query, "hello")
		if r.StatusCode != 200 {
			t.Errorf("%s: %s %s", query, r.Status, r.body)
		}
		if got := s.must(200, "HEAD", "/bucket/key", nil, "x-amz-checksum-mode", "ENABLED").Header.Get("X-Amz-Checksum-Crc32"); got != "" {
			t.Errorf("%s: the object has the checksum %s", query, got)
		}
	}
	// In headers, which are signed, they are claims.
	for header, code := range map[string]string{"x-amz-checksum-crc32": "BadDigest", "x-amz-sdk-checksum-algorithm": "InvalidRequest"} {
		req, _ := http.NewRequest("PUT", s.URL+"/bucket/key", strings.NewReader("hello"))
		req.Header.Set(header, map[string]string{"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"}[header])
		auth.Presign(req, testCredentials, region, time.Now(), 60)
		if r := s.send(req); r.errorCode() != code {
			t.Errorf("signed %s: %s %s", header, r.Status, r.body)
		}
	}
	// A copy is one wherever its source is named.
	req, _ := http.NewRequest("PUT", s.URL+"/bucket/copy?X-Amz-Copy-Source=%2Fbucket%2Fkey", nil)
	auth.Presign(req, testCredentials, region, time.Now(), 60)
	if r := s.send(req); r.StatusCode != 200 || string(s.must(200, "GET", "/bucket/copy", nil).body) != "hello" {
		t.Errorf("hoisted copy source: %s %s", r.Status, r.body)
	}
	// Without a signature they do not.
	r := s.do("PUT", "/bucket/key?x-amz-meta-a=c", []byte("hello"))
	if r.StatusCode != 200 || s.must(200, "HEAD", "/bucket/key", nil).Header.Get("X-Amz-Meta-A") != "" {
		t.Errorf("%s", r.Status)
	}
}
