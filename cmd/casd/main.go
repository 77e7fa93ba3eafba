// Command casd serves a content-addressed deduplicating object store over S3.
//
// This package only wires: it parses the command line, opens the store (package cas), hands it to the protocols
// (package httpapi), and prints. Each command has a file of its own.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code. Results go to stdout, messages and logs to stderr.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	code, say := codeOf(err)
	if say {
		fmt.Fprintf(stderr, "casd: %v\n", err)
	}
	return code
}

func newRootCommand(stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "casd",
		Short: "Content-addressed deduplicating object store that speaks S3",
		Long: `casd keeps objects for backup and data tools. It splits every upload into content-defined chunks, keeps each distinct
chunk once, compresses it, and spreads it with Reed-Solomon parity over data directories, normally one per disk.

Settings come from flags, then CASD_* environment variables (CASD_ADMIN_LISTEN for --admin-listen), then the YAML file
of --config (admin-listen: ...), then defaults.

` + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().String("config", "", "YAML `FILE` with settings, named as the flags")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newServeCommand(stderr), newStatsCommand(stderr), newStatusCommand(stderr), newScrubCommand(stderr), newGCCommand(stderr), newCheckCommand(stderr),
		newDirCommand(stderr), newRebalanceCommand(stderr), newRebuildIndexCommand(stderr), newVersionCommand(),
	)
	return root
}
