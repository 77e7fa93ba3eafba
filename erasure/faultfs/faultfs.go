/*
Package faultfs is a file system in memory that remembers what was synced, and that fails, hangs, rots and loses power on
request.

# Fault model

  - Power loss (CrashClone): what was synced stays. Of what was not, each write is kept, lost or torn at 512-byte sectors,
    independently of the others, so writes are also reordered; a change of a file's size is kept or lost; a change of a
    directory (create, rename, remove, mkdir) is kept or lost, a rename as one. Bytes that no unsynced write covers never
    change.
  - Kill (Clone): everything written stays, synced or not; a later power loss may still take what was not synced.
  - A failed fsync: the writes it covered stay readable and are never made durable by a later fsync of the same file, as on
    Linux. A power loss keeps, loses or tears them.
  - Operations fail with any error, once or always, by path, kind, or number. They hang until released. No space: a limit by
    path.
  - Rot: flipped bits, cut files. Removal of files that are open: reads, writes and fsyncs of these go on to succeed.
  - Writes that are cut short, torn at sectors and refused, or acknowledged and then lost, torn or put in a wrong place (Lie). Poke
    writes anything anywhere.

Files and directories have one device and inode numbers that are not used twice. Locks end with Close, Clone or CrashClone.
Paths are absolute and clean.
*/
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/casd/casd/erasure"
)

// ErrPowerOff is what every operation returns after PowerOffAt.
var ErrPowerOff = errors.New("faultfs: power is off")

// Kind is a kind of operation.
type Kind string

// The kinds of operations that are counted and can be made to fail.
const (
	Open     Kind = "open"
	Create   Kind = "create" // open with O_CREATE
	Mkdir    Kind = "mkdir"
	ReadDir  Kind = "readdir"
	Rename   Kind = "rename" // Path is the new name
	Remove   Kind = "remove"
	Stat     Kind = "stat"
	SyncDir  Kind = "syncdir"
	Lock     Kind = "lock"
	Statfs   Kind = "statfs"
	Read     Kind = "read"
	Write    Kind = "write"
	Sync     Kind = "sync"
	Truncate Kind = "truncate"
	Allocate Kind = "allocate"
)

// Changes tells whether operations of this kind change anything, or make it durable. Only these are numbered.
func (k Kind) Changes() bool {
	switch k {
	case Open, ReadDir, Stat, Statfs, Read, Lock:
		return false
	}
	return true
}

// An Op is an operation that is about to happen.
type Op struct {
	Index int // of the operations that change something, from 0; that of the next one for the others
	Kind  Kind
	Path  string
}

// FS implements erasure.FS. The zero value is not usable; see New.
type FS struct {
	mu     sync.Mutex // guards everything
	root   *node
	inode  uint64
	ops    int
	off    int // operation at which the power goes; -1 never
	dead   bool
	rules  map[int]func(Op) (error, <-chan struct{})
	lies   map[int]func(WriteOp) *Fate
	nextID int
	limits map[string]int64

	devices map[string]uint64
}

// A node is a file or a directory.
type node struct {
	inode   uint64
	links   int
	dir     bool
	data    []byte
	disk    []byte   // what is durable
	pending []change // since the last fsync, in order
	lost    []change // covered by an fsync that failed
	entries map[string]*node
	durable map[string]*node
	moves   []move
	locked  string
}

// A change is a write, or a change of size when data is nil.
type change struct {
	off  int64 // or the new size
	data []byte
}

// A move is a change of a directory.
type move struct {
	from, to string // from "": create; to "": remove
	node     *node
}

// New returns an empty file system.
func New() *FS {
	return &FS{root: newDir(1), inode: 1, off: -1, rules: map[int]func(Op) (error, <-chan struct{}){},
		lies: map[int]func(WriteOp) *Fate{}, limits: map[string]int64{}, devices: map[string]uint64{}}
}

func newDir(inode uint64) *node {
	return &node{inode: inode, links: 1, dir: true, entries: map[string]*node{}, durable: map[string]*node{}}
}

var _ erasure.FS = (*FS)(nil)

// begin counts an operation and makes it fail or hang if it should. It is called, and returns, with f.mu held.
func (f *FS) begin(k Kind, path string) error {
	op := Op{Index: f.ops, Kind: k, Path: path}
	if f.dead {
		return &fs.PathError{Op: string(k), Path: path, Err: ErrPowerOff}
	}
	if k.Changes() {
		f.ops++
	}
	for id := range f.nextID {
		rule := f.rules[id]
		if rule == nil {
			continue
		}
		err, hang := rule(op)
		if hang != nil {
			f.mu.Unlock()
			<-hang
			f.mu.Lock()
		}
		if err != nil {
			return &fs.PathError{Op: string(k), Path: path, Err: err}
		}
	}
	return nil
}

// end lets the power go after operation f.off was done, half or whole.
func (f *FS) end(k Kind) {
	if f.off >= 0 && k.Changes() && f.ops > f.off {
		f.dead = true
	}
}

func clean(path string) string { return filepath.Clean("/" + path) }

// find returns the node at path, or nil.
func (f *FS) find(path string) *node {
	n := f.root
	for part := range strings.SplitSeq(strings.Trim(clean(path), "/"), "/") {
		if part == "" {
			continue
		}
		if n == nil || !n.dir {
			return nil
		}
		n = n.entries[part]
	}
	return n
}

func (f *FS) parent(path string) (*node, string) {
	path = clean(path)
	n := f.find(filepath.Dir(path))
	if n == nil || !n.dir {
		return nil, ""
	}
	return n, filepath.Base(path)
}

func notExist(k Kind, path string) error {
	return &fs.PathError{Op: string(k), Path: path, Err: fs.ErrNotExist}
}

// OpenFile implements erasure.FS.
func (f *FS) OpenFile(path string, flag int) (erasure.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.find(path)
	kind := Open
	if flag&os.O_CREATE != 0 && n == nil || flag&os.O_TRUNC != 0 {
		kind = Create
	}
	if err := f.begin(kind, path); err != nil {
		return nil, err
	}
	defer f.end(kind)
	n = f.find(path)
	switch {
	case n != nil && n.dir:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
	case n == nil && flag&os.O_CREATE == 0:
		return nil, notExist(Open, path)
	case n == nil:
		dir, name := f.parent(path)
		if dir == nil {
			return nil, notExist(Create, path)
		}
		f.inode++
		n = &node{inode: f.inode}
		dir.apply(move{to: name, node: n})
	case flag&os.O_TRUNC != 0:
		n.resize(0)
	}
	return &file{fs: f, n: n, path: clean(path), write: flag&(os.O_RDWR|os.O_WRONLY) != 0}, nil
}

// apply changes a directory; the change is not durable yet.
func (n *node) apply(m move) {
	n.moves = append(n.moves, m)
	m.do(n.entries)
	if m.from == "" {
		m.node.links++
	}
	if m.to == "" {
		m.node.links--
	}
}

func (m move) do(entries map[string]*node) {
	if m.from != "" && entries[m.from] == m.node {
		delete(entries, m.from)
	}
	if m.to != "" {
		if old := entries[m.to]; old != nil && old != m.node {
			old.links--
		}
		entries[m.to] = m.node
	}
}

// MkdirAll implements erasure.FS.
func (f *FS) MkdirAll(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.find(path); n != nil && n.dir {
		return nil
	}
	if err := f.begin(Mkdir, path); err != nil {
		return err
	}
	defer f.end(Mkdir)
	n := f.root
	for part := range strings.SplitSeq(strings.Trim(clean(path), "/"), "/") {
		next := n.entries[part]
		if next == nil {
			f.inode++
			next = newDir(f.inode)
			next.links = 0
			n.apply(move{to: part, node: next})
		}
		if !next.dir {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		n = next
	}
	return nil
}

// ReadDir implements erasure.FS.
func (f *FS) ReadDir(path string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ReadDir, path); err != nil {
		return nil, err
	}
	n := f.find(path)
	if n == nil || !n.dir {
		return nil, notExist(ReadDir, path)
	}
	var names []string
	for name := range n.entries {
		names = append(names, name)
	}
	return names, nil
}

// Rename implements erasure.FS. Both names are in one directory.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Rename, to); err != nil {
		return err
	}
	defer f.end(Rename)
	dir, name := f.parent(from)
	dir2, name2 := f.parent(to)
	if dir == nil || dir != dir2 || dir.entries[name] == nil {
		return notExist(Rename, from)
	}
	dir.apply(move{from: name, to: name2, node: dir.entries[name]})
	return nil
}

// Remove implements erasure.FS.
func (f *FS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Remove, path); err != nil {
		return err
	}
	defer f.end(Remove)
	dir, name := f.parent(path)
	if dir == nil || dir.entries[name] == nil {
		return notExist(Remove, path)
	}
	dir.apply(move{from: name, node: dir.entries[name]})
	return nil
}

func (f *FS) info(path string, n *node) erasure.FileInfo {
	device := uint64(1)
	for prefix, d := range f.devices {
		if under(clean(path), prefix) {
			device = d
		}
	}
	return erasure.FileInfo{Size: int64(len(n.data)), Inode: n.inode, Device: device, Links: uint64(max(n.links, 0)), Dir: n.dir}
}

// Stat implements erasure.FS.
func (f *FS) Stat(path string) (erasure.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Stat, path); err != nil {
		return erasure.FileInfo{}, err
	}
	n := f.find(path)
	if n == nil {
		return erasure.FileInfo{}, notExist(Stat, path)
	}
	return f.info(path, n), nil
}

// SyncDir implements erasure.FS.
func (f *FS) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(SyncDir, path); err != nil {
		return err
	}
	defer f.end(SyncDir)
	n := f.find(path)
	if n == nil || !n.dir {
		return notExist(SyncDir, path)
	}
	for _, m := range n.moves {
		m.do2(n.durable)
	}
	n.moves = nil
	return nil
}

// do2 is do for durable entries, which do not count links.
func (m move) do2(entries map[string]*node) {
	if m.from != "" {
		delete(entries, m.from)
	}
	if m.to != "" {
		entries[m.to] = m.node
	}
}

// Statfs implements erasure.FS.
func (f *FS) Statfs(path string) (erasure.FSInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Statfs, path); err != nil {
		return erasure.FSInfo{}, err
	}
	if f.find(path) == nil {
		return erasure.FSInfo{}, notExist(Statfs, path)
	}
	free, used := f.free(path)
	return erasure.FSInfo{Total: used + free, Free: free}, nil
}

// free returns how much may still be written under the limited prefix of path, and how much was.
func (f *FS) free(path string) (free, used int64) {
	free, used = 1<<40, f.root.size()
	for prefix, limit := range f.limits {
		if n := f.find(prefix).size(); under(clean(path), prefix) && limit-n < free {
			free, used = limit-n, n
		}
	}
	return free, used
}

// left returns how much may still be written under the limited prefix of path.
func (f *FS) left(path string) int64 {
	free, _ := f.free(path)
	return free
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

func (n *node) size() (sum int64) {
	if n == nil {
		return 0
	}
	sum = int64(len(n.data))
	for _, e := range n.entries {
		sum += e.size()
	}
	return sum
}

// Lock implements erasure.FS.
func (f *FS) Lock(path, holder string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Lock, path); err != nil {
		return nil, err
	}
	n := f.find(path)
	if n == nil {
		dir, name := f.parent(path)
		if dir == nil {
			return nil, notExist(Lock, path)
		}
		f.inode++
		n = &node{inode: f.inode}
		dir.apply(move{to: name, node: n})
	}
	if n.locked != "" {
		return nil, &erasure.LockedError{Path: path, Holder: n.locked}
	}
	n.locked = holder
	return &unlocker{f, n}, nil
}

type unlocker struct {
	f *FS
	n *node
}

// Close gives the lock back; once only counts.
func (u *unlocker) Close() error {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	if u.n != nil {
		u.n.locked, u.n = "", nil
	}
	return nil
}

// crash returns what is left of a node after a power loss.
func (n *node) crash(rng *rand.Rand) *node {
	c := &node{inode: n.inode, dir: n.dir}
	if !n.dir {
		c.data = append([]byte(nil), n.disk...)
		for _, ch := range append(append([]change(nil), n.lost...), n.pending...) {
			c.data = ch.tear(c.data, rng)
		}
		c.disk = append([]byte(nil), c.data...)
		return c
	}
	left := map[string]*node{}
	for name, e := range n.durable {
		left[name] = e
	}
	for _, m := range n.moves {
		if rng.IntN(2) == 0 {
			m.do2(left)
		}
	}
	c.entries, c.durable = map[string]*node{}, map[string]*node{}
	for _, name := range sortedKeys(left) {
		e := left[name].crash(rng)
		e.links = 1
		c.entries[name], c.durable[name] = e, e
	}
	return c
}
