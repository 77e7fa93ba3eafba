package erasure_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestRecordsComeBack writes random records under random codes and sizes, closes or kills, loses up to m directories and
// reads all of it.
func TestRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 6).Draw(t, "k")
		m := rapid.IntRange(0, 4).Draw(t, "m")
		dirs := k + m + rapid.IntRange(0, 2).Draw(t, "spare")
		mem := faultfs.New()
		opt := tiny(mem, k, m, dirs)
		opt.StripeBytes = rapid.SampledFrom([]int{4096, 5000, 64 << 10}).Draw(t, "stripe")
		bodies := map[string][]byte{}
		locs := map[string]erasure.Location{}
		opt.OnDurable = func(ps []erasure.Placed) {
			for _, p := range ps {
				locs[string(p.Label)] = p.Location
			}
		}
		l, err := erasure.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(1, 30).Draw(t, "records") {
			label := fmt.Sprintf("%d%s", i, bytes.Repeat([]byte{'l'}, rapid.IntRange(0, 250).Draw(t, "label")))
			body := bytes.Repeat([]byte{byte(i), 7, 3}, rapid.SampledFrom([]int{0, 1, 100, 1300, 4000, 30000, 100000}).Draw(t, "size"))
			bodies[label] = body
			rec := erasure.Record{Kind: uint8(1 + i%255), Label: []byte(label), Body: body}
			var err error
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0:
				_, err = l.Append(t.Context(), rec, erasure.Data, erasure.TierUpload)
			case 1:
				_, err = l.Append(t.Context(), rec, erasure.Metadata, erasure.TierUpload)
			case 2:
				err = l.Commit(t.Context(), []erasure.Record{rec}, nil, erasure.TierUpload)
			case 3:
				var h *erasure.Handle
				if h, err = l.Append(t.Context(), rec, erasure.Data, erasure.TierUpload); err == nil {
					err = l.Commit(t.Context(), nil, []*erasure.Handle{h}, erasure.TierUpload)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "kill") {
			mem = mem.Clone()
			opt.FS = mem
			l.Close(t.Context())
		} else if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range rapid.SliceOfNDistinct(rapid.IntRange(0, dirs-1), 0, min(m, dirs-1), rapid.ID).Draw(t, "lost") {
			mem.RemoveAll(fmt.Sprintf("/d%d", d))
		}
		if l, err = erasure.Open(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
		defer l.Close(t.Context())
		seen := 0
		all := func(uint8) bool { return true }
		if err := l.Replay(t.Context(), 0, all, func(r erasure.Replayed) error {
			seen++
			if !bytes.Equal(r.Body, bodies[string(r.Label)]) || r.Location != locs[string(r.Label)] {
				return fmt.Errorf("record %.10s is replayed wrong", r.Label)
			}
			return nil
		}); err != nil || seen != len(bodies) {
			t.Fatalf("%d of %d records, %v", seen, len(bodies), err)
		}
		for label, body := range bodies {
			if b, err := l.Read(t.Context(), locs[label], nil); err != nil || !bytes.Equal(b, body) {
				t.Fatalf("record %.10s: %v", label, err)
			}
		}
	})
}

// FuzzReadLocation: no location, however wrong, makes Read do anything but return an error or the bytes of a record.
func FuzzReadLocation(f *testing.F) {
	led, mem, opt := filledStore(f, 2, 1, 3, 5)
	c := mustLed(f, led, opt)
	_ = mem
	f.Cleanup(func() { c.log.Close(f.Context()) })
	var good []erasure.Location
	for _, loc := range c.locations {
		good = append(good, loc)
		f.Add(loc[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var loc erasure.Location
		copy(loc[:], b)
		got, err := c.log.Read(t.Context(), loc, nil)
		if err == nil {
			for _, g := range good {
				if g.Segment() == loc.Segment() && g.Ordinal() == loc.Ordinal() && len(got) == g.BodyBytes() {
					return // the frame says that it is this record, whatever else is wrong in the location
				}
			}
			t.Fatalf("location %x reads %d bytes", loc, len(got))
		}
	})
}
