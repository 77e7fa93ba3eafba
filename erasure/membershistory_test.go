package erasure_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestMembersHistory goes through random changes of the members and of the code, crashes, directories that go and come back, and starts
// with some of them. As long as no more than m are away or gone unhealed, all that was acknowledged is there, and nothing that was
// refused. A log that gives an error for commits that it wrote is caught within some histories, by a mutation that was not sent.
func TestMembersHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := rapid.IntRange(1, 2).Draw(rt, "m")
		k := rapid.IntRange(1, 3).Draw(rt, "k")
		n := k + m + rapid.IntRange(0, 2).Draw(rt, "spare")
		seed := rapid.Uint64().Draw(rt, "seed")
		led, mem := newLedger(), faultfs.New()
		opt := tiny(mem, k, m, n)
		h := &history{t: t, rt: rt, opt: opt, mem: mem, led: led, rng: seed, away: map[string]*faultfs.FS{}, m: m}
		defer func() {
			if t.Failed() || rt.Failed() {
				rt.Log(h.trace)
			}
		}()
		h.start()
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			h.step()
		}
		h.comeBack(len(h.away))
		for len(h.c.log.Dirs()) <= h.c.log.Code().M { // too few are left to write
			if err := h.add(); err != nil {
				rt.Fatal(err)
			}
		}
		h.restart(false)
		heal(t, h.c)
		if err := h.c.check(rt); err != nil {
			rt.Fatal(err)
		}
		mustClose(t, h.c)
	})
}

// A history is a store in a run of TestMembersHistory.
type history struct {
	t     *testing.T
	rt    *rapid.T
	opt   erasure.Options
	mem   *faultfs.FS
	led   *ledger
	c     *client
	rng   uint64
	away  map[string]*faultfs.FS // directories that are away, as they were
	owed  int                    // directories that are gone for ever, since everything was whole
	added int
	m     int
	trace []string
}

func (h *history) start() {
	h.opt.FS = h.mem
	c, err := h.led.open(h.rt, h.opt)
	if err != nil {
		h.rt.Fatal(err)
	}
	h.c = c
}

func (h *history) restart(crash bool) {
	if crash {
		h.rng++
		h.mem = h.mem.CrashClone(newRand(h.rng))
	} else {
		h.mem = h.mem.Clone()
	}
	h.opt.Create, h.opt.Dirs = nil, nil // what an operator knows of the members
	for _, d := range h.c.log.Dirs() {
		h.opt.Dirs = append(h.opt.Dirs, d.Path)
	}
	h.c.log.Close(h.t.Context())
	h.start()
}

// budget is how many more directories may go.
func (h *history) budget() int { return h.m - len(h.away) - h.owed }

func (h *history) present() []string {
	var paths []string
	for _, d := range h.c.log.Dirs() {
		if h.away[d.Path] == nil {
			paths = append(paths, d.Path)
		}
	}
	return paths
}

func (h *history) comeBack(n int) {
	for _, path := range slices.Sorted(maps.Keys(h.away)) {
		if n == 0 {
			return
		}
		n--
		h.mem.Graft(h.away[path], path)
		delete(h.away, path)
	}
}

// work writes, as far as the membership rule lets it.
func (h *history) work() {
	h.rng++
	if err := h.c.work(newRand(h.rng), 3); err != nil && !errors.Is(err, erasure.ErrReadOnly) {
		h.rt.Fatal(err)
	}
}

// newDir makes an empty directory.
func (h *history) newDir() string {
	h.added++
	path := fmt.Sprintf("/x%d", h.added)
	mkdir(h.t, h.mem, path)
	return path
}

func (h *history) add() error {
	_, err := h.c.log.AddDir(h.t.Context(), h.newDir(), h.c.csn)
	return err
}

func (h *history) step() {
	ctx, l := h.t.Context(), h.c.log
	op := rapid.SampledFrom([]string{"work", "work", "go", "come back", "probe", "heal", "add", "replace", "lost", "drain", "undrain", "remove", "crash", "restart", "power", "roll", "code"}).Draw(h.rt, "op")
	h.trace = append(h.trace, op)
	defer func() {
		h.trace = append(h.trace, fmt.Sprintf("away %v owed %d state %v;", len(h.away), h.owed, h.c.log.WriteState()))
	}()
	pick := func(paths []string) string {
		if len(paths) == 0 {
			return ""
		}
		slices.Sort(paths)
		path := rapid.SampledFrom(paths).Draw(h.rt, "dir")
		h.trace = append(h.trace, path)
		return path
	}
	gone := slices.Collect(maps.Keys(h.away))
	var err error
	switch op {
	case "work":
		h.work()
	case "go":
		if path := pick(h.present()); path != "" && h.budget() > 0 {
			h.away[path] = h.mem.Clone()
			h.mem.RemoveAll(path)
			h.work()
		}
	case "come back":
		h.comeBack(1)
		probe(l)
	case "probe":
		probe(l)
	case "heal":
		if l.WriteState() == nil {
			heal(h.t, h.c)
			if len(h.away) == 0 && !slices.ContainsFunc(l.Segments(), func(s erasure.SegmentInfo) bool { return s.ShardsAbsent > 0 }) {
				h.owed = 0
			}
		}
	case "add":
		err = h.add()
	case "replace":
		path := h.newDir()
		old := pick(gone)
		if old == "" {
			break
		}
		if _, err = l.ReplaceDir(ctx, old, path, h.c.csn); err == nil {
			delete(h.away, old)
			h.owed++
		}
	case "lost":
		if old := pick(gone); old != "" && len(l.Dirs())-1 > h.m {
			if err = l.RemoveDir(ctx, old, true, h.c.csn); err == nil {
				delete(h.away, old)
				h.owed++
			}
		}
	case "drain", "undrain":
		if path := pick(h.present()); path != "" {
			err = l.SetDraining(ctx, path, op == "drain", h.c.csn)
		}
	case "remove":
		if path := pick(h.present()); path != "" {
			if err = l.RemoveDir(ctx, path, false, h.c.csn); err == nil {
				h.mem.RemoveAll(path)
			}
		}
	case "crash", "restart":
		h.restart(op == "crash")
	case "power":
		h.rng++
		h.mem.PowerOffAt(h.mem.Ops() + rapid.IntRange(0, 80).Draw(h.rt, "operations"))
		_ = h.c.work(newRand(h.rng), 5) // what it refuses must never be seen
		h.restart(true)
	case "roll":
		err = l.Roll(ctx)
	case "code":
		err = l.SetCode(ctx, rapid.IntRange(1, 3).Draw(h.rt, "k"), rapid.IntRange(h.m, 2).Draw(h.rt, "m"), h.c.csn)
		h.trace = append(h.trace, l.Code().String())
	}
	var refused *erasure.DirError
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, erasure.ErrInUse) && !errors.Is(err, erasure.ErrReadOnly) && op != "code" {
		h.rt.Fatalf("%s: %v", op, err)
	}
	if l := h.c.log; l.WriteState() == nil || slices.Contains([]string{"crash", "restart", "power"}, op) {
		if err := h.c.check(h.rt); err != nil {
			h.rt.Fatalf("after %s: %v\n%+v", op, err, l.Dirs())
		}
	}
}
