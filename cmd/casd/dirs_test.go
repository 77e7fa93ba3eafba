package main

import (
	"slices"
	"strings"
	"testing"
)

func TestExpandDirs(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string // separated by spaces
	}{
		{[]string{"/a", "b"}, "/a b"},
		{[]string{"./data/d{1...6}"}, "./data/d1 ./data/d2 ./data/d3 ./data/d4 ./data/d5 ./data/d6"},
		{[]string{"d{08...12}"}, "d08 d09 d10 d11 d12"},
		{[]string{"d{8...12}"}, "d8 d9 d10 d11 d12"},
		{[]string{"r{1...2}/d{1...3}x"}, "r1/d1x r1/d2x r1/d3x r2/d1x r2/d2x r2/d3x"},
		{[]string{"d{3...3}", "e{0...1}"}, "d3 e0 e1"},
		{[]string{"brace{a,b}"}, "brace{a,b}"},
		{[]string{"dots...only"}, "dots...only"},
	} {
		got, err := expandDirs(c.in)
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("expandDirs(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestExpandDirsRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"d{6...1}":                 "backwards",
		"d{01...6}":                "widths",
		"d{1...06}":                "widths",
		"d{a...c}":                 "two numbers",
		"d{1...}":                  "two numbers",
		"d{1...5000}":              "more than 1024",
		"d{1...100}/e{1...100}":    "more than 1024",
		"d{1...99999999999999999}": "out of range",
		"a a":                      "named twice",
		"a/ a":                     "named twice",
		"d{1...3} ./d2":            "named twice",
	} {
		if got, err := expandDirs(strings.Fields(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expandDirs(%q) = %q, %v, want an error with %q", in, got, err, want)
		}
	}
	if _, err := expandDirs([]string{""}); err == nil {
		t.Error("an empty name was accepted")
	}
}
