package erasure

import "encoding/json"

// SignFormat returns a format.json with the right checksum.
func SignFormat(b []byte) ([]byte, error) {
	var f format
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	return f.encode()
}
