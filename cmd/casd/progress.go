package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-isatty"

	"github.com/casd/casd/cas"
)

const (
	barInterval  = 200 * time.Millisecond // between two drawings of the bar
	lineInterval = 10 * time.Second       // between two lines where there is no terminal
	barCells     = 20
	barWidth     = 79 // columns; a terminal may be wider but hardly narrower
)

// A display shows how far an operation is: on a terminal as a bar that is drawn over and over, elsewhere as a line now and then. Messages
// that are written through it do not get mixed up with the bar.
type display struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	now      func() time.Time

	drawn bool      // the bar is on the screen
	at    time.Time // when it was last drawn, or a line written

	// The rate is that of a phase, from the first time that it was told of: what an earlier run did is in Done too.
	phase string
	first cas.Progress
	since time.Time
}

func newDisplay(w io.Writer) *display {
	f, ok := w.(*os.File)
	d := &display{w: w, terminal: ok && isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb", now: time.Now}
	d.at = d.now()
	return d
}

// Progress is a cas.ProgressFunc.
func (d *display) Progress(p cas.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if phase := p.Operation + " " + p.Phase; phase != d.phase {
		d.phase, d.first, d.since = phase, p, now
	}
	interval := lineInterval
	if d.terminal {
		interval = barInterval
	}
	if now.Sub(d.at) < interval {
		return
	}
	d.at = now
	if !d.terminal {
		fmt.Fprintln(d.w, d.text(p, now, false))
		return
	}
	line := d.text(p, now, true)
	if runes := []rune(line); len(runes) > barWidth {
		line = string(runes[:barWidth])
	}
	fmt.Fprintf(d.w, "\r\x1b[K%s", line)
	d.drawn = true
}

// text says how far p is. What is not known yet is left out.
func (d *display) text(p cas.Progress, now time.Time, bar bool) string {
	var b strings.Builder
	b.WriteString(p.Operation)
	if p.Phase != "" && p.Phase != p.Operation {
		b.WriteString(" " + p.Phase)
	}
	done := min(p.Done, max(p.Total, 0))
	switch {
	case p.Total <= 0 && p.Done <= 0:
		fmt.Fprintf(&b, "  %s", now.Sub(d.since).Round(time.Second))
		return b.String()
	case p.Total <= 0:
		fmt.Fprintf(&b, "  %s", amount(p.Done, p.Unit))
	case bar:
		full := int(float64(done) / float64(p.Total) * barCells)
		fmt.Fprintf(&b, " [%s%s] %3d%%  %s of %s", strings.Repeat("=", full), strings.Repeat(" ", barCells-full), percent(done, p.Total), amount(done, p.Unit), amount(p.Total, p.Unit))
	default:
		fmt.Fprintf(&b, ": %s of %s (%d%%)", amount(done, p.Unit), amount(p.Total, p.Unit), percent(done, p.Total))
	}
	elapsed := now.Sub(d.since).Seconds()
	if more := p.Done - d.first.Done; more > 0 && elapsed >= 0.5 {
		rate := float64(more) / elapsed
		fmt.Fprintf(&b, "  %s/s", amount(int64(rate), p.Unit))
		if p.Total > 0 {
			left := time.Duration(float64(p.Total-done) / rate * float64(time.Second))
			fmt.Fprintf(&b, "  %s left", left.Round(time.Second))
		}
	}
	return b.String()
}

// Write writes a message above the bar.
func (d *display) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
	return d.w.Write(b)
}

// End takes the bar away.
func (d *display) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
}

func (d *display) clear() {
	if d.drawn {
		fmt.Fprint(d.w, "\r\x1b[K")
		d.drawn = false
	}
}

func percent(done, total int64) int { return int(float64(done) / float64(total) * 100) }

// amount writes a number of bytes, or of items.
func amount(n int64, unit string) string {
	if unit == "bytes" {
		return bytesText(n)
	}
	return strings.TrimSpace(humanize.Comma(n) + " " + unit)
}

// bytesText writes a size as people read it.
func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
