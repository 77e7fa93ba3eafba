package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/casd/casd/cmd/casd/casdtest"
)

// The corpora are made once a run. They lie where CASD_CORPUS_DIR says, which keeps them, or in a temporary directory.
var corpora struct {
	sync.Mutex
	dir  string
	temp bool
}

func removeCorpora() {
	if corpora.temp {
		_ = os.RemoveAll(corpora.dir) // a leftover in the temporary directory does no harm
	}
}

func corpusDir(t *testing.T) string {
	t.Helper()
	if corpora.dir == "" {
		corpora.dir = os.Getenv("CASD_CORPUS_DIR")
		if corpora.dir == "" {
			dir, err := os.MkdirTemp("", "casd-corpus-")
			if err != nil {
				t.Fatal(err)
			}
			corpora.dir, corpora.temp = dir, true
		}
	}
	return corpora.dir
}

// corpusMaker is the script that makes real corpora, or "" where there is none.
func corpusMaker() string {
	if path := os.Getenv("CASD_CORPUS_MAKE"); path != "" {
		return path
	}
	path, err := filepath.Abs("../../../../shared/corpus/make.sh")
	if err != nil {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// realTree is a tree of thousands of small files: the sources of a large program where the corpus script is at hand, else
// a generated tree of the same kind. It is read-only for tests.
func realTree(t *testing.T) string {
	t.Helper()
	corpora.Lock()
	defer corpora.Unlock()
	dir := corpusDir(t)
	if maker := corpusMaker(); maker != "" {
		if out, err := exec.Command("bash", maker, dir, "tree").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", maker, err, out)
		}
		return filepath.Join(dir, "tree")
	}
	t.Log("no corpus script (CASD_CORPUS_MAKE): a generated tree stands in for the real one")
	tree := filepath.Join(dir, "generated")
	if _, err := os.Stat(tree); errors.Is(err, os.ErrNotExist) {
		if err := generateTree(tree, 1, 6000, 60<<20); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// sourceTars are successive releases of one tree as tar files, oldest first.
func sourceTars(t *testing.T) []string {
	t.Helper()
	corpora.Lock()
	defer corpora.Unlock()
	dir := corpusDir(t)
	if maker := corpusMaker(); maker != "" {
		if out, err := exec.Command("bash", maker, dir, "source").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", maker, err, out)
		}
		tars, err := filepath.Glob(filepath.Join(dir, "source", "*.tar"))
		if err != nil || len(tars) < 2 {
			t.Fatalf("tar files of %s: %q, %v", maker, tars, err)
		}
		return tars
	}
	t.Log("no corpus script (CASD_CORPUS_MAKE): generated generations stand in for the real ones")
	var files []string
	for gen := range 3 {
		path := filepath.Join(dir, fmt.Sprintf("generation%d.tar", gen))
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := writeGeneration(path, gen, 64<<20); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, path)
	}
	return files
}

var words = strings.Fields(`func return error string range stripe chunk upload listen the of and store every object is kept once
package import context bytes if err nil for var const type struct interface map key value index segment shard log`)

// writeText writes about n bytes of words, the same for the same rng.
func writeText(w io.Writer, rng *rand.Rand, n int) error {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[rng.IntN(len(words))])
		b.WriteByte(" \n\t"[min(2, rng.IntN(12)/4)])
		if rng.IntN(20) == 0 {
			fmt.Fprintf(&b, "%d ", rng.Uint32())
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// generateTree writes a tree with the given number of files and about total bytes; names and sizes vary as in a source tree.
func generateTree(root string, seed uint64, files, total int) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("dir %02d", rng.IntN(40)), fmt.Sprintf("sub+%d", rng.IntN(10)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		size := int(rng.ExpFloat64() * float64(total) / float64(files))
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("file-%05d ä.txt", i)))
		if err != nil {
			return err
		}
		if size == 0 || i%97 == 0 {
			err = f.Truncate(0) // empty files exist too
		} else {
			err = writeText(f, rng, size)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// writeGeneration writes n bytes of text in blocks of 64 KiB, of which every generation changes one in fifty.
func writeGeneration(path string, generation, n int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for block := range n >> 16 {
		version := 0
		for g := 1; g <= generation; g++ {
			if (block*31+g*17)%50 == 0 {
				version = g
			}
		}
		if err := writeText(f, rand.New(rand.NewPCG(uint64(block), uint64(version))), 1<<16); err != nil {
			return err
		}
	}
	return nil
}

// randomFile writes n incompressible bytes that depend on seed alone.
func randomFile(path string, seed uint64, n int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.CopyN(f, casdtest.Random(seed), n)
	return err
}
