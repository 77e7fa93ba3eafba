package cas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"github.com/casd/casd/index"
)

// nodes is where builders of tests store their list chunks.
type nodes map[index.ID][]byte

func (n nodes) store(b []byte) (index.ID, error) {
	id := index.ID(blake3.Sum256(b))
	n[id] = bytes.Clone(b)
	return id, nil
}

func (n nodes) load(r ref) ([]byte, error) {
	b, ok := n[r.id]
	if !ok {
		return nil, fmt.Errorf("no node %x", r.id[:4])
	}
	return b, nil
}

func leafRef(i int, size int64) ref {
	r := ref{kind: refChunk, size: size}
	r.id = index.ID(blake3.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))))
	return r
}

// fataler is what helpers need of *testing.T and *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func leaves(t fataler, n nodes, root []byte, offset int64) (refs []ref, skip int64) {
	t.Helper()
	m, err := newManifestReader(root, offset, n.load)
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, s, err := m.next()
		if errors.Is(err, io.EOF) {
			return refs, skip
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(refs) == 0 {
			skip = s
		} else if s != 0 {
			t.Fatalf("leaf %d is skipped by %d", len(refs), s)
		}
		refs = append(refs, r)
	}
}

func TestManifestGivesBackItsLeavesFromAnyOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(1000, 6000)).Draw(t, "leaves")
		n := nodes{}
		b := &manifestBuilder{store: n.store, mu: new(sync.Mutex)}
		var want []ref
		var total int64
		for i := range count {
			r := leafRef(i, int64(rapid.IntRange(1, chunkBytesLimit).Draw(t, "size")))
			if i%17 == 5 {
				r = ref{kind: refZero, size: r.size * 1000}
			}
			want = append(want, r)
			total += r.size
			if err := b.add(r, 0); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b.root()
		if err != nil {
			t.Fatal(err)
		}
		if b.size != total {
			t.Fatalf("size %d, want %d", b.size, total)
		}
		if len(root) > inlineRefsMax*43+2 {
			t.Fatalf("root of %d bytes", len(root))
		}
		offset := rapid.Int64Range(0, total).Draw(t, "offset")
		skipped := int64(0)
		first := 0
		for first < count && skipped+want[first].size <= offset {
			skipped += want[first].size
			first++
		}
		got, skip := leaves(t, n, root, offset)
		if len(got) != count-first || first < count && skip != offset-skipped {
			t.Fatalf("%d leaves with skip %d, want %d with %d", len(got), skip, count-first, offset-skipped)
		}
		for i, r := range got {
			if r != want[first+i] {
				t.Fatalf("leaf %d is %v, want %v", i, r, want[first+i])
			}
		}
	})
}

// Joining the manifests of parts must give the leaves of all parts in order, whatever their depths.
func TestManifestJoinsTreesInOrder(t *testing.T) {
	n := nodes{}
	var want []ref
	joined := &manifestBuilder{store: n.store, mu: new(sync.Mutex)}
	for part, count := range []int{3, 900, 1, 40_000, 64, 65, 2, 5000} {
		b := &manifestBuilder{store: n.store, mu: new(sync.Mutex)}
		for i := range count {
			r := leafRef(part<<20|i, int64(1+i%7))
			want = append(want, r)
			if err := b.add(r, 0); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b.root()
		if err != nil {
			t.Fatal(err)
		}
		level, refs, err := decodeNode(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			if err := joined.add(r, level-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := joined.root()
	if err != nil {
		t.Fatal(err)
	}
	got, _ := leaves(t, n, root, 0)
	if len(got) != len(want) {
		t.Fatalf("%d leaves, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("leaf %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// A change near the start of a large object must leave most list chunks as they are.
func TestManifestListsDedup(t *testing.T) {
	build := func(from int) nodes {
		n := nodes{}
		b := &manifestBuilder{store: n.store, mu: new(sync.Mutex)}
		for i := from; i < 50_000; i++ {
			if err := b.add(leafRef(i, 100_000), 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.root(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, after := build(0), build(3)
	shared := 0
	for id := range after {
		if _, ok := before[id]; ok {
			shared++
		}
	}
	if shared < len(after)*8/10 {
		t.Fatalf("only %d of %d list chunks are shared", shared, len(after))
	}
}

func TestManifestReaderRefusesListsOfAnotherSize(t *testing.T) {
	n := nodes{}
	id, _ := n.store(appendNode(nil, 0, []ref{leafRef(1, 10)}))
	root := appendNode(nil, 1, []ref{{kind: refList, size: 11, id: id}})
	m, err := newManifestReader(root, 0, n.load)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.next(); !errors.Is(err, errBadNode) {
		t.Fatalf("next = %v, want errBadNode", err)
	}
}

// goldenNode has one reference of each kind.
func goldenNodes() []byte {
	b := appendNode(nil, 0, []ref{leafRef(1, 131072), {kind: refZero, size: 1 << 30}, leafRef(2, 1)})
	return append(b, appendNode(nil, 1, []ref{{kind: refList, size: 5 << 30, id: leafRef(3, 1).id}})...)
}

func TestNodeGolden(t *testing.T) { golden(t, "node_v1.golden", goldenNodes()) }

// golden compares bytes on disk with those that were written once, when the format was made.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s changed on disk:\ngot  %x\nwant %x (%v)", name, got, want, err)
	}
}

func FuzzDecodeNode(f *testing.F) {
	f.Add(appendNode(nil, 0, []ref{leafRef(1, 131072), {kind: refZero, size: 1 << 30}}))
	f.Add(appendNode(nil, 1, []ref{{kind: refList, size: 5 << 30}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		level, refs, err := decodeNode(b)
		if err == nil && !bytes.Equal(appendNode(nil, level, refs), b) {
			t.Fatalf("decode accepted a node that is not canonical: %x", b)
		}
	})
}
