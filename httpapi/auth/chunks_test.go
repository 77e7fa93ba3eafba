package auth_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/awschunked"
)

// The two streaming examples of AWS's documentation: 65 KiB of "a" in chunks of 64 KiB and 1 KiB.
func TestStreamingExamples(t *testing.T) {
	for _, tc := range []struct {
		payload, seed, signed, trailer string
		length                         string
		signatures                     []string
		end                            string
	}{
		{
			payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
			length:  "66824",
			signed:  "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
			seed:    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
			signatures: []string{
				"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
				"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
				"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
			},
			end: "\r\n",
		},
		{
			payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
			signed:  "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
			trailer: "x-amz-checksum-crc32c",
			seed:    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
			signatures: []string{
				"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
				"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
				"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
			},
			end: "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
		},
	} {
		r := httptest.NewRequest("PUT", "/examplebucket/chunkObject.txt", nil)
		r.Host = "s3.amazonaws.com"
		for k, v := range map[string]string{
			"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "X-Amz-Content-Sha256": tc.payload,
			"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "66560", "Content-Length": tc.length, "X-Amz-Trailer": tc.trailer,
			"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + tc.signed + ",Signature=" + tc.seed,
		} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		at := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
		keys := auth.RootKeys(auth.Credentials{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"})
		res, err := auth.NewVerifier(keys, "us-east-1", func() time.Time { return at }).Verify(r)
		if err != nil || res.Chunks == nil {
			t.Fatalf("%s: %+v, %v", tc.payload, res, err)
		}
		plain := bytes.Repeat([]byte("a"), 66560)
		var body bytes.Buffer
		for i, n := range []int{65536, 1024, 0} {
			fmt.Fprintf(&body, "%x;chunk-signature=%s\r\n", n, tc.signatures[i])
			if n > 0 {
				body.Write(plain[:n])
				body.WriteString("\r\n")
			}
		}
		body.WriteString(tc.end)
		o := awschunked.Options{Signer: res.Chunks, Length: 66560}
		if tc.trailer != "" {
			o.Trailers = []string{tc.trailer}
		}
		d := awschunked.New(strings.NewReader(body.String()), o)
		if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", tc.payload, len(got), err)
		}
		if tc.trailer != "" && d.Trailer(tc.trailer) != "sOO8/Q==" {
			t.Errorf("trailer %q", d.Trailer(tc.trailer))
		}
	}
}
