package policy

import (
	"strings"
	"unicode/utf8"
)

type elemKind uint8

const (
	elemLiteral  elemKind = iota // text, exactly
	elemAny                      // ? : one character
	elemStar                     // * : any run of characters, also none
	elemVariable                 // ${text} or ${text, 'fallback'}
)

// An elem is one piece of a pattern.
type elem struct {
	kind        elemKind
	hasFallback bool
	text        string
	fallback    string
}

// A pattern is a compiled text with wildcards and variables. A run of * and ? is kept as its ?s and then one *, so that what follows a
// * begins with text.
type pattern []elem

// variables tells whether the pattern has a variable to be resolved for each request.
func (p pattern) variables() bool {
	for i := range p {
		if p[i].kind == elemVariable {
			return true
		}
	}
	return false
}

// searchedMax bounds the ?s between *s in the resources and conditions of one policy. Each of them makes one more comparison at each
// place of the text that is searched: a header of 8 KiB that was made to be slow costs some ten milliseconds and not a second.
const searchedMax = 128

// searched counts the ?s between *s.
func (p pattern) searched() (n int) {
	stars, since := false, 0
	for i := range p {
		switch p[i].kind {
		case elemStar:
			if stars {
				n += since
			}
			stars, since = true, 0
		case elemAny:
			since++
		}
	}
	return n
}

// match tells whether s matches. p must have no variables.
//
// Before the first * and behind the last one the pattern is compared once. What stands between two *s is searched for from the left
// and the first place taken, which loses nothing, because the * that follows takes all that a later place would leave. So there is no
// backtracking: the time is linear in the text, times the number of ?s between *s, which searchedMax bounds for a whole policy.
func (p pattern) match(s string) bool {
	for len(p) > 0 && p[0].kind != elemStar {
		n := p[0].eat(s)
		if n < 0 {
			return false
		}
		s, p = s[n:], p[1:]
	}
	if len(p) == 0 {
		return s == ""
	}
	for p[len(p)-1].kind != elemStar {
		n := p[len(p)-1].eatBack(s)
		if n < 0 {
			return false
		}
		s, p = s[:len(s)-n], p[:len(p)-1]
	}
	for {
		for len(p) > 0 && p[0].kind == elemStar {
			p = p[1:]
		}
		if len(p) == 0 {
			return true
		}
		end := 0
		for p[end].kind != elemStar {
			end++
		}
		n := p[:end].find(s)
		if n < 0 {
			return false
		}
		s, p = s[n:], p[end:]
	}
}

// find returns the end of the first place in s where p, which has no *, matches, and -1 if there is none.
func (p pattern) find(s string) int {
	from := 0
	for {
		if p[0].kind == elemLiteral {
			i := strings.Index(s[from:], p[0].text)
			if i < 0 {
				return -1
			}
			from += i
		}
		at, ok := from, true
		for i := range p {
			n := p[i].eat(s[at:])
			if n < 0 {
				ok = false
				break
			}
			at += n
		}
		if ok {
			return at
		}
		if from >= len(s) {
			return -1
		}
		_, n := utf8.DecodeRuneInString(s[from:])
		from += n
	}
}

// eat returns how many bytes at the start of s the element takes, and -1 if it does not match there.
func (e *elem) eat(s string) int {
	if e.kind == elemLiteral {
		if strings.HasPrefix(s, e.text) {
			return len(e.text)
		}
		return -1
	}
	if s == "" {
		return -1
	}
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// eatBack is eat at the end of s.
func (e *elem) eatBack(s string) int {
	if e.kind == elemLiteral {
		if strings.HasSuffix(s, e.text) {
			return len(e.text)
		}
		return -1
	}
	if s == "" {
		return -1
	}
	_, n := utf8.DecodeLastRuneInString(s)
	return n
}

// compile makes a pattern of a text. wildcards says whether * and ? mean anything, variables whether ${...} does. ok is false when a
// variable is badly written.
func compile(s string, wildcards, variables bool) (p pattern, ok bool) {
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			p = append(p, elem{kind: elemLiteral, text: literal.String()})
			literal.Reset()
		}
	}
	for s != "" {
		switch {
		case variables && strings.HasPrefix(s, "${"):
			e, rest, ok := compileVariable(s)
			if !ok {
				return nil, false
			}
			s = rest
			if e.kind == elemLiteral {
				literal.WriteString(e.text)
				continue
			}
			flush()
			p = append(p, e)
		case wildcards && s[0] == '*':
			flush()
			if len(p) == 0 || p[len(p)-1].kind != elemStar {
				p = append(p, elem{kind: elemStar})
			}
			s = s[1:]
		case wildcards && s[0] == '?':
			flush()
			if n := len(p); n > 0 && p[n-1].kind == elemStar {
				p = append(p[:n-1], elem{kind: elemAny}, elem{kind: elemStar})
			} else {
				p = append(p, elem{kind: elemAny})
			}
			s = s[1:]
		default:
			literal.WriteByte(s[0])
			s = s[1:]
		}
	}
	flush()
	return p, true
}

// compileVariable reads what ${ begins: a key, a key and its default, or one of the three characters that stand for themselves.
func compileVariable(s string) (e elem, rest string, ok bool) {
	s = s[2:]
	if len(s) >= 2 && s[1] == '}' && strings.IndexByte("*?$", s[0]) >= 0 {
		return elem{kind: elemLiteral, text: s[:1]}, s[2:], true
	}
	end := strings.IndexAny(s, ",}")
	if end < 0 {
		return e, s, false
	}
	key := strings.TrimSpace(s[:end])
	if !validKey(key) {
		return e, s, false
	}
	e = elem{kind: elemVariable, text: canonicalKey(key)}
	if s[end] == '}' {
		return e, s[end+1:], true
	}
	s = strings.TrimLeft(s[end+1:], " ")
	if !strings.HasPrefix(s, "'") {
		return e, s, false
	}
	fallback, rest, found := strings.Cut(s[1:], "'")
	rest = strings.TrimLeft(rest, " ")
	if !found || !strings.HasPrefix(rest, "}") {
		return e, s, false
	}
	e.hasFallback, e.fallback = true, fallback
	return e, rest[1:], true
}

// stackElems is how many pieces of a pattern are resolved without an allocation.
const stackElems = 16

// matchFor is match after the variables were replaced by what they are in a request. What a variable holds is text: a * in it is a *.
// A variable that has no value, or several, and no default matches nothing.
func (p pattern) matchFor(s string, r *Request) bool {
	if !p.variables() {
		return p.match(s)
	}
	var buf [stackElems]elem
	resolved := pattern(buf[:0])
	for _, e := range p {
		if e.kind == elemVariable {
			v, ok := r.variable(e)
			if !ok {
				return false
			}
			e = elem{kind: elemLiteral, text: v}
		}
		resolved = append(resolved, e)
	}
	return resolved.match(s)
}

// textFor returns the text of a pattern that has no wildcards.
func (p pattern) textFor(r *Request) (s string, ok bool) {
	if len(p) == 1 && p[0].kind == elemLiteral {
		return p[0].text, true
	}
	var b strings.Builder
	for _, e := range p {
		if e.kind != elemVariable {
			b.WriteString(e.text)
			continue
		}
		v, ok := r.variable(e)
		if !ok {
			return "", false
		}
		b.WriteString(v)
	}
	return b.String(), true
}

// variable returns the one value of a variable.
func (r *Request) variable(e elem) (string, bool) {
	if values, ok := r.lookup(e.text); ok && len(values) == 1 {
		return values[0], true
	}
	return e.fallback, e.hasFallback
}

// lookup returns the values of a condition key; ok is false for a key that the request does not have.
func (r *Request) lookup(key string) (values []string, ok bool) {
	if r.Context == nil {
		return nil, false
	}
	return r.Context(key)
}
