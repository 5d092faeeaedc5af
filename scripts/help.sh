#!/usr/bin/env bash
# Lists the targets of the Makefile with what each says of itself.
set -euo pipefail
source "$(dirname "$0")/env.sh"

sed -nE 's/^([a-z-]+): ## (.*)/  make \1\t\2/p' "$ROOT/Makefile" | expand -t 20
