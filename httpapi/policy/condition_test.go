package policy

import (
	"testing"
	"time"
)

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		condition string
		keys      keys
		want      bool
	}{
		{`{"StringEquals": {"aws:username": "john"}}`, keys{"aws:username": {"john"}}, true},
		{`{"StringEquals": {"aws:username": "john"}}`, keys{"aws:username": {"John"}}, false},
		{`{"StringEquals": {"aws:username": "jo*"}}`, keys{"aws:username": {"john"}}, false},
		{`{"StringEquals": {"aws:username": ["a", "john"]}}`, keys{"aws:username": {"john"}}, true},
		{`{"StringEquals": {"aws:username": "john"}}`, nil, false},
		{`{"StringEqualsIfExists": {"aws:username": "john"}}`, nil, true},
		{`{"StringEqualsIfExists": {"aws:username": "john"}}`, keys{"aws:username": {"x"}}, false},
		{`{"StringNotEquals": {"aws:username": "john"}}`, nil, true},
		{`{"StringNotEquals": {"aws:username": ["john", "jane"]}}`, keys{"aws:username": {"jane"}}, false},
		{`{"StringNotEquals": {"aws:username": ["john", "jane"]}}`, keys{"aws:username": {"joe"}}, true},
		{`{"StringEqualsIgnoreCase": {"aws:username": "john"}}`, keys{"aws:username": {"JOHN"}}, true},
		{`{"StringNotEqualsIgnoreCase": {"aws:username": "john"}}`, keys{"aws:username": {"JOHN"}}, false},
		{`{"StringEqualsIgnoreCase": {"s3:prefix": "home/${aws:username}"}}`, keys{"aws:username": {"john"}, "s3:prefix": {"HOME/John"}}, true},
		{`{"StringEqualsIgnoreCase": {"s3:prefix": "home/${aws:username}"}}`, keys{"s3:prefix": {"home/"}}, false},
		{`{"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}}`, keys{"aws:username": {"david"}, "s3:prefix": {""}}, true},
		{`{"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}}`, keys{"aws:username": {"david"}, "s3:prefix": {"home/david/x"}}, true},
		{`{"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}}`, keys{"aws:username": {"david"}, "s3:prefix": {"home/jane/"}}, false},
		{`{"StringLike": {"s3:prefix": "home/${aws:username}/*"}}`, keys{"s3:prefix": {"home//x"}}, false},
		{`{"StringNotLike": {"s3:prefix": "home/${aws:username}/*"}}`, keys{"s3:prefix": {"home//x"}}, true},
		{`{"StringLike": {"s3:prefix": "a${*}"}}`, keys{"s3:prefix": {"ab"}}, false},
		{`{"StringLike": {"s3:prefix": "a${*}"}}`, keys{"s3:prefix": {"a*"}}, true},

		{`{"NumericLessThanEquals": {"s3:max-keys": "10"}}`, keys{"s3:max-keys": {"10"}}, true},
		{`{"NumericLessThanEquals": {"s3:max-keys": "10"}}`, keys{"s3:max-keys": {"11"}}, false},
		{`{"NumericLessThan": {"s3:max-keys": 10}}`, keys{"s3:max-keys": {"10"}}, false},
		{`{"NumericGreaterThan": {"s3:max-keys": 9.5}}`, keys{"s3:max-keys": {"10"}}, true},
		{`{"NumericGreaterThanEquals": {"s3:max-keys": 10}}`, keys{"s3:max-keys": {"10"}}, true},
		{`{"NumericEquals": {"s3:max-keys": "10"}}`, keys{"s3:max-keys": {"10.0"}}, true},
		{`{"NumericEquals": {"s3:max-keys": "10"}}`, keys{"s3:max-keys": {"ten"}}, false},
		{`{"NumericNotEquals": {"s3:max-keys": "10"}}`, keys{"s3:max-keys": {"9"}}, true},
		{`{"NumericLessThan": {"s3:TlsVersion": 1.2}}`, keys{"s3:TlsVersion": {"1.1"}}, true},
		{`{"NumericLessThan": {"s3:TlsVersion": 1.2}}`, keys{"s3:TlsVersion": {"1.3"}}, false},

		{`{"DateGreaterThan": {"aws:CurrentTime": "2013-08-16T12:00:00Z"}}`, keys{"aws:CurrentTime": {"2013-08-16T12:00:01Z"}}, true},
		{`{"DateLessThan": {"aws:CurrentTime": "2013-08-16T15:00:00+02:00"}}`, keys{"aws:CurrentTime": {"2013-08-16T12:59:59Z"}}, true},
		{`{"DateLessThanEquals": {"aws:CurrentTime": "2013-08-16"}}`, keys{"aws:CurrentTime": {"2013-08-16T00:00:00Z"}}, true},
		{`{"DateGreaterThanEquals": {"aws:EpochTime": "2013"}}`, keys{"aws:EpochTime": {"1376654400"}}, true},
		{`{"DateEquals": {"aws:EpochTime": "1376654400"}}`, keys{"aws:EpochTime": {"1376654400"}}, true},
		{`{"DateNotEquals": {"aws:EpochTime": "1376654400"}}`, keys{"aws:EpochTime": {"1376654400"}}, false},
		{`{"NumericLessThan": {"aws:EpochTime": "1376654401"}}`, keys{"aws:EpochTime": {"1376654400"}}, true},

		{`{"Bool": {"aws:SecureTransport": "false"}}`, keys{"aws:SecureTransport": {"false"}}, true},
		{`{"Bool": {"aws:SecureTransport": false}}`, keys{"aws:SecureTransport": {"true"}}, false},
		{`{"Bool": {"aws:SecureTransport": "TRUE"}}`, keys{"aws:SecureTransport": {"true"}}, true},
		{`{"Bool": {"aws:SecureTransport": "false"}}`, nil, false},
		{`{"BinaryEquals": {"aws:userid": "QmluYXJ5VmFsdWVJbkJhc2U2NA=="}}`, keys{"aws:userid": {"QmluYXJ5VmFsdWVJbkJhc2U2NA=="}}, true},
		{`{"BinaryEquals": {"aws:userid": "QQ=="}}`, keys{"aws:userid": {"Qg=="}}, false},

		{`{"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "NotIpAddress": {"aws:SourceIp": "192.0.2.188/32"}}`, keys{"aws:SourceIp": {"192.0.2.1"}}, true},
		{`{"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "NotIpAddress": {"aws:SourceIp": "192.0.2.188/32"}}`, keys{"aws:SourceIp": {"192.0.2.188"}}, false},
		{`{"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}`, keys{"aws:SourceIp": {"192.0.3.1"}}, false},
		{`{"IpAddress": {"aws:SourceIp": "192.0.2.1/24"}}`, keys{"aws:SourceIp": {"192.0.2.9"}}, true},
		{`{"IpAddress": {"aws:SourceIp": "192.0.2.9"}}`, keys{"aws:SourceIp": {"::ffff:192.0.2.9"}}, true},
		{`{"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:DB8:1234:5678::/64"]}}`, keys{"aws:SourceIp": {"2001:db8:1234:5678::1"}}, true},
		{`{"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}`, keys{"aws:SourceIp": {"2001:db8::1"}}, false},
		{`{"IpAddress": {"aws:SourceIp": "::ffff:192.0.2.0/120"}}`, keys{"aws:SourceIp": {"192.0.2.9"}}, true},
		{`{"IpAddress": {"aws:SourceIp": "::ffff:192.0.2.0/120"}}`, keys{"aws:SourceIp": {"192.0.3.9"}}, false},
		{`{"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}`, keys{"aws:SourceIp": {"2001:db8::1%eth0"}}, true},
		{`{"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}`, nil, true},
		{`{"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}`, keys{"aws:SourceIp": {"pipe"}}, false},

		{`{"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/al*"}}`, keys{"aws:PrincipalArn": {"arn:aws:iam::1:user/alice"}}, true},
		{`{"ArnLike": {"aws:PrincipalArn": "arn:aws:i*::1:user/alice"}}`, keys{"aws:PrincipalArn": {"arn:aws:iam:x:1:user/alice"}}, false},
		{`{"ArnLike": {"aws:PrincipalArn": "arn:*:iam::1:*"}}`, keys{"aws:PrincipalArn": {"arn:aws:iam::1:user/a:b"}}, true},
		{`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:user/${aws:username}"}}`, keys{"aws:PrincipalArn": {"arn:aws:iam::1:user/a"}, "aws:username": {"a"}}, true},
		{`{"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::1:user/a"}}`, keys{"aws:PrincipalArn": {"arn:aws:iam::1:user/a"}}, false},
		{`{"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::1:user/a"}}`, nil, true},
		{`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:user/a"}}`, keys{"aws:PrincipalArn": {"nonsense"}}, false},

		{`{"Null": {"aws:TokenIssueTime": "true"}}`, nil, true},
		{`{"Null": {"aws:TokenIssueTime": "true"}}`, keys{"aws:TokenIssueTime": {"x"}}, false},
		{`{"Null": {"aws:TokenIssueTime": "false"}}`, keys{"aws:TokenIssueTime": {"x"}}, true},
		{`{"Null": {"aws:TokenIssueTime": "false"}}`, nil, false},

		// Keys with several values.
		{`{"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["Owner", "Date"]}}`, keys{"s3:RequestObjectTagKeys": {"Owner"}}, true},
		{`{"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["Owner", "Date"]}}`, keys{"s3:RequestObjectTagKeys": {"Owner", "Cost"}}, false},
		{`{"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["Owner", "Date"]}}`, nil, true},
		{`{"ForAllValues:StringNotEquals": {"s3:RequestObjectTagKeys": "Cost"}}`, keys{"s3:RequestObjectTagKeys": {"Owner", "Cost"}}, false},
		{`{"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {"Cost", "Owner"}}, true},
		{`{"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {"Cost"}}, false},
		{`{"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, nil, false},
		{`{"ForAnyValue:StringNotEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {"Cost", "Owner"}}, true},
		{`{"ForAnyValue:StringNotEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, nil, false},
		{`{"ForAnyValue:StringEqualsIfExists": {"s3:RequestObjectTagKeys": "Owner"}}`, nil, true},
		{`{"StringNotEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {"Cost", "Owner"}}, false},
		{`{"StringEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {"Cost", "Owner"}}, true},
		{`{"StringEquals": {"s3:RequestObjectTagKeys": "Owner"}}`, keys{"s3:RequestObjectTagKeys": {}}, false},

		// Operators and keys are all to hold; keys are found in any case, tags are not.
		{`{"StringEquals": {"aws:username": "a"}, "Bool": {"aws:SecureTransport": "true"}}`, keys{"aws:username": {"a"}}, false},
		{`{"StringEquals": {"aws:username": "a", "s3:prefix": "b"}}`, keys{"aws:username": {"a"}, "s3:prefix": {"c"}}, false},
		{`{"StringEquals": {"AWS:USERNAME": "a"}}`, keys{"aws:username": {"a"}}, true},
		{`{"StringEquals": {"s3:existingobjecttag/Dept": "a"}}`, keys{"s3:ExistingObjectTag/Dept": {"a"}}, true},
		{`{"StringEquals": {"s3:existingobjecttag/dept": "a"}}`, keys{"s3:ExistingObjectTag/Dept": {"a"}}, false},
		{`{"StringEquals": {"Vendor:Key": "a"}}`, keys{"vendor:key": {"a"}}, true},
	} {
		p := mustParse(t, Identity, `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": `+c.condition+`}}`)
		if o, _ := p.evaluate(&Request{Action: 1, Context: c.keys.get}); (o == Allowed) != c.want {
			t.Errorf("%s with %v: %v, want holds=%v", c.condition, c.keys, o, c.want)
		}
	}
}

// TestVersion2008 checks that variables and their escapes are text in the old version, and that it is the default.
func TestVersion2008(t *testing.T) {
	for _, version := range []string{"", `"Version": "2008-10-17", `} {
		p := mustParse(t, Identity, `{`+version+`"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::photos/${aws:username}"}}`)
		for resource, want := range map[string]Outcome{"photos/alice": Silent, "photos/${aws:username}": Allowed} {
			if o, _ := p.evaluate(&Request{Action: 1, Resource: resource, Context: keys{"aws:username": {"alice"}}.get}); o != want {
				t.Errorf("%s: %v, want %v", resource, o, want)
			}
		}
	}
}

func TestParseDate(t *testing.T) {
	want := time.Date(2013, 8, 16, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"2013-08-16T12:00:00Z", "2013-08-16T12:00Z", "2013-08-16T14:00:00+02:00", "2013-08-16T14:00:00+0200", "2013-08-16T12:00:00.000Z", "1376654400"} {
		if got, ok := parseDate(s); !ok || !got.Equal(want) {
			t.Errorf("parseDate(%q) = %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "x", "-1", "99999999999999", "2013-13-01", "12:00"} {
		if got, ok := parseDate(s); ok {
			t.Errorf("parseDate(%q) = %v", s, got)
		}
	}
}
