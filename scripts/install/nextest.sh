#!/usr/bin/env bash
# Makes sure that `cargo nextest` exists: the one on PATH, or one built into the tools folder.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

command -v cargo-nextest || {
  cargo_tool cargo-nextest 0.9.143
  echo "$TOOLS/bin/cargo-nextest"
}
