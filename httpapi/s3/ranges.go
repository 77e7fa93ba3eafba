package s3

import "strings"

// A byteRange is part of an object.
type byteRange struct{ off, n int64 }

// parseRange reads a Range header for an object of size bytes. ok is false when the header is to be ignored, as it is when it is not
// understood, names several ranges, or ends before it begins. With ok, satisfiable tells whether there are such bytes.
func parseRange(header string, size int64) (r byteRange, ok, satisfiable bool) {
	const unit = "bytes="
	if len(header) < len(unit) || !strings.EqualFold(header[:len(unit)], unit) {
		return r, false, false
	}
	spec := header[len(unit):]
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return r, false, false
	}
	if first == "" { // the last so many bytes
		n, valid := parseBytes(last)
		if !valid {
			return r, false, false
		}
		n = min(n, size)
		return byteRange{size - n, n}, true, n > 0
	}
	start, valid := parseBytes(first)
	if !valid {
		return r, false, false
	}
	end := size - 1
	if last != "" {
		e, valid := parseBytes(last)
		if !valid || e < start {
			return r, false, false
		}
		end = min(end, e)
	}
	if start >= size {
		return r, true, false
	}
	return byteRange{start, end - start + 1}, true, true
}

// parseBytes reads a decimal number without sign; one that is too big for an int64 is the biggest of them.
func parseBytes(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	const limit = 1<<63 - 1
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (limit-9)/10 {
			n = limit / 10 // stays past every size, and below overflow
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
