package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// depthMax bounds the nesting of a document. A policy needs five levels: document, statements, statement, operators, keys, values.
const depthMax = 8

type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeString
	nodeNumber
	nodeBool
	nodeArray
	nodeObject
)

// A node is one JSON value, its members in the order of the document.
type node struct {
	kind    nodeKind
	text    string // of a string, a number or a boolean
	items   []node
	members []member
}

type member struct {
	name  string
	value node
}

var errJSON = errors.New("policy: not strict JSON")

// parseJSON reads one JSON value. Unlike encoding/json it refuses duplicate names, invalid UTF-8 and deep nesting.
func parseJSON(b []byte) (node, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return node{}, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return readNode(d, 0)
}

func readNode(d *json.Decoder, depth int) (node, error) {
	t, err := d.Token()
	if err != nil {
		return node{}, errJSON
	}
	switch t := t.(type) {
	case string:
		return node{kind: nodeString, text: t}, nil
	case json.Number:
		return node{kind: nodeNumber, text: t.String()}, nil
	case bool:
		if t {
			return node{kind: nodeBool, text: "true"}, nil
		}
		return node{kind: nodeBool, text: "false"}, nil
	case json.Delim:
		if depth >= depthMax {
			return node{}, errJSON
		}
		if t == '[' {
			return readArray(d, depth)
		}
		return readObject(d, depth)
	}
	return node{}, nil
}

func readArray(d *json.Decoder, depth int) (node, error) {
	n := node{kind: nodeArray}
	for d.More() {
		item, err := readNode(d, depth+1)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err := d.Token()
	return n, err
}

func readObject(d *json.Decoder, depth int) (node, error) {
	n := node{kind: nodeObject}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return node{}, errJSON
		}
		name, ok := t.(string)
		if !ok || seen[name] {
			return node{}, errJSON
		}
		seen[name] = true
		value, err := readNode(d, depth+1)
		if err != nil {
			return node{}, err
		}
		n.members = append(n.members, member{name, value})
	}
	_, err := d.Token()
	return n, err
}

// strings returns a string, or a list of strings, as a list. ok is false for anything else.
func (n node) strings() (list []string, ok bool) {
	switch n.kind {
	case nodeString:
		return []string{n.text}, true
	case nodeArray:
		for _, item := range n.items {
			if item.kind != nodeString {
				return nil, false
			}
			list = append(list, item.text)
		}
		return list, true
	}
	return nil, false
}

// scalars is strings for the values of a condition, where numbers and booleans need no quotation marks.
func (n node) scalars() (list []string, ok bool) {
	scalar := func(n node) bool { return n.kind == nodeString || n.kind == nodeNumber || n.kind == nodeBool }
	if scalar(n) {
		return []string{n.text}, true
	}
	if n.kind != nodeArray || len(n.items) == 0 {
		return nil, false
	}
	for _, item := range n.items {
		if !scalar(item) {
			return nil, false
		}
		list = append(list, item.text)
	}
	return list, true
}
