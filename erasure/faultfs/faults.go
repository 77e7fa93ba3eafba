package faultfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
)

// Ops returns how many operations have changed something.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Fail asks rule before every operation; the error it returns is what the operation returns, and the operation is not done.
// rule must not use the FS. The returned function takes the rule away.
func (f *FS) Fail(rule func(Op) error) (undo func()) {
	//lint:ignore ST1008 the error is what the operation returns, not how the rule fared
	return f.rule(func(op Op) (error, <-chan struct{}) { return rule(op), nil })
}

func (f *FS) rule(rule func(Op) (error, <-chan struct{})) (undo func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.nextID
	f.nextID++
	f.rules[id] = rule
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.rules, id)
	}
}

// FailAt makes the operation with the given number fail. fired tells whether it came to that.
func (f *FS) FailAt(index int, err error) (fired func() bool) {
	hit := false
	f.Fail(func(op Op) error {
		if op.Index == index && op.Kind.Changes() {
			hit = true
			return err
		}
		return nil
	})
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return hit
	}
}

// FailPath makes every operation under prefix fail, of the given kinds or, when none is given, of all.
func (f *FS) FailPath(prefix string, err error, kinds ...Kind) (undo func()) {
	return f.Fail(func(op Op) error {
		if under(clean(op.Path), clean(prefix)) && matches(op.Kind, kinds) {
			return err
		}
		return nil
	})
}

// FailOnce makes the next operation under prefix fail, of the given kinds or, when none is given, of all.
func (f *FS) FailOnce(prefix string, err error, kinds ...Kind) {
	done := false
	f.Fail(func(op Op) error {
		if !done && under(clean(op.Path), clean(prefix)) && matches(op.Kind, kinds) {
			done = true
			return err
		}
		return nil
	})
}

func matches(k Kind, kinds []Kind) bool {
	for _, want := range kinds {
		if k == want {
			return true
		}
	}
	return len(kinds) == 0
}

// Hang makes every operation under prefix wait, of the given kinds or, when none is given, of all, until release is called.
// Then it is done.
func (f *FS) Hang(prefix string, kinds ...Kind) (release func()) {
	ch := make(chan struct{})
	//lint:ignore ST1008 the error is what the operation returns, not how the rule fared
	undo := f.rule(func(op Op) (error, <-chan struct{}) {
		if under(clean(op.Path), clean(prefix)) && matches(op.Kind, kinds) {
			return nil, ch
		}
		return nil, nil
	})
	return func() {
		undo()
		close(ch)
	}
}

// Limit bounds the sum of the file sizes under prefix. Less than nothing takes the bound away.
func (f *FS) Limit(prefix string, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.limits, clean(prefix))
	if bytes >= 0 {
		f.limits[clean(prefix)] = bytes
	}
}

// SetDevice puts everything under prefix on a device of its own. Without that the device is 1.
func (f *FS) SetDevice(prefix string, device uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices[clean(prefix)] = device
}

// Used returns the sum of the file sizes under prefix.
func (f *FS) Used(prefix string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(prefix).size()
}

// PowerOffAt lets the power go right after the operation with the given number, which CrashClone may still undo. Every
// later operation returns ErrPowerOff.
func (f *FS) PowerOffAt(index int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = index
}

// Off tells whether the power is off.
func (f *FS) Off() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// CrashClone returns the file system as a power loss at this moment may leave it. It has no rules and no locks. rng
// decides; the same rng and state give the same result.
func (f *FS) CrashClone(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.empty()
	c.root = f.root.crash(rng)
	c.root.links = 1
	return c
}

// Clone returns the file system as the death of the process leaves it: nothing is lost, and what was not synced still is
// not. It has no rules and no locks.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.empty()
	c.root = f.root.clone(map[*node]*node{})
	return c
}

func (f *FS) empty() *FS {
	c := New()
	c.inode = f.inode
	maps.Copy(c.limits, f.limits)
	maps.Copy(c.devices, f.devices)
	return c
}

func (n *node) clone(done map[*node]*node) *node {
	if c := done[n]; c != nil || n == nil {
		return c
	}
	c := &node{inode: n.inode, links: n.links, dir: n.dir, data: append([]byte(nil), n.data...), disk: append([]byte(nil), n.disk...),
		pending: append([]change(nil), n.pending...), lost: append([]change(nil), n.lost...)}
	done[n] = c
	if n.dir {
		c.entries, c.durable = map[string]*node{}, map[string]*node{}
		for name, e := range n.entries {
			c.entries[name] = e.clone(done)
		}
		for name, e := range n.durable {
			c.durable[name] = e.clone(done)
		}
		for _, m := range n.moves {
			c.moves = append(c.moves, move{m.from, m.to, m.node.clone(done)})
		}
	}
	return c
}

// Graft replaces what is at path by what is there in another file system, as when a stale disk comes back. Nothing of it is open.
func (f *FS) Graft(from *FS, path string) {
	from.mu.Lock()
	n := from.find(path)
	if n == nil {
		from.mu.Unlock()
		panic(fmt.Sprintf("faultfs: no %s to graft", path))
	}
	c := n.clone(map[*node]*node{})
	from.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renumber(c, map[*node]bool{})
	dir, name := f.parent(path)
	dir.entries[name], dir.durable[name] = c, c
}

// renumber gives a tree inode numbers of this file system.
func (f *FS) renumber(n *node, done map[*node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	f.inode++
	n.inode = f.inode
	for _, name := range sortedKeys(n.entries) {
		f.renumber(n.entries[name], done)
	}
	for _, name := range sortedKeys(n.durable) {
		f.renumber(n.durable[name], done)
	}
	for _, m := range n.moves {
		f.renumber(m.node, done)
	}
}

// RemoveAll removes path and all below it, durably. Open files go on to work, without a link.
func (f *FS) RemoveAll(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, name := f.parent(path)
	if dir == nil || dir.entries[name] == nil {
		return
	}
	dir.entries[name].unlink()
	delete(dir.entries, name)
	delete(dir.durable, name)
	var moves []move
	for _, m := range dir.moves {
		if m.from != name && m.to != name {
			moves = append(moves, m)
		}
	}
	dir.moves = moves
}

func (n *node) unlink() {
	n.links--
	for _, e := range n.entries {
		e.unlink()
	}
	if n.dir {
		n.entries, n.durable, n.moves = map[string]*node{}, map[string]*node{}, nil
	}
}

// FlipBit flips one bit of the byte at off, in what is read and in what is durable.
func (f *FS) FlipBit(path string, off int64) {
	f.Poke(path, off, func(b []byte) { b[0] ^= 1 << (off % 8) }, 1)
}

// Poke lets change have the n bytes at off, in what is read and in what is durable.
func (f *FS) Poke(path string, off int64, change func([]byte), n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.find(path)
	if node == nil || off+int64(n) > int64(len(node.data)) {
		panic(fmt.Sprintf("faultfs: no byte %d in %s", off, path))
	}
	change(node.data[off : off+int64(n)])
	if off+int64(n) <= int64(len(node.disk)) {
		copy(node.disk[off:], node.data[off:off+int64(n)])
	}
}

// Cut shortens a file, in what is read and in what is durable.
func (f *FS) Cut(path string, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.find(path)
	if n == nil {
		panic(fmt.Sprintf("faultfs: no %s", path))
	}
	n.data, n.disk = sized(n.data, min(size, int64(len(n.data)))), sized(n.disk, min(size, int64(len(n.disk))))
}

// Files lists the files under path.
func (f *FS) Files(path string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	var visit func(path string, n *node)
	visit = func(path string, n *node) {
		if n == nil {
			return
		}
		if !n.dir {
			names = append(names, path)
		}
		for _, name := range sortedKeys(n.entries) {
			visit(clean(path+"/"+name), n.entries[name])
		}
	}
	visit(clean(path), f.find(path))
	return names
}
