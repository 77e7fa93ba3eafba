package auth

import (
	"encoding/hex"
	"time"
)

// The values of X-Amz-Content-Sha256 for bodies that come in chunks.
const (
	StreamingSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// A ChunkSigner computes the signatures of the chunks of one streaming body, each of which covers the one before it. It is not safe for
// concurrent use.
type ChunkSigner struct {
	key      []byte
	prefix   string // date and scope, each with its line feed
	previous string // signature of the chunk before, or of the headers
}

func newChunkSigner(key []byte, s scope, at time.Time, seed string) *ChunkSigner {
	return &ChunkSigner{key: key, prefix: at.UTC().Format(timeFormat) + "\n" + s.String() + "\n", previous: seed}
}

// Chunk returns the signature of the next chunk in hex, given the SHA-256 of its bytes.
func (c *ChunkSigner) Chunk(sha256 []byte) string {
	return c.next("AWS4-HMAC-SHA256-PAYLOAD\n" + c.prefix + c.previous + "\n" + EmptySHA256 + "\n" + hex.EncodeToString(sha256))
}

// Trailer returns the signature of the trailer in hex, given the SHA-256 of its canonical form: for each header its name in lower
// case, ":", its value and a line feed.
func (c *ChunkSigner) Trailer(sha256 []byte) string {
	return c.next("AWS4-HMAC-SHA256-TRAILER\n" + c.prefix + c.previous + "\n" + hex.EncodeToString(sha256))
}

func (c *ChunkSigner) next(text string) string {
	c.previous = hex.EncodeToString(hmacSHA256(c.key, text))
	return c.previous
}
