package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// A sizeValue is a flag in bytes: 1048576, 64MiB, 1GB.
type sizeValue int64

func (v *sizeValue) String() string { return humanSize(int64(*v)) }
func (v *sizeValue) Type() string   { return "size" }

func (v *sizeValue) Set(s string) error {
	n, err := humanize.ParseBytes(strings.TrimSpace(s))
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("%q is not a size such as 1048576, 64MiB or 1GB", s)
	}
	*v = sizeValue(n)
	return nil
}

// humanSize writes n so that Set reads the same number back.
func humanSize(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// An ecValue is an erasure code K+M; 0+0 leaves the choice to the store.
type ecValue struct{ k, m int }

func (v *ecValue) String() string {
	if v.k == 0 && v.m == 0 {
		return ""
	}
	return fmt.Sprintf("%d+%d", v.k, v.m)
}

func (v *ecValue) Type() string { return "K+M" }

// nMax is the most shards that one stripe has.
const nMax = 16

func (v *ecValue) Set(s string) error {
	if s == "" {
		*v = ecValue{}
		return nil
	}
	ks, ms, ok := strings.Cut(s, "+")
	if !ok {
		return fmt.Errorf("%q is not K+M, as in 4+2", s)
	}
	k, kerr := strconv.ParseUint(ks, 10, 8)
	m, merr := strconv.ParseUint(ms, 10, 8)
	if err := errors.Join(kerr, merr); err != nil || k == 0 || k+m > nMax {
		return fmt.Errorf("%q is not K+M with K of at least 1 and K+M of at most %d", s, nMax)
	}
	*v = ecValue{int(k), int(m)}
	return nil
}
