package chunking

import (
	"errors"
	"fmt"

	"github.com/restic/chunker"
)

// AlgorithmRabin is the only algorithm of format version 1.
const AlgorithmRabin = "rabin"

// Defaults of NewParams. Random bytes come out at 190 KiB a chunk, archives at about half of it.
const (
	defaultMinBytes    = 64 << 10
	defaultMaxBytes    = 1 << 20
	defaultAverageBits = 17
)

// Limits that Validate checks.
const (
	windowBytes      = 64 // of the sliding window; MinBytes may not be less
	polynomialDegree = 53 // the highest that fits the tables of the implementation
	maxBytesLimit    = 64 << 20
	averageBitsMin   = 6
	averageBitsMax   = 26
)

// ErrParams is matched by every error that says that Params cannot be used.
var ErrParams = errors.New("chunking: bad parameters")

// Params say where cuts fall. They are part of the store's format: chosen once, when the store is
// made, and never changed.
type Params struct {
	Algorithm   string `json:"algorithm"`    // AlgorithmRabin
	Polynomial  uint64 `json:"polynomial"`   // irreducible over GF(2), degree 53
	MinBytes    int    `json:"min_bytes"`    // shortest chunk but the last of a stream; at least 64
	MaxBytes    int    `json:"max_bytes"`    // longest chunk; at most 64 MiB
	AverageBits int    `json:"average_bits"` // past MinBytes a cut falls every 2^AverageBits bytes on average; 6 to 26
}

// NewParams returns the default parameters with a random polynomial. Every store has its own, so
// that the lengths of stored chunks do not tell an observer which known file they came from.
func NewParams() (Params, error) {
	polynomial, err := chunker.RandomPolynomial()
	if err != nil {
		return Params{}, fmt.Errorf("chunking: choosing a polynomial: %w", err)
	}
	return Params{
		Algorithm:   AlgorithmRabin,
		Polynomial:  uint64(polynomial),
		MinBytes:    defaultMinBytes,
		MaxBytes:    defaultMaxBytes,
		AverageBits: defaultAverageBits,
	}, nil
}

// Validate returns an error matching ErrParams unless p can be used.
func (p Params) Validate() error {
	polynomial := chunker.Pol(p.Polynomial)
	switch {
	case p.Algorithm != AlgorithmRabin:
		return fmt.Errorf("%w: algorithm %q is unknown to this version", ErrParams, p.Algorithm)
	case p.MinBytes < windowBytes:
		return fmt.Errorf("%w: min_bytes %d is less than the window of %d", ErrParams, p.MinBytes, windowBytes)
	case p.MaxBytes < p.MinBytes || p.MaxBytes > maxBytesLimit:
		return fmt.Errorf("%w: max_bytes %d is not between min_bytes %d and %d", ErrParams, p.MaxBytes, p.MinBytes, maxBytesLimit)
	case p.AverageBits < averageBitsMin || p.AverageBits > averageBitsMax:
		return fmt.Errorf("%w: average_bits %d is not between %d and %d", ErrParams, p.AverageBits, averageBitsMin, averageBitsMax)
	case polynomial.Deg() != polynomialDegree:
		return fmt.Errorf("%w: polynomial %#x has degree %d, want %d", ErrParams, p.Polynomial, polynomial.Deg(), polynomialDegree)
	case !polynomial.Irreducible():
		return fmt.Errorf("%w: polynomial %#x is reducible", ErrParams, p.Polynomial)
	}
	return nil
}
