package chunking

import (
	"io"
	"sync"
)

// A Pool keeps Splitters of one store for reuse. It is safe for concurrent use.
type Pool struct {
	params    Params
	splitters sync.Pool
}

// NewPool returns a Pool of Splitters with parameters p, or what p.Validate returns.
func NewPool(p Params) (*Pool, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &Pool{params: p}, nil
}

// Params returns the parameters of the Pool's Splitters.
func (p *Pool) Params() Params { return p.params }

// Get returns a Splitter of r.
func (p *Pool) Get(r io.Reader) *Splitter {
	if s, ok := p.splitters.Get().(*Splitter); ok {
		s.Reset(r)
		return s
	}
	return newSplitter(r, p.params)
}

// Put takes back a Splitter that Get returned and that nobody uses any more, whatever state it is in.
func (p *Pool) Put(s *Splitter) {
	s.Reset(nil) // holds no reader while it waits
	p.splitters.Put(s)
}
