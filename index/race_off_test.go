//go:build !race

package index

// pageStride: damage is done to every page.
const pageStride = 4096
