package policy

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// statementWith is a bucket policy of one statement about the bucket photos, with elements replaced, added, or removed by an empty value.
func statementWith(change map[string]string) string {
	parts := []string{}
	elements := []struct{ name, value string }{
		{"Sid", `"one"`}, {"Effect", `"Allow"`}, {"Principal", `"*"`}, {"Action", `"s3:GetObject"`}, {"Resource", `"arn:aws:s3:::photos/*"`},
	}
	for _, e := range elements {
		if v, ok := change[e.name]; ok {
			e.value = v
		}
		if e.value != "" {
			parts = append(parts, fmt.Sprintf("%q: %s", e.name, e.value))
		}
	}
	for _, name := range []string{"NotPrincipal", "NotAction", "NotResource", "Condition", "effect"} {
		if v, ok := change[name]; ok {
			parts = append(parts, fmt.Sprintf("%q: %s", name, v))
		}
	}
	return `{"Version": "2012-10-17", "Statement": [{` + strings.Join(parts, ", ") + `}]}`
}

var malformed = []struct{ name, document string }{
	{"empty", ``},
	{"not an object", `[]`},
	{"leading space", ` {}`},
	{"not JSON", `{"Version"`},
	{"trailing text", `{"Statement": []} x`},
	{"invalid UTF-8", "{\"Id\": \"\xff\"}"},
	{"name twice", `{"Version": "2012-10-17", "Version": "2012-10-17"}`},
	{"too deep", `{"Statement": [[[[[[[[[]]]]]]]]]}`},
	{"too large with white space", `{ "Id": "` + strings.Repeat("x", BucketBytesMax) + `"}`},
	{"too large and not JSON", `{ "Id": ` + strings.Repeat("x", BucketBytesMax) + `"}`},
	{"too large", `{"Id": "` + strings.Repeat("x", BucketBytesMax) + `"}`},
	{"too large with its white space", `{` + strings.Repeat(" ", DocumentBytesMax) + `}`},
	{"no statement", `{}`},
	{"empty statement list", `{"Statement": []}`},
	{"statement is text", `{"Statement": "x"}`},
	{"statement is a list of text", `{"Statement": ["x"]}`},
	{"unknown version", `{"Version": "2012-10-18", "Statement": []}`},
	{"version is a number", `{"Version": 2012, "Statement": []}`},
	{"unknown element of the document", `{"Statment": []}`},
	{"id is a number", `{"Id": 1}`},
	{"unknown element of a statement", statementWith(map[string]string{"effect": `"Allow"`})},
	{"no effect", statementWith(map[string]string{"Effect": ""})},
	{"wrong effect", statementWith(map[string]string{"Effect": `"allow"`})},
	{"effect is a list", statementWith(map[string]string{"Effect": `["Allow"]`})},
	{"sid is a number", statementWith(map[string]string{"Sid": `1`})},
	{"no principal", statementWith(map[string]string{"Principal": ""})},
	{"principal is some text", statementWith(map[string]string{"Principal": `"alice"`})},
	{"empty principal", statementWith(map[string]string{"Principal": `{}`})},
	{"empty principal list", statementWith(map[string]string{"Principal": `{"AWS": []}`})},
	{"unknown kind of principal", statementWith(map[string]string{"Principal": `{"GitHub": "alice"}`})},
	{"federated principal", statementWith(map[string]string{"Principal": `{"Federated": "graph.facebook.com"}`})},
	{"principal with a wildcard", statementWith(map[string]string{"Principal": `{"AWS": "arn:aws:iam::123456789012:user/*"}`})},
	{"principal is a role", statementWith(map[string]string{"Principal": `{"AWS": "arn:aws:iam::123456789012:role/r"}`})},
	{"principal of another service", statementWith(map[string]string{"Principal": `{"AWS": "arn:aws:s3:::photos"}`})},
	{"canonical user *", statementWith(map[string]string{"Principal": `{"CanonicalUser": "*"}`})},
	{"service that is none", statementWith(map[string]string{"Principal": `{"Service": "*"}`})},
	{"principal and its Not form", statementWith(map[string]string{"NotPrincipal": `"*"`})},
	{"NotPrincipal with Allow", statementWith(map[string]string{"Principal": "", "NotPrincipal": `{"AWS": "alice"}`})},
	{"no action", statementWith(map[string]string{"Action": ""})},
	{"empty action list", statementWith(map[string]string{"Action": `[]`})},
	{"action is null", statementWith(map[string]string{"Action": `null`})},
	{"unknown action", statementWith(map[string]string{"Action": `"s3:PutObjectLockConfiguration"`})},
	{"action without a service", statementWith(map[string]string{"Action": `"GetObject"`})},
	{"action of another service", statementWith(map[string]string{"Action": `"iam:GetUser"`})},
	{"action on the service", statementWith(map[string]string{"Action": `"s3:ListAllMyBuckets"`})},
	{"action and its Not form", statementWith(map[string]string{"NotAction": `"s3:GetObject"`})},
	{"no resource", statementWith(map[string]string{"Resource": ""})},
	{"empty resource list", statementWith(map[string]string{"Resource": `[]`})},
	{"resource is *", statementWith(map[string]string{"Resource": `"*"`})},
	{"resource without a bucket", statementWith(map[string]string{"Resource": `"arn:aws:s3:::"`})},
	{"resource is no ARN", statementWith(map[string]string{"Resource": `"photos/*"`})},
	{"resource of another bucket", statementWith(map[string]string{"Resource": `"arn:aws:s3:::videos/*"`})},
	{"resource of a longer bucket", statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos2/*"`})},
	{"resource with a broken variable", statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos/${aws:username"`})},
	{"object action on a bucket", statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos"`})},
	{"bucket action on objects", statementWith(map[string]string{"Action": `"s3:ListBucket"`})},
	{"one of two actions has no resource", statementWith(map[string]string{"Action": `["s3:GetObject", "s3:ListBucket"]`})},
	{"condition is text", statementWith(map[string]string{"Condition": `"x"`})},
	{"unknown operator", statementWith(map[string]string{"Condition": `{"StringSmells": {"aws:username": "a"}}`})},
	{"operator in lower case", statementWith(map[string]string{"Condition": `{"stringequals": {"aws:username": "a"}}`})},
	{"NullIfExists", statementWith(map[string]string{"Condition": `{"NullIfExists": {"aws:username": "true"}}`})},
	{"operator without keys", statementWith(map[string]string{"Condition": `{"StringEquals": "x"}`})},
	{"unknown key", statementWith(map[string]string{"Condition": `{"StringEquals": {"s3:VersionStatus": "x"}}`})},
	{"unknown global key", statementWith(map[string]string{"Condition": `{"StringEquals": {"aws:usernam": "x"}}`})},
	{"tag key without a tag", statementWith(map[string]string{"Condition": `{"StringEquals": {"s3:ExistingObjectTag/": "x"}}`})},
	{"key in two spellings", statementWith(map[string]string{"Condition": `{"StringEquals": {"aws:username": "x", "AWS:UserName": "y"}}`})},
	{"condition without values", statementWith(map[string]string{"Condition": `{"StringEquals": {"aws:username": []}}`})},
	{"condition value is null", statementWith(map[string]string{"Condition": `{"StringEquals": {"aws:username": null}}`})},
	{"key of another action", statementWith(map[string]string{"Condition": `{"StringEquals": {"s3:prefix": "x"}}`})},
	{"address", statementWith(map[string]string{"Condition": `{"IpAddress": {"aws:SourceIp": "300.1.1.1"}}`})},
	{"number", statementWith(map[string]string{"Condition": `{"NumericLessThan": {"s3:signatureAge": "0x10"}}`})},
	{"date", statementWith(map[string]string{"Condition": `{"DateLessThan": {"aws:CurrentTime": "tomorrow"}}`})},
	{"boolean", statementWith(map[string]string{"Condition": `{"Bool": {"aws:SecureTransport": "yes"}}`})},
	{"binary", statementWith(map[string]string{"Condition": `{"BinaryEquals": {"aws:username": "!"}}`})},
	{"ARN", statementWith(map[string]string{"Condition": `{"ArnLike": {"aws:PrincipalArn": "alice"}}`})},
	{"variable in a number", statementWith(map[string]string{"Condition": `{"NumericLessThan": {"s3:signatureAge": "${aws:EpochTime}"}}`})},
	{"too many ?s between *s", statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos/*` + strings.Repeat("a?", searchedMax+1) + `*"`})},
	{"too many ?s between *s of several values", statementWith(map[string]string{"Condition": `{"StringLike": {"aws:Referer": ["*` + strings.Repeat("a?", searchedMax) + `a*", "*a?a*"]}}`})},
	{"sid twice", strings.Replace(statementWith(nil), "]}", `, {"Sid": "one", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos"}]}`, 1)},
}

// TestMessagesGolden compares what each malformed document is told, as a bucket policy and, without its "Principal": "*", as an
// identity policy.
// POLICY_GOLDEN=write writes the file anew.
func TestMessagesGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range malformed {
		_, err := Parse([]byte(c.document), Bucket, "photos")
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Parse = %v, want ErrMalformed", c.name, err)
			continue
		}
		fmt.Fprintf(&b, "%s\n\t%v\n", c.name, err)
		document := strings.Replace(c.document, `"Principal": "*", `, "", 1)
		if _, err := Parse([]byte(document), Identity, ""); err == nil {
			fmt.Fprintf(&b, "\tas an identity policy: accepted\n")
		} else {
			fmt.Fprintf(&b, "\t%v\n", err)
		}
	}
	const file = "testdata/messages.golden"
	if os.Getenv("POLICY_GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		g, w := "(end)", "(end)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(wanted) {
			w = wanted[i]
		}
		if g != w {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	for name, document := range map[string]string{
		"one statement without a list":      `{"Statement": {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "s3:*", "Resource": "arn:aws:s3:::photos"}}`,
		"sid with spaces":                   statementWith(map[string]string{"Sid": `"cross-account permission to a user"`}),
		"all kinds of principals":           statementWith(map[string]string{"Principal": `{"AWS": ["123456789012", "arn:aws:iam::123456789012:root", "arn:aws:iam:::user/alice", "AKIDEXAMPLE"], "CanonicalUser": "79a59df900b949e5", "Service": "logging.s3.amazonaws.com"}`}),
		"NotPrincipal with Deny":            statementWith(map[string]string{"Effect": `"Deny"`, "Principal": "", "NotPrincipal": `{"AWS": "alice"}`}),
		"actions in any case":               statementWith(map[string]string{"Action": `["S3:getobject", "s3:Get*", "*"]`}),
		"NotAction":                         statementWith(map[string]string{"Action": "", "NotAction": `"s3:PutObject"`}),
		"NotResource of the bucket":         statementWith(map[string]string{"Resource": "", "NotResource": `"arn:aws:s3:::photos/private/*"`}),
		"wildcards in the bucket":           statementWith(map[string]string{"Resource": `["arn:aws:s3:::ph*", "arn:aws:s3:::*/x", "arn:aws:s3:::photo?/x", "arn:aws:s3:::photos?x"]`}),
		"variable as the bucket":            statementWith(map[string]string{"Resource": `"arn:aws:s3:::${aws:username}/x"`}),
		"numbers and booleans bare":         statementWith(map[string]string{"Condition": `{"Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"s3:signatureAge": 600000}}`}),
		"key of S3 with a pattern":          statementWith(map[string]string{"Action": `"s3:*"`, "Condition": `{"StringEquals": {"s3:x-amz-acl": "private"}}`}),
		"every prefix and suffix":           statementWith(map[string]string{"Condition": `{"ForAnyValue:StringLikeIfExists": {"aws:TagKeys": ["a", "b"]}, "ForAllValues:StringNotEquals": {"aws:TagKeys": "c"}}`}),
		"white space beyond the limit":      strings.Replace(statementWith(nil), "{", "{"+strings.Repeat("\n", BucketBytesMax), 1),
		"many ?s elsewhere":                 statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos/` + strings.Repeat("?", 2*searchedMax) + `*` + strings.Repeat("a?", 2*searchedMax) + `"`}),
		"empty sids":                        strings.Replace(statementWith(map[string]string{"Sid": `""`}), "]}", `, {"Sid": "", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::photos"}]}`, 1),
		"variables are text before 2012":    strings.Replace(statementWith(map[string]string{"Resource": `"arn:aws:s3:::photos/${"`}), "2012", "2008", 1),
		"keys in any case":                  statementWith(map[string]string{"Condition": `{"StringEquals": {"S3:EXISTINGOBJECTTAG/Dept": "x", "aws:referer": "y"}}`}),
		"a date, an epoch, a year and more": statementWith(map[string]string{"Condition": `{"DateGreaterThan": {"aws:CurrentTime": ["2013-08-16T12:00:00Z", "2013-08-16T14:00:00.5+02:00", "2013-08-16", "2013", "1376654400"]}}`}),
	} {
		if _, err := Parse([]byte(document), Bucket, "photos"); err != nil {
			t.Errorf("%s: %v\n%s", name, err, document)
		}
	}
}

func TestIdentityPolicyOfOtherServices(t *testing.T) {
	_, err := Parse([]byte(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["ec2:Describe*", "s3:NewAction", "s3:Get*"], "Resource": ["arn:aws:ec2:*:*:instance/*", "arn:*:s3:*:*:photos/*"],
		 "Condition": {"StringEquals": {"ec2:Region": "x"}}}]}`), Identity, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, sid := range []string{"a b", "a-b", "é"} {
		_, err := Parse([]byte(`{"Statement": {"Sid": "`+sid+`", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}}`), Identity, "")
		if err == nil || !strings.Contains(err.Error(), "alpha-numeric") {
			t.Errorf("sid %q: Parse = %v", sid, err)
		}
	}
	twice := `{"Sid": "one", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}`
	if _, err := Parse([]byte(` {"Statement": [`+twice+`,`+twice+`]}`), Identity, ""); err == nil || !strings.Contains(err.Error(), "must be unique") {
		t.Errorf("sid twice: Parse = %v", err)
	}
	for _, resource := range []string{`"photos"`, `"arn:aws:s3"`, `"arn:*"`, `"arn:aws:s3:::"`} {
		if _, err := Parse([]byte(`{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": `+resource+`}}`), Identity, ""); !errors.Is(err, ErrMalformed) {
			t.Errorf("resource %s: Parse = %v, want ErrMalformed", resource, err)
		}
	}
}

func TestPrincipals(t *testing.T) {
	p := mustParse(t, Bucket, statementWith(map[string]string{"Principal": `{"AWS": ["arn:aws:iam::1:root", "arn:aws:iam::1:user/team/alice", "bob", "bob"], "CanonicalUser": "c", "Service": "x.amazonaws.com"}`}))
	want := []PrincipalName{{AccountPrincipal, "1"}, {UserPrincipal, "alice"}, {AccountPrincipal, "bob"}, {CanonicalPrincipal, "c"}}
	if got := p.Principals(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Principals = %v, want %v", got, want)
	}
	if err := InvalidPrincipal(); err.Error() != "MalformedPolicy: Invalid principal in policy" || !errors.Is(err, ErrMalformed) {
		t.Errorf("InvalidPrincipal = %v", err)
	}
}

func mustParse(t testing.TB, kind Kind, document string) *Policy {
	t.Helper()
	bucket := ""
	if kind == Bucket {
		bucket = "photos"
	}
	p, err := Parse([]byte(document), kind, bucket)
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return p
}

func FuzzParse(f *testing.F) {
	for _, c := range malformed {
		if len(c.document) < 4<<10 {
			f.Add(c.document)
		}
	}
	for _, b := range BuiltIns() {
		f.Add(b.Document)
	}
	get, _ := LookupAction("s3:GetObject")
	f.Fuzz(func(t *testing.T, document string) {
		for _, kind := range []Kind{Identity, Bucket} {
			p, err := Parse([]byte(document), kind, "photos")
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("Parse = %v, want ErrMalformed", err)
				}
				continue
			}
			if len(p.statements) == 0 {
				t.Fatal("a policy without statements")
			}
			p.IsPublic()
			p.evaluate(&Request{Action: get, Resource: "photos/a", Context: func(string) ([]string, bool) { return []string{"1"}, true }})
		}
	})
}
