#!/usr/bin/env bash
# A throwaway PostgreSQL in a folder: `postgres.sh start DIR PORT`, `postgres.sh stop DIR`.
# Stopping ends it as a crash would; started again in the same folder, it goes on with its data.
#
# Superuser tideway, password tideway (scram) on 127.0.0.1; without a password on the socket
# in DIR. It speaks TLS: DIR/ca.crt is the authority. The server's certificate names
# `localhost` alone, so that verify-full can be seen to pass there and to fail on 127.0.0.1.
# DIR/client.crt and DIR/client.key let the role tideway_cert in without a password.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
source "$(dirname "$0")/certificates.sh"
action="${1:?start or stop}" dir="${2:?the folder}"
bin="$("$ROOT/scripts/install/postgres.sh")"

# PostgreSQL refuses to run as root.
as_owner() {
  cd "$dir"
  if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

start() {
  local port="$1"
  mkdir -p "$dir"
  [ -d "$dir/data" ] || make "$port"
  run
}

run() {
  as_owner "$bin/pg_ctl" start --silent --wait --pgdata data --log log || { cat "$dir/log" >&2; exit 1; }
}

make() {
  local port="$1" fsync="${TIDEWAY_POSTGRES_FSYNC:-off}"
  cd "$dir"
  authority
  certificate server localhost subjectAltName=DNS:localhost
  certificate client tideway_cert extendedKeyUsage=clientAuth
  chmod 600 ./*.key
  echo tideway > password
  if [ "$(id -u)" -eq 0 ]; then chown -R postgres: .; fi

  as_owner "$bin/initdb" --pgdata data --username tideway --pwfile password --no-sync \
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8 >/dev/null
  cat >> data/postgresql.conf <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir'
max_connections = 200
wal_level = logical
max_wal_senders = 50
max_replication_slots = 50
fsync = $fsync
full_page_writes = $fsync
ssl = on
ssl_ca_file = '$dir/ca.crt'
ssl_cert_file = '$dir/server.crt'
ssl_key_file = '$dir/server.key'
CONF
  # Not every PostgreSQL comes with psql.
  as_owner "$bin/postgres" --single -c log_checkpoints=off -D data postgres <<<'create role tideway_cert login' >/dev/null
  # The first line that matches wins.
  sed -i '1i hostssl all tideway_cert 127.0.0.1/32 cert' data/pg_hba.conf
}

stop() {
  [ ! -f "$dir/data/postmaster.pid" ] ||
    as_owner "$bin/pg_ctl" stop --silent --pgdata data --mode immediate
}

case "$action" in
  start) start "${3:?the port}" ;;
  stop) stop ;;
  *) die "start or stop, not $action" ;;
esac
