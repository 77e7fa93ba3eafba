package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

func newGCCommand(stderr io.Writer) *cobra.Command {
	var (
		t         = target{stderr: stderr}
		dryRun    bool
		threshold float64
		recode    string
		rate      sizeValue
	)
	cmd := &cobra.Command{
		Use:   "gc [flags] (--endpoint URL | DIR...)",
		Short: "Give back the space of what was deleted",
		Long: `Find out which chunks nothing names any more, copy what is still needed out of segments that are mostly garbage, and remove these.
Clients go on reading and writing. Nothing is removed before what it held and is still needed is durable and verified elsewhere.

--recode=ec rewrites every segment whose erasure code is not the store's, too. Ctrl-C ends it; what was reclaimed stays reclaimed.

` + exitHelp,
		Example: `  casd gc --dry-run --endpoint http://127.0.0.1:9000
  casd gc --threshold 0.1 --rate 50MiB --endpoint http://127.0.0.1:9000
  casd gc --recode=ec --ec 6+2 ./data/d{1...8}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(threshold > 0 && threshold <= 1) {
				return fmt.Errorf("--threshold %g is not more than 0 and at most 1", threshold)
			}
			if recode != "" && recode != "ec" {
				return fmt.Errorf("--recode %q is not ec", recode)
			}
			return t.run(cmd, args, func(ctx context.Context, s operable, d *display) error {
				r, err := s.GC(ctx, cas.GCRequest{DryRun: dryRun, Threshold: threshold, Recode: recode == "ec", Rate: int64(rate), Progress: d.Progress})
				d.End()
				if err != nil {
					return err
				}
				print := printGC
				if t.asJSON {
					print = func(w io.Writer, r cas.GCReport) error { return printJSON(w, r) }
				}
				if err := print(cmd.OutOrStdout(), r); err != nil {
					return err
				}
				if r.Reason != "" {
					return fmt.Errorf("the cycle ended early: %s", r.Reason)
				}
				return nil
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "report what would be reclaimed, change nothing")
	f.Float64Var(&threshold, "threshold", 0.25, "compact segments from this `PART` of garbage on, 0 < PART <= 1")
	f.StringVar(&recode, "recode", "", "ec: rewrite segments with another erasure code than the store's too")
	f.Var(&rate, "rate", "bytes a second to copy at most; 0 means no limit")
	return cmd
}

func printGC(w io.Writer, r cas.GCReport) error {
	dropped, reclaimed := "dropped", "reclaimed"
	if r.DryRun {
		dropped, reclaimed = "would be dropped", "would be reclaimed"
	}
	fmt.Fprintf(w, "gc: %s %s, %s of %s segments %s\n", bytesText(r.ReclaimedBytes), reclaimed, comma(r.Dropped), comma(r.SegmentsTotal), dropped)
	t := newTable(w)
	t.row("time", times(r.Began, r.Ended))
	t.row("stored before", fmt.Sprintf("%s, about %s of it garbage", bytesText(r.StoredBytes), bytesText(r.GarbageBytes)))
	t.row("live chunks", comma(r.ChunksLive))
	t.row("copied", fmt.Sprintf("%s, %s chunks", bytesText(r.CopiedBytes), comma(r.CopiedChunks)))
	t.row("snapshots", comma(int64(r.Snapshots)))
	t.row("uploads expired", comma(r.UploadsExpired))
	if err := t.end(); err != nil || len(r.Segments) == 0 {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "SEGMENT", "CLASS", "CODE", "STORED", "LIVE", "")
	for _, s := range r.Segments {
		what := "kept"
		switch {
		case s.Dropped:
			what = dropped
		case s.Skipped != "":
			what = "kept: " + s.Skipped
		}
		t.row(fmt.Sprintf("%016x", s.ID), s.Class, s.Code, bytesText(s.StoredBytes), bytesText(s.LiveBytes), what)
	}
	if err := t.end(); err != nil {
		return err
	}
	more(w, len(r.Segments), r.SegmentsTotal)
	return nil
}
