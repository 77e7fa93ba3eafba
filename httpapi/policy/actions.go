package policy

import (
	"strings"
)

// An Action is one of the actions of the table below. The zero Action is none of them and is never allowed.
type Action uint8

// A Level is what an action is done to, and so what its resource is.
type Level uint8

const (
	ServiceLevel Level = iota + 1 // the resource is empty
	BucketLevel                   // the resource is a bucket
	ObjectLevel                   // the resource is bucket/key
)

// A keySet says which condition keys of S3 an action knows, besides those that every action knows.
type keySet uint32

const (
	keysList      keySet = 1 << iota // s3:prefix, s3:delimiter, s3:max-keys
	keysCreate                       // s3:locationconstraint
	keysOwnership                    // s3:x-amz-object-ownership
	keysACL                          // s3:x-amz-acl, s3:x-amz-grant-*
	keysExisting                     // s3:ExistingObjectTag/<key>
	keysTags                         // s3:RequestObjectTag/<key>, s3:RequestObjectTagKeys
	keysVersion                      // s3:VersionId
	keysWrite                        // what else an upload or a copy says in its headers
	keysMatch                        // s3:if-match
	keysLock                         // s3:object-lock-mode, -retain-until-date, -remaining-retention-days
	keysHold                         // s3:object-lock-legal-hold
	keysInventory                    // s3:InventoryAccessibleOptionalFields
)

type action struct {
	name  string // with its prefix, as AWS writes it
	level Level
	keys  keySet
}

// actions is the table of the Service Authorization Reference for Amazon S3, but for access points, access grants, batch jobs, Storage
// Lens and the like, which are other resources than buckets and objects. casd:Administer is ours: everything of the admin API.
var actions = [...]action{
	{},
	{"casd:Administer", ServiceLevel, 0},
	{"s3:ListAllMyBuckets", ServiceLevel, 0},
	{"s3:GetAccountPublicAccessBlock", ServiceLevel, 0},
	{"s3:PutAccountPublicAccessBlock", ServiceLevel, 0},

	{"s3:CreateBucket", BucketLevel, keysCreate | keysACL | keysOwnership},
	{"s3:DeleteBucket", BucketLevel, 0},
	{"s3:ListBucket", BucketLevel, keysList},
	{"s3:ListBucketVersions", BucketLevel, keysList},
	{"s3:ListBucketMultipartUploads", BucketLevel, 0},
	{"s3:GetBucketLocation", BucketLevel, 0},
	{"s3:GetBucketAcl", BucketLevel, 0},
	{"s3:PutBucketAcl", BucketLevel, keysACL},
	{"s3:GetBucketPolicy", BucketLevel, 0},
	{"s3:PutBucketPolicy", BucketLevel, 0},
	{"s3:DeleteBucketPolicy", BucketLevel, 0},
	{"s3:GetBucketPolicyStatus", BucketLevel, 0},
	{"s3:GetBucketPublicAccessBlock", BucketLevel, 0},
	{"s3:PutBucketPublicAccessBlock", BucketLevel, 0},
	{"s3:GetBucketOwnershipControls", BucketLevel, 0},
	{"s3:PutBucketOwnershipControls", BucketLevel, keysOwnership},
	{"s3:GetBucketVersioning", BucketLevel, 0},
	{"s3:PutBucketVersioning", BucketLevel, 0},
	{"s3:GetBucketTagging", BucketLevel, 0},
	{"s3:PutBucketTagging", BucketLevel, 0},
	{"s3:ListTagsForResource", BucketLevel, 0},
	{"s3:TagResource", BucketLevel, 0},
	{"s3:UntagResource", BucketLevel, 0},
	{"s3:GetBucketObjectLockConfiguration", BucketLevel, 0},
	{"s3:PutBucketObjectLockConfiguration", BucketLevel, 0},
	{"s3:GetLifecycleConfiguration", BucketLevel, 0},
	{"s3:PutLifecycleConfiguration", BucketLevel, 0},
	{"s3:GetBucketCORS", BucketLevel, 0},
	{"s3:PutBucketCORS", BucketLevel, 0},
	{"s3:GetBucketWebsite", BucketLevel, 0},
	{"s3:PutBucketWebsite", BucketLevel, 0},
	{"s3:DeleteBucketWebsite", BucketLevel, 0},
	{"s3:GetBucketNotification", BucketLevel, 0},
	{"s3:PutBucketNotification", BucketLevel, 0},
	{"s3:GetBucketLogging", BucketLevel, 0},
	{"s3:PutBucketLogging", BucketLevel, 0},
	{"s3:GetBucketRequestPayment", BucketLevel, 0},
	{"s3:PutBucketRequestPayment", BucketLevel, 0},
	{"s3:GetAccelerateConfiguration", BucketLevel, 0},
	{"s3:PutAccelerateConfiguration", BucketLevel, 0},
	{"s3:GetEncryptionConfiguration", BucketLevel, 0},
	{"s3:PutEncryptionConfiguration", BucketLevel, 0},
	{"s3:GetReplicationConfiguration", BucketLevel, 0},
	{"s3:PutReplicationConfiguration", BucketLevel, 0},
	{"s3:GetInventoryConfiguration", BucketLevel, 0},
	{"s3:PutInventoryConfiguration", BucketLevel, keysInventory},
	{"s3:GetAnalyticsConfiguration", BucketLevel, 0},
	{"s3:PutAnalyticsConfiguration", BucketLevel, 0},
	{"s3:GetMetricsConfiguration", BucketLevel, 0},
	{"s3:PutMetricsConfiguration", BucketLevel, 0},
	{"s3:GetIntelligentTieringConfiguration", BucketLevel, 0},
	{"s3:PutIntelligentTieringConfiguration", BucketLevel, 0},
	{"s3:GetBucketMetadataTableConfiguration", BucketLevel, 0},
	{"s3:CreateBucketMetadataTableConfiguration", BucketLevel, 0},
	{"s3:DeleteBucketMetadataTableConfiguration", BucketLevel, 0},

	{"s3:AbortMultipartUpload", ObjectLevel, 0},
	{"s3:BypassGovernanceRetention", ObjectLevel, keysACL | keysTags | keysWrite | keysLock | keysHold},
	{"s3:DeleteObject", ObjectLevel, keysMatch},
	{"s3:DeleteObjectTagging", ObjectLevel, keysExisting},
	{"s3:DeleteObjectVersion", ObjectLevel, keysVersion | keysMatch},
	{"s3:DeleteObjectVersionTagging", ObjectLevel, keysExisting | keysVersion},
	{"s3:GetObject", ObjectLevel, keysExisting},
	{"s3:GetObjectAcl", ObjectLevel, keysExisting},
	{"s3:GetObjectAttributes", ObjectLevel, keysExisting},
	{"s3:GetObjectLegalHold", ObjectLevel, 0},
	{"s3:GetObjectRetention", ObjectLevel, 0},
	{"s3:GetObjectTagging", ObjectLevel, keysExisting},
	{"s3:GetObjectTorrent", ObjectLevel, 0},
	{"s3:GetObjectVersion", ObjectLevel, keysExisting | keysVersion},
	{"s3:GetObjectVersionAcl", ObjectLevel, keysExisting | keysVersion},
	{"s3:GetObjectVersionAttributes", ObjectLevel, keysExisting | keysVersion},
	{"s3:GetObjectVersionForReplication", ObjectLevel, 0},
	{"s3:GetObjectVersionTagging", ObjectLevel, keysExisting | keysVersion},
	{"s3:GetObjectVersionTorrent", ObjectLevel, keysVersion},
	{"s3:InitiateReplication", ObjectLevel, 0},
	{"s3:ListMultipartUploadParts", ObjectLevel, 0},
	{"s3:ObjectOwnerOverrideToBucketOwner", ObjectLevel, 0},
	{"s3:PutObject", ObjectLevel, keysACL | keysTags | keysWrite | keysMatch | keysLock | keysHold},
	{"s3:PutObjectAcl", ObjectLevel, keysACL | keysExisting | keysWrite},
	{"s3:PutObjectLegalHold", ObjectLevel, keysHold},
	{"s3:PutObjectRetention", ObjectLevel, keysLock},
	{"s3:PutObjectTagging", ObjectLevel, keysExisting | keysTags},
	{"s3:PutObjectVersionAcl", ObjectLevel, keysACL | keysExisting | keysVersion | keysWrite},
	{"s3:PutObjectVersionTagging", ObjectLevel, keysExisting | keysTags | keysVersion},
	{"s3:ReplicateDelete", ObjectLevel, 0},
	{"s3:ReplicateObject", ObjectLevel, keysWrite},
	{"s3:ReplicateTags", ObjectLevel, 0},
	{"s3:RestoreObject", ObjectLevel, 0},
}

var actionsByName = func() map[string]Action {
	m := make(map[string]Action, len(actions))
	for i := range actions[1:] {
		m[strings.ToLower(actions[i+1].name)] = Action(i + 1)
	}
	return m
}()

// LookupAction finds an action by its name with its prefix, like s3:GetObject. Case does not matter.
func LookupAction(name string) (a Action, ok bool) {
	a, ok = actionsByName[strings.ToLower(name)]
	return a, ok
}

// Actions returns the whole table.
func Actions() []Action {
	all := make([]Action, 0, len(actions)-1)
	for i := range actions[1:] {
		all = append(all, Action(i+1))
	}
	return all
}

// String is the action's name as AWS writes it.
func (a Action) String() string {
	if a == 0 || int(a) >= len(actions) {
		return "(no action)"
	}
	return actions[a].name
}

// Level says what the action is done to.
func (a Action) Level() Level { return actions[a].level }

// An actionSet is a set of actions.
type actionSet [(len(actions) + 63) / 64]uint64

func (s *actionSet) add(a Action)      { s[a/64] |= 1 << (a % 64) }
func (s *actionSet) has(a Action) bool { return s[a/64]&(1<<(a%64)) != 0 }

// actionsLike returns the actions that a pattern names.
func actionsLike(text string) (s actionSet) {
	p, _ := compile(strings.ToLower(text), true, false)
	for name, a := range actionsByName {
		if p.match(name) {
			s.add(a)
		}
	}
	return s
}
