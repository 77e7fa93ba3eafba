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

// ForgeShard changes the shard at the beginning of b, and then its checksums, so that it verifies by itself.
func ForgeShard(b []byte) {
	h, err := decodeHeader(b)
	if err != nil {
		panic(err)
	}
	data := b[headerBytes : headerBytes+int(h.shard)]
	data[7] ^= 0xff
	h.sum = sum128(data)
	h.encode(b)
}

// RestampShard gives the shard at the beginning of b another sequence, as one of another generation has.
func RestampShard(b []byte) {
	h, err := decodeHeader(b)
	if err != nil {
		panic(err)
	}
	h.seq += 7
	h.encode(b)
}
