package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestScrubRepairs harms files of as many directories as there is parity while the server runs. casd scrub tells what and where, mends it, and
// its exit code says so.
func TestScrubRepairs(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 7))
	s := serve(t, "--segment-bytes", "4MiB", "--cache-bytes", "1MiB")
	all := fill(t, s, "a", 12)
	r := result[scrubReceipt](t, s, exitDone, running, "scrub")
	if r.Outcome != "whole" || !r.Complete || r.Level != "chunks" || r.Chunks == 0 || len(r.BytesRead) != 6 || r.FindingsTotal != 0 {
		t.Errorf("of a whole store: %+v", r)
	}
	for _, kind := range []string{"flip", "zero", "remove"} {
		harmed := map[string]bool{}
		for _, d := range rng.Perm(6)[:2] {
			files := sealed(t, s.Dirs[d])
			path := files[rng.IntN(len(files))]
			if err := damages[kind](rng, path); err != nil {
				t.Fatal(err)
			}
			harmed[path] = true
		}
		r := result[scrubReceipt](t, s, exitLost, running, "scrub", "--no-repair")
		if r.Outcome != "damaged" || r.LostTotal != 0 || r.ShardsBad == 0 {
			t.Errorf("%s: without repair: %+v", kind, r)
		}
		r = result[scrubReceipt](t, s, exitRepaired, running, "scrub")
		if r.Outcome != "repaired" || !r.Complete || kind == "remove" && r.FilesRebuilt != 2 {
			t.Errorf("%s: with repair: %+v", kind, r)
		}
		for _, f := range r.Findings {
			path := filepath.Join(f.Dir, "segments", f.File)
			if filepath.IsAbs(f.File) {
				path = f.File
			}
			if !f.Repaired || !harmed[path] && f.File != "" {
				t.Errorf("%s: %+v; harmed were %v", kind, f, harmed)
			}
		}
		out, _ := command(t, s, exitDone, running, "scrub")
		wantIn(t, out, "whole, complete")
	}
	// The same on the stopped store, where nothing happens that was not asked for.
	stop(t, s)
	for _, kind := range []string{"flip", "truncate", "remove"} {
		for _, dir := range []string{s.Dirs[0], s.Dirs[5]} {
			for _, path := range sealed(t, dir) {
				if err := damages[kind](rng, path); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := result[scrubReceipt](t, s, exitLost, stopped, "scrub", "--no-repair")
		if r.Outcome != "damaged" || r.LostTotal != 0 || r.FindingsTotal == 0 {
			t.Errorf("%s, stopped, without repair: %+v", kind, r)
		}
		out, _ := command(t, s, exitRepaired, stopped, "scrub")
		wantIn(t, out, "repaired, complete", s.Dirs[0], s.Dirs[5])
		command(t, s, exitDone, stopped, "scrub")
	}
	start(t, s)
	all.mustRead(t, s)
	if list, _ := command(t, s, exitDone, running, "scrub", "--list"); strings.Count(list, "\n") < 1+10 || !strings.Contains(list, "repaired") {
		t.Errorf("ten receipts:\n%s", list)
	}
	stop(t, s)
	if list := result[[]scrubReceipt](t, s, exitDone, stopped, "scrub", "--list", "--max", "100"); len(list) < 10 || list[0].Outcome != "whole" {
		t.Errorf("receipts after the end of the server: %+v", list)
	}
	r = result[scrubReceipt](t, s, exitDone, stopped, "scrub", "--level", "shards")
	if r.Outcome != "whole" || r.Chunks != 0 || r.Stripes == 0 {
		t.Errorf("of the stopped store: %+v", r)
	}
}

// sealed are the shard files of a directory that belong to data segments which are not written any more.
func sealed(t *testing.T, dir string) []string {
	t.Helper()
	files := slices.DeleteFunc(shardFiles(t, dir), func(path string) bool { return !strings.Contains(filepath.Base(path), ".d.") })
	if len(files) < 2 {
		t.Fatalf("%s has %d files of data segments", dir, len(files))
	}
	slices.Sort(files)
	return files[:len(files)-1]
}

// TestScrubNamesWhatIsLost destroys one segment in more directories than there is parity. The keys that casd scrub calls lost are those that cannot be
// read, and no others; all else is served.
func TestScrubNamesWhatIsLost(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 8))
	s := serve(t, "--segment-bytes", "4MiB", "--cache-bytes", "1MiB")
	all := fill(t, s, "a", 16)
	stop(t, s)
	files := sealed(t, s.Dirs[0])
	segment, _, _ := strings.Cut(filepath.Base(files[rng.IntN(len(files))]), ".")
	harmed := 0
	for _, d := range rng.Perm(6) {
		for _, path := range shardFiles(t, s.Dirs[d]) {
			if strings.HasPrefix(filepath.Base(path), segment+".") && harmed < 3 {
				harmed++
				if err := rewrite(path, func(b []byte) []byte { return bytesOf(uint64(d+1), len(b)) }); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	start(t, s)
	r := result[scrubReceipt](t, s, exitLost, running, "scrub", "--level", "deep")
	if r.Outcome != "lost" || r.LostTotal == 0 || harmed != 3 {
		t.Errorf("%d files harmed: %+v", harmed, r)
	}
	bad := all.unreadable(t, s)
	if got := r.lostKeys(); !slices.Equal(got, bad) || len(bad) == 0 || len(bad) == len(all) {
		t.Errorf("lost are %q,\nunreadable are %q", got, bad)
	}
	out, _ := command(t, s, exitLost, running, "scrub")
	wantIn(t, out, "lost, complete", "BUCKET", bad[0])

	out, _ = command(t, s, exitLost, running, "check")
	wantIn(t, out, "check: lost", bad[0])

	// What was lost can be stored anew, and then nothing names it any more.
	again := fill(t, s, "a", 16)
	again.mustRead(t, s)
	// The segment, of which nothing can be known any more, stays: nobody can prove that nothing names what it held.
	command(t, s, exitDone, running, "gc", "--threshold", "0.01")
	if r := result[scrubReceipt](t, s, exitLost, running, "scrub", "--level", "deep"); r.Outcome != "lost" || r.LostTotal != 0 {
		t.Errorf("after everything was stored anew: %+v", r)
	}
	again.mustRead(t, s)
}

// TestScrubOfMissingDirectories: what is away is not lost, and what is removed for good is found out.
func TestScrubOfMissingDirectories(t *testing.T) {
	t.Parallel()
	s := serve(t, "--segment-bytes", "4MiB", "--cache-bytes", "1MiB")
	all := fill(t, s, "a", 6)
	stop(t, s)
	away := s.Dirs[4] + ".away"
	if err := os.Rename(s.Dirs[4], away); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	all.mustRead(t, s)
	r := result[scrubReceipt](t, s, exitLost, running, "scrub")
	if r.Outcome != "damaged" || r.LostTotal != 0 {
		t.Errorf("with a directory away: %+v", r)
	}
	stop(t, s)
	if err := os.Rename(away, s.Dirs[4]); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	all.mustRead(t, s)
	command(t, s, exitDone, running, "scrub")
}
