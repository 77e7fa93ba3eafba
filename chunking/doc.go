/*
Package chunking splits a stream of bytes into content-defined chunks. It knows nothing of what is
done with them.

The cut points depend on the bytes and on [Params] alone, never on how the reader hands the bytes
out, so equal content is cut equally wherever it comes from. Params are part of a store's format:
change one field and the same upload shares nothing with what is stored already.

# Algorithm "rabin"

A chunk ends behind the first byte at which it has at least MinBytes bytes and the Rabin fingerprint
of its last 64 bytes ends in AverageBits zero bits, or at which it has MaxBytes bytes, or at the end
of the input. The fingerprint is the polynomial over GF(2) that the 64 bytes spell (most significant
bit of the first byte first), modulo Polynomial, an irreducible polynomial of degree 53 (Rabin,
"Fingerprinting by random polynomials", 1981; the sliding window is from Muthitacharoen et al.,
LBFS, SOSP 2001). The window never reaches back over a cut, because MinBytes is at least 64.

The reference is github.com/restic/chunker, which also makes and checks the polynomials. What runs here finds the same cuts
with four windows at once (lanes.go). Cut points are pinned by testdata/cuts_v1.golden, and compared with the reference
and with a naive implementation in the tests.
*/
package chunking
