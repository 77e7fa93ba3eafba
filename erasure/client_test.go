package erasure_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/casd/casd/erasure"
)

var seed = flag.Uint64("seed", 1, "seed of the randomized tests")

const (
	kindChunk   = 1
	kindMut     = 2
	kindVerdict = 3
)

// A tester is what a *testing.T and a *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// A ledger remembers what was sent and what was acknowledged, over all crashes of one store.
type ledger struct {
	mu       sync.Mutex
	sent     map[string][]byte // chunks by label, and mutations by "m<csn>"
	acked    map[string]bool
	verdicts map[erasure.SegmentID]erasure.Verdict // that were acknowledged, or seen
	chunks   int
	csn      uint64 // last sent
	ackedCSN uint64
	drops    map[erasure.SegmentID]bool // that were acknowledged, or seen
	cat      catalog
}

// A catalog is what the layer above has written down: a start begins with it.
type catalog struct {
	pos      erasure.Position
	csn      uint64
	verdicts map[erasure.SegmentID]erasure.Verdict
	drops    map[erasure.SegmentID]bool
}

// checkpoint writes down what was acknowledged.
func (c *client) checkpoint() {
	c.cat = catalog{c.log.Position(), c.ackedCSN, maps.Clone(c.verdicts), maps.Clone(c.drops)}
}

func newLedger() *ledger {
	return &ledger{sent: map[string][]byte{}, acked: map[string]bool{}, verdicts: map[erasure.SegmentID]erasure.Verdict{}, drops: map[erasure.SegmentID]bool{}}
}

// clone returns a ledger for a copy of the store.
func (led *ledger) clone() *ledger {
	led.mu.Lock()
	defer led.mu.Unlock()
	return &ledger{sent: maps.Clone(led.sent), acked: maps.Clone(led.acked), verdicts: maps.Clone(led.verdicts), chunks: led.chunks, csn: led.csn, ackedCSN: led.ackedCSN,
		drops: maps.Clone(led.drops), cat: led.cat}
}

// A client uses a log as the layer above does.
type client struct {
	*ledger
	log       *erasure.Log
	tier      erasure.Tier // of what it appends and commits
	locMu     sync.Mutex
	locations map[string]erasure.Location
}

func encodeVerdict(v erasure.Verdict) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(v.Segment))
	b = binary.LittleEndian.AppendUint32(b, v.Stripes)
	return append(b, v.Digest[:]...)
}

func decodeEnds(r erasure.Replayed) (e erasure.Ends, err error) {
	b := r.Body
	if string(r.Label) == "d" {
		for ; len(b) > 0; b = b[8:] {
			e.Drops = append(e.Drops, erasure.SegmentID(binary.LittleEndian.Uint64(b)))
		}
		return e, nil
	}
	if len(b) != 28 {
		return e, fmt.Errorf("verdict of %d bytes", len(b))
	}
	e.Verdicts = []erasure.Verdict{{Segment: erasure.SegmentID(binary.LittleEndian.Uint64(b)), Stripes: binary.LittleEndian.Uint32(b[8:]), Digest: [16]byte(b[12:])}}
	return e, nil
}

func mutationLabel(csn uint64) []byte { return []byte(fmt.Sprintf("m%d", csn)) }

// open opens, checks everything that was acknowledged, recovers, and commits the verdicts. An error is one of the file
// system; broken promises are reported as failures of the test.
func (led *ledger) open(t tester, opt erasure.Options) (*client, error) {
	c := &client{ledger: led, locations: map[string]erasure.Location{}}
	opt.OnDurable = c.durable
	log, err := erasure.Open(context.Background(), opt)
	if err != nil {
		return nil, err
	}
	c.log = log
	if err := c.start(t); err != nil {
		log.Close(context.Background())
		return nil, err
	}
	return c, nil
}

func (c *client) durable(ps []erasure.Placed) {
	c.locMu.Lock()
	defer c.locMu.Unlock()
	for _, p := range ps {
		c.locations[string(p.Label)] = p.Location
	}
}

func (c *client) start(t tester) error {
	ctx := context.Background()
	c.log.SetDropped(slices.Collect(maps.Keys(c.cat.drops)))
	if err := c.log.SetVerdicts(slices.Collect(maps.Values(c.cat.verdicts))); err != nil {
		return err
	}
	if err := c.log.CheckPosition(c.cat.pos); err != nil {
		return fmt.Errorf("position of the catalog: %w", err)
	}
	found, err := c.log.FindEnds(ctx, c.cat.pos.Seq, kindVerdict, decodeEnds)
	if err != nil {
		return err
	}
	dropped := maps.Clone(c.cat.drops)
	if dropped == nil {
		dropped = map[erasure.SegmentID]bool{}
	}
	for _, id := range found.Drops {
		dropped[id], c.drops[id] = true, true
	}
	for id := range c.drops {
		if !dropped[id] {
			t.Fatalf("segment %d was dropped and is not any more", id)
		}
	}
	known := maps.Clone(c.cat.verdicts)
	if known == nil {
		known = map[erasure.SegmentID]erasure.Verdict{}
	}
	for _, v := range found.Verdicts {
		known[v.Segment] = v
	}
	last, gap := c.cat.csn, ""
	err = c.log.Replay(ctx, 0, func(k uint8) bool { return k == kindMut }, func(r erasure.Replayed) error {
		if c.drops[r.Location.Segment()] {
			t.Fatalf("%s of a dropped segment is replayed", r.Label)
		}
		c.locations[string(r.Label)] = r.Location
		if r.Kind != kindMut {
			return nil
		}
		csn := binary.LittleEndian.Uint64(r.Body)
		if csn > last+1 && gap == "" {
			gap = fmt.Sprintf("CSN %d after %d", csn, last)
		}
		last = max(last, csn)
		if !bytes.Equal(r.Body, c.sent[string(mutationLabel(csn))]) {
			t.Fatalf("mutation %d is not what was sent", csn)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, v := range c.verdicts {
		if known[id] != v && !dropped[id] {
			t.Fatalf("verdict %+v became %+v", v, known[id])
		}
	}
	if gap != "" {
		t.Fatal(gap)
	}
	if last < c.ackedCSN {
		t.Fatalf("mutation %d was acknowledged, the log ends at %d", c.ackedCSN, last)
	}
	c.csn = last // what was sent behind it never happened
	vs, err := c.log.Recover(ctx)
	if err != nil {
		return err
	}
	if err := c.check(t); err != nil {
		return err
	}
	if c.log.WriteState() == nil {
		c.tier = erasure.TierCompact // the test may have filled the directories up to there
		defer func() { c.tier = erasure.TierUpload }()
		return c.commit(nil, vs, nil)
	}
	return nil
}

// check reads everything that was acknowledged.
func (c *client) check(t tester) error {
	for label := range c.acked {
		c.locMu.Lock()
		loc, ok := c.locations[label]
		c.locMu.Unlock()
		var csn uint64
		if _, err := fmt.Sscanf(label, "m%d", &csn); err == nil && csn <= c.cat.csn && (!ok || c.drops[loc.Segment()]) {
			continue // the catalog has it
		}
		if !ok {
			t.Fatalf("%s was acknowledged and is gone", label)
		}
		b, err := c.log.Read(context.Background(), loc, nil)
		if err != nil {
			return fmt.Errorf("reading %s: %w", label, err)
		}
		if !bytes.Equal(b, c.sent[label]) {
			t.Fatalf("%s reads wrong", label)
		}
	}
	return nil
}

// append sends a chunk.
func (c *client) append(rng *rand.Rand, n int, class erasure.Class) (string, *erasure.Handle, error) {
	c.mu.Lock()
	c.chunks++
	label := fmt.Sprintf("c%d", c.chunks)
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	c.sent[label] = body
	c.mu.Unlock()
	h, err := c.log.Append(context.Background(), erasure.Record{Kind: kindChunk, Label: []byte(label), Body: body}, class, c.tier)
	return label, h, err
}

// mutate commits a mutation of n bytes that depends on chunks.
func (c *client) mutate(rng *rand.Rand, n int, deps map[string]*erasure.Handle) error {
	body := binary.LittleEndian.AppendUint64(nil, c.csn+1)
	for range n {
		body = append(body, byte(rng.Uint32()))
	}
	return c.commit(body, nil, deps)
}

func (c *client) commit(body []byte, vs []erasure.Verdict, deps map[string]*erasure.Handle) error {
	var handles []*erasure.Handle
	for _, h := range deps {
		handles = append(handles, h)
	}
	var muts []erasure.Record
	var before []byte // sent with that CSN, and out of sight since: as long as the log is read-only it may come back
	if body != nil {
		c.csn++
		before = c.sent[string(mutationLabel(c.csn))]
		c.sent[string(mutationLabel(c.csn))] = body
		muts = append(muts, erasure.Record{Kind: kindMut, Label: mutationLabel(c.csn), Body: body})
	}
	for range 20 {
		all := append(c.log.TakeVerdicts(), vs...)
		var recs []erasure.Record
		for _, v := range all {
			recs = append(recs, erasure.Record{Kind: kindVerdict, Label: []byte("v"), Body: encodeVerdict(v)})
		}
		err := c.log.Commit(context.Background(), append(recs, muts...), handles, c.tier)
		switch {
		case errors.Is(err, erasure.ErrRetry):
			continue
		case err != nil:
			if !errors.Is(err, erasure.ErrUncertain) && body != nil {
				c.sent[string(mutationLabel(c.csn))] = before // body must never be seen
				c.csn--
			}
			return err
		}
		for _, v := range all {
			c.verdicts[v.Segment] = v
		}
		if body != nil {
			c.ackedCSN = c.csn
			c.acked[string(mutationLabel(c.csn))] = true
		}
		for label, h := range deps {
			if !h.Durable() {
				panic("commit returned before " + label + " was durable")
			}
			c.acked[label] = true
		}
		return nil
	}
	return errors.New("commit asks for one retry after the other")
}

// work does some appends and commits until an error comes.
func (c *client) work(rng *rand.Rand, commits int) error {
	for range commits {
		deps := map[string]*erasure.Handle{}
		for range rng.IntN(4) {
			class := erasure.Data
			if rng.IntN(4) == 0 {
				class = erasure.Metadata
			}
			label, h, err := c.append(rng, rng.IntN(20<<10), class)
			if err != nil {
				return err
			}
			if rng.IntN(3) > 0 {
				deps[label] = h
			}
		}
		if rng.IntN(6) == 0 {
			if err := c.log.Sync(context.Background()); err != nil {
				return err
			}
		}
		if err := c.mutate(rng, rng.IntN(400), deps); err != nil {
			return err
		}
	}
	return nil
}

func dirNames(n int) []string {
	var dirs []string
	for i := range n {
		dirs = append(dirs, fmt.Sprintf("/d%d", i))
	}
	return dirs
}

func tiny(fs erasure.FS, k, m, dirs int) erasure.Options {
	opt := erasure.Options{Dirs: dirNames(dirs), FS: fs, Create: &erasure.Creation{K: k, M: m}, SegmentBytes: 64 << 10, MetadataSegmentBytes: 16 << 10,
		StripeBytes: 16 << 10, UnsyncedBytes: 48 << 10, IOTimeout: 5 * time.Second}
	if os.Getenv("CASD_TEST_LOG") != "" {
		opt.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return opt
}
