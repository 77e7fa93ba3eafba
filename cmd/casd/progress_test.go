package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cas"
)

// displayed returns a display whose clock the test moves.
func displayed(terminal bool) (d *display, out *strings.Builder, pass func(time.Duration)) {
	out = &strings.Builder{}
	d = newDisplay(out)
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	d.terminal, d.now, d.at = terminal, func() time.Time { return clock }, clock
	return d, out, func(by time.Duration) { clock = clock.Add(by) }
}

func TestProgressLines(t *testing.T) {
	d, out, pass := displayed(false)
	for n := range 26 { // seconds
		d.Progress(cas.Progress{Operation: "scrub", Phase: "chunks", Done: (100 + int64(n)) << 20, Total: 200 << 20, Unit: "bytes"})
		pass(time.Second)
	}
	d.End()
	want := "scrub chunks: 110 MiB of 200 MiB (55%)  1.0 MiB/s  1m30s left\n" + "scrub chunks: 120 MiB of 200 MiB (60%)  1.0 MiB/s  1m20s left\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if newDisplay(out).terminal {
		t.Error("a buffer is no terminal")
	}
}

func TestProgressBar(t *testing.T) {
	d, out, pass := displayed(true)
	show := func(p cas.Progress) string {
		t.Helper()
		pass(time.Second)
		out.Reset()
		d.Progress(p)
		line, ok := strings.CutPrefix(out.String(), "\r\x1b[K")
		if !ok || len(line) > barWidth || strings.Contains(line, "\n") {
			t.Errorf("drawn as %q", out)
		}
		return line
	}
	for _, c := range []struct {
		p    cas.Progress
		want string
	}{
		{cas.Progress{Operation: "gc"}, "gc  0s"},
		{cas.Progress{Operation: "gc", Phase: "marking", Done: 1000, Unit: "items"}, "gc marking  1,000 items"},
		{cas.Progress{Operation: "gc", Phase: "marking", Done: 3000, Unit: "items"}, "gc marking  3,000 items  2,000 items/s"},
		{cas.Progress{Operation: "gc", Phase: "copying", Done: 0, Total: 400, Unit: "bytes"}, "gc copying [                    ]   0%  0 B of 400 B"},
		{cas.Progress{Operation: "gc", Phase: "copying", Done: 100, Total: 400, Unit: "bytes"}, "gc copying [=====               ]  25%  100 B of 400 B  100 B/s  3s left"},
		{cas.Progress{Operation: "gc", Phase: "copying", Done: 500, Total: 400, Unit: "bytes"}, "gc copying [====================] 100%  400 B of 400 B  250 B/s  0s left"},
		{cas.Progress{Operation: strings.Repeat("x", 200)}, strings.Repeat("x", barWidth)},
	} {
		if got := show(c.p); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
	out.Reset()
	for range 1000 { // drawing costs: not more often than can be seen
		d.Progress(cas.Progress{Operation: "gc"})
		pass(time.Millisecond)
	}
	if n := strings.Count(out.String(), "\r"); n > 5 {
		t.Errorf("drawn %d times in a second", n)
	}
	out.Reset()
	fmt.Fprintln(d, "a message")
	fmt.Fprintln(d, "another")
	d.End()
	if want := "\r\x1b[Ka message\nanother\n"; out.String() != want {
		t.Errorf("%q, want %q", out, want)
	}
}
