package cas

import (
	"math"
	"testing"
	"time"
)

func TestBackgroundOptions(t *testing.T) {
	o, err := Options{Dirs: []string{"d"}}.withDefaults()
	if err != nil || o.GCThreshold != 0.25 || o.ScrubInterval != 0 || o.GCInterval != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []Options{{ScrubInterval: -time.Second}, {ScrubRate: -1}, {GCInterval: -1}, {GCRate: -1}, {GCThreshold: -0.1}, {GCThreshold: 1.1}, {GCThreshold: math.NaN()}} {
		bad.Dirs = []string{"d"}
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
