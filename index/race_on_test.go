//go:build race

package index

// pageStride: damage is done to every so many pages. Under the race detector each mapping of the file costs tens of milliseconds, and these tests
// have one goroutine.
const pageStride = 16 * 4096
