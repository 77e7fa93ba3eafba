package policy

import (
	"fmt"
	"slices"
)

// A BuiltIn is an identity policy that every store has.
type BuiltIn struct {
	Name        string
	Description string
	Document    string
	Policy      *Policy
}

// The documents of the built-in policies.
const (
	readOnlyDocument = `{
  "Version": "2012-10-17",
  "Id": "readonly",
  "Statement": [
    {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
  ]
}`
	readWriteDocument = `{
  "Version": "2012-10-17",
  "Id": "readwrite",
  "Statement": [
    {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
  ]
}`
	writeOnlyDocument = `{
  "Version": "2012-10-17",
  "Id": "writeonly",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:GetBucketLocation"],
      "Resource": "*"
    }
  ]
}`
	appendOnlyDocument = `{
  "Version": "2012-10-17",
  "Id": "append-only",
  "Statement": [
    {
      "Sid": "Read",
      "Effect": "Allow",
      "Action": ["s3:Get*", "s3:List*"],
      "Resource": "*"
    },
    {
      "Sid": "Add",
      "Effect": "Allow",
      "Action": "s3:PutObject",
      "Resource": "*",
      "Condition": {"Bool": {"casd:Overwrite": "false"}}
    },
    {
      "Sid": "Keep",
      "Effect": "Allow",
      "Action": ["s3:AbortMultipartUpload", "s3:PutObjectRetention"],
      "Resource": "*"
    }
  ]
}`
	adminDocument = `{
  "Version": "2012-10-17",
  "Id": "admin",
  "Statement": [
    {"Effect": "Allow", "Action": "*", "Resource": "*"}
  ]
}`
)

var builtIns = []BuiltIn{
	builtIn("readonly", "list and read buckets and objects, with their configuration", readOnlyDocument),
	builtIn("readwrite", "everything of S3", readWriteDocument),
	builtIn("writeonly", "upload objects; neither list nor read them", writeOnlyDocument),
	builtIn("append-only", "list, read and add objects; neither overwrite nor delete them", appendOnlyDocument),
	builtIn("admin", "everything of S3 and of the admin API", adminDocument),
}

func builtIn(name, description, document string) BuiltIn {
	p, err := Parse([]byte(document), Identity, "")
	if err != nil {
		panic(fmt.Sprintf("policy: built-in %s: %v", name, err))
	}
	return BuiltIn{name, description, document, p}
}

// BuiltIns returns the built-in policies.
func BuiltIns() []BuiltIn { return slices.Clone(builtIns) }

// LookupBuiltIn finds a built-in policy by its name.
func LookupBuiltIn(name string) (b BuiltIn, ok bool) {
	for _, b := range builtIns {
		if b.Name == name {
			return b, true
		}
	}
	return BuiltIn{}, false
}
