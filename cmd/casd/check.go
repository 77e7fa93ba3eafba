package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

func newCheckCommand(stderr io.Writer) *cobra.Command {
	var (
		t    = target{stderr: stderr}
		rate sizeValue
	)
	cmd := &cobra.Command{
		Use:   "check [flags] (--endpoint URL | DIR...)",
		Short: "Prove that the index is what the log says",
		Long: `Compare every row of the index with the log, and verify that every chunk that an object names exists. Clients go on reading and
writing. It changes nothing: casd scrub repairs the log, casd rebuild-index makes the index anew.

` + exitHelp,
		Example: `  casd check --endpoint http://127.0.0.1:9000
  casd check --json ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, args, func(ctx context.Context, s operable, d *display) error {
				r, err := s.Check(ctx, cas.CheckRequest{Rate: int64(rate), Progress: d.Progress})
				d.End()
				if err != nil {
					return err
				}
				print := printCheck
				if t.asJSON {
					print = func(w io.Writer, r cas.CheckReport) error { return printJSON(w, r) }
				}
				if err := print(cmd.OutOrStdout(), r); err != nil {
					return err
				}
				return exitOf(r.Outcome, true, "")
			})
		},
	}
	t.addFlags(cmd)
	cmd.Flags().Var(&rate, "rate", "bytes a second to read at most; 0 means no limit")
	return cmd
}

func printCheck(w io.Writer, r cas.CheckReport) error {
	fmt.Fprintf(w, "check: %s\n", r.Outcome)
	t := newTable(w)
	t.row("time", times(r.Began, r.Ended))
	t.row("compared", fmt.Sprintf("%s mutations up to CSN %d, %s rows, %s chunks, %s objects", comma(r.Mutations), r.CSN, comma(r.Rows), comma(r.Chunks), comma(r.Objects)))
	t.row("differences", comma(max(r.DifferencesTotal, int64(len(r.Differences)))))
	if err := t.end(); err != nil {
		return err
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "  %s\n", plain(d))
	}
	more(w, len(r.Differences), r.DifferencesTotal)
	return printLost(w, r.Lost, r.LostTotal)
}
