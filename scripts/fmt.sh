#!/usr/bin/env bash
# Formats the Rust code; with --check, only says whether that would change anything.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd "$ROOT"
cargo fmt --all -- "$@"
