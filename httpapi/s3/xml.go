package s3

import (
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/digest"
)

const (
	xmlProlog    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
	xmlTime      = "2006-01-02T15:04:05.000Z"
)

var xmlContentType = []string{"application/xml"}

// An xmlDoc is a response document under construction. Elements are written in order and by hand: S3's clients care for order, for
// empty elements and for the namespace, and listings are big.
type xmlDoc struct {
	b []byte
	// url encodes keys, prefixes and markers, as encoding-type=url asks for.
	url bool
	// header of the response to slow work, unless that was begun before the work was done.
	header [][2]string
}

// xmlKept bounds the buffers that are kept for reuse.
const xmlKept = 1 << 20

var xmlPool = sync.Pool{New: func() any { return new(xmlDoc) }}

// newXML begins a document, with or without its prolog.
func newXML(prolog bool) *xmlDoc {
	x := xmlPool.Get().(*xmlDoc)
	x.b, x.url, x.header = x.b[:0], false, nil
	if prolog {
		x.b = append(x.b, xmlProlog...)
	}
	return x
}

// root opens the outermost element.
func (x *xmlDoc) root(name string) {
	x.b = append(x.b, '<')
	x.b = append(x.b, name...)
	x.b = append(x.b, ` xmlns="`+xmlNamespace+`">`...)
}

func (x *xmlDoc) open(name string) {
	x.b = append(x.b, '<')
	x.b = append(x.b, name...)
	x.b = append(x.b, '>')
}

func (x *xmlDoc) close(name string) {
	x.b = append(x.b, '<', '/')
	x.b = append(x.b, name...)
	x.b = append(x.b, '>')
}

func (x *xmlDoc) text(name, value string) {
	if value == "" {
		x.b = append(x.b, '<')
		x.b = append(x.b, name...)
		x.b = append(x.b, '/', '>')
		return
	}
	x.open(name)
	x.b = appendEscapedXML(x.b, value)
	x.close(name)
}

// optional writes an element unless it is empty.
func (x *xmlDoc) optional(name, value string) {
	if value != "" {
		x.text(name, value)
	}
}

// key writes what is a key or part of one.
func (x *xmlDoc) key(name, value string) {
	if !x.url || value == "" {
		x.text(name, value)
		return
	}
	x.open(name)
	x.b = auth.AppendEscaped(x.b, value, true)
	x.close(name)
}

func (x *xmlDoc) int(name string, n int64) {
	x.open(name)
	x.b = strconv.AppendInt(x.b, n, 10)
	x.close(name)
}

func (x *xmlDoc) bool(name string, v bool) {
	x.open(name)
	x.b = strconv.AppendBool(x.b, v)
	x.close(name)
}

func (x *xmlDoc) time(name string, t time.Time) {
	x.open(name)
	x.b = t.UTC().AppendFormat(x.b, xmlTime)
	x.close(name)
}

// etag writes an ETag with its quotes.
func (x *xmlDoc) etag(etag string) {
	x.open("ETag")
	x.b = append(x.b, "&quot;"...)
	x.b = appendEscapedXML(x.b, etag)
	x.b = append(x.b, "&quot;"...)
	x.close("ETag")
}

// checksum writes the element of a checksum's algorithm, if there is one.
func (x *xmlDoc) checksum(c cas.Checksum) {
	if _, ok := digest.Parse(c.Algorithm); ok && c.Value != "" {
		x.text("Checksum"+c.Algorithm, c.Value)
	}
}

func (x *xmlDoc) owner(name string, id, displayName string) {
	x.open(name)
	x.text("ID", id)
	x.text("DisplayName", displayName)
	x.close(name)
}

// respond sends the document with a status, and ends it.
func (x *xmlDoc) respond(w http.ResponseWriter, status int) {
	h := w.Header()
	h["Content-Type"] = xmlContentType
	h["Content-Length"] = []string{strconv.Itoa(len(x.b))}
	w.WriteHeader(status)
	x.writeTo(w)
}

// writeTo sends the document and ends it.
func (x *xmlDoc) writeTo(w http.ResponseWriter) {
	_, _ = w.Write(x.b) // the client is gone: nothing to be done
	if cap(x.b) <= xmlKept {
		xmlPool.Put(x)
	}
}

// appendEscapedXML appends text. Characters that XML 1.0 has no form for become U+FFFD: clients that have such keys ask for
// encoding-type=url.
func appendEscapedXML(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch c {
			case '&':
				dst = append(dst, "&amp;"...)
			case '<':
				dst = append(dst, "&lt;"...)
			case '>':
				dst = append(dst, "&gt;"...)
			case '"':
				dst = append(dst, "&quot;"...)
			case '\t':
				dst = append(dst, "&#x9;"...)
			case '\n':
				dst = append(dst, "&#xA;"...)
			case '\r':
				dst = append(dst, "&#xD;"...)
			default:
				if c < ' ' {
					dst = append(dst, "\uFFFD"...)
				} else {
					dst = append(dst, c)
				}
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == 0xFFFE || r == 0xFFFF {
			r = utf8.RuneError
		}
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return dst
}
