package policy

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "a", true},
		{"a", "A", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"?", "", false},
		{"?", "é", true},
		{"??", "é", false},
		{"a*", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "a--b--c", true},
		{"a*b*c", "a--c--b", false},
		{"*ab*ab*", "ab", false},
		{"*ab*ab*", "abab", true},
		{"*?", "", false},
		{"*?*?*", "ab", true},
		{"*?*?*", "a", false},
		{"*b?d*", "abcabd bxd", true},
		{"*a?c", "aac", true},
		{"photos/*/test/*", "photos/1///test///object.jpg", true},
		{"photos/*/test/*", "photos//test/object.jpg", true},
		{"photos/*/test/*", "photos/1/test/", true},
		{"photos/*/test/*", "photos/1-test/object.jpg", false},
		{"photos/*/test/*", "photos/test/object.jpg", false},
		{"photos/*/test/*", "photos/1/2/test.jpg", false},
	} {
		p, ok := compile(c.pattern, true, true)
		if got := p.match(c.text); !ok || got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
}

// naive is the definition of a match.
func naive(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	if pattern[0] == '*' {
		for i := 0; i <= len(text); i++ {
			if naive(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	}
	if text == "" {
		return false
	}
	p, pn := utf8.DecodeRuneInString(pattern)
	c, cn := utf8.DecodeRuneInString(text)
	return (p == '?' || p == c) && naive(pattern[pn:], text[cn:])
}

func TestMatchIsTheNaiveMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab/é**??")), 0, 10, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab/é")), 0, 14, -1).Draw(t, "text")
		p, _ := compile(pattern, true, false)
		if got, want := p.match(text), naive(pattern, text); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, text, got, want)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b?c*", "axxbycz")
	f.Add("*é?*", "aéb")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 24 || len(text) > 24 || strings.Count(pattern, "*") > 4 || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return
		}
		p, ok := compile(pattern, true, false)
		if got, want := p.match(text), naive(pattern, text); !ok || got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// TestMatchIsNotExponential would not end within the life of the machine if the matcher went back to an earlier *.
func TestMatchIsNotExponential(t *testing.T) {
	text := strings.Repeat("a", 8<<10)
	for _, pattern := range []string{
		strings.Repeat("a*", 5000) + "b",
		strings.Repeat("*a?", searchedMax) + "b*",
		"*" + strings.Repeat("a?", searchedMax) + "b*",
		"*" + strings.Repeat("a", 4<<10) + "b*",
	} {
		p, _ := compile(pattern, true, false)
		start := time.Now()
		if p.match(text) {
			t.Errorf("%.20s... matches", pattern)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%.20s... took %v", pattern, took)
		}
	}
}

func BenchmarkMatchAtItsWorst(b *testing.B) {
	p, _ := compile("*"+strings.Repeat("a?", searchedMax)+"b*", true, false)
	text := strings.Repeat("a", 8<<10)
	for b.Loop() {
		if p.match(text) {
			b.Fatal("matches")
		}
	}
}

func TestVariables(t *testing.T) {
	r := &Request{Context: keys{"aws:username": {"alice"}, "aws:TagKeys": {"a", "b"}, "aws:Referer": {"*"}, "aws:PrincipalTag/Team": {"x"}}.get}
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"home/${aws:username}/*", "home/alice/x", true},
		{"home/${AWS:UserName}/*", "home/alice/x", true},
		{"home/${aws:username}/*", "home/bob/x", false},
		{"home/${aws:username}", "home/alice/x", false},
		{"${aws:PrincipalTag/Team}", "x", true},
		{"${aws:PrincipalTag/team}", "x", false},
		{"${aws:userid}", "", false},
		{"${aws:userid, 'none'}", "none", true},
		{"${aws:userid,''}", "", true},
		{"${aws:userid, '*'}", "anything", false},
		{"${aws:username, 'none'}", "alice", true},
		{"${aws:TagKeys}", "a", false},
		{"${aws:Referer}", "x", false},
		{"${aws:Referer}", "*", true},
		{"*${aws:username}*", "xx alice yy", true},
		{"${*}${?}${$}", "*?$", true},
		{"${*}", "x", false},
		{"$x{}", "$x{}", true},
	} {
		p, ok := compile(c.pattern, true, true)
		if got := p.matchFor(c.text, r); !ok || got != c.want {
			t.Errorf("%q matches %q: %v, want %v (compiled %v)", c.pattern, c.text, got, c.want, ok)
		}
	}
	for _, broken := range []string{"${", "${}", "${aws:username", "${username}", "${aws:username,}", "${aws:username, 'x}", "${aws:username 'x'}", "${a b:c}"} {
		if _, ok := compile(broken, true, true); ok {
			t.Errorf("%q compiles", broken)
		}
	}
}

// keys is a request's context.
type keys map[string][]string

func (k keys) get(key string) ([]string, bool) {
	v, ok := k[key]
	return v, ok
}
