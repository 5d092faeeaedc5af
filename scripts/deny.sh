#!/usr/bin/env bash
# Checks the dependencies against deny.toml. Advisories are left out: they need a download.
set -euo pipefail
source "$(dirname "$0")/env.sh"

deny="$("$ROOT/scripts/install/deny.sh")"
cd "$ROOT"
"$deny" --workspace --locked check licenses bans sources
