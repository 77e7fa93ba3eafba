package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/casd/casd/cmd/casd/casdtest"
)

const (
	crashWorkers       = 12
	crashKeysPerWorker = 25
	crashRounds        = 20
	crashBucket        = "crash"
)

// TestCrash uploads, overwrites, copies, deletes and completes from many connections, kills the server with SIGKILL at a
// random moment, and after the next start compares every object with what was acknowledged. CASD_CRASH_ROUNDS overrides the number of rounds.
func TestCrash(t *testing.T) {
	rounds := crashRounds
	if v := os.Getenv("CASD_CRASH_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	crash(t, func(round int) bool { return round < rounds })
}

func crash(t *testing.T, more func(round int) bool) {
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	// Small segments make rounds cross their boundaries; a short interval makes them cross checkpoints.
	s := serve(t, "--segment-bytes", "24MiB", "--checkpoint-interval", "300ms", "--log-level", "warn")
	mustCreateBucket(t, sdk(s), crashBucket)
	d := &crashDriver{t: t, server: s}
	for w := range crashWorkers {
		d.workers = append(d.workers, &crashWorker{
			d: d, id: w, rng: rand.New(rand.NewPCG(*seed, uint64(w)+1)), keys: map[string]*keyState{},
		})
	}
	rounds, killedStarts := 0, 0
	for ; more(rounds); rounds++ {
		d.round(func() { time.Sleep(time.Duration(50+rng.IntN(1200)) * time.Millisecond) }, s.Kill) // at a random moment
		for rng.IntN(4) == 0 {                                                                      // a crash while the crash is being recovered from
			killedStarts++
			if err := s.Launch(); err != nil {
				t.Fatalf("round %d: %v", rounds, err)
			}
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
			s.Kill()
		}
		if err := s.Start(); err != nil {
			t.Fatalf("round %d: start after SIGKILL: %v", rounds, err)
		}
		d.verify(rounds)
		if t.Failed() {
			t.Fatalf("round %d failed with -seed=%d", rounds, *seed)
		}
	}
	t.Logf("%d rounds, %d kills while starting, %d operations acknowledged, %d in flight at a kill, %d of those had happened",
		rounds, killedStarts, d.acked.Load(), d.inFlight.Load(), d.happened.Load())
	if d.acked.Load() < int64(rounds) {
		t.Errorf("only %d operations were acknowledged in %d rounds", d.acked.Load(), rounds)
	}
	stop(t, s)
	start(t, s)
	d.verify(rounds)
}

type crashDriver struct {
	t       *testing.T
	server  *casdtest.Server
	client  *s3.Client
	workers []*crashWorker
	killed  atomic.Bool // set just before SIGKILL: errors from then on are expected

	acked, inFlight, happened atomic.Int64
	verified                  atomic.Int64 // bytes that were read and compared
}

// A content is what an object holds; absent says that there is none.
type content struct {
	absent bool
	sum    [32]byte
	size   int
}

// keyState is what the model knows of one key. Each key belongs to one worker, which has one request under way at a time.
type keyState struct {
	acked   content
	pending *content // in flight at the kill: the key holds acked or this
}

type crashWorker struct {
	d      *crashDriver
	id     int
	rng    *rand.Rand
	keys   map[string]*keyState
	upload *openUpload // a multipart upload that outlives crashes
}

type openUpload struct {
	key, id    string
	parts      []types.CompletedPart
	body       []byte
	completing bool // its completion was in flight at a kill
}

// round lets the workers run until wait returns, ends the server, and waits for the workers.
func (d *crashDriver) round(wait, end func()) {
	d.killed.Store(false)
	d.client = sdk(d.server, noRetry)
	var wg sync.WaitGroup
	for _, w := range d.workers {
		wg.Go(func() {
			for !d.killed.Load() {
				if err := w.step(); err != nil {
					if !d.killed.Load() {
						d.t.Errorf("worker %d: %v while the server was up", w.id, err)
					}
					return
				}
				d.acked.Add(1)
			}
		})
	}
	wait()
	d.killed.Store(true)
	end()
	wg.Wait()
}

func (w *crashWorker) step() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if w.upload != nil && (w.upload.completing || w.rng.IntN(4) == 0) {
		return w.continueUpload(ctx)
	}
	key := fmt.Sprintf("w%02d/%02d", w.id, w.rng.IntN(crashKeysPerWorker))
	if w.upload != nil && w.upload.key == key {
		return w.continueUpload(ctx)
	}
	state := w.state(key)
	switch n := w.rng.IntN(100); {
	case n < 55:
		return w.put(ctx, key, w.body())
	case n < 65:
		return w.change(state, content{absent: true}, func() error {
			_, err := w.d.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(crashBucket), Key: &key})
			return err
		})
	case n < 78:
		return w.copy(ctx, key)
	case n < 82 && w.upload == nil:
		return w.beginUpload(ctx, key)
	default:
		return w.d.check(ctx, key, state)
	}
}

func (w *crashWorker) state(key string) *keyState {
	state := w.keys[key]
	if state == nil {
		state = &keyState{acked: content{absent: true}}
		w.keys[key] = state
	}
	return state
}

// body makes new bytes, or bytes that other workers upload too.
func (w *crashWorker) body() []byte {
	sizes := []int{0, 100, 512, 513, 4 << 10, 70 << 10, 300 << 10, 2 << 20}
	n := sizes[w.rng.IntN(len(sizes))]
	if n > 0 && w.rng.IntN(3) > 0 {
		n += w.rng.IntN(n)
	}
	if w.rng.IntN(3) == 0 {
		return bytesOf(uint64(w.rng.IntN(20)), n) // shared
	}
	return bytesOf(w.rng.Uint64(), n)
}

func contentOf(body []byte) content { return content{sum: sha256.Sum256(body), size: len(body)} }

// change sends one request that turns a key into next, and keeps both possibilities when it is cut off.
func (w *crashWorker) change(state *keyState, next content, send func() error) error {
	state.pending = &next
	if err := send(); err != nil {
		w.d.inFlight.Add(1)
		return err
	}
	state.acked, state.pending = next, nil
	return nil
}

func (w *crashWorker) put(ctx context.Context, key string, body []byte) error {
	return w.change(w.state(key), contentOf(body), func() error {
		_, err := w.d.client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(crashBucket), Key: &key, Body: bytes.NewReader(body)})
		return err
	})
}

// copy copies the first own object it finds onto key.
func (w *crashWorker) copy(ctx context.Context, key string) error {
	for n := range crashKeysPerWorker {
		source := fmt.Sprintf("w%02d/%02d", w.id, n)
		if from := w.keys[source]; source != key && from != nil && !from.acked.absent {
			return w.change(w.state(key), from.acked, func() error {
				_, err := w.d.client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(crashBucket), Key: &key, CopySource: aws.String(crashBucket + "/" + source)})
				return err
			})
		}
	}
	return w.put(ctx, key, w.body())
}

func (w *crashWorker) beginUpload(ctx context.Context, key string) error {
	out, err := w.d.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(crashBucket), Key: &key})
	if err == nil {
		w.upload = &openUpload{key: key, id: *out.UploadId, body: bytesOf(w.rng.Uint64(), 5<<20+1+w.rng.IntN(1<<20))}
	}
	return err
}

// continueUpload uploads the next part, or completes. A part or completion that was cut off is sent again.
func (w *crashWorker) continueUpload(ctx context.Context) error {
	u := w.upload
	if n := len(u.parts); n < 2 {
		body := u.body[:5<<20]
		if n == 1 {
			body = u.body[5<<20:]
		}
		number := aws.Int32(int32(n + 1))
		out, err := w.d.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String(crashBucket), Key: &u.key, UploadId: &u.id, PartNumber: number, Body: bytes.NewReader(body)})
		if err == nil {
			u.parts = append(u.parts, types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		}
		return err
	}
	return w.change(w.state(u.key), contentOf(u.body), func() error {
		u.completing = true
		_, err := w.d.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String(crashBucket), Key: &u.key, UploadId: &u.id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts}})
		if err == nil {
			w.upload = nil
		}
		return err
	})
}

// check reads a key and compares it with what is known of it. When both possibilities were open, it settles the one that is true.
func (d *crashDriver) check(ctx context.Context, key string, state *keyState) error {
	got := content{absent: true}
	out, err := d.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(crashBucket), Key: &key})
	var api smithy.APIError
	switch {
	case err == nil:
		h := sha256.New()
		n, err := io.Copy(h, out.Body)
		if err = errors.Join(err, out.Body.Close()); err != nil {
			return err
		}
		got = content{sum: [32]byte(h.Sum(nil)), size: int(n)}
		d.verified.Add(n)
	case errors.As(err, &api) && api.ErrorCode() == "NoSuchKey":
	default:
		return err
	}
	switch {
	case got == state.acked:
	case state.pending != nil && got == *state.pending:
		d.happened.Add(1)
	default:
		d.t.Errorf("%s holds %+v, acknowledged was %+v, in flight %+v", key, got, state.acked, state.pending)
	}
	state.acked, state.pending = got, nil
	return nil
}

// verify compares every key with the model, and the listing with the keys.
func (d *crashDriver) verify(round int) {
	d.client = sdk(d.server)
	var wg sync.WaitGroup
	for _, w := range d.workers {
		wg.Go(func() {
			for key, state := range w.keys {
				if err := d.check(d.t.Context(), key, state); err != nil {
					d.t.Errorf("round %d: %s: %v", round, key, err)
				}
			}
		})
	}
	wg.Wait()
	listed := map[string]bool{}
	pages := s3.NewListObjectsV2Paginator(d.client, &s3.ListObjectsV2Input{Bucket: aws.String(crashBucket), MaxKeys: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(d.t.Context())
		if err != nil {
			d.t.Errorf("round %d: list: %v", round, err)
			return
		}
		for _, o := range page.Contents {
			listed[*o.Key] = true
		}
	}
	for _, w := range d.workers {
		for key, state := range w.keys {
			if listed[key] == state.acked.absent {
				d.t.Errorf("round %d: %s is listed: %v, and absent: %v", round, key, listed[key], state.acked.absent)
			}
			delete(listed, key)
		}
	}
	for key := range listed {
		d.t.Errorf("round %d: %s is listed but was never sent", round, key)
	}
	resp, err := d.server.Client.Get(d.server.AdminURL() + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Errorf("round %d: /healthz: %v, %v", round, resp, err)
		return
	}
	_ = resp.Body.Close() // only the status matters
}
