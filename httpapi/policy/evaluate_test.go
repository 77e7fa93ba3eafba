package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustAction(t testing.TB, name string) Action {
	t.Helper()
	a, ok := LookupAction(name)
	if !ok {
		t.Fatalf("no action %s", name)
	}
	return a
}

// examples are policies after those in the S3 User Guide and the IAM User Guide, with requests and what becomes of them.
var examples = []struct {
	name     string
	kind     Kind
	document string
	requests []exampleRequest
}{
	{"a user works in a folder of its own", Identity, `{
		"Version": "2012-10-17",
		"Statement": [
			{"Sid": "ListAll", "Effect": "Allow", "Action": ["s3:ListAllMyBuckets", "s3:GetBucketLocation"], "Resource": "arn:aws:s3:::*"},
			{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::photos",
			 "Condition": {"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}}},
			{"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::photos/home/${aws:username}", "arn:aws:s3:::photos/home/${aws:username}/*"]}
		]}`, []exampleRequest{
		{who: alice, action: "s3:ListAllMyBuckets", want: Allowed},
		{who: alice, action: "s3:GetBucketLocation", resource: "videos", want: Allowed},
		{who: alice, action: "s3:ListBucket", resource: "photos", keys: keys{"s3:prefix": {"home/alice/x"}}, want: Allowed},
		{who: alice, action: "s3:ListBucket", resource: "photos", keys: keys{"s3:prefix": {"home/bob/"}}},
		{who: alice, action: "s3:ListBucket", resource: "photos"},
		{who: alice, action: "s3:PutObject", resource: "photos/home/alice/a", want: Allowed},
		{who: alice, action: "s3:PutObject", resource: "photos/home/bob/a"},
		{who: alice, action: "s3:PutObject", resource: "photos/home/alice2"},
		{action: "s3:PutObject", resource: "photos/home//a"},
	}},
	{"everybody may read", Bucket, `{
		"Version": "2012-10-17",
		"Statement": [{"Sid": "PublicRead", "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:GetObjectVersion"], "Resource": ["arn:aws:s3:::photos/*"]}]
	}`, []exampleRequest{
		{action: "s3:GetObject", resource: "photos/a", want: Allowed},
		{who: bob, action: "s3:GetObject", resource: "photos/a", want: Allowed},
		{action: "s3:PutObject", resource: "photos/a"},
		{action: "s3:ListBucket", resource: "photos"},
	}},
	{"addresses", Bucket, `{
		"Version": "2012-10-17",
		"Id": "S3PolicyId1",
		"Statement": [{"Sid": "IPAllow", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"],
			"Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}]
	}`, []exampleRequest{
		{action: "s3:GetObject", resource: "photos/a", keys: keys{"aws:SourceIp": {"192.0.2.7"}}},
		{action: "s3:GetObject", resource: "photos/a", keys: keys{"aws:SourceIp": {"192.0.3.7"}}, want: Denied},
		{action: "s3:GetObject", resource: "photos/a", want: Denied},
	}},
	{"only over TLS", Bucket, `{
		"Statement": [
			{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::123456789012:user/alice", "bobid"]}, "Action": "s3:*", "Resource": ["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]},
			{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos/*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]
	}`, []exampleRequest{
		{who: alice, action: "s3:GetObject", resource: "photos/a", keys: keys{"aws:SecureTransport": {"true"}}, want: Allowed},
		{who: alice, action: "s3:GetObject", resource: "photos/a", keys: keys{"aws:SecureTransport": {"false"}}, want: Denied},
		{who: bob, action: "s3:ListBucket", resource: "photos", keys: keys{"aws:SecureTransport": {"false"}}, want: Allowed},
		{who: carol, action: "s3:ListBucket", resource: "photos"},
		{action: "s3:ListBucket", resource: "photos"},
	}},
	{"the owner must get full control", Bucket, `{
		"Version": "2012-10-17",
		"Statement": [
			{"Sid": "PolicyForAllowUploadWithACL", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*",
			 "Condition": {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}}]
	}`, []exampleRequest{
		{who: carol, action: "s3:PutObject", resource: "photos/a", keys: keys{"s3:x-amz-acl": {"bucket-owner-full-control"}}, want: Allowed},
		{who: carol, action: "s3:PutObject", resource: "photos/a", keys: keys{"s3:x-amz-acl": {"private"}}},
		{who: carol, action: "s3:PutObject", resource: "photos/a"},
	}},
	{"copies of a prefix only", Bucket, `{
		"Version": "2012-10-17",
		"Statement": [
			{"Sid": "put for a user", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*"},
			{"Sid": "no upload without a copy source", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*",
			 "Condition": {"Null": {"s3:x-amz-copy-source": true}}},
			{"Sid": "no other source", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*",
			 "Condition": {"StringNotLike": {"s3:x-amz-copy-source": "photos/public/*"}}}]
	}`, []exampleRequest{
		{who: alice, action: "s3:PutObject", resource: "photos/a", want: Denied},
		{who: alice, action: "s3:PutObject", resource: "photos/a", keys: keys{"s3:x-amz-copy-source": {"photos/private/x"}}, want: Denied},
		{who: alice, action: "s3:PutObject", resource: "photos/a", keys: keys{"s3:x-amz-copy-source": {"photos/public/x"}}, want: Allowed},
	}},
	{"tags", Bucket, `{
		"Version": "2012-10-17",
		"Statement": [
			{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*", "Condition": {"StringEquals": {"s3:ExistingObjectTag/environment": "public"}}},
			{"Effect": "Allow", "Principal": {"CanonicalUser": "bobid"}, "Action": "s3:PutObjectTagging", "Resource": "arn:aws:s3:::photos/*",
			 "Condition": {"ForAllValues:StringLike": {"s3:RequestObjectTagKeys": ["Owner", "CreationDate"]}, "Null": {"s3:RequestObjectTagKeys": "false"}}}]
	}`, []exampleRequest{
		{action: "s3:GetObject", resource: "photos/a", keys: keys{"s3:ExistingObjectTag/environment": {"public"}}, want: Allowed},
		{action: "s3:GetObject", resource: "photos/a", keys: keys{"s3:ExistingObjectTag/environment": {"private"}}},
		{action: "s3:GetObject", resource: "photos/a"},
		{who: bob, action: "s3:PutObjectTagging", resource: "photos/a", keys: keys{"s3:RequestObjectTagKeys": {"Owner"}}, want: Allowed},
		{who: bob, action: "s3:PutObjectTagging", resource: "photos/a", keys: keys{"s3:RequestObjectTagKeys": {"Owner", "x"}}},
		{who: bob, action: "s3:PutObjectTagging", resource: "photos/a"},
	}},
	{"everybody but one", Bucket, `{
		"Version": "2012-10-17",
		"Statement": [
			{"Effect": "Allow", "Principal": "*", "NotAction": ["s3:Delete*", "s3:PutBucket*"], "NotResource": "arn:aws:s3:::photos/private/*"},
			{"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::1:user/alice"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*"}]
	}`, []exampleRequest{
		{who: alice, action: "s3:PutObject", resource: "photos/a", want: Allowed},
		{who: bob, action: "s3:PutObject", resource: "photos/a", want: Denied},
		{action: "s3:PutObject", resource: "photos/a", want: Denied},
		{who: bob, action: "s3:GetObject", resource: "photos/a", want: Allowed},
		{who: bob, action: "s3:GetObject", resource: "photos/private/a"},
		{who: bob, action: "s3:DeleteObject", resource: "photos/a"},
		{who: bob, action: "s3:PutBucketAcl", resource: "photos"},
	}},
	{"logs are delivered", Bucket, `{
		"Statement": {"Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/logs/*"}
	}`, []exampleRequest{
		{who: Principal{Service: "logging.s3.amazonaws.com"}, action: "s3:PutObject", resource: "photos/logs/a", want: Allowed},
		{who: alice, action: "s3:PutObject", resource: "photos/logs/a"},
		{action: "s3:PutObject", resource: "photos/logs/a"},
	}},
	{"a resource without a slash reaches into the bucket", Identity, `{
		"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::pho*", "arn:aws:ec2:::videos/*", "arn:aws:s3:us-east-1::videos/*"]}
	}`, []exampleRequest{
		{who: alice, action: "s3:GetObject", resource: "photos/a", want: Allowed},
		{who: alice, action: "s3:GetObject", resource: "videos/a"},
	}},
}

type exampleRequest struct {
	who              Principal
	action, resource string
	keys             keys
	want             Outcome
}

var (
	alice = Principal{ID: "aliceid", Name: "alice"}
	bob   = Principal{ID: "bobid", Name: "bob"}
	carol = Principal{ID: "carolid", Name: "carol", Account: "111122223333"}
)

func TestExamples(t *testing.T) {
	for _, example := range examples {
		p := mustParse(t, example.kind, example.document)
		for _, r := range example.requests {
			context := keys{}
			for k, v := range r.keys {
				context[k] = v
			}
			if r.who.Name != "" {
				context["aws:username"] = []string{r.who.Name}
			}
			got, by := p.evaluate(&Request{Principal: r.who, Action: mustAction(t, r.action), Resource: r.resource, Context: context.get})
			if got != r.want {
				t.Errorf("%s: %+v: %v by %v, want %v", example.name, r, got, by, r.want)
			}
			if (by.Policy == nil) != (got == Silent) {
				t.Errorf("%s: %+v: %v by %v", example.name, r, got, by)
			}
		}
	}
}

func TestDecision(t *testing.T) {
	allow := mustParse(t, Identity, `{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}`)
	deny := mustParse(t, Identity, `{"Id": "no", "Statement": {"Sid": "never", "Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}}`)
	grant := mustParse(t, Bucket, statementWith(map[string]string{"Sid": ""}))
	refuse := mustParse(t, Bucket, statementWith(map[string]string{"Effect": `"Deny"`}))
	r := &Request{Principal: alice, Action: mustAction(t, "s3:GetObject"), Resource: "photos/a"}
	for _, c := range []struct {
		identity       []*Policy
		bucket         *Policy
		within, across Outcome
		by             string
	}{
		{nil, nil, Silent, Silent, "no statement"},
		{[]*Policy{allow}, nil, Allowed, Silent, "identity policy, statement 1"},
		{nil, grant, Allowed, Silent, "bucket policy, statement 1"},
		{[]*Policy{allow}, grant, Allowed, Allowed, "identity policy, statement 1"},
		{[]*Policy{allow, deny}, grant, Denied, Denied, `identity policy "no", statement "never"`},
		{[]*Policy{deny, allow}, nil, Denied, Denied, `identity policy "no", statement "never"`},
		{[]*Policy{allow}, refuse, Denied, Denied, `bucket policy, statement "one"`},
		{nil, refuse, Denied, Denied, `bucket policy, statement "one"`},
	} {
		d := Evaluate(r, c.identity, c.bucket)
		within, by := d.WithinAccount()
		across, _ := d.AcrossAccounts()
		if within != c.within || across != c.across || by.String() != c.by {
			t.Errorf("%d identity policies, bucket policy %v: %v by %v, across accounts %v; want %v by %s, %v", len(c.identity), c.bucket != nil, within, by, across, c.within, c.by, c.across)
		}
	}
	if got := fmt.Sprint(Silent, Allowed, Denied); got != "implicit deny allow explicit deny" {
		t.Errorf("outcomes are called %s", got)
	}
	named := mustParse(t, Identity, `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::${aws:username}"}}`)
	if d := Evaluate(&Request{Principal: alice, Action: r.Action, Resource: "alice"}, []*Policy{named}, nil); d.Identity != Silent {
		t.Errorf("a request without context: %v", d.Identity)
	}
	if d := Evaluate(&Request{Principal: alice, Resource: "photos/a"}, []*Policy{mustParse(t, Identity, adminDocument)}, nil); d.Identity != Silent {
		t.Errorf("no action at all: %v", d.Identity)
	}
}

// drawStatement draws one statement of an identity policy.
func drawStatement(t *rapid.T, effect string) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	action := pick("action element", "Action", "NotAction")
	resource := pick("resource element", "Resource", "NotResource")
	return fmt.Sprintf(`{"Effect": %q, %q: %s, %q: %s, "Condition": %s}`, effect,
		action, pick("action", `"*"`, `"s3:Get*"`, `["s3:PutObject", "s3:ListBucket"]`, `"s3:GetObject"`),
		resource, pick("resource", `"*"`, `"arn:aws:s3:::photos"`, `"arn:aws:s3:::photos/*"`, `"arn:aws:s3:::*/${aws:username}/?"`),
		pick("condition", `{}`, `{"StringEquals": {"aws:username": "alice"}}`, `{"StringNotLike": {"aws:username": "${aws:userid}*"}}`,
			`{"ForAllValues:StringLike": {"aws:TagKeys": "a*"}}`, `{"Null": {"aws:username": "true"}}`, `{"NumericLessThanIfExists": {"s3:max-keys": 5}}`))
}

func drawRequest(t *rapid.T) *Request {
	context := keys{}
	for key, values := range map[string][]string{"aws:username": {"alice", "bob"}, "aws:userid": {"al", ""}, "aws:TagKeys": {"a", "b"}, "s3:max-keys": {"4", "5"}} {
		if v := rapid.SampledFrom(append(values, "(none)")).Draw(t, key); v != "(none)" {
			context[key] = []string{v}
		}
	}
	name := rapid.SampledFrom([]string{"s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:ListAllMyBuckets"}).Draw(t, "request's action")
	a, _ := LookupAction(name)
	return &Request{Action: a, Resource: rapid.SampledFrom([]string{"", "photos", "photos/alice/1", "videos/bob/1"}).Draw(t, "request's resource"), Context: context.get}
}

// TestStatementsAddUp checks that one more Deny never allows more, one more Allow never denies more, that the order of statements and
// how they are spread over policies does not matter.
func TestStatementsAddUp(t *testing.T) {
	outcome := func(t *rapid.T, r *Request, policies ...[]string) Outcome {
		var list []*Policy
		for _, statements := range policies {
			if len(statements) == 0 {
				continue
			}
			p, err := Parse([]byte(`{"Version": "2012-10-17", "Statement": [`+strings.Join(statements, ",")+`]}`), Identity, "")
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
		}
		return Evaluate(r, list, nil).Identity
	}
	rapid.Check(t, func(t *rapid.T) {
		var statements []string
		for range rapid.IntRange(1, 4).Draw(t, "statements") {
			statements = append(statements, drawStatement(t, rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "effect")))
		}
		r := drawRequest(t)
		before := outcome(t, r, statements)
		if o := outcome(t, r, append(slices.Clone(statements), drawStatement(t, "Deny"))); o == Allowed && before != Allowed {
			t.Fatalf("one more Deny turns %v into %v", before, o)
		}
		if o := outcome(t, r, append(slices.Clone(statements), drawStatement(t, "Allow"))); o == Denied && before != Denied || o == Silent && before == Allowed {
			t.Fatalf("one more Allow turns %v into %v", before, o)
		}
		if o := outcome(t, r, rapid.Permutation(statements).Draw(t, "order")); o != before {
			t.Fatalf("another order turns %v into %v", before, o)
		}
		cut := rapid.IntRange(0, len(statements)).Draw(t, "cut")
		if o := outcome(t, r, statements[:cut], statements[cut:]); o != before {
			t.Fatalf("two policies turn %v into %v", before, o)
		}
	})
}

// benchmarkPolicies are what a request of a common user meets.
func benchmarkPolicies(t testing.TB) (r *Request, identity []*Policy, bucket *Policy) {
	context := map[string][]string{"aws:username": {"alice"}, "aws:SourceIp": {"192.0.2.7"}, "aws:SecureTransport": {"true"}}
	r = &Request{Principal: alice, Action: mustAction(t, "s3:GetObject"), Resource: "photos/home/alice/2026/11/22/a.jpg",
		Context: func(key string) ([]string, bool) { v, ok := context[key]; return v, ok }}
	identity = []*Policy{mustParse(t, Identity, examples[0].document)}
	bucket = mustParse(t, Bucket, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos/*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
		{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos/*", "Condition": {"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "10.0.0.0/8"]}}},
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:user/alice"}, "Action": "s3:Get*", "Resource": "arn:aws:s3:::photos/*/20??/*.jpg"}]}`)
	return r, identity, bucket
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	r, identity, bucket := benchmarkPolicies(t)
	d := Decision{}
	if n := testing.AllocsPerRun(100, func() { d = Evaluate(r, identity, bucket) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if d.Identity != Allowed || d.Bucket != Allowed {
		t.Errorf("decision %v, %v; want both to allow", d.Identity, d.Bucket)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	r, identity, bucket := benchmarkPolicies(b)
	b.ReportAllocs()
	for b.Loop() {
		Evaluate(r, identity, bucket)
	}
}

func BenchmarkParse(b *testing.B) {
	document := []byte(examples[0].document)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(document, Identity, ""); err != nil {
			b.Fatal(err)
		}
	}
}
