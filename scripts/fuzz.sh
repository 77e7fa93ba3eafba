#!/usr/bin/env bash
# Runs every fuzz target of the module in turn, each for the time given: fuzz.sh 30s [PACKAGE...]
set -euo pipefail
time=${1:?usage: fuzz.sh TIME [PACKAGE...]}; shift
packages=$(go list "${@:-./...}")
ran=0
for package in $packages; do
	dir=$(go list -f '{{.Dir}}' "$package")
	grep -qs '^func Fuzz' "$dir"/*_test.go || continue
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "== $package $target $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
		ran=$((ran + 1))
	done
done
echo "$ran fuzz targets"
