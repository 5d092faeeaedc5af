#!/usr/bin/env bash
# Stops the server that `make run` started, if it is up.
set -euo pipefail
source "$(dirname "$0")/env.sh"

pid_file="${TIDEWAY_DATA_DIR:-$ROOT/.tideway}/server.pid"
[ -f "$pid_file" ] || exit 0
pid="$(cat "$pid_file")"

# The number may have gone to another program since.
up() { [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = tideway ]; }
down() { ! up; }

if up; then
  kill "$pid"
  wait_for 20 down || kill -9 "$pid"
  say "stopped the server"
fi
rm -f "$pid_file"
