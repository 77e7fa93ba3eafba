package s3

import (
	"net/http"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/digest"
	"github.com/casd/casd/httpapi/s3err"
)

const unsupportedAlgorithm = "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"

// A checksumClaim is what a client says of the checksum of its body.
type checksumClaim struct {
	algorithm digest.Algorithm // 0: it says nothing
	value     string           // base64; empty when it comes in the trailer, or is only to be computed
	trailer   string           // name of the trailer in lower case, empty for none
}

// checksumHeader is the header of an algorithm, in lower case.
func checksumHeader(a digest.Algorithm) string {
	return "x-amz-checksum-" + strings.ToLower(a.String())
}

// parseAlgorithm reads the value of a header that names a checksum algorithm; empty is none.
func parseAlgorithm(name string) (digest.Algorithm, error) {
	if name == "" {
		return 0, nil
	}
	a, ok := digest.Parse(strings.ToUpper(name))
	if !ok {
		return 0, s3err.InvalidRequest.WithMessage(unsupportedAlgorithm)
	}
	return a, nil
}

// parseChecksum reads the checksum headers that go with a body. trailer tells whether the body is of a form that has trailers.
func parseChecksum(h http.Header, trailer bool) (c checksumClaim, err error) {
	found := 0
	for name, v := range h {
		if !strings.HasPrefix(name, "X-Amz-Checksum-") {
			continue
		}
		suffix := name[len("X-Amz-Checksum-"):]
		if suffix == "Mode" || suffix == "Type" || suffix == "Algorithm" {
			continue
		}
		a, ok := digest.Parse(strings.ToUpper(suffix))
		if !ok {
			return c, s3err.Header(strings.ToLower(name))
		}
		found++
		c.algorithm, c.value = a, strings.Join(v, ",")
	}
	if names := h.Get("X-Amz-Trailer"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			suffix, ok1 := strings.CutPrefix(name, "x-amz-checksum-")
			a, ok2 := digest.Parse(strings.ToUpper(suffix))
			if !ok1 || !ok2 || !trailer {
				return c, s3err.InvalidRequest.WithMessage("The value specified in the x-amz-trailer header is not supported")
			}
			found++
			c.algorithm, c.trailer = a, name
		}
	}
	if found > 1 {
		return c, s3err.InvalidRequest.WithMessage("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	if found == 1 && c.trailer == "" && !c.algorithm.Valid(c.value) {
		return c, s3err.InvalidRequest.WithMessage("Value for " + checksumHeader(c.algorithm) + " header is invalid.")
	}
	sdk, err := parseAlgorithm(h.Get("X-Amz-Sdk-Checksum-Algorithm"))
	switch {
	case err != nil:
		return c, err
	case sdk != 0 && found == 0:
		return c, s3err.InvalidRequest.WithMessage("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	case sdk != 0 && sdk != c.algorithm:
		return c, s3err.InvalidRequest.WithMessage("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	return c, nil
}

// setChecksum puts a checksum into the headers of a response.
func setChecksum(h http.Header, c cas.Checksum) {
	a, ok := digest.Parse(c.Algorithm)
	if !ok || c.Value == "" {
		return
	}
	h[checksumHeader(a)] = []string{c.Value}
	if c.Type != "" {
		h["x-amz-checksum-type"] = []string{c.Type}
	}
}
