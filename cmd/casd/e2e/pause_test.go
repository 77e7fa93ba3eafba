package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestPausedProcess stops the process for longer than a directory may hang, as a virtual machine is that moves to another host, in the
// middle of writes: no directory is blamed for it.
func TestPausedProcess(t *testing.T) {
	t.Parallel()
	s := serve(t, "--io-timeout", "4s")
	c := sdk(s, noRetry)
	mustCreateBucket(t, c, "pause")
	var stopped atomic.Bool
	var written atomic.Int64
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				body := bytesOf(uint64(w)<<32+uint64(i), 300<<10)
				if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("pause"), Key: aws.String(fmt.Sprintf("%d/%d", w, i)), Body: bytes.NewReader(body)}); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				written.Add(1)
			}
		})
	}
	defer wg.Wait()
	defer stopped.Store(true)
	load := func() {
		for until := written.Load() + 30; written.Load() < until && !t.Failed(); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	load()
	if err := s.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // how long it is away
	if err := s.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	load()
	if log := s.LogTail(1000); strings.Contains(log, "data directory is offline") {
		t.Error("a directory was taken out of service")
	}
}
