#!/usr/bin/env bash
# A throwaway MariaDB in a folder: `mariadb.sh start DIR PORT`, `mariadb.sh stop DIR`.
#
# User tideway, password tideway, with all rights on 127.0.0.1; no other account can sign in.
# Its binary log holds whole rows with GTIDs. It speaks TLS: DIR/ca.crt is the authority. The
# server's certificate names `localhost` alone. DIR/client.crt and DIR/client.key let the user
# tideway_cert in without a password.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
source "$(dirname "$0")/certificates.sh"
action="${1:?start or stop}" dir="${2:?the folder}"

start() {
  local port="$1" server tables owner=() flush=0
  server="$("$ROOT/scripts/install/mariadb.sh")"
  [ "${TIDEWAY_MYSQL_FSYNC:-off}" = off ] || flush=1
  mkdir -p "$dir"
  cd "$dir"
  authority
  certificate server localhost subjectAltName=DNS:localhost
  certificate client tideway_cert extendedKeyUsage=clientAuth
  if [ "$(id -u)" -eq 0 ]; then
    id mysql >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin mysql
    owner=(--user=mysql)
  fi
  cat > server.cnf <<CONF
[mariadbd]
datadir = $dir/data
socket = $dir/socket
pid-file = $dir/pid
log-error = $dir/log
bind-address = 127.0.0.1
port = $port
skip-name-resolve
max_connections = 300
character-set-server = utf8mb4
server-id = 1
log-bin = binlog
binlog_format = ROW
binlog_row_image = FULL
binlog_row_metadata = FULL
gtid_strict_mode = ON
innodb_flush_log_at_trx_commit = $flush
sync_binlog = $flush
innodb_buffer_pool_size = 256M
innodb_log_file_size = 128M
ssl_ca = $dir/ca.crt
ssl_cert = $dir/server.crt
ssl_key = $dir/server.key
CONF
  cat > init.sql <<SQL
CREATE USER IF NOT EXISTS tideway@'%' IDENTIFIED BY 'tideway';
GRANT ALL ON *.* TO tideway@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS tideway_cert@'%' REQUIRE SUBJECT '/CN=tideway_cert';
SQL
  mkdir -p data
  if [ "$(id -u)" -eq 0 ]; then chown -R mysql: .; fi
  # What mariadb-install-db does, which needs programs that only the client's package has.
  tables="$(dirname "$server")/../share/mysql"
  { printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;' 'SET @auth_root_socket = NULL;'
    cat "$tables"/mysql_system_tables.sql "$tables"/mysql_performance_tables.sql \
      "$tables"/mysql_system_tables_data.sql
  } | "$server" --no-defaults --bootstrap --datadir="$dir/data" "${owner[@]}" \
    --innodb-log-file-size=16M --log-warnings=0 --max-allowed-packet=8M \
    > install.log 2>&1 || { cat install.log >&2; exit 1; }
  "$server" --defaults-file="$dir/server.cnf" --init-file="$dir/init.sql" "${owner[@]}" \
    </dev/null >/dev/null 2>&1 &
  # Nobody is listened to before init.sql has run.
  wait_for 60 bash -c ": </dev/tcp/127.0.0.1/$port" || { cat log >&2; exit 1; }
}

# Nothing in there is wanted any more.
stop() {
  [ ! -f "$dir/pid" ] || { kill -KILL "$(cat "$dir/pid")" && rm -f "$dir/pid"; }
}

case "$action" in
  start) start "${3:?the port}" ;;
  stop) stop ;;
  *) die "start or stop, not $action" ;;
esac
