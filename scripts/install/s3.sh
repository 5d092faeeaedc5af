#!/usr/bin/env bash
# Builds s3s-fs, an S3 server over a folder that checks request signatures; prints its path.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

cargo_tool s3s-fs 0.14.1 --features binary
echo "$TOOLS/bin/s3s-fs"
