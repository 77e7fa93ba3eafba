package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/casd/casd/cas"
)

func newRebuildIndexCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "rebuild-index [flags] DIR...",
		Short: "Make the index of a stopped store anew from the log",
		Long: `Set the index of a stopped store aside and build it anew from the log. A start does the same by itself when the index is missing or damaged. The
old file is kept beside the new one until you remove it. Interrupted, it begins anew.

` + exitHelp,
		Example: `  casd rebuild-index ./data/d{1...6}
  casd rebuild-index --index /fast/casd /mnt/disk{1...6}/casd`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dirs, _, err := loadSettings(cmd, args)
			if err != nil {
				return err
			}
			if len(dirs) == 0 {
				return errors.New("name the data directories of the stopped store")
			}
			t.dirs = dirs
			d := newDisplay(t.stderr)
			ctx, stop := interruptible(cmd.Context(), d)
			defer stop()
			o, err := t.stoppedOptions(d)
			if err != nil {
				return err
			}
			began := time.Now()
			err = hintInUse(cas.RebuildIndex(ctx, o, d.Progress))
			d.End()
			switch {
			case err != nil && ctx.Err() != nil:
				return fmt.Errorf("interrupted (%w)", err)
			case err != nil:
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "index rebuilt in %s\n", time.Since(began).Round(time.Millisecond))
			return err
		},
	}
	t.storeOptions.addFlags(cmd.Flags())
	return cmd
}
