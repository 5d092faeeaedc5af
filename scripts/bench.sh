#!/usr/bin/env bash
# Builds tideway for speed and runs bench/run.py with the given flags (bench/README.md).
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd "$ROOT"
need cargo cc python3
TIDEWAY_SLING="$(scripts/install/bench.sh)"
TIDEWAY_BENCH_PYTHON="$(scripts/install/python.sh)/bin/python"
TIDEWAY_POSTGRES_BIN="$(scripts/install/postgres.sh)"
export TIDEWAY_SLING TIDEWAY_BENCH_PYTHON TIDEWAY_POSTGRES_BIN
cargo build --locked --release --package tideway
TIDEWAY_BIN="$CARGO_TARGET_DIR/release/tideway" exec python3 bench/run.py "$@"
