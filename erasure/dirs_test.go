package erasure_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// wantDirError checks that err names a directory and says what to do.
func wantDirError(t *testing.T, err error, path string, words ...string) {
	t.Helper()
	var de *erasure.DirError
	if !errors.As(err, &de) || de.Path != path {
		t.Fatalf("%v does not name %s", err, path)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%q does not say %q", err, w)
		}
	}
}

func editFormat(t *testing.T, mem *faultfs.FS, dir, old, new string) {
	t.Helper()
	path := dir + "/format.json"
	info, err := mem.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mem.Poke(path, 0, func(b []byte) {
		s := strings.Replace(string(b), old, new, 1)
		if s == string(b) || len(s) != len(b) {
			t.Fatalf("%q is not in %s, or %q is not as long", old, b, new)
		}
		copy(b, s)
	}, int(info.Size))
}

func TestDefaultCodes(t *testing.T) {
	for dirs, want := range map[int]string{1: "1+0", 2: "1+1", 3: "2+1", 4: "2+2", 6: "4+2", 11: "9+2", 12: "8+4", 16: "12+4", 20: "12+4"} {
		opt := tiny(faultfs.New(), 0, 0, dirs)
		opt.Create.Params = json.RawMessage(`{"a":1}`)
		c := mustLed(t, newLedger(), opt)
		k, m := c.log.Creation()
		if got := fmt.Sprintf("%d+%d", k, m); got != want || !c.log.Created() || string(c.log.Params()) != `{"a":1}` {
			t.Errorf("%d directories: %s, want %s; params %s", dirs, got, want, c.log.Params())
		}
		mustClose(t, c)
	}
	for _, code := range [][3]int{{0, 1, 1}, {4, 2, 5}, {15, 2, 20}, {1, -1, 1}} {
		if _, err := erasure.Open(t.Context(), tiny(faultfs.New(), code[0], code[1], code[2])); err == nil {
			t.Errorf("code %v is accepted", code)
		}
	}
}

func TestRefusedDirectories(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 3)
	other := faultfs.New()
	mustClose(t, mustLed(t, newLedger(), tiny(other, 2, 1, 3)))
	_ = led
	open := func(fs *faultfs.FS, dirs ...string) error {
		o := opt
		o.FS = fs
		if len(dirs) > 0 {
			o.Dirs = dirs
		}
		l, err := erasure.Open(t.Context(), o)
		if err == nil {
			l.Close(t.Context())
		}
		return err
	}
	t.Run("foreign", func(t *testing.T) {
		fs := mem.Clone()
		fs.Graft(other, "/d1")
		wantDirError(t, open(fs), "/d1", "belongs to store", "/d0")
	})
	t.Run("twice", func(t *testing.T) {
		wantDirError(t, open(mem.Clone(), "/d0", "/d1", "/d2", "/d1/"), "/d1", "twice")
	})
	t.Run("a copy", func(t *testing.T) {
		fs := mem.Clone()
		copyDir(t, fs, "/d2", "/x")
		wantDirError(t, open(fs, "/d0", "/d1", "/d2", "/x"), "/x", "copy of /d2")
	})
	t.Run("newer", func(t *testing.T) {
		fs := mem.Clone()
		editFormat(t, fs, "/d1", `"version": 1`, `"version": 2`)
		wantDirError(t, open(fs), "/d1", "newer")
	})
	t.Run("not a member", func(t *testing.T) {
		fs := mem.Clone()
		copyDir(t, fs, "/d2", "/d3")
		for _, f := range fs.Files("/d3") {
			if filepath.Base(f) == "format.json" {
				form := readForm(t, fs, "/d2")
				form["dir"] = strings.Repeat("ab", 16)
				writeForm(t, fs, "/d3", form)
			}
		}
		wantDirError(t, open(fs, "/d0", "/d1", "/d3"), "/d3", "not a member", "casd dir add")
	})
	t.Run("shards but no format", func(t *testing.T) {
		fs := mem.Clone()
		if err := fs.Remove("/d1/format.json"); err != nil {
			t.Fatal(err)
		}
		wantDirError(t, open(fs), "/d1", "no format.json")
	})
	t.Run("not a directory", func(t *testing.T) {
		wantDirError(t, open(mem.Clone(), "/d0", "/d1", "/d2/format.json"), "/d2/format.json", "not a directory")
	})
	t.Run("holds other files", func(t *testing.T) {
		fs := faultfs.New()
		if err := fs.MkdirAll("/d1/photos"); err != nil {
			t.Fatal(err)
		}
		wantDirError(t, open(fs), "/d1", "photos")
	})
	t.Run("nothing there", func(t *testing.T) {
		o := opt
		o.FS, o.Create = faultfs.New(), nil
		if _, err := erasure.Open(t.Context(), o); !errors.Is(err, erasure.ErrEmptyDirs) {
			t.Fatal(err)
		}
	})
	t.Run("locked", func(t *testing.T) {
		fs := mem.Clone()
		if _, err := fs.Lock("/d2/lock", "pid 4711 on elsewhere"); err != nil {
			t.Fatal(err)
		}
		err := open(fs)
		var held *erasure.LockedError
		wantDirError(t, err, "/d2", "pid 4711 on elsewhere", "stop")
		if !errors.As(err, &held) {
			t.Fatal(err)
		}
		if _, err := fs.Lock("/d0/lock", "x"); err != nil {
			t.Fatalf("a refused start keeps its locks: %v", err)
		}
	})
}

func copyDir(t *testing.T, fs *faultfs.FS, from, to string) {
	t.Helper()
	copyFrom(t, fs, from, fs, to)
}

// copyFrom is copyDir from one file system to another.
func copyFrom(t *testing.T, src *faultfs.FS, from string, fs *faultfs.FS, to string) {
	t.Helper()
	if err := fs.MkdirAll(to + "/segments"); err != nil {
		t.Fatal(err)
	}
	for _, f := range src.Files(from) {
		info, _ := src.Stat(f)
		b := make([]byte, info.Size)
		r, err := src.OpenFile(f, os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			if _, err := r.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, fs, to+strings.TrimPrefix(f, from), b)
	}
}

func writeFile(t testing.TB, fs *faultfs.FS, path string, b []byte) {
	t.Helper()
	w, err := fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

func readForm(t *testing.T, fs *faultfs.FS, dir string) map[string]any {
	t.Helper()
	info, err := fs.Stat(dir + "/format.json")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size)
	f, _ := fs.OpenFile(dir+"/format.json", os.O_RDONLY)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	var form map[string]any
	if err := json.Unmarshal(b, &form); err != nil {
		t.Fatal(err)
	}
	return form
}

func writeForm(t *testing.T, fs *faultfs.FS, dir string, form map[string]any) {
	t.Helper()
	b, err := json.Marshal(form)
	if err != nil {
		t.Fatal(err)
	}
	b, err = erasure.SignFormat(b)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, dir+"/format.json", b)
}

// TestAbsentDirectories: one that is missing, empty, damaged or unreadable does not stop the store, is named, and is never adopted.
func TestAbsentDirectories(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 5)
	for name, harm := range map[string]func(fs *faultfs.FS){
		"missing":    func(fs *faultfs.FS) { fs.RemoveAll("/d1") },
		"empty":      func(fs *faultfs.FS) { fs.RemoveAll("/d1"); fs.MkdirAll("/d1") },
		"damaged":    func(fs *faultfs.FS) { editFormat(t, fs, "/d1", `"k": 2`, `"k": 3`) },
		"unreadable": func(fs *faultfs.FS) { fs.FailPath("/d1", syscall.EIO) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := mem.Clone()
			harm(fs)
			o := opt
			o.FS = fs
			c := mustLed(t, led.clone(), o)
			defer c.log.Close(t.Context())
			if err := c.check(t); err != nil {
				t.Fatal(err)
			}
			if d := c.log.Dirs()[1]; d.State != "absent" && d.State != "offline" || d.Reason == "" || c.log.Created() {
				t.Fatalf("%+v", d)
			}
			if name != "unreadable" {
				for _, f := range fs.Files("/d1") {
					if name == "empty" && filepath.Base(f) != "lock" {
						t.Fatalf("%s was put into an empty directory", f)
					}
				}
			}
		})
	}
	t.Run("order and paths do not matter", func(t *testing.T) {
		fs := mem.Clone()
		copyDir(t, fs, "/d0", "/elsewhere")
		o := opt
		o.FS, o.Dirs = fs, []string{"/d2", "/elsewhere", "/d1"}
		c := mustLed(t, led.clone(), o)
		if c.log.WriteState() != nil || c.log.Dirs()[0].Path != "/elsewhere" {
			t.Fatal(c.log.Dirs())
		}
		mustClose(t, c)
		if got := readForm(t, fs, "/d2")["members"].([]any)[0].(map[string]any)["path"]; got != "/elsewhere" {
			t.Fatalf("the member list says %s", got)
		}
	})
}

// TestCreationIsCrashSafe lets the power go at every step of a creation; the next start finishes it.
func TestCreationIsCrashSafe(t *testing.T) {
	for step := 0; ; step++ {
		mem := faultfs.New()
		opt := tiny(mem, 2, 1, 3)
		mem.PowerOffAt(step)
		l, err := erasure.Open(t.Context(), opt)
		if err == nil {
			l.Close(t.Context())
			if !mem.Off() {
				return
			}
		}
		for i := range uint64(4) {
			opt.FS = mem.CrashClone(newRand(i))
			c := mustLed(t, newLedger(), opt)
			if c.log.WriteState() != nil {
				t.Fatal(c.log.Dirs())
			}
			if err := c.mutate(newRand(1), 3, nil); err != nil {
				t.Fatal(err)
			}
			mustClose(t, c)
		}
	}
}

// TestTwoOpeners opens a store on the real file system twice.
func TestTwoOpeners(t *testing.T) {
	opt := tiny(erasure.OS, 1, 1, 2)
	base := t.TempDir()
	for i := range opt.Dirs {
		opt.Dirs[i] = filepath.Join(base, "deep", fmt.Sprint(i))
	}
	c := mustLed(t, newLedger(), opt)
	_, err := erasure.Open(t.Context(), opt)
	wantDirError(t, err, opt.Dirs[0], fmt.Sprintf("pid %d", os.Getpid()))
	mustClose(t, c)
	mustClose(t, mustLed(t, newLedger(), opt))
}

// TestClosedLog refuses everything in a clean way.
func TestClosedLog(t *testing.T) {
	opt := tiny(faultfs.New(), 1, 1, 2)
	c := mustLed(t, newLedger(), opt)
	mustClose(t, c)
	if err := c.log.Close(t.Context()); !errors.Is(err, erasure.ErrClosed) {
		t.Fatal(err)
	}
	if err := c.log.Commit(t.Context(), []erasure.Record{{Kind: 1}}, nil, erasure.TierUpload); !errors.Is(err, erasure.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := c.log.Append(t.Context(), erasure.Record{Kind: 1}, erasure.Data, erasure.TierUpload); !errors.Is(err, erasure.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := c.log.Read(t.Context(), erasure.Location{}, nil); !errors.Is(err, erasure.ErrClosed) {
		t.Fatal(err)
	}
}
