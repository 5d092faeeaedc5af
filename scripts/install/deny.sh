#!/usr/bin/env bash
# Makes sure that `cargo deny` exists: the one on PATH, or one built into the tools folder.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

command -v cargo-deny || {
  cargo_tool cargo-deny 0.20.2 --debug
  echo "$TOOLS/bin/cargo-deny"
}
