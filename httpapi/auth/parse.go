package auth

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/casd/casd/httpapi/s3err"
)

func malformed(why string) *s3err.Error {
	return s3err.AuthorizationHeaderMalformed.WithMessage("The authorization header is malformed; " + why)
}

func malformedQuery(why string) error {
	return s3err.AuthorizationQueryParametersError.WithMessage(why)
}

// parseHeader reads an Authorization header and the date that goes with it.
func (v *Verifier) parseHeader(r *http.Request, header string) (claim, error) {
	var c claim
	kind, rest, ok := strings.Cut(header, " ")
	switch {
	case !ok:
		return c, s3err.Argument("Authorization", kind, "Authorization header is invalid -- one and only one ' ' (space) required.")
	case kind == "AWS4-ECDSA-P256-SHA256":
		return c, s3err.NotImplemented.WithMessage("Only AWS4-HMAC-SHA256 is implemented.")
	case kind != algorithm:
		return c, s3err.Argument("Authorization", kind, "Unsupported Authorization Type")
	}
	fields := strings.Split(rest, ",")
	if len(fields) != 3 {
		return c, s3err.AuthorizationHeaderMalformed
	}
	got := make(map[string]string, 3)
	for _, field := range fields {
		field = strings.Trim(field, " \t")
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return c, malformed(`the authorization component "` + field + `" is malformed.`)
		}
		got[name] = value
	}
	for _, name := range [...]string{"Credential", "SignedHeaders", "Signature"} {
		if got[name] == "" {
			return c, malformed("missing " + name + ".")
		}
	}
	credential, signedHeaders := got["Credential"], got["SignedHeaders"]
	c.signature = got["Signature"]
	var why string
	if c.accessKey, c.scope, why = v.parseCredential(credential); why != "" {
		err := malformed(why)
		if strings.HasPrefix(why, "the region") {
			err = err.With("Region", v.region)
		}
		return c, err
	}
	if !validSignature(c.signature) {
		return c, s3err.SignatureDoesNotMatch.With("AWSAccessKeyId", c.accessKey).With("SignatureProvided", c.signature)
	}
	c.signed = strings.Split(strings.ToLower(signedHeaders), ";")
	if c.at, ok = requestTime(r); !ok {
		return c, s3err.AccessDenied.WithMessage("AWS authentication requires a valid Date or x-amz-date header")
	}
	if d := c.at.UTC().Format(dateFormat); d != c.scope.date {
		return c, malformed(`Invalid credential date "` + c.scope.date + `". This date is not the same as X-Amz-Date: "` + d + `".`)
	}
	return c, nil
}

// requestTime is the time that the client says it is, from x-amz-date or Date.
func requestTime(r *http.Request) (time.Time, bool) {
	value := r.Header.Get("X-Amz-Date")
	if value == "" {
		value = r.Header.Get("Date")
	}
	if t, err := time.Parse(timeFormat, value); err == nil {
		return t, true
	}
	t, err := http.ParseTime(value)
	return t, err == nil
}

// parseCredential splits ACCESSKEY/DATE/REGION/s3/aws4_request. why is empty when all is well, else what to tell the client.
func (v *Verifier) parseCredential(s string) (accessKey string, sc scope, why string) {
	p := strings.Split(s, "/")
	if len(p) != 5 || p[0] == "" {
		return "", scope{}, `the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`
	}
	if p[4] != terminator {
		return "", scope{}, `incorrect terminal "` + p[4] + `". This endpoint uses "aws4_request".`
	}
	if p[3] != service {
		return "", scope{}, `incorrect service "` + p[3] + `". This endpoint belongs to "s3".`
	}
	if p[2] != v.region {
		return "", scope{}, "the region '" + p[2] + "' is wrong; expecting '" + v.region + "'"
	}
	if _, err := time.Parse(dateFormat, p[1]); err != nil {
		return "", scope{}, `incorrect date format "` + p[1] + `". This date in the credential must be in the format "yyyyMMdd".`
	}
	return p[0], scope{date: p[1], region: p[2]}, ""
}

// validSignature tells whether s has the form of a signature: 64 hex digits in lower case.
func validSignature(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// parsePresigned reads the signature in a query. Each of its parameters may come once.
func (v *Verifier) parsePresigned(params []Param) (claim, error) {
	var c claim
	got := make(map[string]string, 6)
	for _, p := range params {
		switch p.Name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires":
			if _, twice := got[p.Name]; twice || p.Value == "" {
				return c, s3err.AuthorizationQueryParametersError
			}
			got[p.Name] = p.Value
		}
	}
	if len(got) != 6 {
		return c, s3err.AuthorizationQueryParametersError
	}
	if got["X-Amz-Algorithm"] != algorithm {
		return c, malformedQuery(`X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"`)
	}
	var why string
	if c.accessKey, c.scope, why = v.parseCredential(got["X-Amz-Credential"]); why != "" {
		err := s3err.AuthorizationQueryParametersError.WithMessage("Error parsing the X-Amz-Credential parameter; " + why)
		if strings.HasPrefix(why, "the region") {
			err = err.With("Region", v.region)
		}
		return c, err
	}
	var err error
	if c.at, err = time.Parse(timeFormat, got["X-Amz-Date"]); err != nil {
		return c, malformedQuery(`X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`)
	}
	if d := c.at.Format(dateFormat); d != c.scope.date {
		return c, malformedQuery(`Invalid credential date "` + c.scope.date + `". This date is not the same as X-Amz-Date: "` + d + `".`)
	}
	seconds, err := strconv.ParseInt(got["X-Amz-Expires"], 10, 64)
	switch {
	case err != nil:
		return c, malformedQuery("X-Amz-Expires should be a number")
	case seconds < 0:
		return c, malformedQuery("X-Amz-Expires must be non-negative")
	case seconds > expirySecsMax:
		return c, malformedQuery("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	c.expires = time.Duration(seconds) * time.Second
	c.signature = got["X-Amz-Signature"]
	if !validSignature(c.signature) {
		return c, s3err.SignatureDoesNotMatch.With("AWSAccessKeyId", c.accessKey).With("SignatureProvided", c.signature)
	}
	c.signed = strings.Split(strings.ToLower(got["X-Amz-SignedHeaders"]), ";")
	return c, nil
}
