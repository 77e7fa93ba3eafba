package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/httpapi/s3err"
)

// The credentials, time and signatures of the examples in AWS's documentation "Authenticating Requests (AWS Signature
// Version 4)" of the S3 API reference.
var (
	example   = Credentials{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	exampleAt = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
)

const exampleScope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"

func verifierAt(at time.Time) *Verifier {
	return NewVerifier(RootKeys(example), "us-east-1", func() time.Time { return at })
}

// server makes a request look as a server gets it.
func received(method, target, host string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func code(err error) string {
	var e *s3err.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return "not an S3 error: " + err.Error()
}

func TestHeaderExamples(t *testing.T) {
	host := "examplebucket.s3.amazonaws.com"
	for _, tc := range []struct {
		name, method, target, payload, signed, signature string
		headers                                          []string
	}{
		{"get object", "GET", "/test.txt", EmptySHA256, "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", []string{"Range", "bytes=0-9"}},
		{"put object", "PUT", "/test$file.text", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", []string{"Date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class", "REDUCED_REDUNDANCY"}},
		{"put object, path encoded", "PUT", "/test%24file.text", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", []string{"Date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class", "REDUCED_REDUNDANCY"}},
		{"get lifecycle", "GET", "/?lifecycle", EmptySHA256, "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", nil},
		{"list", "GET", "/?max-keys=2&prefix=J", EmptySHA256, "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", nil},
		{"list, parameters in another order", "GET", "/?prefix=J&max-keys=2", EmptySHA256, "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", nil},
	} {
		headers := append([]string{"X-Amz-Date", "20130524T000000Z", "X-Amz-Content-Sha256", tc.payload}, tc.headers...)
		for _, space := range []string{",", ", "} {
			r := received(tc.method, tc.target, host, headers...)
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleScope+space+"SignedHeaders="+tc.signed+space+"Signature="+tc.signature)
			got, err := verifierAt(exampleAt).Verify(r)
			if err != nil || got.Identity.AccessKey != example.AccessKey || !got.Identity.Root || got.PayloadHash != tc.payload {
				t.Errorf("%s: %+v, %v", tc.name, got, err)
			}
		}
	}
}

func TestPresignedExample(t *testing.T) {
	target := "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	host := "examplebucket.s3.amazonaws.com"
	got, err := verifierAt(exampleAt.Add(23 * time.Hour)).Verify(received("GET", target, host))
	if err != nil || !got.Presigned || got.PayloadHash != UnsignedPayload {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, tc := range []struct {
		name, old, new, code string
		at                   time.Duration
	}{
		{"expired", "", "", "AccessDenied", 24 * time.Hour},
		{"not yet valid", "", "", "AccessDenied", -16 * time.Minute},
		{"a clock that is slow", "", "", "", -14 * time.Minute},
		{"never valid", "Expires=86400", "Expires=0", "AccessDenied", 0},
		{"longer than a week", "Expires=86400", "Expires=604801", "AuthorizationQueryParametersError", 0},
		{"a week", "Expires=86400", "Expires=604800", "SignatureDoesNotMatch", 0},
		{"negative", "Expires=86400", "Expires=-1", "AuthorizationQueryParametersError", 0},
		{"no number", "Expires=86400", "Expires=1h", "AuthorizationQueryParametersError", 0},
		{"twice", "Expires=86400", "Expires=86400&X-Amz-Expires=86400", "AuthorizationQueryParametersError", 0},
		{"missing", "&X-Amz-Expires=86400", "", "AuthorizationQueryParametersError", 0},
		{"no signature", "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", "", "AuthorizationQueryParametersError", 0},
		{"other signature", "Signature=ae", "Signature=ea", "SignatureDoesNotMatch", 0},
		{"short signature", "f604d404", "", "SignatureDoesNotMatch", 0},
		{"other algorithm", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "AuthorizationQueryParametersError", 0},
		{"one more parameter", "/test.txt?", "/test.txt?versionId=1&", "SignatureDoesNotMatch", 0},
		{"other path", "/test.txt", "/best.txt", "SignatureDoesNotMatch", 0},
		{"unknown key", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLF", "InvalidAccessKeyId", 0},
		{"other region", "us-east-1", "eu-west-1", "AuthorizationQueryParametersError", 0},
		{"other service", "%2Fs3%2F", "%2Fec2%2F", "AuthorizationQueryParametersError", 0},
		{"other day", "%2F20130524%2F", "%2F20130525%2F", "AuthorizationQueryParametersError", 0},
		{"bad date", "X-Amz-Date=20130524T000000Z", "X-Amz-Date=2013-05-24", "AuthorizationQueryParametersError", 0},
		{"host not signed", "SignedHeaders=host", "SignedHeaders=range", "AccessDenied", 0},
		{"a session", "&X-Amz-Date", "&X-Amz-Security-Token=x&X-Amz-Date", "InvalidToken", 0},
	} {
		changed := strings.Replace(target, tc.old, tc.new, 1)
		if changed == target && tc.old != "" {
			t.Fatalf("%s: nothing was changed", tc.name)
		}
		if _, err := verifierAt(exampleAt.Add(tc.at)).Verify(received("GET", changed, host)); code(err) != tc.code {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.code)
		}
	}
	v := verifierAt(exampleAt)
	if _, err := v.Verify(received("PUT", target, host)); code(err) != "SignatureDoesNotMatch" {
		t.Errorf("another method: %v", err)
	}
	if _, err := v.Verify(received("GET", target, "other.s3.amazonaws.com")); code(err) != "SignatureDoesNotMatch" {
		t.Errorf("another host: %v", err)
	}
	if _, err := v.Verify(received("GET", target, host, "x-amz-acl", "public-read")); code(err) != "AccessDenied" {
		t.Errorf("one more header: %v", err)
	}
	r := received("GET", target, host, "Authorization", "AWS4-HMAC-SHA256 Credential=x")
	if _, err := v.Verify(r); code(err) != "InvalidArgument" {
		t.Errorf("signed twice: %v", err)
	}
}

func TestHeaderRefusals(t *testing.T) {
	good := func() *http.Request {
		r := httptest.NewRequest("PUT", "http://localhost:9000/bucket/key%20x?partNumber=1&uploadId=a%2Bb", nil)
		r.Header.Set("X-Amz-Meta-A", "  two   words ")
		Sign(r, example, "us-east-1", UnsignedPayload, exampleAt)
		return r
	}
	if _, err := verifierAt(exampleAt).Verify(good()); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			h := r.Header.Get("Authorization")
			if !strings.Contains(h, old) {
				t.Fatalf("no %q in %s", old, h)
			}
			r.Header.Set("Authorization", strings.Replace(h, old, new, 1))
		}
	}
	for _, tc := range []struct {
		name, code string
		change     func(*http.Request)
		at         time.Duration
	}{
		{"nothing", "", func(*http.Request) {}, 0},
		{"14 minutes late", "", func(*http.Request) {}, 14 * time.Minute},
		{"16 minutes late", "RequestTimeTooSkewed", func(*http.Request) {}, 16 * time.Minute},
		{"16 minutes early", "RequestTimeTooSkewed", func(*http.Request) {}, -16 * time.Minute},
		{"signature", "SignatureDoesNotMatch", func(r *http.Request) {
			h := r.Header.Get("Authorization")
			last := "0"
			if strings.HasSuffix(h, "0") {
				last = "1"
			}
			r.Header.Set("Authorization", h[:len(h)-1]+last)
		}, 0},
		{"signature in upper case", "SignatureDoesNotMatch", func(r *http.Request) {
			a, sig, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", a+"Signature="+strings.ToUpper(sig)+"A")
		}, 0},
		{"unknown key", "InvalidAccessKeyId", replace("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPL"), 0},
		{"method", "SignatureDoesNotMatch", func(r *http.Request) { r.Method = "POST" }, 0},
		{"path", "SignatureDoesNotMatch", func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/bucket/other", "" }, 0},
		{"query", "SignatureDoesNotMatch", func(r *http.Request) { r.URL.RawQuery = "partNumber=2&uploadId=a%2Bb" }, 0},
		{"query, same meaning", "", func(r *http.Request) { r.URL.RawQuery = "uploadId=a%2bb&partNumber=1" }, 0},
		{"host", "SignatureDoesNotMatch", func(r *http.Request) { r.Host = "localhost:9001" }, 0},
		{"signed header", "SignatureDoesNotMatch", func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "three words") }, 0},
		{"spaces in a signed header", "", func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "two words") }, 0},
		{"unsigned x-amz header", "AccessDenied", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }, 0},
		{"unsigned other header", "", func(r *http.Request) { r.Header.Set("User-Agent", "x") }, 0},
		{"payload hash", "SignatureDoesNotMatch", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", EmptySHA256) }, 0},
		{"malformed payload hash", "InvalidArgument", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "abc") }, 0},
		{"payload of 4A", "NotImplemented", func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")
		}, 0},
		{"no payload hash", "InvalidRequest", func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, 0},
		{"no date", "AccessDenied", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, 0},
		{"bad date", "AccessDenied", func(r *http.Request) { r.Header.Set("X-Amz-Date", "now") }, 0},
		{"another day", "AuthorizationHeaderMalformed", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20130525T000000Z") }, 0},
		{"region", "AuthorizationHeaderMalformed", replace("us-east-1", "eu-west-1"), 0},
		{"service", "AuthorizationHeaderMalformed", replace("/s3/", "/sts/"), 0},
		{"terminator", "AuthorizationHeaderMalformed", replace("aws4_request", "aws5_request"), 0},
		{"short credential", "AuthorizationHeaderMalformed", replace("/us-east-1", ""), 0},
		{"credential date", "AuthorizationHeaderMalformed", replace("/20130524/", "/2013-05-24/"), 0},
		{"no access key", "AuthorizationHeaderMalformed", replace("AKIAIOSFODNN7EXAMPLE", ""), 0},
		{"no Credential", "AuthorizationHeaderMalformed", replace("Credential=", "Credentials="), 0},
		{"two Credentials", "AuthorizationHeaderMalformed", replace("Credential=", "Credential=x, Credential="), 0},
		{"no SignedHeaders", "AuthorizationHeaderMalformed", replace(", SignedHeaders=", ", X="), 0},
		{"host unsigned", "AccessDenied", replace("=host;", "="), 0},
		{"garbage", "AuthorizationHeaderMalformed", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 garbage") }, 0},
		{"only the algorithm", "InvalidArgument", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") }, 0},
		{"another hash", "InvalidArgument", replace("AWS4-HMAC-SHA256", "AWS2-HMAC-SHA1"), 0},
		{"no =", "AuthorizationHeaderMalformed", replace("SignedHeaders=", "SignedHeaders-"), 0},
		{"four fields", "AuthorizationHeaderMalformed", replace(", Signature=", ", X=y, Signature="), 0},
		{"basic", "InvalidArgument", func(r *http.Request) { r.Header.Set("Authorization", "Basic dXNlcjpwYXNz") }, 0},
		{"version 4A", "NotImplemented", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-ECDSA-P256-SHA256 Credential=x") }, 0},
		{"version 2", "InvalidRequest", func(r *http.Request) {
			r.Header.Set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=")
		}, 0},
		{"version 2 in the query", "InvalidRequest", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "AWSAccessKeyId=x&Expires=1&Signature=y"
		}, 0},
		{"malformed query", "InvalidURI", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, 0},
		{"session token", "InvalidToken", func(r *http.Request) {
			r.Header.Set("X-Amz-Security-Token", "t")
			Sign(r, example, "us-east-1", UnsignedPayload, exampleAt)
		}, 0},
	} {
		r := good()
		tc.change(r)
		if _, err := verifierAt(exampleAt.Add(tc.at)).Verify(r); code(err) != tc.code {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.code)
		}
	}
	anonymous := httptest.NewRequest("GET", "/bucket/key", nil)
	if got, err := verifierAt(exampleAt).Verify(anonymous); err != nil || !got.Identity.Anonymous() {
		t.Errorf("anonymous: %+v, %v", got, err)
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	r := httptest.NewRequest("GET", "/bucket/key", nil)
	Sign(r, Credentials{example.AccessKey, "another secret"}, "us-east-1", "", exampleAt)
	_, err := verifierAt(exampleAt).Verify(r)
	var e *s3err.Error
	if !errors.As(err, &e) || e.Code != "SignatureDoesNotMatch" {
		t.Fatal(err)
	}
	// What the server computed would sign the request.
	Sign(r, example, "us-east-1", "", exampleAt)
	_, right, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	for _, d := range e.Details {
		if strings.Contains(d.Value, right) || strings.Contains(d.Value, example.SecretKey) {
			t.Errorf("%s holds what must stay secret", d.Name)
		}
	}
}

func TestPathAsSent(t *testing.T) {
	// A client that signs the path as it sends it, not in AWS's encoding.
	r := httptest.NewRequest("GET", "/bucket/a%2Fb!(c)", nil)
	r.Header.Set("X-Amz-Date", exampleAt.Format(timeFormat))
	r.Header.Set("X-Amz-Content-Sha256", EmptySHA256)
	signed := []string{"host", "x-amz-content-sha256", "x-amz-date"}
	for _, path := range []string{"/bucket/a%2Fb!(c)", "/bucket/a/b%21%28c%29"} {
		s := scope{"20130524", "us-east-1"}
		sig := hexString(hmacSHA256(signingKey(example.SecretKey, s), stringToSign(exampleAt, s, canonicalRequest(r, path, nil, signed, EmptySHA256))))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleScope+", SignedHeaders="+strings.Join(signed, ";")+", Signature="+sig)
		if _, err := verifierAt(exampleAt).Verify(r); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func hexString(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func TestPresignRoundTrip(t *testing.T) {
	for _, raw := range []string{"http://h/b/k", "http://h/b/a%20b+c%2Fd/../e", "http://h/b/k?x=1+2&y=%2B&z", "http://h//b//k/"} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{"X-Amz-Meta-X": {"y"}}}
		Presign(r, example, "us-east-1", exampleAt, 60)
		if _, err := verifierAt(exampleAt.Add(time.Minute - time.Second)).Verify(r); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if _, err := verifierAt(exampleAt.Add(time.Minute)).Verify(r); code(err) != "AccessDenied" {
			t.Errorf("%s after a minute: %v", raw, err)
		}
	}
}

// lostKeys do not know.
type lostKeys struct{}

func (lostKeys) Lookup(context.Context, string) (Identity, string, bool, error) {
	return Identity{}, "", false, errors.New("keys are out of reach")
}

func TestLookupFailure(t *testing.T) {
	r := httptest.NewRequest("GET", "/b/k", nil)
	Sign(r, example, "us-east-1", "", exampleAt)
	_, err := NewVerifier(lostKeys{}, "us-east-1", func() time.Time { return exampleAt }).Verify(r)
	var e *s3err.Error
	if err == nil || errors.As(err, &e) {
		t.Errorf("%v is not an internal error", err)
	}
}

func TestSigningKeyCacheIsBounded(t *testing.T) {
	v := verifierAt(exampleAt)
	for i := range 3 * signingKeysMax {
		v.derive("AK", "secret", scope{date: time.Unix(int64(i)*86400, 0).Format(dateFormat), region: "r"})
	}
	if n := len(v.derived); n > signingKeysMax {
		t.Errorf("%d keys are kept", n)
	}
}

func TestRootOnly(t *testing.T) {
	root := RootKeys(example).Root()
	if err := (RootOnly{}).Authorize(t.Context(), Request{Identity: root, Action: "s3:PutObject"}); err != nil {
		t.Error(err)
	}
	for _, id := range []Identity{{}, {ID: "alice", AccessKey: "AK"}} {
		if err := (RootOnly{}).Authorize(t.Context(), Request{Identity: id}); !errors.Is(err, s3err.AccessDenied) {
			t.Errorf("%+v: %v", id, err)
		}
	}
}

func FuzzAuthorizationHeader(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential="+exampleScope+", SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "20130524T000000Z", "a=b&c")
	f.Add("AWS4-HMAC-SHA256 Credential=////, SignedHeaders=;, Signature=", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=x")
	f.Add("AWS a:b", "Fri, 24 May 2013 00:00:00 GMT", "%zz")
	v := verifierAt(exampleAt)
	f.Fuzz(func(t *testing.T, header, date, rawQuery string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/b/k", RawQuery: rawQuery}, Host: "h", Header: http.Header{}}
		if header != "" {
			r.Header["Authorization"] = []string{header}
		}
		r.Header["X-Amz-Date"] = []string{date}
		r.Header["X-Amz-Content-Sha256"] = []string{EmptySHA256}
		got, err := v.Verify(r.WithContext(t.Context()))
		var e *s3err.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("internal error for %q: %v", header, err)
		}
		if err == nil && !got.Identity.Anonymous() {
			t.Fatalf("accepted %q %q %q", header, date, rawQuery) // without the secret nobody can sign
		}
	})
}
