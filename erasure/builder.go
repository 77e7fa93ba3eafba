package erasure

import (
	"fmt"
	"sync/atomic"
)

// A role says what becomes of a record when its segment fails before it is durable.
type role uint8

const (
	roleBulk     role = iota // appended again to the next data segment
	roleFloating             // floats again
	roleMutation             // forgotten: the caller of Commit brings it again
)

// A record is a Record on its way to the disks. Its body is copied.
type record struct {
	kind  uint8
	role  role
	label []byte
	body  []byte // points into the builder's buffer, or is its own
	h     *Handle
}

func (r *record) payload() int { return tableEntryBytes + len(r.label) + frameBytes + len(r.body) }

// A Handle stands for an appended record. It is safe for concurrent use.
type Handle struct {
	class Class
	loc   atomic.Pointer[Location]
}

// Location returns where the record lies; false while it is not durable.
func (h *Handle) Location() (Location, bool) {
	if p := h.loc.Load(); p != nil {
		return *p, true
	}
	return Location{}, false
}

// Durable tells whether the record is durable and was delivered to OnDurable.
func (h *Handle) Durable() bool { return h.loc.Load() != nil }

// A builder gathers the records of one stripe.
type builder struct {
	recs    []*record
	buf     []byte // bodies of bulk records; from the pool
	payload int
	bulk    int // bytes of bodies of bulk records: what counts as unsynced
}

// add appends a record whose body is already owned by it.
func (b *builder) add(r *record) {
	b.recs = append(b.recs, r)
	b.payload += r.payload()
	if r.role == roleBulk {
		b.bulk += len(r.body)
	}
}

// addCopy appends a record and copies its body into the buffer of the builder when it fits, so that a stripe of bulk
// costs one buffer.
func (b *builder) addCopy(r *record, body []byte, stripe int) {
	if b.buf == nil {
		b.buf = getBuf(max(stripe, len(body)))[:0]
	}
	if cap(b.buf)-len(b.buf) < len(body) {
		r.body = append([]byte(nil), body...)
	} else {
		n := len(b.buf)
		b.buf = append(b.buf, body...)
		r.body = b.buf[n:len(b.buf):len(b.buf)]
	}
	b.add(r)
}

// release gives the buffer back. No record of the builder may be used any longer.
func (b *builder) release() {
	putBuf(b.buf)
	b.buf, b.recs = nil, nil
}

// A savepoint is a builder's state to which it can be rolled back.
type savepoint struct{ recs, payload, bulk int }

func (b *builder) save() savepoint { return savepoint{len(b.recs), b.payload, b.bulk} }

func (b *builder) rollback(s savepoint) {
	clear(b.recs[s.recs:])
	b.recs, b.payload, b.bulk = b.recs[:s.recs], s.payload, s.bulk
}

// pack puts records into builders of about stripe bytes, the first of which may be given, in order. A record larger
// than a stripe gets one of its own, or ends one.
func pack(first *builder, recs []*record, stripe int) []*builder {
	var bs []*builder
	b := first
	if b != nil {
		bs = append(bs, b)
	}
	for _, r := range recs {
		if b == nil || len(b.recs) > 0 && b.payload+r.payload() > stripe {
			b = &builder{}
			bs = append(bs, b)
		}
		b.add(r)
	}
	return bs
}

// checkRecord says whether the log can hold r.
func checkRecord(r Record) error {
	switch {
	case r.Kind == 0:
		return fmt.Errorf("erasure: record of kind 0")
	case len(r.Label) > 255:
		return fmt.Errorf("%w: label of %d bytes, at most 255", ErrTooLarge, len(r.Label))
	case len(r.Body) > MaxBodyBytes:
		return fmt.Errorf("%w: body of %d bytes, at most %d", ErrTooLarge, len(r.Body), MaxBodyBytes)
	}
	return nil
}

// ownRecord copies everything of r.
func ownRecord(r Record, role role, h *Handle) *record {
	return &record{kind: r.Kind, role: role, label: append([]byte(nil), r.Label...), body: append([]byte(nil), r.Body...), h: h}
}
