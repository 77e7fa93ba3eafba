package main

import (
	"errors"
	"fmt"

	"github.com/casd/casd/cas"
)

// Exit codes of every command. 1 and 2 belong to commands that look for damage.
const (
	exitDone     = 0 // done, or the store is whole
	exitRepaired = 1 // something was wrong, and all of it is mended
	exitLost     = 2 // data is lost, or damaged and not mended
	exitFailed   = 3 // the command failed or was interrupted; wrong usage too
)

const exitHelp = `Exit codes: 0 whole or done, 1 damage was found and repaired, 2 data is lost, or damaged and not repaired, 3 the command failed or was
interrupted.`

// An exitCode is the error of a command that has said everything already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// exitOf translates the outcome of a scrub or a check. What was not looked at to the end is not whole.
func exitOf(outcome string, complete bool, reason string) error {
	switch {
	case outcome == cas.OutcomeLost || outcome == cas.OutcomeDamaged:
		return exitCode(exitLost)
	case !complete:
		if reason == "" {
			reason = "the reason is in the log"
		}
		return fmt.Errorf("not everything could be looked at: %s", reason)
	case outcome == cas.OutcomeRepaired:
		return exitCode(exitRepaired)
	case outcome == cas.OutcomeWhole:
		return nil
	}
	return fmt.Errorf("the outcome %q is unknown to this version", outcome)
}

// codeOf returns the exit code of a command that ended with err, and whether err has yet to be printed.
func codeOf(err error) (code int, say bool) {
	var c exitCode
	switch {
	case err == nil:
		return exitDone, false
	case errors.As(err, &c):
		return int(c), false
	}
	return exitFailed, true
}
