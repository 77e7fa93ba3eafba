package faultfs

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
)

// Each fate of a write of two sectors at the second one of a file: what is read, what the writer is told, and what a power loss after an
// fsync leaves. A letter stands for a sector.
func TestFates(t *testing.T) {
	sectors := func(letters string) (out string) {
		for _, l := range letters {
			out += strings.Repeat(string(l), sectorBytes)
		}
		return out
	}
	const all = math.MaxInt
	for name, c := range map[string]struct {
		fate        Fate
		told        int
		file, other string
	}{
		"lost":        {Fate{}, 1024, "oooooo", "oooooo"},
		"cut short":   {Fate{Bytes: 512, Err: syscall.EIO}, 512, "onoooo", "oooooo"},
		"torn":        {Fate{Bytes: all, Sectors: func(i int) bool { return i == 1 }, Err: syscall.EIO}, 1024, "oonooo", "oooooo"},
		"shifted":     {Fate{Bytes: all, Shift: 1024}, 1024, "ooonno", "oooooo"},
		"other file":  {Fate{Bytes: all, Path: "/d/b"}, 1024, "oooooo", "onnooo"},
		"past an end": {Fate{Bytes: all, Shift: 2048}, 1024, "ooooon", "oooooo"},
		"nowhere":     {Fate{Bytes: all, Path: "/d/c"}, 1024, "oooooo", "oooooo"},
	} {
		f := New()
		if err := f.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		a, b := create(t, f, "/d/a"), create(t, f, "/d/b")
		_, errA := a.WriteAt([]byte(sectors("oooooo")), 0)
		_, errB := b.WriteAt([]byte(sectors("oooooo")), 0)
		if err := errors.Join(errA, errB, a.Sync(), b.Sync(), f.SyncDir("/d"), f.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		undo := f.Lie(func(w WriteOp) *Fate {
			if w != (WriteOp{"/d/a", sectorBytes, 2 * sectorBytes}) {
				t.Errorf("%s: %+v", name, w)
			}
			return &c.fate
		})
		n, err := a.WriteAt([]byte(sectors("nn")), sectorBytes)
		undo()
		if n != c.told || !errors.Is(err, c.fate.Err) {
			t.Errorf("%s: told %d, %v", name, n, err)
		}
		if err := a.Sync(); err != nil {
			t.Fatal(err)
		}
		for _, fs := range []*FS{f, f.CrashClone(rand.New(rand.NewPCG(1, 1)))} {
			if a, b := string(content(t, fs, "/d/a")), string(content(t, fs, "/d/b")); a != sectors(c.file) || b != sectors(c.other) {
				t.Errorf("%s: the files hold %q and %q", name, letters(a), letters(b))
			}
		}
		if _, err := a.WriteAt([]byte("x"), 0); err != nil {
			t.Errorf("%s: the write after it: %v", name, err)
		}
	}
}

func letters(s string) (out string) {
	for i := 0; i < len(s); i += sectorBytes {
		out += s[i : i+1]
	}
	return out
}
