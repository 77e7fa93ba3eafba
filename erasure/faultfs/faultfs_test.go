package faultfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
)

func create(t testing.TB, f *FS, path string) erasure.File {
	t.Helper()
	h, err := f.OpenFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func content(t testing.TB, f *FS, path string) []byte {
	t.Helper()
	h, err := f.OpenFile(path, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := h.Stat()
	b := make([]byte, info.Size)
	if _, err := h.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

// TestCrashKeepsWhatWasSynced: after a power loss each sector of a file is that of the last fsync or of a later write, and
// synced sectors that no later write touched are as they were.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := New()
		h, err := f.OpenFile("/a", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		const sectors = 8
		allowed := make([]map[byte]bool, sectors)
		for i := range allowed {
			allowed[i] = map[byte]bool{0: true}
		}
		if err := errors.Join(h.Allocate(0, sectors*sectorBytes), h.Sync()); err != nil {
			t.Fatal(err)
		}
		last := make([]byte, sectors)
		for i := range rapid.IntRange(0, 30).Draw(t, "ops") {
			switch c := byte(i + 1); rapid.IntRange(0, 4).Draw(t, "op") {
			case 0:
				if err := h.Sync(); err != nil {
					t.Fatal(err)
				}
				for s := range allowed {
					if !allowed[s][0xff] { // 0xff: some write to it was lost by a failed fsync
						allowed[s] = map[byte]bool{last[s]: true}
					}
				}
			case 1:
				f.FailOnce("/a", syscall.EIO, Sync)
				if err := h.Sync(); !errors.Is(err, syscall.EIO) {
					t.Fatal(err)
				}
				for s := range allowed {
					if len(allowed[s]) > 1 {
						allowed[s][0xff] = true
					}
				}
			default:
				from := rapid.IntRange(0, sectors-1).Draw(t, "from")
				n := rapid.IntRange(1, sectors-from).Draw(t, "n")
				if _, err := h.WriteAt(bytes.Repeat([]byte{c}, n*sectorBytes), int64(from*sectorBytes)); err != nil {
					t.Fatal(err)
				}
				for s := from; s < from+n; s++ {
					last[s] = c
					allowed[s][c] = true
				}
			}
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		c := f.CrashClone(rng)
		g, err := c.OpenFile("/a", os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, sectors*sectorBytes)
		if _, err := g.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for i, v := range b {
			if !allowed[i/sectorBytes][v] || v != b[i/sectorBytes*sectorBytes] {
				t.Fatalf("byte %d is %d, allowed %v", i, v, allowed[i/sectorBytes])
			}
		}
		k, err := f.Clone().OpenFile("/a", os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for i, v := range b {
			if v != last[i/sectorBytes] {
				t.Fatalf("a kill changed byte %d", i)
			}
		}
	})
}

// TestCrashLosesSomething checks that the simulated power loss is one: over many seeds every outcome comes up.
func TestCrashLosesSomething(t *testing.T) {
	f := New()
	h := create(t, f, "/a")
	if err := errors.Join(f.SyncDir("/"), h.Truncate(1024), h.Sync()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(bytes.Repeat([]byte{1}, 1024), 0); err != nil {
		t.Fatal(err)
	}
	create(t, f, "/b")
	if err := f.Rename("/b", "/c"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for s := range uint64(200) {
		c := f.CrashClone(rand.New(rand.NewPCG(s, s)))
		b := content(t, c, "/a")
		seen[string([]byte{'0' + b[0], '0' + b[512]})] = true
		for _, name := range []string{"/b", "/c"} {
			_, err := c.Stat(name)
			seen[name+map[bool]string{true: " is there", false: " is gone"}[err == nil]] = true
		}
	}
	if len(seen) != 8 {
		t.Fatalf("outcomes %v", seen)
	}
}

func TestFaults(t *testing.T) {
	f := New()
	if err := f.MkdirAll("/d/e"); err != nil {
		t.Fatal(err)
	}
	h := create(t, f, "/d/e/a")
	undo := f.FailPath("/d/e", syscall.EIO, Write)
	if _, err := h.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	undo()
	fired := f.FailAt(f.Ops()+1, syscall.ENOSPC)
	if _, err := h.WriteAt([]byte("x"), 0); err != nil || fired() {
		t.Fatal(err)
	}
	if err := h.Sync(); !errors.Is(err, syscall.ENOSPC) || !fired() {
		t.Fatal(err)
	}
	f.Limit("/d", 10)
	if _, err := h.WriteAt(make([]byte, 11), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if st, _ := f.Statfs("/d/e"); st.Free != 9 {
		t.Fatalf("%d bytes free", st.Free)
	}
	release := f.Hang("/d/e", Sync)
	done := make(chan error)
	go func() { done <- h.Sync() }()
	if _, err := h.WriteAt([]byte("yz"), 0); err != nil { // others go on
		t.Fatal(err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.FlipBit("/d/e/a", 0)
	if b := content(t, f, "/d/e/a"); string(b) != "xz" {
		t.Fatalf("%q", b)
	}
	f.Cut("/d/e/a", 1)
	if b := content(t, f, "/d/e/a"); string(b) != "x" {
		t.Fatalf("%q", b)
	}
	f.RemoveAll("/d")
	if _, err := h.WriteAt([]byte("q"), 0); err != nil {
		t.Fatal(err)
	}
	if fi, _ := h.Stat(); fi.Links != 0 || h.Sync() != nil {
		t.Fatal("a removed file that is open should go on")
	}
	if _, err := f.Stat("/d/e/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f.PowerOffAt(f.Ops())
	if err := f.MkdirAll("/g"); err != nil {
		t.Fatal(err)
	}
	if err := f.MkdirAll("/h"); !errors.Is(err, ErrPowerOff) || !f.Off() {
		t.Fatal(err)
	}
}

func TestLocks(t *testing.T) {
	f := New()
	l, err := f.Lock("/l", "me")
	if err != nil {
		t.Fatal(err)
	}
	var held *erasure.LockedError
	if _, err := f.Lock("/l", "you"); !errors.As(err, &held) || held.Holder != "me" {
		t.Fatal(err)
	}
	l.Close()
	l.Close()
	if _, err := f.Lock("/l", "you"); err != nil {
		t.Fatal(err)
	}
}

// TestSameAsOS runs the same operations here and on the real file system.
func TestSameAsOS(t *testing.T) {
	base := t.TempDir()
	for name, fsys := range map[string]erasure.FS{"mem": New(), "os": erasure.OS} {
		t.Run(name, func(t *testing.T) {
			if err := fsys.MkdirAll(base + "/x/y"); err != nil {
				t.Fatal(err)
			}
			p := base + "/x/y/f"
			if _, err := fsys.OpenFile(p, os.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			h, err := fsys.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fsys.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL); !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			if err := errors.Join(h.Allocate(0, 8192), h.Sync(), fsys.SyncDir(base+"/x/y")); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WriteAt([]byte("hello"), 8190); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 10)
			if n, err := h.ReadAt(b, 8188); n != 7 || err != io.EOF || string(b[:7]) != "\x00\x00hello" {
				t.Fatal(n, err)
			}
			if n, err := h.ReadAt(b, 9000); n != 0 || err != io.EOF {
				t.Fatal(n, err)
			}
			if err := h.Truncate(8191); err != nil {
				t.Fatal(err)
			}
			if err := fsys.Rename(p, p+"2"); err != nil {
				t.Fatal(err)
			}
			fi, err := fsys.Stat(p + "2")
			hi, _ := h.Stat()
			if err != nil || fi.Size != 8191 || fi.Inode != hi.Inode || fi.Device != hi.Device || fi.Links != 1 || fi.Dir {
				t.Fatal(fi, err)
			}
			if err := fsys.Remove(p + "2"); err != nil {
				t.Fatal(err)
			}
			if hi, _ := h.Stat(); hi.Links != 0 {
				t.Fatal(hi)
			}
			names, err := fsys.ReadDir(base + "/x")
			if err != nil || len(names) != 1 || names[0] != "y" {
				t.Fatal(names, err)
			}
			if _, err := fsys.ReadDir(base + "/z"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if st, err := fsys.Statfs(base); err != nil || st.Free <= 0 {
				t.Fatal(st, err)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
