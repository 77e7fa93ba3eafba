#!/usr/bin/env bash
# Installs the S3 clients and tools that the end-to-end tests use, from Debian's packages, where they are missing.
# Works as root, and as a user with sudo. Asks nothing.
set -euo pipefail

declare -A package=([aws]=awscli [rclone]=rclone [restic]=restic [s3cmd]=s3cmd [openssl]=openssl [curl]=curl [python3]=python3)
missing=()
for tool in "${!package[@]}"; do
	command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
[ ${#missing[@]} = 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "install these and try again: ${missing[*]}" >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "install these as root and try again: ${missing[*]}" >&2; exit 1; }
	as_root=(sudo -n)
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null </dev/null
