package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// Only casd serve works in the background: a command on a stopped store does what it was asked, and ends.
func TestBackgroundWork(t *testing.T) {
	var o storeOptions
	o.addFlags(pflag.NewFlagSet("command", pflag.ContinueOnError))
	if c := o.casOptions(); c.ScrubInterval != 0 || c.GCInterval != 0 {
		t.Errorf("a command scrubs every %s and collects every %s", c.ScrubInterval, c.GCInterval)
	}
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	o.addServeFlags(f)
	if c := o.casOptions(); c.ScrubInterval != 720*time.Hour || c.ScrubRate != 100<<20 || c.GCInterval != time.Hour || c.GCThreshold != 0.25 || c.GCRate != 100<<20 {
		t.Errorf("%+v", c)
	}
	if err := f.Parse([]string{"--scrub-interval=0", "--scrub-rate=1MiB", "--gc-interval=5m", "--gc-threshold=0.5", "--gc-rate=0"}); err != nil {
		t.Fatal(err)
	}
	if c := o.casOptions(); c.ScrubInterval != 0 || c.ScrubRate != 1<<20 || c.GCInterval != 5*time.Minute || c.GCThreshold != 0.5 || c.GCRate != 0 {
		t.Errorf("%+v", c)
	}
}
