package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/casd/casd/cas"
)

const dirHelp = `

DIRECTORY is the ID of a data directory as casd dir list shows it, or its path. Paths are those of the machine that the store is on. With
--endpoint a running server does it while it serves; without, name all data directories of the stopped store behind the arguments.`

func newDirCommand(stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dir",
		Short: "Add, drain, replace, remove and list data directories",
		Long: `Change the data directories of a store, one at a time, while it serves or when it is stopped.` + dirHelp + `

` + exitHelp,
		Example: `  casd dir list --endpoint http://127.0.0.1:9000
  casd dir add /mnt/disk7/casd --endpoint http://127.0.0.1:9000
  casd dir replace /mnt/disk3/casd /mnt/disk9/casd --endpoint http://127.0.0.1:9000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDirListCommand(stderr), newDirAddCommand(stderr), newDirDrainCommand(stderr), newDirReplaceCommand(stderr), newDirRemoveCommand(stderr))
	return cmd
}

func newDirListCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "list [flags] (--endpoint URL | DIR...)",
		Short: "Show the data directories",
		Long: `Show the data directories with their states: online; full (no room for new segments); healing (what is missing in it is being rebuilt);
draining; offline (it failed); absent.`,
		Example: `  casd dir list --endpoint http://127.0.0.1:9000
  casd dir list --json ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, args, func(ctx context.Context, s operable, _ *display) error {
				st, err := s.Status(ctx)
				if err != nil {
					return err
				}
				if t.asJSON {
					return printJSON(cmd.OutOrStdout(), st.Dirs)
				}
				return printDirs(cmd.OutOrStdout(), st.Dirs)
			})
		},
	}
	t.addFlags(cmd)
	return cmd
}

func newDirAddCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "add [flags] PATH (--endpoint URL | DIR...)",
		Short: "Make an empty directory part of the store",
		Long: `Make the empty directory PATH part of the store. New segments go to it from then on; casd rebalance moves some of the old ones there. Name it
in the server's settings too before the next start.` + dirHelp,
		Example: `  casd dir add /mnt/disk7/casd --endpoint http://127.0.0.1:9000
  casd dir add ./data/d7 ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changeDir(cmd, args, []string{"PATH"}, func(ctx context.Context, s operable, names []string, _ *display) (string, error) {
				path, err := absolute(names[0])
				if err != nil {
					return "", err
				}
				st, err := s.AddDir(ctx, path)
				return "added " + dirText(st), err
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	return cmd
}

func newDirDrainCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "drain [flags] DIRECTORY (--endpoint URL | DIR...)",
		Short: "Move everything off a directory",
		Long: `Move every shard file of a directory to the others, and write nothing new there. When it has ended the directory can be removed with casd dir remove,
and unplugged. Ctrl-C ends it; called again it goes on.` + dirHelp,
		Example: `  casd dir drain /mnt/disk3/casd --endpoint http://127.0.0.1:9000
  casd dir drain ./data/d3 ./data/d{1...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changeDir(cmd, args, []string{"DIRECTORY"}, func(ctx context.Context, s operable, names []string, d *display) (string, error) {
				st, err := s.DrainDir(ctx, names[0], d.Progress)
				return "drained " + dirText(st), err
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	return cmd
}

func newDirReplaceCommand(stderr io.Writer) *cobra.Command {
	t := target{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "replace [flags] DIRECTORY PATH (--endpoint URL | DIR...)",
		Short: "Put an empty directory in the place of another, and rebuild there what that one held",
		Long: `Make the empty directory PATH part of the store in the place of DIRECTORY, which may be dead or gone, and rebuild there what that one held. The
replaced directory is not part of the store any more. It waits until all is rebuilt; Ctrl-C ends the waiting, the rebuilding goes on
with the store. Name PATH in the server's settings before the next start.` + dirHelp,
		Example: `  casd dir replace /mnt/disk3/casd /mnt/disk9/casd --endpoint http://127.0.0.1:9000
  casd dir replace ./data/d3 ./data/d7 ./data/d{1...2} ./data/d{4...6}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changeDir(cmd, args, []string{"DIRECTORY", "PATH"}, func(ctx context.Context, s operable, names []string, d *display) (string, error) {
				path, err := absolute(names[1])
				if err != nil {
					return "", err
				}
				st, err := s.ReplaceDir(ctx, names[0], path, d.Progress)
				return fmt.Sprintf("replaced %s by %s", plain(names[0]), dirText(st)), err
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	return cmd
}

func newDirRemoveCommand(stderr io.Writer) *cobra.Command {
	var (
		t    = target{stderr: stderr}
		lost bool
	)
	cmd := &cobra.Command{
		Use:   "remove [flags] DIRECTORY (--endpoint URL | DIR...)",
		Short: "Take a directory out of the store",
		Long: `Take a drained directory out of the store. --lost takes out one that will never come back: its shards count as lost, and are rebuilt on the
others as far as there are enough. A directory that was removed is never taken back.` + dirHelp,
		Example: `  casd dir remove /mnt/disk3/casd --endpoint http://127.0.0.1:9000
  casd dir remove --lost /mnt/disk3/casd --endpoint http://127.0.0.1:9000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changeDir(cmd, args, []string{"DIRECTORY"}, func(ctx context.Context, s operable, names []string, _ *display) (string, error) {
				return "removed " + plain(names[0]), s.RemoveDir(ctx, names[0], lost)
			})
		},
	}
	t.addFlags(cmd)
	t.addChangeFlags(cmd.Flags())
	cmd.Flags().BoolVar(&lost, "lost", false, "it will never come back")
	return cmd
}

// changeDir takes the names that a change is about off the arguments, makes the change, and prints what it says, or with --json the directories
// as they are then.
func (t *target) changeDir(cmd *cobra.Command, args, names []string, do func(ctx context.Context, s operable, names []string, d *display) (string, error)) error {
	if len(args) < len(names) {
		return fmt.Errorf("%s is missing; see --help", names[len(args)])
	}
	given, args := args[:len(names)], args[len(names):]
	for _, name := range given {
		if name == "" {
			return errors.New("a directory name is empty")
		}
	}
	return t.run(cmd, args, func(ctx context.Context, s operable, d *display) error {
		said, err := do(ctx, s, given, d)
		d.End()
		if err != nil {
			return err
		}
		if !t.asJSON {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		}
		st, err := s.Status(ctx)
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), st.Dirs)
	})
}

func dirText(d cas.DirStatus) string { return fmt.Sprintf("%s (%s, %s)", plain(d.Path), d.ID, d.State) }

// addChangeFlags adds what commands need that write to a stopped store.
func (o *storeOptions) addChangeFlags(f *pflag.FlagSet) {
	o.segmentBytes = 1 << 30
	f.Var(&o.ec, "ec", "erasure code of new segments of a stopped store, as 4+2; default the store's")
	f.Var(&o.segmentBytes, "segment-bytes", "payload at which a data segment of a stopped store is sealed")
}
