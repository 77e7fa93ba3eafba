package policy

import "strconv"

// A Request is what is decided about.
type Request struct {
	Principal Principal
	Action    Action
	// Resource is empty for an action on the service, "bucket" for one on a bucket, "bucket/key" for one on an object.
	Resource string
	// Context returns the values of a condition key; ok is false when the request does not have it. It is asked for keys in the spelling
	// of the tables, with the key of a tag behind the slash as the policy has it, and for unknown keys in lower case. It is asked only
	// when a statement that is about the action and the resource needs the key, perhaps several times, so that what is costly (the tags
	// of an object) may be fetched then and kept. nil has no keys.
	Context func(key string) (values []string, ok bool)
}

// An Outcome is what a set of policies says.
type Outcome uint8

const (
	Silent  Outcome = iota // no statement applies: an implicit deny
	Allowed                // a statement allows and none denies
	Denied                 // a statement denies
)

func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "allow"
	case Denied:
		return "explicit deny"
	}
	return "implicit deny"
}

// A Source names the statement that decided. The zero Source is no statement.
type Source struct {
	Policy    *Policy
	Statement int    // its place in the document, from 0
	Sid       string // may be empty
}

// String is for logs.
func (s Source) String() string {
	if s.Policy == nil {
		return "no statement"
	}
	kind := "identity policy"
	if s.Policy.kind == Bucket {
		kind = "bucket policy"
	}
	if s.Policy.ID != "" {
		kind += " " + strconv.Quote(s.Policy.ID)
	}
	if s.Sid != "" {
		return kind + ", statement " + strconv.Quote(s.Sid)
	}
	return kind + ", statement " + strconv.Itoa(s.Statement+1)
}

// A Decision is what the two kinds of policies say of a request, and by which statement. How they count together depends on who owns
// the bucket: WithinAccount and AcrossAccounts.
type Decision struct {
	Identity, Bucket     Outcome
	ByIdentity, ByBucket Source
}

// WithinAccount combines the two for a principal of the account that owns the resource: an explicit deny wins, then one allow is
// enough. What neither allows is denied.
func (d Decision) WithinAccount() (Outcome, Source) {
	if o, by, denied := d.denied(); denied {
		return o, by
	}
	if d.Identity == Allowed {
		return Allowed, d.ByIdentity
	}
	return d.Bucket, d.ByBucket
}

// AcrossAccounts combines the two for a principal of another account: an explicit deny wins, then both must allow. For an anonymous
// request, which has no identity policies, Bucket alone counts.
func (d Decision) AcrossAccounts() (Outcome, Source) {
	if o, by, denied := d.denied(); denied {
		return o, by
	}
	if d.Identity == Allowed && d.Bucket == Allowed {
		return Allowed, d.ByBucket
	}
	return Silent, Source{}
}

func (d Decision) denied() (Outcome, Source, bool) {
	if d.Identity == Denied {
		return Denied, d.ByIdentity, true
	}
	return Denied, d.ByBucket, d.Bucket == Denied
}

// Evaluate asks the policies of whoever sends a request and the policy of the bucket, which may be nil.
func Evaluate(r *Request, identity []*Policy, bucket *Policy) (d Decision) {
	for _, p := range identity {
		if o, by := p.evaluate(r); o > d.Identity {
			d.Identity, d.ByIdentity = o, by
		}
	}
	if bucket != nil {
		d.Bucket, d.ByBucket = bucket.evaluate(r)
	}
	return d
}

// evaluate returns the first statement that denies, else the first that allows.
func (p *Policy) evaluate(r *Request) (o Outcome, by Source) {
	if r.Action == 0 || int(r.Action) >= len(actions) {
		return Silent, Source{}
	}
	for i := range p.statements {
		s := &p.statements[i]
		if !s.deny && o == Allowed || !s.applies(r) {
			continue
		}
		by = Source{p, i, s.sid}
		if s.deny {
			return Denied, by
		}
		o = Allowed
	}
	return o, by
}

// applies asks the cheap things first and the request's context last.
func (s *statement) applies(r *Request) bool {
	if !s.actions.has(r.Action) || !s.principals.include(&r.Principal) || !s.onResource(r) {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r) {
			return false
		}
	}
	return true
}
