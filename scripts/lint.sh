#!/usr/bin/env bash
# Clippy over the code and its tests; a warning is an error.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd "$ROOT"
cargo clippy --locked --workspace --all-targets -- -D warnings
