package policy

import "strings"

// A quantifier says how an operator is applied to a key with several values.
type quantifier uint8

const (
	single quantifier = iota // without a prefix: any value of the request counts
	forAny                   // ForAnyValue:
	forAll                   // ForAllValues:
)

// A condition is one key under one operator.
type condition struct {
	operator
	quantifier quantifier
	ifExists   bool
	key        string // in its canonical spelling
	values     []value
	texts      []string // the values as they were written
}

// parseOperator reads an operator with its prefix and suffix.
func parseOperator(name string) (c condition, ok bool) {
	if rest, found := strings.CutPrefix(name, "ForAnyValue:"); found {
		c.quantifier, name = forAny, rest
	} else if rest, found := strings.CutPrefix(name, "ForAllValues:"); found {
		c.quantifier, name = forAll, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	c.operator, ok = operators[name]
	if c.compare == null && (c.ifExists || c.quantifier != single) {
		ok = false // whether a key exists is what Null asks
	}
	return c, ok
}

// parseConditions reads a Condition element.
func (p *parser) parseConditions(n node) ([]condition, error) {
	if n.kind != nodeObject {
		return nil, p.fail(msgSyntax, msgIdentitySyntax)
	}
	var list []condition
	for _, op := range n.members {
		of, ok := parseOperator(op.name)
		if !ok {
			return nil, p.failf("Invalid Condition type : %s", op.name)
		}
		if op.value.kind != nodeObject {
			return nil, p.fail(msgSyntax, msgIdentitySyntax)
		}
		seen := map[string]bool{}
		for _, m := range op.value.members {
			c, err := p.parseCondition(of, op.name, m)
			if err != nil {
				return nil, err
			}
			if seen[c.key] {
				return nil, p.fail(msgInvalidJSON, msgIdentitySyntax) // one key in two spellings
			}
			seen[c.key] = true
			list = append(list, c)
		}
	}
	return list, nil
}

func (p *parser) parseCondition(c condition, operatorName string, m member) (condition, error) {
	c.key = canonicalKey(m.name)
	if !validKey(m.name) {
		return c, p.fail(msgConditionKey, msgIdentityVendor)
	}
	if _, _, ok := known(c.key); !ok && p.kind == Bucket {
		return c, p.fail(msgConditionKey, "")
	}
	texts, ok := m.value.scalars()
	if !ok {
		return c, p.fail(msgSyntax, msgIdentitySyntax)
	}
	c.texts = texts
	for _, text := range texts {
		v, ok := compileValue(c.compare, text, p.variables)
		switch {
		case !ok && c.compare == address:
			return c, p.fail(msgAddress, "")
		case !ok:
			return c, p.failf("Invalid value in Conditions for operator %s", operatorName)
		}
		for _, of := range append(v.arn, v.text) {
			if err := p.search(of); err != nil {
				return c, err
			}
		}
		c.values = append(c.values, v)
	}
	return c, nil
}

// holds tells whether a request meets the condition.
//
// Values of one key are alternatives; for a negated operator none of them may match. A key that the request does not have
// fails a condition, but passes a negated one, ...IfExists and ForAllValues. ForAnyValue needs a value, negated or not.
func (c *condition) holds(r *Request) bool {
	values, ok := r.lookup(c.key)
	missing := !ok || len(values) == 0
	if c.compare == null {
		for i := range c.values {
			if c.values[i].flag == missing {
				return true
			}
		}
		return false
	}
	if missing {
		switch {
		case c.ifExists || c.quantifier == forAll:
			return true
		case c.quantifier == forAny:
			return false
		}
		return c.negated
	}
	// All values must do for ForAllValues, and for a negated operator without a prefix; otherwise one is enough.
	all := c.quantifier == forAll || c.quantifier == single && c.negated
	for _, s := range values {
		if does := c.matches(s, r) != c.negated; does != all {
			return does
		}
	}
	return all
}

// matches tells whether a value of the request matches one of the policy.
func (c *condition) matches(s string, r *Request) bool {
	for i := range c.values {
		if c.values[i].holds(c.operator, s, r) {
			return true
		}
	}
	return false
}
