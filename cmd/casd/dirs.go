package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// dirsMax bounds what the patterns of one command line may expand to.
const dirsMax = 1024

var rangePattern = regexp.MustCompile(`\{([0-9]+)\.\.\.([0-9]+)\}`)

// expandDirs expands {1...6} and {01...12} in patterns, which shells leave alone. Several ranges in one pattern give every
// combination, the last one turning fastest. Braces without three dots stay as they are. A directory named twice is an error.
func expandDirs(patterns []string) ([]string, error) {
	var dirs []string
	seen := map[string]string{}
	for _, pattern := range patterns {
		if pattern == "" {
			return nil, fmt.Errorf("a directory name is empty")
		}
		expanded, err := expandDir(pattern, dirsMax-len(dirs))
		if err != nil {
			return nil, err
		}
		for _, dir := range expanded {
			clean := filepath.Clean(dir)
			if other, ok := seen[clean]; ok {
				return nil, fmt.Errorf("directory %s is named twice: by %s and by %s", clean, other, pattern)
			}
			seen[clean] = pattern
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

func expandDir(pattern string, max int) ([]string, error) {
	loc := rangePattern.FindStringSubmatchIndex(pattern)
	if loc == nil {
		if strings.Contains(pattern, "...") && strings.ContainsAny(pattern, "{}") {
			return nil, fmt.Errorf("%s: a range is {FIRST...LAST} with two numbers", pattern)
		}
		if max < 1 {
			return nil, fmt.Errorf("%s: more than %d directories", pattern, dirsMax)
		}
		return []string{pattern}, nil
	}
	before, first, last, after := pattern[:loc[0]], pattern[loc[2]:loc[3]], pattern[loc[4]:loc[5]], pattern[loc[1]:]
	lo, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	hi, err := strconv.ParseUint(last, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	if lo > hi {
		return nil, fmt.Errorf("%s: the range {%s...%s} runs backwards", pattern, first, last)
	}
	width := 0 // no padding
	if len(first) > 1 && first[0] == '0' || len(last) > 1 && last[0] == '0' {
		width = len(last)
		if len(first) != width {
			return nil, fmt.Errorf("%s: the numbers of {%s...%s} are padded to different widths", pattern, first, last)
		}
	}
	var dirs []string
	for i := lo; i <= hi; i++ {
		rest, err := expandDir(fmt.Sprintf("%s%0*d%s", before, width, i, after), max-len(dirs))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, rest...)
	}
	return dirs, nil
}
