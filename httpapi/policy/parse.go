package policy

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A Kind is what a policy hangs on.
type Kind uint8

const (
	Identity Kind = iota + 1 // a user or a group: no principals
	Bucket                   // a bucket: says who, and speaks of that bucket only
)

const (
	// BucketBytesMax bounds a bucket policy without the white space between its tokens, as AWS does.
	BucketBytesMax = 20 << 10
	// IdentityBytesMax bounds an identity policy in the same way: AWS's bound of managed policies.
	IdentityBytesMax = 6 << 10
	// DocumentBytesMax bounds a document as it is sent, with its white space.
	DocumentBytesMax = 64 << 10
)

// A Policy is a compiled document. It never changes, so that any number of goroutines may use it.
type Policy struct {
	ID   string // the element Id; may be empty
	kind Kind

	statements []statement
}

// A statement is one statement, compiled.
type statement struct {
	sid        string
	deny       bool
	principals principals
	actions    actionSet // NotAction is already turned into the actions that it leaves
	not        bool      // NotResource
	resources  []resource
	conditions []condition
}

type parser struct {
	kind      Kind
	bucket    string
	variables bool // Version 2012-10-17
	searched  int  // ?s between *s so far
}

// search counts the ?s of one more pattern and refuses a document with too many.
func (p *parser) search(of pattern) error {
	if p.searched += of.searched(); p.searched > searchedMax {
		return p.failf("Policy has more than %d ? wildcards between * wildcards", searchedMax)
	}
	return nil
}

// Parse reads a policy. bucket names the bucket of a bucket policy; it must be empty for an identity policy.
//
// Every error is an *Error and matches ErrMalformed. A bucket policy is checked as S3 checks it: actions and condition keys must exist,
// resources must be of that bucket and every action must fit one of them. An identity policy may speak of services, actions and keys
// that do not exist here, as with IAM; they match nothing.
func Parse(b []byte, kind Kind, bucket string) (*Policy, error) {
	p := parser{kind: kind, bucket: bucket}
	if kind == Identity {
		b = bytes.TrimLeft(b, " \t\r\n")
	}
	if len(b) == 0 || b[0] != '{' {
		return nil, p.fail(msgNotJSON, msgIdentitySyntax)
	}
	if err := p.checkSize(b); err != nil {
		return nil, err
	}
	n, err := parseJSON(b)
	if err != nil {
		return nil, p.fail(msgInvalidJSON, msgIdentitySyntax)
	}
	return p.parseDocument(n)
}

func (p *parser) checkSize(b []byte) error {
	limit := BucketBytesMax
	if p.kind == Identity {
		limit = IdentityBytesMax
	}
	size := len(b)
	if size > limit && size <= DocumentBytesMax {
		var compact bytes.Buffer
		if json.Compact(&compact, b) != nil {
			return p.fail(msgInvalidJSON, msgIdentitySyntax)
		}
		size = compact.Len()
	}
	if size <= limit {
		return nil
	}
	if p.kind == Identity {
		return p.failf("Maximum policy size of %d bytes exceeded", limit)
	}
	return p.failf("Normalized policy document exceeds the maximum allowed size of %d bytes", limit)
}

func (p *parser) parseDocument(n node) (*Policy, error) {
	policy := &Policy{kind: p.kind}
	var list *node
	for i := range n.members {
		m := &n.members[i]
		switch m.name {
		case "Version":
			if m.value.kind != nodeString || m.value.text != "2012-10-17" && m.value.text != "2008-10-17" {
				return nil, p.fail(msgVersion, "")
			}
			p.variables = m.value.text == "2012-10-17"
		case "Id":
			if m.value.kind != nodeString {
				return nil, p.fail(msgSyntax, msgIdentitySyntax)
			}
			policy.ID = m.value.text
		case "Statement":
			list = &m.value
		default:
			return nil, p.unknownField(m.name)
		}
	}
	if list == nil {
		return nil, p.fail("Missing required field Statement", msgIdentitySyntax)
	}
	items := list.items
	switch {
	case list.kind == nodeObject:
		items = []node{*list}
	case list.kind != nodeArray:
		return nil, p.fail(msgSyntax, msgIdentitySyntax)
	case len(items) == 0:
		return nil, p.fail(msgEmptyStatement, msgIdentitySyntax)
	}
	sids := map[string]bool{}
	for _, item := range items {
		s, err := p.parseStatement(item)
		if err != nil {
			return nil, err
		}
		if s.sid != "" && sids[s.sid] {
			return nil, p.fail(msgSidUnique, "")
		}
		sids[s.sid] = true
		policy.statements = append(policy.statements, s)
	}
	return policy, nil
}

func (p *parser) unknownField(name string) error {
	if p.kind == Identity {
		return p.fail(msgIdentitySyntax, "")
	}
	return p.failf("Unknown field %s", name)
}

// elements are the elements of a statement as they were found, the Not form of each folded into the plain one.
type elements struct {
	sid, effect, principal, action, resource, condition *node

	notPrincipal, notAction, notResource bool
}

func (p *parser) parseElements(n node) (e elements, err error) {
	if n.kind != nodeObject {
		return e, p.fail(msgSyntax, msgIdentitySyntax)
	}
	for i := range n.members {
		m := &n.members[i]
		plain, not := strings.CutPrefix(m.name, "Not")
		var to **node
		switch {
		case m.name == "Sid":
			to = &e.sid
		case m.name == "Effect":
			to = &e.effect
		case m.name == "Condition":
			to = &e.condition
		case plain == "Principal":
			to, e.notPrincipal = &e.principal, not
		case plain == "Action":
			to, e.notAction = &e.action, not
		case plain == "Resource":
			to, e.notResource = &e.resource, not
		default:
			return e, p.unknownField(m.name)
		}
		if *to != nil { // an element and its Not form
			return e, p.fail(msgSyntax, msgIdentitySyntax)
		}
		*to = &m.value
	}
	return e, nil
}

func (p *parser) parseStatement(n node) (s statement, err error) {
	e, err := p.parseElements(n)
	if err != nil {
		return s, err
	}
	if s.sid, err = p.parseSid(e.sid); err != nil {
		return s, err
	}
	if s.deny, err = p.parseEffect(e.effect); err != nil {
		return s, err
	}
	if s.principals, err = p.parsePrincipals(e.principal, e.notPrincipal, s.deny); err != nil {
		return s, err
	}
	patterns, err := p.parseActions(e.action)
	if err != nil {
		return s, err
	}
	if s.resources, err = p.parseResources(e.resource); err != nil {
		return s, err
	}
	s.not = e.notResource
	if e.condition != nil {
		if s.conditions, err = p.parseConditions(*e.condition); err != nil {
			return s, err
		}
	}
	for _, set := range patterns {
		for i := range set {
			s.actions[i] |= set[i]
		}
	}
	if e.notAction {
		for _, a := range Actions() {
			if s.actions.has(a) {
				s.actions[a/64] &^= 1 << (a % 64)
			} else {
				s.actions.add(a)
			}
		}
		patterns = []actionSet{s.actions}
	}
	if p.kind == Bucket {
		err = p.checkFit(&s, patterns)
	}
	return s, err
}

func (p *parser) parseSid(n *node) (string, error) {
	if n == nil {
		return "", nil
	}
	if n.kind != nodeString {
		return "", p.fail(msgSyntax, msgIdentitySyntax)
	}
	if p.kind == Identity {
		for _, c := range []byte(n.text) {
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return "", p.fail(msgIdentitySid, "")
			}
		}
	}
	return n.text, nil
}

func (p *parser) parseEffect(n *node) (deny bool, err error) {
	switch {
	case n == nil:
		return false, p.fail("Missing required field Effect", msgIdentitySyntax)
	case n.kind != nodeString:
		return false, p.fail(msgSyntax, msgIdentitySyntax)
	case n.text != "Allow" && n.text != "Deny":
		if p.kind == Identity {
			return false, p.fail(msgIdentitySyntax, "")
		}
		return false, p.failf("Invalid effect: %s", n.text)
	}
	return n.text == "Deny", nil
}

// parseActions returns the actions of each pattern.
func (p *parser) parseActions(n *node) ([]actionSet, error) {
	if n == nil {
		return nil, p.fail("Missing required field Action", msgIdentityActions)
	}
	list, ok := n.strings()
	if !ok {
		return nil, p.fail(msgSyntax, msgIdentitySyntax)
	}
	if len(list) == 0 {
		return nil, p.fail("Missing required field Action cannot be empty!", msgIdentityActions)
	}
	var sets []actionSet
	for _, text := range list {
		set := actionsLike(text)
		if text != "*" {
			vendor, name, found := strings.Cut(text, ":")
			if p.kind == Identity && (!found || vendor == "" || name == "" || strings.ContainsAny(vendor, "*?")) {
				return nil, p.fail(msgIdentityVendor, "")
			}
			if p.kind == Bucket && !strings.EqualFold(vendor, "s3") {
				return nil, p.fail(msgAction, "")
			}
		}
		if p.kind == Bucket {
			set = withoutServiceLevel(set)
			if set == (actionSet{}) {
				return nil, p.fail(msgAction, "")
			}
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// withoutServiceLevel leaves the actions that a bucket policy can speak of.
func withoutServiceLevel(set actionSet) actionSet {
	for _, a := range Actions() {
		if a.Level() == ServiceLevel {
			set[a/64] &^= 1 << (a % 64)
		}
	}
	return set
}

// checkFit refuses, as S3 does, a statement with a part that can never apply: an action that none of the resources is for, or a
// condition key that an action does not know. A pattern with wildcards needs one action that fits.
func (p *parser) checkFit(s *statement, patterns []actionSet) error {
	bucket, object := s.not, s.not
	for i := range s.resources {
		bucket = bucket || s.resources[i].reachesBuckets()
		object = object || s.resources[i].reachesObjects()
	}
	for _, set := range patterns {
		fits := false
		for _, a := range Actions() {
			fits = fits || set.has(a) && (a.Level() == BucketLevel && bucket || a.Level() == ObjectLevel && object)
		}
		if !fits {
			return p.fail(msgNotApplicable, "")
		}
		for i := range s.conditions {
			keys, ofS3, _ := known(s.conditions[i].key)
			if !ofS3 {
				continue
			}
			fits := false
			for _, a := range Actions() {
				fits = fits || set.has(a) && a.knowsKey(keys) && (a.Level() == BucketLevel && bucket || a.Level() == ObjectLevel && object)
			}
			if !fits {
				return p.fail(msgConditionActions, "")
			}
		}
	}
	return nil
}
