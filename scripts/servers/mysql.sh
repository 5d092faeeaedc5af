#!/usr/bin/env bash
# A throwaway MySQL in a folder: `mysql.sh start DIR PORT`, `mysql.sh stop DIR`. Stopping ends it as a
# crash would; started again in the same folder, it goes on with its data.
#
# User tideway, password tideway, with all rights on 127.0.0.1. Its binary log holds whole rows
# with GTIDs. It speaks TLS: DIR/ca.crt is the authority. The server's certificate names
# `localhost` alone. DIR/client.crt and DIR/client.key let the user tideway_cert in without a
# password.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
source "$(dirname "$0")/certificates.sh"
action="${1:?start or stop}" dir="${2:?the folder}"

# mysqld ARGUMENT...: the unpacked server, by its own loader and libraries.
mysqld() {
  local libraries="$root/usr/lib:$root/usr/lib/$(uname -m)-linux-gnu" loader
  loader="$(find "$root/usr/lib64" "$root/usr/lib" -maxdepth 1 -name 'ld-linux-*.so.*' -print -quit)"
  exec "$loader" --library-path "$libraries:$root/usr/lib/mysql/private" "$root/usr/sbin/mysqld" \
    --no-defaults --basedir="$root/usr" --lc-messages-dir="$root/usr/share/mysql" \
    --plugin-dir="$root/usr/lib/mysql/plugin" --character-sets-dir="$root/usr/share/mysql/charsets" \
    --secure-file-priv= --mysqlx=OFF "${owner[@]}" "$@"
}

start() {
  local port="$1" root owner=() flush=0 template version
  root="$("$ROOT/scripts/install/mysql.sh")"
  [ "${TIDEWAY_MYSQL_FSYNC:-off}" = off ] || flush=1
  # The unpacked programs are in root's home folder, where no other user may look.
  [ "$(id -u)" -ne 0 ] || owner=(--user=root)
  mkdir -p "$dir"
  cd "$dir"
  authority
  certificate server localhost subjectAltName=DNS:localhost
  certificate client tideway_cert extendedKeyUsage=clientAuth
  cat > init.sql <<SQL
CREATE USER IF NOT EXISTS tideway@'%' IDENTIFIED BY 'tideway';
GRANT ALL ON *.* TO tideway@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS tideway_cert@'%' REQUIRE SUBJECT '/CN=tideway_cert';
SQL
  # Making the system's tables takes as long as all the rest, so they are made once.
  version="$( (mysqld --version) 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -1)"
  template="$TOOLS/mysql-data-$version"
  if [ ! -d "$template" ]; then
    rm -rf "$template.$$"
    (mysqld --initialize-insecure --datadir="$template.$$" --innodb-redo-log-capacity=32M \
      --log-error="$dir/install.log") || { cat install.log >&2; exit 1; }
    rm -f "$template.$$/auto.cnf"
    mv -T "$template.$$" "$template" 2>/dev/null || rm -rf "$template.$$"
  fi
  [ -d data ] || cp -r "$template" data
  say "MySQL $version"
  (mysqld --datadir="$dir/data" --socket="$dir/socket" --pid-file="$dir/pid" --log-error="$dir/log" \
    --bind-address=127.0.0.1 --port="$port" --skip-name-resolve --max-connections=300 \
    --server-id=1 --log-bin=binlog --binlog-row-image=FULL --binlog-row-metadata=FULL \
    --gtid-mode=ON --enforce-gtid-consistency=ON --local-infile=ON \
    --innodb-flush-log-at-trx-commit="$flush" --sync-binlog="$flush" --innodb-doublewrite=OFF \
    --innodb-buffer-pool-size=256M --innodb-redo-log-capacity=256M \
    --ssl-ca="$dir/ca.crt" --ssl-cert="$dir/server.crt" --ssl-key="$dir/server.key" \
    --init-file="$dir/init.sql" </dev/null >"$dir/out" 2>&1) &
  # Nobody is listened to before init.sql has run.
  wait_for 60 bash -c ": </dev/tcp/127.0.0.1/$port" || { cat out log >&2; exit 1; }
}

# Nothing in there is wanted any more.
stop() {
  # Nobody may have waited for the process yet, and a lock of its own would seem to be held.
  [ ! -f "$dir/pid" ] || { kill -KILL "$(cat "$dir/pid")" && rm -f "$dir/pid" "$dir/socket.lock"; }
}

case "$action" in
  start) start "${3:?the port}" ;;
  stop) stop ;;
  *) die "start or stop, not $action" ;;
esac
