package policy

import "strings"

// A Principal is who asks. The zero value is nobody in particular: an anonymous request.
type Principal struct {
	ID      string // canonical user ID
	Name    string // user name, as in arn:aws:iam::ACCOUNT:user/NAME
	Account string // account; may be empty, where every user is an account of its own
	Service string // for what the server does itself, like logging.s3.amazonaws.com; then the rest is empty
}

// A PrincipalKind says how a policy names somebody.
type PrincipalKind uint8

const (
	AccountPrincipal   PrincipalKind = iota + 1 // an account's number or root ARN, or a bare ID: matches Principal.Account and Principal.ID
	UserPrincipal                               // a user's ARN: matches Principal.Name
	CanonicalPrincipal                          // CanonicalUser: matches Principal.ID
	ServicePrincipal                            // Service: matches Principal.Service
)

// A PrincipalName is somebody whom a policy names.
type PrincipalName struct {
	Kind PrincipalKind
	Name string
}

// principals is a Principal or NotPrincipal element. An identity policy has neither and speaks of whoever it hangs on.
type principals struct {
	not      bool
	everyone bool
	names    []PrincipalName
}

// include tells whether the element speaks of somebody.
func (ps *principals) include(p *Principal) bool {
	if ps.everyone {
		return !ps.not
	}
	for i := range ps.names {
		if ps.names[i].is(p) {
			return !ps.not
		}
	}
	return ps.not
}

func (n *PrincipalName) is(p *Principal) bool {
	switch n.Kind {
	case AccountPrincipal:
		return n.Name == p.Account || n.Name == p.ID
	case UserPrincipal:
		return n.Name == p.Name
	case CanonicalPrincipal:
		return n.Name == p.ID
	case ServicePrincipal:
		return n.Name == p.Service
	}
	return false
}

// parsePrincipals reads a Principal or NotPrincipal element.
func (p *parser) parsePrincipals(n *node, not, deny bool) (ps principals, err error) {
	invalid := p.fail(msgPrincipal, msgIdentityPrincipal)
	if p.kind == Identity {
		if n != nil {
			return ps, invalid
		}
		return principals{everyone: true}, nil
	}
	if n == nil {
		return ps, p.fail("Missing required field Principal", "")
	}
	if not && !deny { // would allow everybody else, the anonymous too; AWS refuses it
		return ps, invalid
	}
	ps.not = not
	if n.kind == nodeString && n.text == "*" {
		ps.everyone = true
		return ps, nil
	}
	if n.kind != nodeObject {
		return ps, invalid
	}
	if len(n.members) == 0 {
		return ps, p.fail("Missing required field Principal cannot be empty!", "")
	}
	for _, m := range n.members {
		list, ok := m.value.strings()
		if !ok || len(list) == 0 {
			return ps, invalid
		}
		for _, text := range list {
			if text == "*" && m.name == "AWS" {
				ps.everyone = true
				continue
			}
			name, ok := parsePrincipal(m.name, text)
			if !ok {
				return ps, invalid
			}
			ps.names = append(ps.names, name)
		}
	}
	return ps, nil
}

// principalBytesMax bounds a name.
const principalBytesMax = 256

// parsePrincipal reads one name. No name has wildcards: a principal is somebody or everybody.
func parsePrincipal(kind, text string) (n PrincipalName, ok bool) {
	switch kind {
	case "AWS":
		n = PrincipalName{AccountPrincipal, text}
		if parts, isARN := splitARN(text); isARN {
			if parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[2] != "iam" || parts[3] != "" {
				return n, false
			}
			if user, isUser := strings.CutPrefix(parts[5], "user/"); isUser {
				n = PrincipalName{UserPrincipal, user[strings.LastIndexByte(user, '/')+1:]}
			} else if n.Name = parts[4]; parts[5] != "root" {
				return n, false
			}
		} else if strings.Contains(text, ":") {
			return n, false
		}
	case "CanonicalUser":
		n = PrincipalName{CanonicalPrincipal, text}
	case "Service":
		n = PrincipalName{ServicePrincipal, text}
		if !strings.HasSuffix(text, ".amazonaws.com") {
			return n, false
		}
	default:
		return n, false
	}
	if n.Name == "" || len(n.Name) > principalBytesMax {
		return n, false
	}
	for i := range len(n.Name) {
		if c := n.Name[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`*?${}"'\`, c) >= 0 {
			return n, false
		}
	}
	return n, true
}

// Principals returns everybody whom the policy names, for a check that they exist: S3 refuses a policy that names somebody who does
// not. Services are not among them.
func (p *Policy) Principals() []PrincipalName {
	var list []PrincipalName
	seen := map[PrincipalName]bool{}
	for i := range p.statements {
		for _, n := range p.statements[i].principals.names {
			if n.Kind != ServicePrincipal && !seen[n] {
				seen[n] = true
				list = append(list, n)
			}
		}
	}
	return list
}
