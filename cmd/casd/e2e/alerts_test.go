package e2e

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A ruleFile is deploy/alerts.yml.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	f, err := os.Open("../../../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	var file ruleFile
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("%d alert rules, fewer than rows in the failure table", len(rules))
	}
	return rules
}

// TestAlertRules compares the alert rules with what a running server has in /metrics: every metric, and every label that an expression matches.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	s := serve(t)
	fill(t, s, "a", 1)
	resp := mustGet(t, s, s.AdminURL()+"/metrics")
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := map[string][]string{} // name -> label sets
	for _, m := range regexp.MustCompile(`(?m)^([a-z]\w*)(\{.*\})? `).FindAllStringSubmatch(string(page), -1) {
		series[m[1]] = append(series[m[1]], m[2])
	}
	seen := map[string]bool{}
	for _, r := range readRules(t) {
		if r.Alert == "" || seen[r.Alert] || r.Annotations["summary"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("alert %q has no name, summary or severity, or is there twice", r.Alert)
		}
		seen[r.Alert] = true
		used := metricsOf(r.Expr)
		if len(used) == 0 {
			t.Errorf("%s: no metric in %s", r.Alert, r.Expr)
		}
		for _, u := range used {
			labels, ok := series[u.name]
			if !ok {
				t.Errorf("%s: %s is not in /metrics", r.Alert, u.name)
			}
			for _, want := range u.labels {
				if want != "job" && !slices.ContainsFunc(labels, func(set string) bool { return strings.Contains(set, want+`="`) }) {
					t.Errorf("%s: %s has no label %s", r.Alert, u.name, want)
				}
			}
			for _, value := range u.values["state"] {
				if !slices.ContainsFunc(labels, func(set string) bool { return strings.Contains(set, `state="`+value+`"`) }) {
					t.Errorf("%s: %s has no state %s", r.Alert, u.name, value)
				}
			}
		}
	}
}

// A usedMetric is a metric of an expression with the labels that it is matched by.
type usedMetric struct {
	name   string
	labels []string
	values map[string][]string // label -> values, alternatives apart
}

var (
	promStrings  = regexp.MustCompile(`"[^"]*"`)
	promGrouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	promSelector = regexp.MustCompile(`\b([a-zA-Z_]\w*)\s*(\{[^}]*\})?`)
	promMatcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
)

// metricsOf finds the metrics of an expression: the names that are neither functions nor operators.
func metricsOf(expr string) (used []usedMetric) {
	expr = promGrouping.ReplaceAllString(expr, " ")
	expr = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(expr, " ")
	for _, at := range promSelector.FindAllStringSubmatchIndex(expr, -1) {
		name, rest := expr[at[2]:at[3]], strings.TrimSpace(expr[at[1]:])
		inside := strings.Count(promStrings.ReplaceAllString(expr[:at[0]], ""), "{") > strings.Count(promStrings.ReplaceAllString(expr[:at[0]], ""), "}")
		quoted := strings.Count(expr[:at[0]], `"`)%2 == 1
		if strings.HasPrefix(rest, "(") || inside || quoted || slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, name) {
			continue
		}
		u := usedMetric{name: name, values: map[string][]string{}}
		if at[4] >= 0 {
			for _, m := range promMatcher.FindAllStringSubmatch(expr[at[4]:at[5]], -1) {
				u.labels = append(u.labels, m[1])
				u.values[m[1]] = append(u.values[m[1]], strings.Split(m[3], "|")...)
			}
		}
		used = append(used, u)
	}
	return used
}

func TestMetricsOf(t *testing.T) {
	got := metricsOf(`sum by (instance, le) (rate(a_bucket{job="x, y", state=~"p|q"}[5m])) > 0.1 * b unless on (instance) time() - c{d!=""} > 2`)
	var text []string
	for _, u := range got {
		text = append(text, u.name+"("+strings.Join(u.labels, ",")+")"+strings.Join(u.values["state"], "/"))
	}
	if want := []string{"a_bucket(job,state)p/q", "b()", "c(d)"}; !slices.Equal(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
}

// TestRunbooks: every alert names a runbook that docs/operations.md has, every runbook is named by an alert, and every log message that a runbook quotes
// is in the source.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(docs), "\n## Runbooks\n")
	if !ok {
		t.Fatal("docs/operations.md has no runbooks")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	books := names(regexp.MustCompile(`(?m)^### (.+)$`), section)
	if len(books) < 10 {
		t.Errorf("%d runbooks, fewer than rows in the failure table", len(books))
	}
	for _, r := range readRules(t) {
		book := strings.TrimPrefix(r.Annotations["runbook"], "docs/operations.md: ")
		if _, ok := books[book]; !ok {
			t.Errorf("%s names the runbook %q, which is not there", r.Alert, book)
		}
		books[book] = false
		if !strings.Contains(section, "`"+r.Alert+"`") {
			t.Errorf("no runbook mentions %s", r.Alert)
		}
	}
	for book, unused := range books {
		if unused {
			t.Errorf("no alert leads to the runbook %q", book)
		}
	}
	source := sources(t)
	for message := range names(regexp.MustCompile("log `([^`]+)`"), section) {
		if !strings.Contains(source, message) {
			t.Errorf("no code logs %q", message)
		}
	}
}

// sources is all Go source but the tests.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	root := os.DirFS("../../..")
	for _, dir := range []string{"cas", "erasure", "index", "httpapi", "httpapi/admin", "httpapi/s3", "httpapi/auth", "cmd/casd"} {
		entries, err := os.ReadDir("../../../" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			f, err := root.Open(dir + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(&all, f)
			_ = f.Close() // read only
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return all.String()
}
