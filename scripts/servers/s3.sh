#!/usr/bin/env bash
# A throwaway S3 server over DIR/buckets: `s3.sh start DIR PORT`, `s3.sh stop DIR`.
# Access key `tideway`, secret key `tideway-secret`; wrong ones are refused.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
action="${1:?start or stop}" dir="${2:?the folder}"

start() {
  local port="$1" server
  server="$("$ROOT/scripts/install/s3.sh")"
  mkdir -p "$dir/buckets/tideway"
  "$server" --host 127.0.0.1 --port "$port" \
    --access-key tideway --secret-key tideway-secret "$dir/buckets" </dev/null >"$dir/log" 2>&1 &
  echo $! > "$dir/pid"
  wait_for 10 bash -c ": </dev/tcp/127.0.0.1/$port" || { cat "$dir/log" >&2; exit 1; }
}

stop() {
  [ ! -f "$dir/pid" ] || { kill "$(cat "$dir/pid")" && rm "$dir/pid"; }
}

case "$action" in
  start) start "${3:?the port}" ;;
  stop) stop ;;
  *) die "start or stop, not $action" ;;
esac
