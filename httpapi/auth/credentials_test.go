package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rootDirs(t *testing.T, n int) []string {
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	return dirs
}

func TestRootCredentials(t *testing.T) {
	dirs := rootDirs(t, 3)
	missing := filepath.Join(dirs[0], "gone")
	c, path, created, err := LoadOrCreateRoot(append([]string{missing}, dirs...))
	if err != nil || !created || path != filepath.Join(dirs[0], RootFile) || c.Validate() != nil {
		t.Fatalf("%v %q %v %v", c, path, created, err)
	}
	for _, d := range dirs {
		st, err := os.Stat(filepath.Join(d, RootFile))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", d, st, err)
		}
		if es, _ := os.ReadDir(d); len(es) != 1 {
			t.Errorf("%s holds %v", d, es)
		}
	}
	// Any one copy is enough, and the others are made again.
	os.Remove(filepath.Join(dirs[0], RootFile))
	os.WriteFile(filepath.Join(dirs[1], RootFile), []byte("{"), 0o600)
	again, path, created, err := LoadOrCreateRoot(dirs)
	if err != nil || created || again != c || path != filepath.Join(dirs[2], RootFile) {
		t.Fatalf("%v %q %v %v", again, path, created, err)
	}
	if got, err := readRoot(filepath.Join(dirs[0], RootFile)); err != nil || got != c {
		t.Errorf("the lost copy: %v, %v", got, err)
	}
}

func TestRootCredentialsDamaged(t *testing.T) {
	dirs := rootDirs(t, 2)
	for _, content := range []string{"", "{}", `{"access_key":"x"}`, strings.Repeat(" ", rootFileBytesMax+1)} {
		for _, d := range dirs {
			os.WriteFile(filepath.Join(d, RootFile), []byte(content), 0o600)
		}
		if c, _, _, err := LoadOrCreateRoot(dirs); err == nil || !strings.Contains(err.Error(), dirs[0]) {
			t.Errorf("%.10q: %v, %v: damage must be named and not answered by new credentials", content, c, err)
		}
	}
	if _, _, _, err := LoadOrCreateRoot([]string{filepath.Join(dirs[0], "gone")}); err == nil {
		t.Error("credentials that are kept nowhere")
	}
}

func TestRootCredentialsReadOnlyDirectory(t *testing.T) {
	dirs := rootDirs(t, 2)
	file := filepath.Join(dirs[0], RootFile) // a directory in the way cannot be replaced, even by root
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := LoadOrCreateRoot(dirs); err == nil {
		t.Error("something that is no file was passed over")
	}
}

func TestCredentialsAreNotPrinted(t *testing.T) {
	c := GenerateCredentials()
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(f, c); strings.Contains(s, c.SecretKey) {
			t.Errorf("%s shows the secret", f)
		}
		if s := fmt.Sprintf(f, struct{ C Credentials }{c}); strings.Contains(s, c.SecretKey) {
			t.Errorf("%s of a struct shows the secret", f)
		}
	}
}

func TestCredentialsValidate(t *testing.T) {
	for _, c := range []Credentials{{"ab", "12345678"}, {"a/b", "12345678"}, {"a b", "12345678"}, {"a,b", "12345678"}, {"ключ", "12345678"}, {"abc", "1234567"}, {strings.Repeat("a", 129), "12345678"}} {
		if c.Validate() == nil {
			t.Errorf("%v is accepted", c)
		}
	}
	if err := (Credentials{"minioadmin", "minioadmin"}).Validate(); err != nil {
		t.Error(err)
	}
}
