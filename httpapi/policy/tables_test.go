package policy

import (
	"strings"
	"testing"
)

func TestActions(t *testing.T) {
	if len(actionsByName) != len(actions)-1 {
		t.Errorf("%d names for %d actions: one is twice in the table", len(actionsByName), len(actions)-1)
	}
	for _, a := range Actions() {
		back, ok := LookupAction(strings.ToUpper(a.String()))
		if !ok || back != a {
			t.Errorf("LookupAction(%s) = %v, %v", strings.ToUpper(a.String()), back, ok)
		}
		if l := a.Level(); l != ServiceLevel && l != BucketLevel && l != ObjectLevel {
			t.Errorf("%v has level %d", a, l)
		}
		if a.Level() == BucketLevel && strings.Contains(a.String(), "Object") && !strings.Contains(a.String(), "ObjectLockConfiguration") {
			t.Errorf("%v is said to be done to a bucket", a)
		}
	}
	for name, level := range map[string]Level{"s3:GetObject": ObjectLevel, "s3:ListBucket": BucketLevel, "s3:ListAllMyBuckets": ServiceLevel} {
		if a, ok := LookupAction(name); !ok || a.Level() != level {
			t.Errorf("%s: level %d, %v; want %d", name, a.Level(), ok, level)
		}
	}
	if _, ok := LookupAction("s3:HeadBucket"); ok {
		t.Error("s3:HeadBucket is an operation and no action")
	}
	if got := Action(0).String() + Action(255).String(); got != "(no action)(no action)" {
		t.Errorf("no action is called %s", got)
	}
}

func TestKeys(t *testing.T) {
	if len(keySpelling) != len(s3Keys)+len(globalKeys) {
		t.Errorf("%d spellings for %d keys: one is twice in the tables", len(keySpelling), len(s3Keys)+len(globalKeys))
	}
	for key, set := range s3Keys {
		count := 0
		for _, a := range Actions() {
			if a.knowsKey(set) {
				count++
			}
		}
		if count == 0 {
			t.Errorf("no action knows %s", key)
		}
	}
	for _, c := range []struct {
		key, action string
		want        bool
	}{
		{"s3:prefix", "s3:ListBucket", true},
		{"s3:prefix", "s3:ListBucketVersions", true},
		{"s3:prefix", "s3:GetObject", false},
		{"s3:VersionId", "s3:GetObjectVersion", true},
		{"s3:VersionId", "s3:GetObject", false},
		{"s3:ExistingObjectTag/a", "s3:GetObject", true},
		{"s3:ExistingObjectTag/a", "s3:PutObject", false},
		{"s3:RequestObjectTag/a", "s3:PutObject", true},
		{"s3:if-none-match", "s3:PutObject", true},
		{"s3:if-match", "s3:DeleteObject", true},
		{"s3:x-amz-acl", "s3:CreateBucket", true},
		{"s3:x-amz-acl", "s3:DeleteObject", false},
		{"s3:TlsVersion", "s3:DeleteBucket", true},
		{"s3:object-lock-remaining-retention-days", "s3:PutObjectRetention", true},
	} {
		set, ofS3, ok := known(canonicalKey(strings.ToUpper(c.key)))
		if got := mustAction(t, c.action).knowsKey(set); !ofS3 || !ok || got != c.want {
			t.Errorf("%s with %s: %v, want %v (known %v, of S3 %v)", c.action, c.key, got, c.want, ok, ofS3)
		}
	}
}

func TestBuiltIns(t *testing.T) {
	overwrite := func(v string) keys { return keys{"casd:Overwrite": {v}} }
	for _, c := range []struct {
		action, resource string
		keys             keys
		allowed          string // the names of the policies that allow it
	}{
		{"s3:ListAllMyBuckets", "", nil, "readonly readwrite append-only admin"},
		{"s3:ListBucket", "b", nil, "readonly readwrite append-only admin"},
		{"s3:GetObject", "b/k", nil, "readonly readwrite append-only admin"},
		{"s3:GetBucketLocation", "b", nil, "readonly readwrite writeonly append-only admin"},
		{"s3:PutObject", "b/k", overwrite("true"), "readwrite writeonly admin"},
		{"s3:PutObject", "b/k", overwrite("false"), "readwrite writeonly append-only admin"},
		{"s3:PutObject", "b/k", nil, "readwrite writeonly admin"},
		{"s3:DeleteObject", "b/k", nil, "readwrite admin"},
		{"s3:DeleteObjectVersion", "b/k", nil, "readwrite admin"},
		{"s3:PutObjectRetention", "b/k", nil, "readwrite append-only admin"},
		{"s3:BypassGovernanceRetention", "b/k", nil, "readwrite admin"},
		{"s3:PutLifecycleConfiguration", "b", nil, "readwrite admin"},
		{"s3:PutBucketVersioning", "b", nil, "readwrite admin"},
		{"s3:AbortMultipartUpload", "b/k", nil, "readwrite writeonly append-only admin"},
		{"s3:CreateBucket", "b", nil, "readwrite admin"},
		{"casd:Administer", "", nil, "admin"},
	} {
		var allowed []string
		for _, b := range BuiltIns() {
			if Evaluate(&Request{Principal: alice, Action: mustAction(t, c.action), Resource: c.resource, Context: c.keys.get}, []*Policy{b.Policy}, nil).Identity == Allowed {
				allowed = append(allowed, b.Name)
			}
		}
		if got := strings.Join(allowed, " "); got != c.allowed {
			t.Errorf("%s with %v is allowed by %s, want %s", c.action, c.keys, got, c.allowed)
		}
	}
	if b, ok := LookupBuiltIn("append-only"); !ok || b.Policy == nil || b.Document != appendOnlyDocument {
		t.Errorf("LookupBuiltIn = %+v, %v", b, ok)
	}
	if _, ok := LookupBuiltIn("root"); ok {
		t.Error("there is a built-in policy root")
	}
}

func TestIsPublic(t *testing.T) {
	with := func(condition string) string { return statementWith(map[string]string{"Condition": condition}) }
	for _, c := range []struct {
		name, document string
		want           bool
	}{
		{"everybody", statementWith(nil), true},
		{"AWS everybody", statementWith(map[string]string{"Principal": `{"AWS": "*"}`}), true},
		{"everybody and alice", statementWith(map[string]string{"Principal": `{"AWS": ["*", "alice"]}`}), true},
		{"alice", statementWith(map[string]string{"Principal": `{"AWS": "alice"}`}), false},
		{"a service", statementWith(map[string]string{"Principal": `{"Service": "logging.s3.amazonaws.com"}`}), false},
		{"denied to everybody", statementWith(map[string]string{"Effect": `"Deny"`}), false},
		{"fixed VPC", with(`{"StringEquals": {"aws:SourceVpc": "vpc-91237329"}}`), false},
		{"any VPC", with(`{"StringLike": {"aws:SourceVpc": "vpc-*"}}`), true},
		{"one fixed VPC and any", with(`{"StringLike": {"aws:SourceVpc": ["vpc-1", "vpc-*"]}}`), true},
		{"fixed ARN", with(`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:user/alice"}}`), false},
		{"ARN with a wildcard", with(`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:user/*"}}`), true},
		{"variable", with(`{"StringEquals": {"aws:userid": "${aws:username}"}}`), true},
		{"fixed user ID", with(`{"StringEquals": {"aws:userid": "AIDA"}}`), false},
		{"if it exists", with(`{"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1"}}`), true},
		{"for all values", with(`{"ForAllValues:StringEquals": {"aws:SourceVpc": "vpc-1"}}`), true},
		{"for any value", with(`{"ForAnyValue:StringEquals": {"aws:SourceVpc": "vpc-1"}}`), false},
		{"not that VPC", with(`{"StringNotEquals": {"aws:SourceVpc": "vpc-1"}}`), true},
		{"another key", with(`{"StringEquals": {"aws:Referer": "http://example.com/"}}`), true},
		{"a /8", with(`{"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}`), false},
		{"a /7", with(`{"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "10.0.0.0/7"]}}`), true},
		{"a /31 of IPv6", with(`{"IpAddress": {"aws:SourceIp": "2001:db8::/31"}}`), true},
		{"all but some addresses", with(`{"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}`), true},
		{"an address if it exists", with(`{"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}`), true},
		{"one public statement of two", strings.Replace(statementWith(map[string]string{"Principal": `{"AWS": "alice"}`}), "]}", `, {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::photos"}]}`, 1), true},
	} {
		if got := mustParse(t, Bucket, c.document).IsPublic(); got != c.want {
			t.Errorf("%s: IsPublic = %v, want %v", c.name, got, c.want)
		}
	}
}
