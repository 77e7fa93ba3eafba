/*
Package policy is the IAM policy language, as far as it is about S3: it parses documents and decides about requests. It knows nothing of
HTTP, of users or of storage; who asks, what for and under which circumstances is in a Request.

The words are those of AWS. A **policy** is a document of **statements**. A statement has an **effect** and applies to a request when its
**principal**, **action**, **resource** and every one of its **conditions** do. An **identity policy** hangs on a user or a group and names
no principal; a **bucket policy** hangs on a bucket and says who. A **condition key** names something of the request; a **policy variable**
is a key in a value or a resource, ${aws:username}.

# Documents

Documents are strict JSON: UTF-8, no name twice in an object, no unknown element, at most eight levels. A bucket policy has at most
20,480 bytes and an identity policy at most 6,144 without the white space between tokens, both at most 64 KiB with it, and either at most
128 ?s that stand between two *s of a resource or a value, since these are what matching is slow with. Version is 2012-10-17,
or 2008-10-17, which is also the default and knows no variables. Element names, operators and values differ by case; actions and
condition keys do not. A Sid occurs once in a document; the empty one does not count.

Bucket policies are checked as S3 checks them, with its messages. An unknown aws: key is refused too, because a misspelt one would make a
Deny that never applies. Identity policies are checked as IAM checks them, so they may name actions and keys of other services.

Principals are "*", or "AWS" with "*", an account, its root ARN, a user's ARN (arn:aws:iam::anything:user/NAME) or a canonical user ID, or
"CanonicalUser", or "Service". Where every user is an account of its own, its canonical ID is the account. NotPrincipal goes with Deny only.
Whether a principal exists is for the caller to check: Policy.Principals and InvalidPrincipal. Roles and federated principals are refused.

# Matching

In actions, resources, StringLike and the Arn operators * stands for any run of characters and ? for one. In a resource they reach over
slashes, and from the bucket's name into the key: arn:aws:s3:::logs* is also about every object in the bucket logs. In an ARN condition
they do not reach over the first five colons. ${*}, ${?} and ${$} stand for these characters.

Variables are resolved in the last part of a resource and in the values of the String and Arn operators. A variable without a value and
without a default, ${aws:username, 'nobody'}, matches nothing: the statement's resource does not match, a negated condition does. The value
of a variable is text; a * in it is a *.

# Decisions

Within a set of policies an explicit deny wins, then an allow, and what no statement speaks of is denied. Evaluate reports identity policies
and bucket policy apart, since how they count together depends on who owns the bucket: WithinAccount, AcrossAccounts.

Evaluation does not fail. A policy is compiled once: a request costs a bit test for each statement about other actions, and nothing is
allocated unless StringEqualsIgnoreCase meets a variable, or a resource has more than sixteen pieces and a variable.

# A key of our own

The built-in policy append-only needs to know what IAM has no word for. casd:Overwrite is "true" for a PutObject after which an object's
data could be gone: one that replaces the current version in a bucket that does not keep versions. It is "false" for every other PutObject.
Nobody knows it before the write, so the caller asks twice: if the request is allowed only with "false", the write is made on the
condition that the key does not exist. A request without the key is not allowed by append-only.

The action casd:Administer stands for the admin API. No bucket policy can grant it, nor any other action on the service.
*/
package policy
