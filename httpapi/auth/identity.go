package auth

import (
	"context"

	"github.com/casd/casd/httpapi/s3err"
)

// An Identity is who sent a request.
type Identity struct {
	ID          string // canonical user ID; empty for anonymous requests
	DisplayName string
	AccessKey   string // the key that signed the request
	Root        bool   // may do everything, whatever policies say
}

// Anonymous tells whether nobody signed the request.
func (i Identity) Anonymous() bool { return i.AccessKey == "" }

// Keys finds the owner of an access key.
type Keys interface {
	// Lookup returns the identity and the secret of an access key. ok is false when the key does not exist or is disabled; an error
	// means that it is not known whether it does.
	Lookup(ctx context.Context, accessKey string) (id Identity, secret string, ok bool, err error)
}

// A Request is what an Authorizer decides about: the names of the IAM action and of what it is done to.
type Request struct {
	Identity Identity
	Action   string // "s3:GetObject"
	Bucket   string // empty for actions on the service
	Key      string // empty for actions on a bucket
}

// An Authorizer decides whether a request may be served.
type Authorizer interface {
	// Authorize returns nil when the request is allowed, s3err.AccessDenied when it is not, and any other error when that is not known.
	Authorize(ctx context.Context, r Request) error
}

// RootOnly allows everything to the root user and nothing to anybody else.
type RootOnly struct{}

// Authorize implements Authorizer.
func (RootOnly) Authorize(_ context.Context, r Request) error {
	if r.Identity.Root {
		return nil
	}
	return s3err.AccessDenied
}

// Root is the Keys of a store whose only user is the root user.
type Root struct{ c Credentials }

// RootKeys returns Keys with the root user alone.
func RootKeys(c Credentials) Root { return Root{c} }

// Root is the identity of the root user. Its canonical ID is its access key.
func (k Root) Root() Identity {
	return Identity{ID: k.c.AccessKey, DisplayName: k.c.AccessKey, AccessKey: k.c.AccessKey, Root: true}
}

// Lookup implements Keys.
func (k Root) Lookup(_ context.Context, accessKey string) (Identity, string, bool, error) {
	if accessKey != k.c.AccessKey {
		return Identity{}, "", false, nil
	}
	return k.Root(), k.c.SecretKey, true, nil
}
