package policy

import "strings"

// everyAction marks a key of S3 that every action knows.
const everyAction keySet = 1 << 31

// s3Keys are the condition keys of S3, in the spelling that Request.Context is asked for, with the actions that know them. A name that
// ends in / takes a tag's key behind it.
var s3Keys = map[string]keySet{
	"s3:authType":             everyAction,
	"s3:signatureAge":         everyAction, // milliseconds
	"s3:signatureversion":     everyAction,
	"s3:TlsVersion":           everyAction,
	"s3:x-amz-content-sha256": everyAction,
	"s3:ResourceAccount":      everyAction,

	"s3:prefix":                 keysList,
	"s3:delimiter":              keysList,
	"s3:max-keys":               keysList,
	"s3:locationconstraint":     keysCreate,
	"s3:x-amz-object-ownership": keysOwnership,

	"s3:x-amz-acl":                keysACL,
	"s3:x-amz-grant-full-control": keysACL,
	"s3:x-amz-grant-read":         keysACL,
	"s3:x-amz-grant-read-acp":     keysACL,
	"s3:x-amz-grant-write":        keysACL,
	"s3:x-amz-grant-write-acp":    keysACL,

	"s3:ExistingObjectTag/":   keysExisting,
	"s3:RequestObjectTag/":    keysTags,
	"s3:RequestObjectTagKeys": keysTags,
	"s3:VersionId":            keysVersion,

	"s3:x-amz-copy-source":                               keysWrite,
	"s3:x-amz-metadata-directive":                        keysWrite,
	"s3:x-amz-server-side-encryption":                    keysWrite,
	"s3:x-amz-server-side-encryption-aws-kms-key-id":     keysWrite,
	"s3:x-amz-server-side-encryption-customer-algorithm": keysWrite,
	"s3:x-amz-storage-class":                             keysWrite,
	"s3:x-amz-website-redirect-location":                 keysWrite,
	"s3:if-none-match":                                   keysWrite,
	"s3:ObjectCreationOperation":                         keysWrite,
	"s3:if-match":                                        keysMatch,
	"s3:object-lock-mode":                                keysLock,
	"s3:object-lock-retain-until-date":                   keysLock,
	"s3:object-lock-remaining-retention-days":            keysLock,
	"s3:object-lock-legal-hold":                          keysHold,
	"s3:InventoryAccessibleOptionalFields":               keysInventory,
	"s3:DataAccessPointArn":                              everyAction, // no access points: requests never have them
	"s3:DataAccessPointAccount":                          everyAction,
	"s3:AccessPointNetworkOrigin":                        everyAction,
	"casd:Overwrite":                                     keysWrite,
}

// globalKeys are the condition keys of every AWS service that an S3 policy may name. A key that means nothing here, like aws:SourceVpc,
// is known and never in a request.
var globalKeys = []string{
	"aws:CurrentTime", "aws:EpochTime", "aws:SecureTransport", "aws:SourceIp", "aws:Referer", "aws:UserAgent",
	"aws:username", "aws:userid", "aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalType", "aws:PrincipalTag/",
	"aws:PrincipalIsAWSService", "aws:PrincipalServiceName", "aws:PrincipalServiceNamesList", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths",
	"aws:RequestTag/", "aws:ResourceTag/", "aws:TagKeys", "aws:RequestedRegion",
	"aws:ResourceAccount", "aws:ResourceOrgID", "aws:ResourceOrgPaths",
	"aws:SourceAccount", "aws:SourceArn", "aws:SourceOwner", "aws:SourceOrgID", "aws:SourceOrgPaths", "aws:SourceIdentity",
	"aws:SourceVpc", "aws:SourceVpcArn", "aws:SourceVpce", "aws:VpcSourceIp", "aws:VpceAccount", "aws:VpceOrgID", "aws:VpceOrgPaths",
	"aws:CalledVia", "aws:CalledViaFirst", "aws:CalledViaLast", "aws:ViaAWSService", "aws:FederatedProvider", "aws:AssumedRoot",
	"aws:MultiFactorAuthAge", "aws:MultiFactorAuthPresent", "aws:TokenIssueTime", "aws:Ec2InstanceSourceVpc", "aws:Ec2InstanceSourcePrivateIPv4",
}

// keySpelling leads from the lower case of a key to its spelling.
var keySpelling = func() map[string]string {
	m := map[string]string{}
	for k := range s3Keys {
		m[strings.ToLower(k)] = k
	}
	for _, k := range globalKeys {
		m[strings.ToLower(k)] = k
	}
	return m
}()

// canonicalKey returns the spelling that Request.Context is asked for: the table's for a known key, lower case for another. Tag keys
// stay as they are written, because the tags of an object differ by case.
func canonicalKey(key string) string {
	name, tag, tagged := strings.Cut(key, "/")
	if tagged {
		name += "/"
	}
	if known, ok := keySpelling[strings.ToLower(name)]; ok {
		return known + tag
	}
	return strings.ToLower(name) + tag
}

// known returns what the table says of a key in its canonical spelling. ofS3 is false for a key of all services.
func known(key string) (actions keySet, ofS3, ok bool) {
	if i := strings.IndexByte(key, '/'); i >= 0 {
		if i == len(key)-1 {
			return 0, false, false
		}
		key = key[:i+1]
	}
	if actions, ofS3 = s3Keys[key]; ofS3 {
		return actions, true, true
	}
	_, ok = keySpelling[strings.ToLower(key)]
	return 0, false, ok
}

// knowsKey tells whether an action knows a key of S3.
func (a Action) knowsKey(keys keySet) bool {
	return keys == everyAction || actions[a].keys&keys != 0
}

// keyBytesMax bounds a condition key; the longest tag key is 128 characters.
const keyBytesMax = 640

// validKey tells whether a text can be a condition key: a vendor, a colon and a name, perhaps a slash and the key of a tag.
func validKey(key string) bool {
	vendor, name, ok := strings.Cut(key, ":")
	name, _, _ = strings.Cut(name, "/")
	return ok && len(key) <= keyBytesMax && isWord(vendor) && isWord(name)
}

func isWord(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && strings.IndexByte("-_.:", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
