package erasure

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ch := make(chan int, 1)
		began := time.Now()
		if _, ok := await(ch, time.Second, nil); ok || time.Since(began) != time.Second {
			t.Errorf("nothing came, after %s: %v", time.Since(began), ok)
		}
		done := make(chan struct{})
		time.AfterFunc(time.Second/2, func() { close(done) })
		began = time.Now()
		if _, ok := await(ch, time.Second, done); ok || time.Since(began) != time.Second/2 {
			t.Errorf("given up after %s: %v", time.Since(began), ok)
		}
		time.AfterFunc(900*time.Millisecond, func() { ch <- 7 })
		if v, ok := await(ch, time.Second, nil); !ok || v != 7 {
			t.Errorf("%d, %v", v, ok)
		}
		// After a pause all that was due is due at once: it passes one slice.
		over := false
		p := newPatience(time.Second, func() { over = true })
		p.pass()
		synctest.Wait()
		if over {
			t.Error("one slice was the whole time-out")
		}
		p.stop()
		time.Sleep(2 * time.Second)
		if over {
			t.Error("it was not stopped")
		}
	})
}
