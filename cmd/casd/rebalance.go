package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newRebalanceCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "rebalance [flags] (--endpoint URL | DIR...)",
		Short: "Move shard files until the directories are about equally full",
		Long: `Move shard files from directories that are full to those with room, such as new ones. Each is copied, synced and verified before the old one
goes. Clients go on reading and writing. Ctrl-C ends it; called again it goes on.

` + exitHelp,
		Example: `  casd rebalance --endpoint http://127.0.0.1:9000
  casd rebalance ./data/d{1...7}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, args, func(ctx context.Context, s operable, d *display) error {
				moved, err := s.Rebalance(ctx, d.Progress)
				d.End()
				if err != nil {
					return err
				}
				if t.asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]int64{"moved": moved})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "rebalance: %s moved\n", bytesText(moved))
				return err
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	return cmd
}
