package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/casd/casd/"

// layers is the table of who may import whom, of docs/design.md. A package belongs to the longest prefix that matches; within
// one layer packages may import one another. Tests obey too, but for testMay.
var layers = map[string]struct{ may, testMay []string }{
	"chunking":          {},
	"erasure":           {testMay: []string{"erasure/faultfs"}},
	"index":             {},
	"cas":               {may: []string{"chunking", "erasure", "index"}, testMay: []string{"erasure/faultfs"}},
	"httpapi":           {may: []string{"cas"}, testMay: []string{"erasure/faultfs"}},
	"cmd/casd":          {may: []string{"cas", "httpapi"}, testMay: []string{"cmd/casd/casdtest"}},
	"cmd/casd/casdtest": {may: []string{"httpapi/auth"}},
	"cmd/casd/e2e":      {may: []string{"cmd/casd/casdtest"}},
	"bench":             {may: []string{"cas", "httpapi", "cmd/casd/casdtest", "chunking", "erasure", "index"}},
	"erasure/faultfs":   {may: []string{"erasure"}},
}

func layerOf(pkg string) string {
	best := ""
	for name := range layers {
		if (pkg == name || strings.HasPrefix(pkg, name+"/")) && len(name) > len(best) {
			best = name
		}
	}
	return best
}

func TestImportsFollowTheTable(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}; {{join .TestImports " "}} {{join .XTestImports " "}}`, module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	seen := map[string]bool{}
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		path, rest, _ := strings.Cut(scanner.Text(), ": ")
		pkg := strings.TrimPrefix(path, module)
		from := layerOf(pkg)
		seen[from] = true
		if from == "" {
			t.Errorf("%s belongs to no layer: give it a row in the table", pkg)
			continue
		}
		imports, testImports, _ := strings.Cut(rest, ";")
		check(t, pkg, from, imports, layers[from].may)
		check(t, pkg+" (test)", from, testImports, append(layers[from].testMay, layers[from].may...))
	}
	for _, must := range []string{"chunking", "erasure", "index", "cas", "httpapi", "cmd/casd"} {
		if !seen[must] {
			t.Errorf("go list shows no package of %s", must)
		}
	}
}

func check(t *testing.T, pkg, from, imports string, may []string) {
	t.Helper()
	for _, path := range strings.Fields(imports) {
		imported, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		to := layerOf(imported)
		allowed := to == from
		for _, m := range may {
			allowed = allowed || to == m || imported == m
		}
		if !allowed {
			t.Errorf("%s imports %s: %s may import %q of ours", pkg, imported, from, may)
		}
	}
}
