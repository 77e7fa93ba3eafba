package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

// receiptsListed is how many receipts casd scrub --list shows, if not told otherwise.
const receiptsListed = 10

func newScrubCommand(stderr io.Writer) *cobra.Command {
	var (
		t        = target{stderr: stderr}
		level    string
		noRepair bool
		rate     sizeValue
		list     bool
		max      int
	)
	cmd := &cobra.Command{
		Use:   "scrub [flags] (--endpoint URL | DIR...)",
		Short: "Verify everything that is stored, and repair it",
		Long: `Read every shard of every segment past the page cache, verify it, and rewrite what is bad or missing. Clients go on reading and
writing. Each run leaves a receipt in the store; --list shows them.

Levels: shards verifies every shard, parity too; chunks, the default, also decodes and hashes every chunk; deep also verifies
that every object's chunks exist, and that index and log agree.

Ctrl-C ends it; the next run goes on where it was.

` + exitHelp,
		Example: `  casd scrub --endpoint http://127.0.0.1:9000
  casd scrub --level deep --rate 100MiB ./data/d{1...6}
  casd scrub --no-repair --json --endpoint http://127.0.0.1:9000
  casd scrub --list --endpoint http://127.0.0.1:9000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			levels := []string{string(cas.ScrubShards), string(cas.ScrubChunks), string(cas.ScrubDeep)}
			if !slices.Contains(levels, level) {
				return fmt.Errorf("--level %q is none of %s", level, strings.Join(levels, ", "))
			}
			if max < 1 || max > 100 {
				return fmt.Errorf("--max %d is not between 1 and 100", max)
			}
			out := cmd.OutOrStdout()
			return t.run(cmd, args, func(ctx context.Context, s operable, d *display) error {
				if list {
					receipts, err := s.Receipts(ctx, max)
					if err != nil {
						return err
					}
					if t.asJSON {
						return printJSON(out, receipts)
					}
					return printReceipts(out, receipts)
				}
				r, err := s.Scrub(ctx, cas.ScrubRequest{Level: cas.ScrubLevel(level), NoRepair: noRepair, Rate: int64(rate), Progress: d.Progress})
				d.End()
				if err != nil {
					return err
				}
				print := printReceipt
				if t.asJSON {
					print = func(w io.Writer, r cas.Receipt) error { return printJSON(w, r) }
				}
				if err := print(out, r); err != nil {
					return err
				}
				return exitOf(r.Outcome, r.Complete, r.Reason)
			})
		},
	}
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&level, "level", string(cas.ScrubChunks), "`LEVEL`: shards, chunks or deep")
	f.BoolVar(&noRepair, "no-repair", false, "report only")
	f.Var(&rate, "rate", "bytes a second to read at most, over all directories; 0 means no limit")
	f.BoolVar(&list, "list", false, "show the receipts of past scrubs instead")
	f.IntVar(&max, "max", receiptsListed, "with --list: at most `N` receipts, up to 100")
	return cmd
}

// completeness says whether a scrub saw everything.
func completeness(r cas.Receipt) string {
	switch {
	case r.Complete:
		return "complete"
	case r.Reason != "":
		return "incomplete: " + r.Reason
	}
	return "incomplete"
}

func printReceipts(w io.Writer, receipts []cas.Receipt) error {
	t := newTable(w, "RECEIPT", "BEGAN", "LEVEL", "BY", "OUTCOME", "FINDINGS", "LOST", "")
	for _, r := range receipts {
		by := "command"
		if r.Background {
			by = "schedule"
		}
		t.row(r.ID, times(r.Began, r.Ended), string(r.Level), by, r.Outcome, comma(r.FindingsTotal), comma(r.LostTotal), completeness(r))
	}
	return t.end()
}

func printReceipt(w io.Writer, r cas.Receipt) error {
	fmt.Fprintf(w, "scrub %s: %s, %s\n", r.ID, r.Outcome, completeness(r))
	t := newTable(w)
	t.row("level", string(r.Level))
	t.row("time", times(r.Began, r.Ended))
	t.row("verified", fmt.Sprintf("%s segments, %s stripes, %s chunks, %s objects", comma(r.Segments), comma(r.Stripes), comma(r.Chunks), comma(r.Objects)))
	for i, dir := range slices.Sorted(maps.Keys(r.BytesRead)) {
		head := ""
		if i == 0 {
			head = "read"
		}
		t.row(head, fmt.Sprintf("%s  %s", bytesText(r.BytesRead[dir]), dir))
	}
	t.row("bad shards", fmt.Sprintf("%s, %s of them repaired", comma(r.ShardsBad), comma(r.ShardsRepaired)))
	t.row("files rebuilt", comma(r.FilesRebuilt))
	t.row("stripes lost", comma(r.StripesLost))
	if err := t.end(); err != nil {
		return err
	}
	if err := printFindings(w, r.Findings, r.FindingsTotal); err != nil {
		return err
	}
	return printLost(w, r.Lost, r.LostTotal)
}

func printFindings(w io.Writer, findings []cas.Finding, total int64) error {
	if total = max(total, int64(len(findings))); total == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nfindings: %s\n", comma(total))
	t := newTable(w, "DIRECTORY", "FILE", "OFFSET", "KIND", "STATE", "DETAIL")
	for _, f := range findings {
		state := "not repaired"
		switch {
		case f.Lost:
			state = "lost"
		case f.Repaired:
			state = "repaired"
		}
		t.row(cmp.Or(f.Dir, "-"), cmp.Or(f.File, fmt.Sprintf("segment %016x", f.Segment)), comma(f.Offset), f.Kind, state, f.Detail)
	}
	if err := t.end(); err != nil {
		return err
	}
	more(w, len(findings), total)
	return nil
}
