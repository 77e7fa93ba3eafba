package faultfs

// A WriteOp is a write that is about to happen.
type WriteOp struct {
	Path  string
	Off   int64
	Bytes int
}

// A Fate is what becomes of a write. The zero value is a write that the disk acknowledges and loses.
type Fate struct {
	Bytes   int                   // how many of its first bytes get to a file; more than there are means all
	Sectors func(sector int) bool // nil, or which of the sectors that the write touches get there, counted from 0
	Path    string                // the file that they land in, when it is not the one that was meant
	Shift   int64                 // how far behind their right offset they land
	Err     error                 // what the writer is told
}

// Lie asks rule before every write what becomes of it; nil leaves it alone. rule must not use the FS. What lands in a wrong place is
// there at once and stays, as if it had been synced. The returned function takes the rule away.
func (f *FS) Lie(rule func(WriteOp) *Fate) (undo func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.nextID
	f.nextID++
	f.lies[id] = rule
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.lies, id)
	}
}

// fate asks the rules what becomes of a write. Called with f.mu held.
func (f *FS) fate(w WriteOp) *Fate {
	for id := range f.nextID {
		if rule := f.lies[id]; rule != nil {
			if fate := rule(w); fate != nil {
				return fate
			}
		}
	}
	return nil
}

// suffer does to n what fate makes of the write of p at off, and returns how many bytes the writer is told were written. Called with
// the lock of the FS held.
func (h *file) suffer(fate *Fate, p []byte, off int64) (int, error) {
	told := len(p)
	if fate.Err != nil {
		told = min(fate.Bytes, len(p))
	}
	if size := off + int64(len(p)); fate.Err == nil && size > int64(len(h.n.data)) {
		h.n.resize(size) // the size is not on the sectors that were lost
	}
	elsewhere := fate.Path != "" || fate.Shift != 0
	target := h.n
	if fate.Path != "" {
		if target = h.fs.find(fate.Path); target == nil || target.dir {
			return told, fate.Err
		}
	}
	p = p[:min(fate.Bytes, len(p))]
	for at, sector := 0, 0; at < len(p); sector++ {
		end := min(at+sectorBytes-int(off+int64(at))%sectorBytes, len(p))
		if fate.Sectors == nil || fate.Sectors(sector) {
			ch := change{off + int64(at) + fate.Shift, append([]byte{}, p[at:end]...)}
			switch {
			case !elsewhere:
				target.data = ch.do(target.data)
				target.pending = append(target.pending, ch)
			case ch.off >= 0 && ch.off+int64(len(ch.data)) <= int64(len(target.data)): // a disk has no file to make longer
				target.data = ch.do(target.data)
				if ch.off+int64(len(ch.data)) <= int64(len(target.disk)) {
					target.disk = ch.do(target.disk)
				}
			}
		}
		at = end
	}
	return told, fate.Err
}

// HangWhen makes every operation that rule picks wait until release is called. Then it is done. rule must not use the FS.
func (f *FS) HangWhen(rule func(Op) bool) (release func()) {
	ch := make(chan struct{})
	//lint:ignore ST1008 the error is what the operation returns, not how the rule fared
	undo := f.rule(func(op Op) (error, <-chan struct{}) {
		if rule(op) {
			return nil, ch
		}
		return nil, nil
	})
	return func() {
		undo()
		close(ch)
	}
}

// PowerOff lets the power go now. Every later operation returns ErrPowerOff.
func (f *FS) PowerOff() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}
