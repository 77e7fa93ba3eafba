// Package auth decides who sent a request and what they may do.
//
// It implements AWS Signature Version 4 for the service "s3": in the Authorization header, in the query (presigned) and
// chunk by chunk in a streaming body, both to verify what arrives and to sign what our own clients send. Signature
// Version 2 is refused by name. A request's identity and a decision about it come from two small interfaces, Keys and
// Authorizer, so that users and policies can take the place of the root credentials without a change in the protocols.
//
// Nothing here logs. Errors carry the S3 code that tells the client what is wrong; none of them holds a secret, and the
// signature that the server computed is never in one.
package auth
