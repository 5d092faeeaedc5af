#!/usr/bin/env bash
# Makes sure that the PostgreSQL server programs (15 or later) exist; prints their folder.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

newest() { printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1 | xargs dirname; }

bin="${TIDEWAY_POSTGRES_BIN:-$(newest)}"
if [ ! -x "$bin/initdb" ]; then
  [ -z "${TIDEWAY_POSTGRES_BIN:-}" ] || die "TIDEWAY_POSTGRES_BIN: there is no initdb in $bin"
  # Debian's package would start a server of its own on 5432; all we want is the programs.
  no_cluster=/etc/postgresql-common/createcluster.d/tideway.conf
  if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' > "$no_cluster"
    trap 'rm -f "$no_cluster"' EXIT
  fi
  apt_install postgresql openssl
  bin="$(newest)"
fi

version="$("$bin/postgres" --version | grep -oE '[0-9]+' | head -1)"
[ "$version" -ge 15 ] || die "PostgreSQL 15 or later is needed; $bin has $version"
echo "$bin"
