#!/usr/bin/env bash
# Builds tideway, starts its server and runs the demo against it; the server stays up.
# TIDEWAY_LISTEN and TIDEWAY_DATA_DIR choose another address and folder.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd "$ROOT"
need cargo cc npm curl
listen="${TIDEWAY_LISTEN:-127.0.0.1:5555}"
data="${TIDEWAY_DATA_DIR:-$ROOT/.tideway}"
binary="$CARGO_TARGET_DIR/debug/tideway"

TIDEWAY_DUCKDB_LIBRARY="$(scripts/install/duckdb.sh)"
export TIDEWAY_DUCKDB_LIBRARY
say "building (the first time takes some minutes)"
cargo build --workspace

ready() { curl --silent --fail "http://$listen/readyz" >/dev/null; }

# A server that already runs is kept, unless it is older than what was just built.
if ready && [ "$data/server.pid" -nt "$binary" ]; then
  say "the server is already up"
else
  scripts/stop.sh
  ! ready || die "another server answers on $listen: choose one with TIDEWAY_LISTEN=127.0.0.1:PORT"
  say "starting the server on $listen"
  umask 077 # the first start shows the API key, and so does its log
  mkdir -p "$data"
  # A session of its own: Ctrl-C on the demo leaves the server up.
  setsid nohup "$binary" serve --data-dir "$data" --listen "$listen" \
    </dev/null >"$data/server.log" 2>&1 &
  server=$!
  echo "$server" > "$data/server.pid"
  up_or_gone() { ready || ! kill -0 "$server"; }
  if ! wait_for 30 up_or_gone || ! ready; then
    tail -20 "$data/server.log" >&2
    die "the server did not start; its log is $data/server.log"
  fi
fi

"$binary" demo --server "http://$listen" --data-dir "$data"

say "the server stays up at http://$listen; its log is $data/server.log"
say "to stop it: make stop"
