package policy

import "strings"

// The narrowest address ranges that are still public, in bits: anything broader than a /8 of IPv4 or a /32 of IPv6.
const (
	publicBits4 = 8
	publicBits6 = 32
)

// IsPublic tells whether a bucket policy grants something to the public, as S3 means it for PolicyStatus, BlockPublicPolicy and
// RestrictPublicBuckets: a statement allows everybody, and no condition holds it to fixed values, without wildcards or variables, of a
// key that says who or where from. What other statements deny does not count.
func (p *Policy) IsPublic() bool {
	for i := range p.statements {
		if p.statements[i].public() {
			return true
		}
	}
	return false
}

func (s *statement) public() bool {
	if s.deny || !s.principals.everyone {
		return false
	}
	for i := range s.conditions {
		if s.conditions[i].confines() {
			return false
		}
	}
	return true
}

// confiningKeys are the keys of which S3 takes a fixed value for a bound, besides aws:SourceIp.
var confiningKeys = map[string]bool{
	"aws:PrincipalArn": true, "aws:PrincipalAccount": true, "aws:PrincipalOrgID": true,
	"aws:SourceArn": true, "aws:SourceVpc": true, "aws:SourceVpce": true, "aws:SourceOwner": true, "aws:SourceAccount": true, "aws:userid": true,
	"s3:x-amz-server-side-encryption-aws-kms-key-id": true, "s3:DataAccessPointArn": true, "s3:DataAccessPointAccount": true,
}

// confines tells whether a condition holds requests to fixed values. One that a request passes without the key does not.
func (c *condition) confines() bool {
	if c.negated || c.ifExists || c.quantifier == forAll {
		return false
	}
	if c.key == "aws:SourceIp" && c.compare == address {
		for i := range c.values {
			least := publicBits6
			if c.values[i].prefix.Addr().Is4() {
				least = publicBits4
			}
			if c.values[i].prefix.Bits() < least {
				return false
			}
		}
		return true
	}
	switch c.compare {
	case textEquals, textEqualsFold, textLike, arnLike:
	default:
		return false
	}
	for _, text := range c.texts {
		if strings.ContainsAny(text, "*?") || strings.Contains(text, "${") {
			return false
		}
	}
	return confiningKeys[c.key]
}
