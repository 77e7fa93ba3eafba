package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

func newStatusCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "status [flags] (--endpoint URL | DIR...)",
		Short: "Show the state of the store and of its directories",
		Long: `Show whether the store is ok, degraded (something wants attention), read-only or failed, and why; its data directories, the index, what
runs, and how the last scrub ended. The exit code is 0 whenever it could be told; for probes there is /readyz.`,
		Example: `  casd status --endpoint http://127.0.0.1:9000
  casd status --json ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, args, func(ctx context.Context, s operable, _ *display) error {
				st, err := s.Status(ctx)
				if err != nil {
					return err
				}
				if t.asJSON {
					return printJSON(cmd.OutOrStdout(), st)
				}
				return printStatus(cmd.OutOrStdout(), st)
			})
		},
	}
	t.addFlags(cmd)
	return cmd
}

func printStatus(w io.Writer, s cas.Status) error {
	t := newTable(w)
	t.row("state", s.State)
	for _, r := range s.Reasons {
		t.row("", oneLine(r))
	}
	t.row("store", s.StoreID)
	t.row("code", s.Code+" for new segments")
	t.row("stored", fmt.Sprintf("%s for %s of %s objects, %s chunks", bytesText(s.Stats.StoredBytes), bytesText(s.Stats.LogicalBytes), comma(s.Stats.Objects), comma(s.Stats.Chunks)))
	t.row("segments", fmt.Sprintf("%s, %s of them damaged", comma(int64(s.Segments)), comma(int64(s.Damaged))))
	t.row("commits", fmt.Sprintf("%d", s.CSN))
	t.row("index", fmt.Sprintf("%s, %s, %s entries in memory", s.Index.Path, bytesText(s.Index.FileBytes), comma(int64(s.Index.Overlay))))
	if s.Index.Trouble != "" {
		t.row("", oneLine(s.Index.Trouble))
	}
	t.row("last scrub", scrubText(s.LastScrub))
	if !s.NextScrub.IsZero() {
		t.row("next scrub", times(s.NextScrub, time.Time{}))
	}
	t.row("last gc", gcText(s.LastGC))
	for _, p := range s.Running {
		t.row("running", runningText(p))
	}
	if err := t.end(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return printDirs(w, s.Dirs)
}

func scrubText(r *cas.Receipt) string {
	if r == nil {
		return "none yet"
	}
	return fmt.Sprintf("%s: %s, %s, level %s, %s findings, %s lost", times(r.Began, r.Ended), r.Outcome, completeness(*r), r.Level, comma(r.FindingsTotal), comma(r.LostTotal))
}

func gcText(r *cas.GCReport) string {
	if r == nil {
		return "none since the start"
	}
	text := fmt.Sprintf("%s: %s segments dropped, %s reclaimed", times(r.Began, r.Ended), comma(r.Dropped), bytesText(r.ReclaimedBytes))
	if r.Reason != "" {
		text += "; ended early: " + r.Reason
	}
	return text
}

func runningText(p cas.Progress) string {
	text := p.Operation
	if p.Phase != "" {
		text += " " + p.Phase
	}
	text += ", " + amount(p.Done, p.Unit)
	if p.Total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", amount(p.Total, p.Unit), percent(min(p.Done, p.Total), p.Total))
	}
	return text + ", since " + times(p.Began, time.Time{})
}

func printDirs(w io.Writer, dirs []cas.DirStatus) error {
	t := newTable(w, "DIRECTORY", "STATE", "FREE", "SIZE", "SHARD FILES", "IN THEM", "ID", "")
	for _, d := range dirs {
		t.row(cmp.Or(d.Path, "-"), d.State, bytesText(d.Free), bytesText(d.Total), comma(int64(d.Shards)), bytesText(d.Bytes), d.ID, oneLine(d.Reason))
	}
	return t.end()
}
