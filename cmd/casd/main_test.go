package main

import (
	"os"
	"strings"
	"testing"
)

// TestMain takes away the settings of whoever runs the tests.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, envPrefix) {
			_ = os.Unsetenv(name) // fails only for names that cannot be in the environment
		}
	}
	os.Exit(m.Run())
}
