#!/usr/bin/env bash
# Checks the dependencies against Go's vulnerability database. Without the network it says so and succeeds: the answer is
# then unknown, not clean.
set -uo pipefail
out=$(go run golang.org/x/vuln/cmd/govulncheck@"${GOVULNCHECK_VERSION:?}" ./... 2>&1)
status=$?
printf '%s\n' "$out"
if [ $status != 0 ] && grep -qE 'fetching vulnerabilities|dial tcp|no such host|connection refused|vuln\.go\.dev.*(timeout|refused|Forbidden|403)' <<<"$out" && ! grep -q '^Vulnerability #' <<<"$out"; then
	echo "govulncheck: the vulnerability database cannot be reached; nothing was checked" >&2
	exit 0
fi
exit $status
