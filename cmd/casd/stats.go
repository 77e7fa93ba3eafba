package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

func newStatsCommand(stderr io.Writer) *cobra.Command {
	var (
		t      = target{stderr: stderr}
		bucket string
	)
	cmd := &cobra.Command{
		Use:   "stats [flags] (--endpoint URL | DIR...)",
		Short: "Show logical bytes, stored bytes and the ratio",
		Long: `Show the sizes of a store: of a running server with --endpoint and the credentials of CASD_ROOT_USER and CASD_ROOT_PASSWORD,
or of a stopped one by its data directories.`,
		Example: `  casd stats --endpoint http://127.0.0.1:9000
  casd stats --endpoint http://127.0.0.1:9000 --bucket backups --json
  casd stats ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, args, func(ctx context.Context, s operable, _ *display) error {
				stats, err := s.Stats(ctx, bucket)
				if err != nil {
					return err
				}
				return printStats(cmd.OutOrStdout(), stats, bucket, t.asJSON)
			})
		},
	}
	t.addFlags(cmd)
	cmd.Flags().StringVar(&bucket, "bucket", "", "objects, logical bytes and uploads of bucket `NAME` only")
	return cmd
}

func printStats(w io.Writer, s cas.Stats, bucket string, asJSON bool) error {
	if asJSON {
		return printJSON(w, s)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value, meaning string) { fmt.Fprintf(tw, "%s\t%s\t%s\n", name, value, meaning) }
	size := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	whole := ""
	if bucket != "" {
		whole = " (whole store)"
	}
	row("buckets", humanize.Comma(s.Buckets), "")
	row("objects", humanize.Comma(s.Objects), "")
	row("uploads", humanize.Comma(s.Uploads), "multipart uploads in progress")
	row("logical", size(s.LogicalBytes), "what clients stored")
	row("unique", size(s.UniqueBytes), "after dedup, before compression"+whole)
	row("payload", size(s.PayloadBytes), "records and framing, before parity"+whole)
	row("stored", size(s.StoredBytes), "on disk with parity and padding"+whole)
	row("chunks", humanize.Comma(s.Chunks), "")
	row("dedup ratio", fmt.Sprintf("%.2f", s.DedupRatio), "logical / unique")
	row("total ratio", fmt.Sprintf("%.2f", s.TotalRatio), "logical / payload")
	return tw.Flush()
}
