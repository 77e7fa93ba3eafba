package policy

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A comparison is what an operator does with one value of the policy and one of the request.
type comparison uint8

const (
	textEquals comparison = iota
	textEqualsFold
	textLike
	number
	date
	boolean
	binary
	address
	arnLike
	null
)

// An order is the set of results of a comparison of two numbers or dates that satisfy an operator.
type order uint8

const (
	less order = 1 << iota
	equal
	greater
)

type operator struct {
	compare comparison
	negated bool
	order   order
}

// operators is the list of AWS, by their exact names.
var operators = map[string]operator{
	"StringEquals":              {compare: textEquals},
	"StringNotEquals":           {compare: textEquals, negated: true},
	"StringEqualsIgnoreCase":    {compare: textEqualsFold},
	"StringNotEqualsIgnoreCase": {compare: textEqualsFold, negated: true},
	"StringLike":                {compare: textLike},
	"StringNotLike":             {compare: textLike, negated: true},
	"NumericEquals":             {compare: number, order: equal},
	"NumericNotEquals":          {compare: number, order: equal, negated: true},
	"NumericLessThan":           {compare: number, order: less},
	"NumericLessThanEquals":     {compare: number, order: less | equal},
	"NumericGreaterThan":        {compare: number, order: greater},
	"NumericGreaterThanEquals":  {compare: number, order: greater | equal},
	"DateEquals":                {compare: date, order: equal},
	"DateNotEquals":             {compare: date, order: equal, negated: true},
	"DateLessThan":              {compare: date, order: less},
	"DateLessThanEquals":        {compare: date, order: less | equal},
	"DateGreaterThan":           {compare: date, order: greater},
	"DateGreaterThanEquals":     {compare: date, order: greater | equal},
	"Bool":                      {compare: boolean},
	"BinaryEquals":              {compare: binary},
	"IpAddress":                 {compare: address},
	"NotIpAddress":              {compare: address, negated: true},
	"ArnEquals":                 {compare: arnLike},
	"ArnNotEquals":              {compare: arnLike, negated: true},
	"ArnLike":                   {compare: arnLike},
	"ArnNotLike":                {compare: arnLike, negated: true},
	"Null":                      {compare: null},
}

// A value is one value of a condition, compiled for its operator.
type value struct {
	text   pattern   // of the comparisons of text
	arn    []pattern // arnLike: six
	number float64
	time   time.Time
	flag   bool // boolean, null
	bytes  string
	prefix netip.Prefix
}

// compileValue compiles one value. ok is false when it does not fit the operator.
func compileValue(c comparison, s string, variables bool) (v value, ok bool) {
	switch c {
	case textEquals, textEqualsFold:
		v.text, ok = compile(s, false, variables)
	case textLike:
		v.text, ok = compile(s, true, variables)
	case number:
		v.number, ok = parseNumber(s)
	case date:
		v.time, ok = parseDate(s)
	case boolean, null:
		v.flag, ok = parseBool(s)
	case binary:
		v.bytes, ok = parseBinary(s)
	case address:
		v.prefix, ok = parsePrefix(s)
	case arnLike:
		v.arn, ok = compileARN(s, variables)
	}
	return v, ok
}

// holds compares one value of a request, which may be anything that a client sent, with one of the policy.
func (v *value) holds(op operator, s string, r *Request) bool {
	switch op.compare {
	case textEquals, textLike:
		return v.text.matchFor(s, r)
	case textEqualsFold:
		t, ok := v.text.textFor(r)
		return ok && strings.EqualFold(t, s)
	case number:
		n, ok := parseNumber(s)
		return ok && op.order.has(compareNumbers(n, v.number))
	case date:
		t, ok := parseDate(s)
		return ok && op.order.has(t.Compare(v.time))
	case boolean:
		b, ok := parseBool(s)
		return ok && b == v.flag
	case binary:
		b, ok := parseBinary(s)
		return ok && b == v.bytes
	case address:
		a, err := netip.ParseAddr(s)
		return err == nil && v.prefix.Contains(a.Unmap().WithZone(""))
	case arnLike:
		return matchARN(v.arn, s, r)
	}
	return false
}

func (o order) has(sign int) bool {
	switch {
	case sign < 0:
		return o&less != 0
	case sign > 0:
		return o&greater != 0
	}
	return o&equal != 0
}

func compareNumbers(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// numberBytesMax bounds a number's text.
const numberBytesMax = 64

// parseNumber reads an integer or a decimal; not NaN, infinity or a hexadecimal number, which strconv would take.
func parseNumber(s string) (float64, bool) {
	if s == "" || len(s) > numberBytesMax {
		return 0, false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && strings.IndexByte("+-.eE", s[i]) < 0 {
			return 0, false
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// dateLayouts are the W3C forms of ISO 8601. time.Parse takes a fraction behind the seconds of any layout.
var dateLayouts = [...]string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006-01-02T15:04:05Z0700"}

// epochSecondsMax bounds a date in seconds since 1970; it is far beyond the year 9999.
const epochSecondsMax = 1 << 40

// parseDate reads a date, or seconds since 1970. Four digits are a year, as W3C says.
func parseDate(s string) (time.Time, bool) {
	if len(s) == 4 {
		t, err := time.Parse("2006", s)
		return t, err == nil
	}
	if strings.IndexByte(s, '-') < 0 {
		seconds, err := strconv.ParseInt(s, 10, 64)
		return time.Unix(seconds, 0), err == nil && seconds <= epochSecondsMax
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseBool(s string) (b, ok bool) {
	if strings.EqualFold(s, "true") {
		return true, true
	}
	return false, strings.EqualFold(s, "false")
}

func parseBinary(s string) (string, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return string(b), err == nil
}

// parsePrefix reads an address or a CIDR. Bits behind the prefix are ignored, as AWS does.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return netip.Prefix{}, false
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// arnParts is the number of components of an ARN: arn, partition, service, region, account, resource.
const arnParts = 6

// splitARN cuts at the first five colons that are not inside a variable. ok is false when there are fewer.
func splitARN(s string) (parts [arnParts]string, ok bool) {
	n, from, inside := 0, 0, false
	for i := 0; i < len(s) && n < arnParts-1; i++ {
		switch {
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '{':
			inside = true
		case s[i] == '}':
			inside = false
		case s[i] == ':' && !inside:
			parts[n], from = s[from:i], i+1
			n++
		}
	}
	parts[n] = s[from:]
	return parts, n == arnParts-1
}

func compileARN(s string, variables bool) ([]pattern, bool) {
	parts, ok := splitARN(s)
	if !ok || parts[0] != "arn" {
		return nil, false
	}
	compiled := make([]pattern, arnParts)
	for i, part := range parts {
		if compiled[i], ok = compile(part, true, variables); !ok {
			return nil, false
		}
	}
	return compiled, true
}

// matchARN compares the components one by one: a wildcard does not reach over a colon, but for those of the resource.
func matchARN(arn []pattern, s string, r *Request) bool {
	for i := range arn {
		part := s
		if i < arnParts-1 {
			var ok bool
			if part, s, ok = strings.Cut(s, ":"); !ok {
				return false
			}
		}
		if !arn[i].matchFor(part, r) {
			return false
		}
	}
	return true
}
