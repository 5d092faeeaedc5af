#!/usr/bin/env bash
# Makes sure that `cargo fuzz` exists: the one on PATH, or one built into the tools folder.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

command -v cargo-fuzz || {
  cargo_tool cargo-fuzz 0.13.1
  echo "$TOOLS/bin/cargo-fuzz"
}
