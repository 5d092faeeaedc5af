#!/usr/bin/env bash
# Builds tideway for speed and runs bench/run.py with the given flags (bench/README.md).
# With --rivals first, all movers that install here take part.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd "$ROOT"
need cargo cc python3
if [ "${1:-}" = --rivals ]; then
  shift
  TIDEWAY_RIVALS="$(scripts/install/rivals.sh)"
  export TIDEWAY_RIVALS
fi
TIDEWAY_SLING="$(scripts/install/bench.sh)"
TIDEWAY_BENCH_PYTHON="$(scripts/install/python.sh)/bin/python"
TIDEWAY_POSTGRES_BIN="$(scripts/install/postgres.sh)"
export TIDEWAY_SLING TIDEWAY_BENCH_PYTHON TIDEWAY_POSTGRES_BIN
# Another program may be timed: a release, or one from before a change.
if [ -z "${TIDEWAY_BIN:-}" ]; then
  cargo build --locked --release --package tideway
  TIDEWAY_BIN="$CARGO_TARGET_DIR/release/tideway"
fi
export TIDEWAY_BIN PYTHONDONTWRITEBYTECODE=1
script=bench/run.py python=python3
if [ "${1:-}" = --incremental ]; then
  shift
  script=bench/incremental.py
elif [ "${1:-}" = --loading ]; then
  shift
  script=bench/loading.py
elif [ "${1:-}" = --verifying ]; then
  shift
  TIDEWAY_DUCKDB_LIBRARY="$(scripts/install/duckdb.sh)"
  export TIDEWAY_DUCKDB_LIBRARY
  script=bench/verifying.py
elif [ "${1:-}" = --decoding ]; then
  shift
  cargo build --locked --release --package tideway-postgres --features decoders --example decoding
  TIDEWAY_DECODING="$CARGO_TARGET_DIR/release/examples/decoding"
  export TIDEWAY_DECODING
  script=bench/decoding.py python="$TIDEWAY_BENCH_PYTHON"
elif [ "${1:-}" = --streaming ]; then
  shift
  script=bench/streaming.py python="$TIDEWAY_BENCH_PYTHON" # which has a driver
fi
exec "$python" "$script" "$@"
