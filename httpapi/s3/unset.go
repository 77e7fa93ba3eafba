package s3

import (
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// unsetOperations read configurations that no bucket has, since setting them is NotImplemented. They answer as AWS does then, which
// is true, and which tools ask for.
func unsetOperations() []operation {
	absent := func(name, sub, action string, err error) operation {
		return operation{name, http.MethodGet, bucket, sub, false, action, nil, func(q *request) error {
			if _, e := q.api.store.Bucket(q.Context(), q.bucket); e != nil {
				return e
			}
			return err
		}}
	}
	empty := func(name, sub, action, root, element, value string) operation {
		return operation{name, http.MethodGet, bucket, sub, false, action, nil, func(q *request) error {
			if _, err := q.api.store.Bucket(q.Context(), q.bucket); err != nil {
				return err
			}
			x := newXML(true)
			x.root(root)
			if element != "" {
				x.text(element, value)
			}
			x.close(root)
			x.respond(q.w, http.StatusOK)
			return nil
		}}
	}
	return []operation{
		absent("GetBucketPolicy", "policy", "s3:GetBucketPolicy", s3err.NoSuchBucketPolicy),
		absent("GetBucketPolicyStatus", "policyStatus", "s3:GetBucketPolicyStatus", s3err.NoSuchBucketPolicy),
		absent("GetBucketLifecycleConfiguration", "lifecycle", "s3:GetLifecycleConfiguration", s3err.NoSuchLifecycleConfiguration),
		absent("GetBucketCors", "cors", "s3:GetBucketCORS", s3err.NoSuchCORSConfiguration),
		absent("GetBucketTagging", "tagging", "s3:GetBucketTagging", s3err.NoSuchTagSet),
		absent("GetObjectLockConfiguration", "object-lock", "s3:GetBucketObjectLockConfiguration", s3err.ObjectLockConfigurationNotFound),
		absent("GetBucketEncryption", "encryption", "s3:GetEncryptionConfiguration", s3err.ServerSideEncryptionConfigNotFound),
		absent("GetBucketWebsite", "website", "s3:GetBucketWebsite", s3err.NoSuchWebsiteConfiguration),
		absent("GetBucketReplication", "replication", "s3:GetReplicationConfiguration", s3err.ReplicationConfigurationNotFound),
		absent("GetPublicAccessBlock", "publicAccessBlock", "s3:GetBucketPublicAccessBlock", s3err.NoSuchPublicAccessBlock),
		absent("GetBucketOwnershipControls", "ownershipControls", "s3:GetBucketOwnershipControls", s3err.OwnershipControlsNotFound),

		empty("GetBucketLogging", "logging", "s3:GetBucketLogging", "BucketLoggingStatus", "", ""),
		empty("GetBucketNotificationConfiguration", "notification", "s3:GetBucketNotification", "NotificationConfiguration", "", ""),
		empty("GetBucketAccelerateConfiguration", "accelerate", "s3:GetAccelerateConfiguration", "AccelerateConfiguration", "", ""),
		empty("GetBucketRequestPayment", "requestPayment", "s3:GetBucketRequestPayment", "RequestPaymentConfiguration", "Payer", "BucketOwner"),

		{"GetBucketAcl", http.MethodGet, bucket, "acl", false, "s3:GetBucketAcl", nil, (*request).getBucketACL},
		{"GetObjectAcl", http.MethodGet, object, "acl", false, "s3:GetObjectAcl", []string{"versionId"}, (*request).getObjectACL},
		{"GetObjectTagging", http.MethodGet, object, "tagging", false, "s3:GetObjectTagging", []string{"versionId"}, (*request).getObjectTagging},
		{"GetObjectRetention", http.MethodGet, object, "retention", false, "s3:GetObjectRetention", []string{"versionId"}, (*request).getObjectLock},
		{"GetObjectLegalHold", http.MethodGet, object, "legal-hold", false, "s3:GetObjectLegalHold", []string{"versionId"}, (*request).getObjectLock},
	}
}

func (q *request) getBucketACL() error {
	b, err := q.api.store.Bucket(q.Context(), q.bucket)
	if err != nil {
		return err
	}
	q.acl(b.Owner)
	return nil
}

func (q *request) getObjectACL() error {
	info, err := q.stat()
	if err != nil {
		return err
	}
	q.acl(info.Owner)
	return nil
}

func (q *request) stat() (cas.ObjectInfo, error) {
	version, err := q.version()
	if err != nil {
		return cas.ObjectInfo{}, err
	}
	info, err := q.api.store.Stat(q.Context(), cas.GetRequest{Bucket: q.bucket, Key: q.key, VersionID: version})
	if err != nil {
		return info, versionError(err, version)
	}
	setVersion(q.w.Header(), &info)
	return info, nil
}

// acl answers with the only ACL that there is: full control for the owner.
func (q *request) acl(owner string) {
	id, name := q.api.o.Root.ID, q.api.o.Root.DisplayName
	if owner != "" && owner != id {
		id, name = owner, owner
	}
	x := newXML(true)
	x.root("AccessControlPolicy")
	x.owner("Owner", id, name)
	x.open("AccessControlList")
	x.open("Grant")
	x.b = append(x.b, `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`...)
	x.text("ID", id)
	x.text("DisplayName", name)
	x.close("Grantee")
	x.text("Permission", "FULL_CONTROL")
	x.close("Grant")
	x.close("AccessControlList")
	x.close("AccessControlPolicy")
	x.respond(q.w, http.StatusOK)
}

func (q *request) getObjectTagging() error {
	if _, err := q.stat(); err != nil {
		return err
	}
	x := newXML(true)
	x.root("Tagging")
	x.open("TagSet")
	x.close("TagSet")
	x.close("Tagging")
	x.respond(q.w, http.StatusOK)
	return nil
}

func (q *request) getObjectLock() error {
	if _, err := q.stat(); err != nil {
		return err
	}
	return s3err.MissingObjectLockBucket
}
