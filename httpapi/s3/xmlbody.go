package s3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"github.com/casd/casd/httpapi/s3err"
)

// Documents that clients send. Namespaces are not looked at: clients send S3's, none, or older ones.

type createBucketConfiguration struct {
	LocationConstraint string    `xml:"LocationConstraint"`
	Location           *struct{} `xml:"Location"`
	Bucket             *struct{} `xml:"Bucket"`
	Tags               *struct{} `xml:"Tags"`
}

type versioningConfiguration struct {
	Status    []string   `xml:"Status"`
	MFADelete []string   `xml:"MfaDelete"`
	Others    []struct{} `xml:",any"`
}

type deleteRequest struct {
	Quiet   bool           `xml:"Quiet"`
	Objects []deleteObject `xml:"Object"`
}

type deleteObject struct {
	Keys             []string `xml:"Key"` // there must be one
	VersionID        *string  `xml:"VersionId"`
	ETag             *string  `xml:"ETag"`
	LastModifiedTime *string  `xml:"LastModifiedTime"`
	Size             *string  `xml:"Size"`
}

func (o *deleteObject) key() string { return o.Keys[0] }

// version is the version ID, empty for none.
func (o *deleteObject) version() string {
	if o.VersionID == nil {
		return ""
	}
	return *o.VersionID
}

type completeRequest struct {
	Parts []completePart `xml:"Part"`
}

type completePart struct {
	Number    *int   `xml:"PartNumber"`
	ETag      string `xml:"ETag"`
	CRC32     string `xml:"ChecksumCRC32"`
	CRC32C    string `xml:"ChecksumCRC32C"`
	CRC64NVME string `xml:"ChecksumCRC64NVME"`
	SHA1      string `xml:"ChecksumSHA1"`
	SHA256    string `xml:"ChecksumSHA256"`
}

// xmlDepthMax bounds how deep elements may be nested, far above what S3's documents need.
const xmlDepthMax = 32

// decodeXML reads one document with the given root element, and nothing but white space and comments around it. Document type declarations are
// refused, and with them all entities but XML's own five; so a document is never bigger than what was sent.
//
// A byte order mark may come first. The encoding is UTF-8, or what is part of it: the bytes are read as UTF-8 whatever the declaration says.
func decodeXML(data []byte, root string, v any) error {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	d := newXMLDecoder(data)
	depth, roots := 0, 0
	for {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s3err.MalformedXML
		}
		switch t := t.(type) {
		case xml.Directive:
			return s3err.MalformedXML
		case xml.StartElement:
			if depth == 0 {
				if roots++; roots > 1 || t.Name.Local != root {
					return s3err.MalformedXML
				}
			}
			if depth++; depth > xmlDepthMax {
				return s3err.MalformedXML
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return s3err.MalformedXML
			}
		}
	}
	if roots != 1 || depth != 0 || newXMLDecoder(data).Decode(v) != nil {
		return s3err.MalformedXML
	}
	return nil
}

// newXMLDecoder reads UTF-8, and ASCII by its names; encoding/xml itself knows only the former.
func newXMLDecoder(data []byte) *xml.Decoder {
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "ascii") {
			return input, nil
		}
		return nil, errors.New("s3: XML in the encoding " + charset)
	}
	return d
}
