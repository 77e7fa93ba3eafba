package policy

import (
	"strings"
)

// arnPrefix begins the ARN of every bucket and object. Partition, region and account of a bucket are always the same, so what is
// compiled of an ARN is what follows.
const arnPrefix = "arn:aws:s3:::"

// A resource is one entry of Resource or NotResource.
type resource struct {
	never   bool // names nothing here: another service, region or account
	pattern pattern
}

// parseResources reads a Resource or NotResource element.
func (p *parser) parseResources(n *node) ([]resource, error) {
	if n == nil {
		return nil, p.fail("Missing required field Resource", msgIdentityResources)
	}
	list, ok := n.strings()
	if !ok {
		return nil, p.fail(msgSyntax, msgIdentitySyntax)
	}
	if len(list) == 0 {
		return nil, p.fail("Missing required field Resource cannot be empty!", msgIdentityResources)
	}
	resources := make([]resource, 0, len(list))
	for _, text := range list {
		var r resource
		var err error
		if p.kind == Bucket {
			r, err = p.bucketResource(text)
		} else {
			r, err = p.identityResource(text)
		}
		if err != nil {
			return nil, err
		}
		if err := p.search(r.pattern); err != nil {
			return nil, err
		}
		resources = append(resources, r)
	}
	return resources, nil
}

func (p *parser) bucketResource(text string) (r resource, err error) {
	rest, ok := strings.CutPrefix(text, arnPrefix)
	if !ok || rest == "" {
		return r, p.fail(msgResource, "")
	}
	if r.pattern, ok = compile(rest, true, p.variables); !ok || !r.pattern.canBeIn(p.bucket) {
		return r, p.fail(msgResource, "")
	}
	return r, nil
}

// identityResource takes every ARN, and * for everything.
func (p *parser) identityResource(text string) (r resource, err error) {
	if text == "*" {
		return resource{pattern: pattern{{kind: elemStar}}}, nil
	}
	parts, ok := splitARN(text)
	if !ok || parts[0] != "arn" || parts[arnParts-1] == "" {
		return r, p.failf("Resource %s must be in ARN format or \"*\".", text)
	}
	for i, want := range []string{"aws", "s3", "", ""} {
		part, ok := compile(parts[i+1], true, false)
		if !ok || !part.match(want) {
			r.never = true
		}
	}
	if r.pattern, ok = compile(parts[arnParts-1], true, p.variables); !ok {
		return r, p.failf("Resource %s must be in ARN format or \"*\".", text)
	}
	return r, nil
}

// canBeIn tells whether the pattern can match a bucket or an object in it. What a variable holds is not known, so it may be anything.
func (p pattern) canBeIn(bucket string) bool {
	var open pattern // the pattern up to here, with variables as *
	for _, e := range p {
		if e.kind == elemVariable {
			e = elem{kind: elemStar}
		}
		if e.kind == elemLiteral {
			before, _, found := strings.Cut(e.text, "/")
			open = append(open, elem{kind: elemLiteral, text: before})
			if found {
				return open.match(bucket)
			}
			continue
		}
		if e.kind == elemAny && open.match(bucket) { // the ? may be the slash behind the bucket
			return true
		}
		open = append(open, e)
		if e.kind == elemStar && open.match(bucket) { // the * also reaches into the keys
			return true
		}
	}
	return open.match(bucket)
}

// reachesBuckets tells whether the pattern can match a bucket, whose name has no slash.
func (r *resource) reachesBuckets() bool {
	for _, e := range r.pattern {
		if e.kind == elemLiteral && strings.Contains(e.text, "/") {
			return false
		}
	}
	return true
}

// reachesObjects tells whether the pattern can match bucket/key.
func (r *resource) reachesObjects() bool {
	for _, e := range r.pattern {
		if e.kind != elemLiteral || strings.Contains(e.text, "/") {
			return true
		}
	}
	return false
}

// onResource tells whether the statement is about the request's resource.
func (s *statement) onResource(r *Request) bool {
	for i := range s.resources {
		if !s.resources[i].never && s.resources[i].pattern.matchFor(r.Resource, r) {
			return !s.not
		}
	}
	return s.not
}
