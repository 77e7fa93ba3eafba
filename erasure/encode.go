package erasure

// encode fills the shards of a stripe: k, m, marks, writer and what the payload determines are set in h. fill writes the payload.
func (l *Log) encode(o *openSegment, h *header, fill func(*scatter)) ([][]byte, error) {
	h.k, h.m, h.writer = uint8(o.k), uint8(o.m), l.writer
	for i := range h.marks {
		if m, ok := l.openMarks[i].Load().(mark); ok {
			h.marks[i] = m
		}
	}
	n := o.n()
	bufs, data := make([][]byte, n), make([][]byte, n)
	for i := range bufs {
		bufs[i] = getBuf(int(h.stored()))
		data[i] = bufs[i][headerBytes : headerBytes+int(h.shard)]
		clear(bufs[i][headerBytes+int(h.shard):])
	}
	w := &scatter{parts: data[:o.k]}
	fill(w)
	w.zero()
	return bufs, l.finishShards(h, bufs, data)
}

// finishShards computes parity, checksums and headers.
func (l *Log) finishShards(h *header, bufs, data [][]byte) error {
	k := int(h.k)
	if h.m > 0 {
		enc, err := l.codecs.get(k, int(h.m))
		if err != nil {
			return err
		}
		if err := enc.Encode(data); err != nil {
			return err
		}
	}
	sums := make([]id16, len(data))
	for i := range data {
		sums[i] = sum128(data[i])
	}
	h.digest = stripeDigest(sums[:k])
	for i := range bufs {
		h.index, h.sum = uint8(i), sums[i]
		h.encode(bufs[i])
	}
	return nil
}

// A scatter writes a payload across data shards.
type scatter struct {
	parts [][]byte
	off   int
}

func (w *scatter) write(b []byte) {
	for len(b) > 0 {
		n := copy(w.parts[0][w.off:], b)
		b = b[n:]
		w.advance(n)
	}
}

func (w *scatter) advance(n int) {
	if w.off += n; w.off == len(w.parts[0]) {
		w.parts, w.off = w.parts[1:], 0
	}
}

func (w *scatter) zero() {
	for len(w.parts) > 0 {
		clear(w.parts[0][w.off:])
		w.advance(len(w.parts[0]) - w.off)
	}
}
