package cas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/casd/casd/index"
)

// A manifest is a tree. Its nodes are runs of references; a node of level 0 names chunks, a node of a higher level
// names nodes below it, and a node too long to lie in a row is itself a chunk, a list chunk. Layout of a node, with
// integers as unsigned varints:
//
//	size  field
//	1     version, 1
//	1     level: 0 when its references are chunks and zero runs, else one more than the highest level below it
//	...   references, each:
//	        1        kind: 1 chunk, 2 list, 3 zero run
//	        1..10    size: plain bytes of the object that it stands for, at least 1
//	        32       chunk ID; absent for a zero run
//
// A list reference stands for the sum of the references in its list chunk.
const (
	nodeVersion = 1

	refChunk refKind = 1
	refList  refKind = 2
	refZero  refKind = 3

	// A node is cut where the ID of its last reference is zero in nodeCutBits bits, so that an insertion near the start of an
	// object leaves the list chunks behind it as they were.
	nodeRefsMin    = 64
	nodeRefsMax    = 2048
	nodeCutMask    = 1<<9 - 1
	inlineRefsMax  = 64 // longest root that lies in a row
	nodeLevelsMax  = 8  // deeper trees are refused when read: 64^8 references are out of reach
	nodeBytesLimit = nodeRefsMax*(1+binary.MaxVarintLen64+32) + 2
)

type refKind uint8

// A ref is one reference of a manifest.
type ref struct {
	kind refKind
	size int64 // plain bytes that it stands for
	id   index.ID
}

var errBadNode = errors.New("cas: malformed manifest node")

func appendNode(dst []byte, level uint8, refs []ref) []byte {
	dst = append(dst, nodeVersion, level)
	for _, r := range refs {
		dst = append(dst, byte(r.kind))
		dst = binary.AppendUvarint(dst, uint64(r.size))
		if r.kind != refZero {
			dst = append(dst, r.id[:]...)
		}
	}
	return dst
}

// decodeNode accepts exactly what appendNode makes.
func decodeNode(b []byte) (level uint8, refs []ref, err error) {
	if len(b) < 2 || len(b) > nodeBytesLimit || b[0] != nodeVersion || b[1] >= nodeLevelsMax {
		return 0, nil, errBadNode
	}
	level, b = b[1], b[2:]
	refs = make([]ref, 0, len(b)/35)
	var sum int64
	for len(b) > 0 {
		r := ref{kind: refKind(b[0])}
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size == 0 || size > objectBytesMax || n > 1 && b[n] == 0 {
			return 0, nil, errBadNode
		}
		r.size = int64(size)
		b = b[1+n:]
		switch {
		case r.kind == refZero && level == 0:
		case r.kind == refChunk && level == 0 && size <= chunkBytesLimit, r.kind == refList && level > 0:
			if len(b) < len(r.id) {
				return 0, nil, errBadNode
			}
			b = b[copy(r.id[:], b):]
		default:
			return 0, nil, errBadNode
		}
		if sum += r.size; sum > objectBytesMax {
			return 0, nil, errBadNode
		}
		refs = append(refs, r)
	}
	return level, refs, nil
}

// A manifestBuilder makes a tree of the references that it is given, storing the nodes that become list chunks.
// Its memory is one open node a level.
type manifestBuilder struct {
	store  func(node []byte) (index.ID, error) // stores a list chunk
	mu     *sync.Mutex                         // held while levels change: at every moment they name all that was added
	levels [][]ref
	size   int64
}

// add appends a reference. below is the level of the node that a list reference names.
func (b *manifestBuilder) add(r ref, below uint8) error {
	b.size += r.size
	at := 0
	if r.kind == refList {
		at = int(below) + 1
	}
	// A reference of a higher level ends all open nodes below it, since order is the order of bytes.
	for i := 0; i < at && i < len(b.levels); i++ {
		if len(b.levels[i]) > 0 {
			if err := b.flush(i); err != nil {
				return err
			}
		}
	}
	return b.push(at, r)
}

func (b *manifestBuilder) push(at int, r ref) error {
	if at >= nodeLevelsMax {
		return fmt.Errorf("cas: manifest deeper than %d levels", nodeLevelsMax)
	}
	// A chunk after lists joins the lowest level; its node is flushed into the level above in time, in order.
	b.mu.Lock()
	b.grow(at)
	b.levels[at] = append(b.levels[at], r)
	b.mu.Unlock()
	return b.cut(at, r)
}

func (b *manifestBuilder) grow(at int) {
	for len(b.levels) <= at {
		b.levels = append(b.levels, nil)
	}
}

// cut ends the open node of a level when its last reference says so.
func (b *manifestBuilder) cut(at int, r ref) error {
	n := len(b.levels[at])
	if n >= nodeRefsMax || n >= nodeRefsMin && binary.LittleEndian.Uint32(r.id[:])&nodeCutMask == 0 {
		return b.flush(at)
	}
	return nil
}

// flush turns the open node of a level into a list chunk, named in the level above.
func (b *manifestBuilder) flush(at int) error {
	refs := b.levels[at]
	id, err := b.store(appendNode(nil, uint8(at), refs))
	if err != nil {
		return err
	}
	var size int64
	for _, r := range refs {
		size += r.size
	}
	if at+1 >= nodeLevelsMax {
		return fmt.Errorf("cas: manifest deeper than %d levels", nodeLevelsMax)
	}
	r := ref{kind: refList, size: size, id: id}
	b.mu.Lock()
	b.grow(at + 1)
	b.levels[at+1] = append(b.levels[at+1], r)
	b.levels[at] = refs[:0]
	b.mu.Unlock()
	return b.cut(at+1, r)
}

// root ends the tree and returns its root node, short enough to lie in a row.
func (b *manifestBuilder) root() ([]byte, error) {
	for at := 0; at < len(b.levels); at++ {
		top := at == len(b.levels)-1
		if top && len(b.levels[at]) <= inlineRefsMax {
			return appendNode(nil, uint8(at), b.levels[at]), nil
		}
		if len(b.levels[at]) > 0 {
			if err := b.flush(at); err != nil {
				return nil, err
			}
		}
	}
	return appendNode(nil, 0, nil), nil
}

// A manifestReader walks the leaves of a tree, from an offset on. It holds one node a level.
type manifestReader struct {
	load  func(r ref) ([]byte, error) // reads a list chunk
	stack [][]ref
	skip  int64 // bytes of the next leaf that lie before the offset
}

func newManifestReader(root []byte, offset int64, load func(ref) ([]byte, error)) (*manifestReader, error) {
	_, refs, err := decodeNode(root)
	if err != nil {
		return nil, err
	}
	return &manifestReader{load: load, stack: [][]ref{refs}, skip: offset}, nil
}

// next returns the next leaf and how many of its bytes come before the offset; io.EOF at the end.
func (m *manifestReader) next() (r ref, skip int64, err error) {
	for len(m.stack) > 0 {
		top := &m.stack[len(m.stack)-1]
		if len(*top) == 0 {
			m.stack = m.stack[:len(m.stack)-1]
			continue
		}
		r, *top = (*top)[0], (*top)[1:]
		if m.skip >= r.size {
			m.skip -= r.size
			continue
		}
		if r.kind != refList {
			skip, m.skip = m.skip, 0
			return r, skip, nil
		}
		if len(m.stack) >= nodeLevelsMax {
			return ref{}, 0, errBadNode
		}
		node, err := m.load(r)
		if err != nil {
			return ref{}, 0, err
		}
		_, refs, err := decodeNode(node)
		if err != nil {
			return ref{}, 0, err
		}
		var sum int64
		for _, c := range refs {
			sum += c.size
		}
		if sum != r.size {
			return ref{}, 0, fmt.Errorf("%w: list of %d bytes where %d belong", errBadNode, sum, r.size)
		}
		m.stack = append(m.stack, refs)
	}
	return ref{}, 0, io.EOF
}
