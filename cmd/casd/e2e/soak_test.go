package e2e

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/casd/casd/cmd/casd/casdtest"
)

const (
	soakParity = 2 // of 4+2 on six directories: so many may be hurt at a time
	soakRounds = 2 // without CASD_SOAK

	soakCycleTime = 20 * time.Second // that a round waits at most for cycles of gc
)

// A soak is a server under load to which everything happens that it must survive: SIGKILL, SIGTERM, cycles of gc all the time, scrubs,
// directories that go and come back while it serves, damage at rest, and loss of the index. What was acknowledged is compared after each start.
type soak struct {
	t    *testing.T
	s    *casdtest.Server
	d    *crashDriver
	rng  *rand.Rand
	hurt map[int]bool // directories that hold damage, or are behind, since the last whole scrub; at most soakParity

	rounds, kills, stops, killedStarts, filesHurt, dirsAway, indexesLost int
	cycles, brokenOff, dropped, reclaimed, scrubs, repaired              atomic.Int64
}

// TestSoak goes on for as long as CASD_SOAK says; without it a few rounds show that it works.
func TestSoak(t *testing.T) {
	var d time.Duration
	if v := os.Getenv("CASD_SOAK"); v != "" {
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("-seed=%d", *seed)
	s := serveIndexed(t, 6, "--ec", "4+2", "--segment-bytes", "8MiB", "--checkpoint-interval", "300ms", "--log-level", "warn")
	mustCreateBucket(t, sdk(s), crashBucket)
	k := &soak{t: t, s: s, d: &crashDriver{t: t, server: s}, rng: rand.New(rand.NewPCG(*seed, 77)), hurt: map[int]bool{}}
	for w := range crashWorkers {
		k.d.workers = append(k.d.workers, &crashWorker{d: k.d, id: w, rng: rand.New(rand.NewPCG(*seed, uint64(w)+100)), keys: map[string]*keyState{}})
	}
	defer k.summary()
	began, told := time.Now(), time.Now()
	for k.rounds < soakRounds || time.Since(began) < d {
		k.round()
		k.rounds++
		if t.Failed() {
			t.Fatalf("round %d failed with -seed=%d; directories hurt: %v", k.rounds, *seed, k.hurt)
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			k.summary()
		}
	}
	k.finish()
}

func (k *soak) summary() {
	k.t.Logf("%d rounds: %d SIGKILL, %d SIGTERM, %d kills while starting; %d files damaged, %d directories gone and back, %d indexes lost; "+
		"%d operations acknowledged, %d in flight at an end (%d of those had happened), %d bytes verified; "+
		"%d cycles of gc and %d broken off, %d segments dropped, %d bytes reclaimed; %d scrubs, %d of them repaired",
		k.rounds, k.kills, k.stops, k.killedStarts, k.filesHurt, k.dirsAway, k.indexesLost,
		k.d.acked.Load(), k.d.inFlight.Load(), k.d.happened.Load(), k.d.verified.Load(),
		k.cycles.Load(), k.brokenOff.Load(), k.dropped.Load(), k.reclaimed.Load(), k.scrubs.Load(), k.repaired.Load())
}

// round lets clients, gc and the operator work until the server ends, harms what it left, starts it again and compares everything.
func (k *soak) round() {
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var disturbed atomic.Bool // a directory was away: operations on the whole store may say so
	wg.Go(func() { k.collect(ctx, &disturbed) })
	if k.rng.IntN(3) == 0 {
		wg.Go(func() { k.scrub(ctx, &disturbed) })
	}
	away := -1
	back := func() {}
	last := time.Duration(300+k.rng.IntN(3000)) * time.Millisecond
	if dir := k.rng.IntN(len(k.s.Dirs)); k.rng.IntN(4) == 0 && k.mayHurt(dir) {
		away = dir
		disturbed.Store(true)
		path := k.s.Dirs[dir]
		k.dirsAway++
		wg.Go(func() {
			time.Sleep(last / 3)
			k.must(os.Rename(path, path+".away"))
		})
		back = func() { k.must(os.Rename(path+".away", path)) }
	}
	returnEarly := away >= 0 && k.rng.IntN(2) == 0
	until := k.cycles.Load() + k.rng.Int64N(3) // some rounds see cycles end
	k.d.round(func() {
		time.Sleep(last)
		for deadline := time.Now().Add(soakCycleTime); k.cycles.Load() < until && time.Now().Before(deadline) && !k.t.Failed(); {
			time.Sleep(10 * time.Millisecond)
		}
	}, func() {
		if returnEarly {
			back()
			time.Sleep(last / 3)
		}
		cancel() // of those that ask the server for something: it ends now
		if k.rng.IntN(4) > 0 {
			k.kills++
			k.s.Kill()
			return
		}
		k.stops++
		if code, err := k.s.Stop(time.Minute); err != nil || code != 0 {
			k.t.Errorf("round %d: SIGTERM: exit code %d, %v", k.rounds, code, err)
		}
	})
	wg.Wait()
	lateReturn := away >= 0 && !returnEarly && k.rng.IntN(3) == 0
	if away >= 0 && !returnEarly && !lateReturn {
		back()
	}
	k.harm()
	k.loseIndex()
	for k.rng.IntN(4) == 0 {
		k.killedStarts++
		if err := k.s.Launch(); err != nil {
			k.t.Fatalf("round %d: %v", k.rounds, err)
		}
		time.Sleep(time.Duration(k.rng.IntN(80)) * time.Millisecond)
		k.s.Kill()
	}
	if err := k.s.Start(); err != nil {
		k.t.Fatalf("round %d: start: %v", k.rounds, err)
	}
	k.d.verify(k.rounds)
	if lateReturn {
		back()
	}
	if len(k.hurt) > 0 && !lateReturn && k.rng.IntN(2) == 0 && k.scrub(k.t.Context(), nil) {
		clear(k.hurt)
	}
}

func (k *soak) must(err error) {
	if err != nil {
		k.t.Errorf("round %d: %v", k.rounds, err)
	}
}

// mayHurt tells whether one more directory may be hurt, and notes it.
func (k *soak) mayHurt(dir int) bool {
	if !k.hurt[dir] && len(k.hurt) >= soakParity {
		return false
	}
	k.hurt[dir] = true
	return true
}

// collect runs cycles of gc until the server ends.
func (k *soak) collect(ctx context.Context, disturbed *atomic.Bool) {
	for ctx.Err() == nil {
		out, errs, exit, err := k.s.Casd(context.WithoutCancel(ctx), "gc", "--threshold", "0.05", "--json", "--endpoint", k.s.AdminURL())
		var report gcReport
		switch {
		case err == nil && exit == exitDone:
			k.must(json.Unmarshal([]byte(out), &report))
			k.cycles.Add(1)
			k.dropped.Add(report.Dropped)
			k.reclaimed.Add(report.ReclaimedBytes)
		case ctx.Err() != nil || disturbed.Load():
			k.brokenOff.Add(1)
		default:
			k.t.Errorf("round %d: casd gc: exit %d, %v\n%s%s", k.rounds, exit, err, out, errs)
			return
		}
	}
}

// scrub runs a scrub and tells whether it left the store whole. disturbed may be nil.
func (k *soak) scrub(ctx context.Context, disturbed *atomic.Bool) bool {
	level := []string{"shards", "chunks", "deep"}[k.s.PID()%3]
	out, errs, exit, err := k.s.Casd(context.WithoutCancel(ctx), "scrub", "--level", level, "--json", "--endpoint", k.s.AdminURL())
	switch {
	case err == nil && (exit == exitDone || exit == exitRepaired):
		k.scrubs.Add(1)
		k.repaired.Add(int64(exit))
		return true
	case ctx.Err() != nil || disturbed != nil && disturbed.Load():
	default:
		k.t.Errorf("round %d: casd scrub --level %s: exit %d, %v\n%s%s", k.rounds, level, exit, err, out, errs)
	}
	return false
}

// harm damages shard files at rest.
func (k *soak) harm() {
	for range soakParity {
		dir := k.rng.IntN(len(k.s.Dirs))
		if k.rng.IntN(3) > 0 || !k.mayHurt(dir) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(k.s.Dirs[dir], "segments", "*"))
		k.must(err)
		for range min(1+k.rng.IntN(4), len(files)) {
			kind := []string{"flip", "zero", "truncate", "remove"}[k.rng.IntN(4)]
			if err := damages[kind](k.rng, files[k.rng.IntN(len(files))]); err != nil && !os.IsNotExist(err) {
				k.t.Errorf("round %d: %s: %v", k.rounds, kind, err)
			}
			k.filesHurt++
		}
	}
}

// loseIndex removes the index, cuts it, or harms it, now and then.
func (k *soak) loseIndex() {
	kind := []string{"remove", "truncate", "zero", "", "", "", "", "", "", "", "", ""}[k.rng.IntN(12)]
	if kind == "" {
		return
	}
	path := filepath.Join(k.s.Work, "index", "catalog.bolt")
	if err := damages[kind](k.rng, path); err != nil && !os.IsNotExist(err) {
		k.t.Errorf("round %d: index: %v", k.rounds, err)
	}
	k.indexesLost++
}

// finish scrubs until the store is whole, then deletes everything and gets the space back.
func (k *soak) finish() {
	t, s := k.t, k.s
	if out, errs, exit, err := s.Casd(t.Context(), "scrub", "--level", "deep", "--endpoint", s.AdminURL()); err != nil || exit > exitRepaired {
		t.Fatalf("the last scrub: exit %d, %v\n%s%s", exit, err, out, errs)
	}
	command(t, s, exitDone, running, "scrub", "--level", "deep")
	stop(t, s)
	start(t, s)
	k.d.verify(k.rounds)
	full := onDisk(t, s)
	c := sdk(s)
	for _, w := range k.d.workers {
		if u := w.upload; u != nil && !u.completing {
			if _, err := c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String(crashBucket), Key: &u.key, UploadId: &u.id}); err != nil {
				t.Error(err)
			}
		}
		for key, state := range w.keys {
			if state.acked.absent {
				continue
			}
			if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(crashBucket), Key: &key}); err != nil {
				t.Error(err)
			}
			state.acked = content{absent: true}
		}
	}
	for range 2 {
		command(t, s, exitDone, running, "gc", "--threshold", "0.01")
	}
	stop(t, s) // open segments are cut to what they hold
	left := onDisk(t, s)
	t.Logf("on disk: %d bytes, and %d when everything was deleted", full, left)
	if left > 32<<20 {
		t.Errorf("%d bytes are left on disk of %d", left, full)
	}
	start(t, s)
	k.d.verify(k.rounds)
	if n := stats(t, s, crashBucket).Objects; n != 0 {
		t.Errorf("%d objects are counted", n)
	}
}
