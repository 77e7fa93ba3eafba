package policy

import (
	"errors"
	"fmt"
)

// ErrMalformed is matched by every error of Parse.
var ErrMalformed = errors.New("policy: malformed")

// An Error says why a document is not a policy. It matches ErrMalformed.
type Error struct {
	Kind    Kind   // what the document was read as
	Message string // for the client; in AWS's words where they are known
}

func (e *Error) Error() string { return e.Code() + ": " + e.Message }

// Is matches ErrMalformed.
func (e *Error) Is(target error) bool { return target == ErrMalformed }

// Code is the code that a client is told: S3's for a bucket policy, IAM's for an identity policy.
func (e *Error) Code() string {
	if e.Kind == Identity {
		return "MalformedPolicyDocument"
	}
	return "MalformedPolicy"
}

// The messages for a client. Those of bucket policies are what S3 answers to PutBucketPolicy, those of identity policies what IAM
// answers to PutUserPolicy, as far as either is known.
const (
	msgNotJSON          = "Policies must be valid JSON and the first byte must be '{'"
	msgInvalidJSON      = "This policy contains invalid Json"
	msgSyntax           = "Invalid policy syntax."
	msgVersion          = "The policy must contain a valid version string"
	msgEmptyStatement   = "Could not parse the policy: Statement is empty!"
	msgPrincipal        = "Invalid principal in policy"
	msgAction           = "Policy has invalid action"
	msgResource         = "Policy has invalid resource"
	msgNotApplicable    = "Action does not apply to any resource(s) in statement"
	msgConditionKey     = "Policy has an invalid condition key"
	msgConditionActions = "Conditions do not apply to combination of actions and resources in statement"
	msgAddress          = "Invalid IP address in Conditions"
	msgSidUnique        = "Statement IDs (SID) in a single policy must be unique."

	msgIdentitySyntax    = "Syntax errors in policy."
	msgIdentitySid       = "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
	msgIdentityPrincipal = "Policy document should not specify a principal."
	msgIdentityActions   = "Policy statement must contain actions."
	msgIdentityResources = "Policy statement must contain resources."
	msgIdentityVendor    = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
)

// InvalidPrincipal is the error for a bucket policy that names somebody who does not exist. Parse does not know who exists: whoever
// does asks Policy.Principals and answers with this.
func InvalidPrincipal() error { return &Error{Kind: Bucket, Message: msgPrincipal} }

// fail makes the error of a document; ofIdentity, when not empty, is what IAM says where S3 says message.
func (p *parser) fail(message, ofIdentity string) error {
	if p.kind == Identity && ofIdentity != "" {
		message = ofIdentity
	}
	return &Error{Kind: p.kind, Message: message}
}

func (p *parser) failf(format string, args ...any) error {
	return &Error{Kind: p.kind, Message: fmt.Sprintf(format, args...)}
}
