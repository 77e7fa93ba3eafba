package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// settings runs the parsing half of casd serve and returns what it would serve.
func settings(t *testing.T, args ...string) (dirs []string, flag func(name string) string, strays []string, err error) {
	t.Helper()
	root := newRootCommand(&bytes.Buffer{})
	cmd, rest, err := root.Find(append([]string{"serve"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dirs, strays, err = loadSettings(cmd, args)
		return err
	}
	root.SetArgs(append([]string{"serve"}, rest...))
	root.SetOut(&bytes.Buffer{})
	root.SetErr(&bytes.Buffer{})
	err = root.Execute()
	return dirs, func(name string) string { return cmd.Flags().Lookup(name).Value.String() }, strays, err
}

func yamlFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "casd.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSettingsPrecedence(t *testing.T) {
	file := yamlFile(t, `
listen: 127.0.0.1:1
admin-listen: 127.0.0.1:2
region: eu-file
segment-bytes: 16MiB
cache-bytes: 33554432
allow-network-fs: true
ec: 4+2
dirs: ["/file/d{1...2}", /file/e]
`)
	t.Setenv("CASD_ADMIN_LISTEN", "127.0.0.1:3")
	t.Setenv("CASD_REGION", "eu-env")
	t.Setenv("CASD_SEGMENT_BYTES", "32MiB")
	t.Setenv("CASD_SHUTDOWN_TIMEOUT", "7s")
	t.Setenv("CASD_LISTNE", "typing error")
	t.Setenv(envUser, "not a setting")
	t.Setenv(envPassword, "not a setting")
	dirs, flag, strays, err := settings(t, "--config", file, "--region", "eu-flag")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listen":           "127.0.0.1:1", // file
		"admin-listen":     "127.0.0.1:3", // environment over file
		"region":           "eu-flag",     // flag over both
		"segment-bytes":    "32MiB",       // environment over file
		"cache-bytes":      "32MiB",       // file, as a number
		"allow-network-fs": "true",
		"ec":               "4+2",
		"shutdown-timeout": "7s",   // environment alone
		"memory-bytes":     "1GiB", // default
		"log-level":        "info", // default
	} {
		if got := flag(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if want := []string{"/file/d1", "/file/d2", "/file/e"}; !slices.Equal(dirs, want) {
		t.Errorf("dirs = %q, want %q", dirs, want)
	}
	if want := []string{"CASD_LISTNE"}; !slices.Equal(strays, want) {
		t.Errorf("strays = %q, want %q", strays, want)
	}

	t.Setenv("CASD_DIRS", "/env/a /env/b{1...2}")
	dirs, _, _, err = settings(t, "--config", file)
	if want := []string{"/env/a", "/env/b1", "/env/b2"}; err != nil || !slices.Equal(dirs, want) {
		t.Errorf("dirs = %q, %v, want %q", dirs, err, want)
	}
	dirs, _, _, err = settings(t, "--config", file, "/arg")
	if want := []string{"/arg"}; err != nil || !slices.Equal(dirs, want) {
		t.Errorf("dirs = %q, %v, want %q", dirs, err, want)
	}
}

func TestSettingsFileByVariable(t *testing.T) {
	t.Setenv("CASD_CONFIG", yamlFile(t, "dirs: /one /two\nregion: eu\n"))
	dirs, flag, strays, err := settings(t)
	if err != nil || flag("region") != "eu" || !slices.Equal(dirs, []string{"/one", "/two"}) || len(strays) != 0 {
		t.Fatalf("dirs %q, region %q, strays %q, %v", dirs, flag("region"), strays, err)
	}
}

func TestSettingsRefused(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":       {"listne: x\n", `unknown key "listne"`},
		"nested":            {"tls:\n  cert: x\n", `unknown key "tls.cert"`},
		"secret":            {"root-password: x\n", `unknown key "root-password"`},
		"flag of one call":  {"json: true\n", `unknown key "json"`},
		"not YAML":          {"a: b: c\n", "yaml"},
		"duplicate key":     {"region: a\nregion: b\n", "already defined"},
		"no value":          {"listen:\n", "listen: want one value"},
		"list for a scalar": {"listen: [a, b]\n", "listen: want one value"},
		"bad size":          {"segment-bytes: lots\n", "segment-bytes"},
		"bad duration":      {"io-timeout: 30\n", "io-timeout"},
		"bad code":          {"ec: 4-2\n", "4+2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := yamlFile(t, c.yaml)
			_, _, _, err := settings(t, "--config", path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want one with %q and %s", err, c.want, path)
			}
		})
	}
	if _, _, _, err := settings(t, "--config", "/does/not/exist.yaml"); err == nil {
		t.Error("a missing settings file was accepted")
	}
	t.Setenv("CASD_IO_TIMEOUT", "soon")
	if _, _, _, err := settings(t, "/d"); err == nil || !strings.Contains(err.Error(), "CASD_IO_TIMEOUT") {
		t.Errorf("error %v, want one that names CASD_IO_TIMEOUT", err)
	}
}
