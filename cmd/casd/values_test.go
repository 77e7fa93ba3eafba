package main

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSizeValue(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1048576": 1 << 20, "64MiB": 64 << 20, "64 MiB": 64 << 20, "1GB": 1e9, "1gib": 1 << 30, "1.5KiB": 1536, "2TiB": 2 << 40} {
		var v sizeValue
		if err := v.Set(in); err != nil || int64(v) != want {
			t.Errorf("Set(%q) = %d, %v, want %d", in, v, err, want)
		}
	}
	for _, in := range []string{"", "x", "1XB", "-1", "16EiB", "1e+9"} {
		var v sizeValue
		if err := v.Set(in); err == nil {
			t.Errorf("Set(%q) = %d, want an error", in, v)
		}
	}
}

func TestSizeValueReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := sizeValue(rapid.Int64Range(0, 1<<50).Draw(t, "n") << rapid.IntRange(0, 10).Draw(t, "shift"))
		var got sizeValue
		if err := got.Set(want.String()); err != nil || got != want {
			t.Fatalf("%d is written %q and read as %d, %v", int64(want), want.String(), int64(got), err)
		}
	})
}

func TestECValue(t *testing.T) {
	for in, want := range map[string]ecValue{"": {}, "4+2": {4, 2}, "1+0": {1, 0}, "12+4": {12, 4}} {
		var v ecValue
		if err := v.Set(in); err != nil || v != want || v.String() != in {
			t.Errorf("Set(%q) = %v, %v, want %v", in, v, err, want)
		}
	}
	for _, in := range []string{"4", "4+", "+2", "0+2", "4+-1", "4+2+1", "13+4", "300+1", "a+b", "4 + 2"} {
		var v ecValue
		if err := v.Set(in); err == nil {
			t.Errorf("Set(%q) = %v, want an error", in, v)
		}
	}
}
