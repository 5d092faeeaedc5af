#!/usr/bin/env bash
# Makes sure that the MariaDB server program (10.6 or later) exists; prints its path.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

server="${TIDEWAY_MARIADB_SERVER:-/usr/sbin/mariadbd}"
# Debian's mariadb-server would start a server of its own on 3306; the core package has the
# same programs and starts nothing.
[ -x "$server" ] || apt_install mariadb-server-core openssl
[ -x "$server" ] || die "TIDEWAY_MARIADB_SERVER: there is no program $server"

version="$("$server" --version | grep -oE '[0-9]+\.[0-9]+' | head -1)"
[ "$(printf '%s\n' 10.6 "$version" | sort -V | head -1)" = 10.6 ] ||
  die "MariaDB 10.6 or later is needed; $server is $version"
echo "$server"
