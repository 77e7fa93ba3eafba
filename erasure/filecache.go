package erasure

import (
	"container/list"
	"os"
	"sync"
)

// openFilesMax bounds the shard files that are kept open for reading.
const openFilesMax = 512

// A fileKey names a shard file: one shard may have been in several directories.
type fileKey struct {
	segment SegmentID
	shard   int
	d       *dir
}

// A fileCache keeps shard files open for reading, the least recently used of which it closes.
type fileCache struct {
	fs     FS
	mu     sync.Mutex // guards what follows
	files  map[fileKey]*list.Element
	order  list.List // of *cachedFile, most recently used first
	closed bool
}

type cachedFile struct {
	key   fileKey
	f     File
	users int
	gone  bool // out of the cache: the last user closes it
}

func (c *fileCache) init(fs FS) {
	c.fs = fs
	c.files = map[fileKey]*list.Element{}
}

// get returns the open file of a shard in a directory; put must follow.
func (c *fileCache) get(s *segment, shard int, d *dir) (*cachedFile, error) {
	key := fileKey{s.id, shard, d}
	if cf := c.hit(key); cf != nil {
		return cf, nil
	}
	moves := s.moves.Load()
	f, err := c.fs.OpenFile(s.path(d, shard), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	cf := &cachedFile{key: key, f: f, users: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.files[key]; ok || c.closed || s.dirOf(shard) != d || s.moves.Load() != moves || s.gate.isShut() {
		cf.gone = true // another reader was faster, or the shard has moved, perhaps there and back, or the segment goes
		return cf, nil
	}
	c.files[key] = c.order.PushFront(cf)
	for c.order.Len() > openFilesMax {
		c.drop(c.order.Back())
	}
	return cf, nil
}

func (c *fileCache) hit(key fileKey) *cachedFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.files[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	cf := e.Value.(*cachedFile)
	cf.users++
	return cf
}

func (c *fileCache) put(cf *cachedFile) {
	c.mu.Lock()
	cf.users--
	last := cf.gone && cf.users == 0
	c.mu.Unlock()
	if last {
		cf.f.Close()
	}
}

// drop removes an entry. The caller holds c.mu.
func (c *fileCache) drop(e *list.Element) {
	cf := c.order.Remove(e).(*cachedFile)
	delete(c.files, cf.key)
	cf.gone = true
	if cf.users == 0 {
		cf.f.Close()
	}
}

// forget drops a file that gave an error, so that the next reader opens it anew.
func (c *fileCache) forget(key fileKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[key]; e != nil {
		c.drop(e)
	}
}

// forgetDir drops the files of a directory.
func (c *fileCache) forgetDir(d *dir) {
	c.forgetAll(func(key fileKey) bool { return key.d == d })
}

// forgetSegment drops the files of a segment.
func (c *fileCache) forgetSegment(id SegmentID) {
	c.forgetAll(func(key fileKey) bool { return key.segment == id })
}

func (c *fileCache) forgetAll(which func(fileKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var next *list.Element
	for e := c.order.Front(); e != nil; e = next {
		next = e.Next()
		if which(e.Value.(*cachedFile).key) {
			c.drop(e)
		}
	}
}

func (c *fileCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.order.Len() > 0 {
		c.drop(c.order.Back())
	}
}
