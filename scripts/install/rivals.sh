#!/usr/bin/env bash
# Fetches the other movers that the bench can compare with, besides sling; prints the folder of
# their Python environments. Each may fail to install: the bench leaves out what is not there.
set -uo pipefail
source "$(dirname "$0")/../env.sh"

rivals="$TOOLS/rivals"
mkdir -p "$rivals"
command -v pgcopydb >/dev/null && command -v pgloader >/dev/null ||
  (apt_install pgcopydb pgloader) || say "pgcopydb and pgloader are left out"

# environment NAME PACKAGE...: one of its own each, for they want each other's packages in
# other versions.
environment() {
  local name="$1" want
  shift
  want="$*"
  [ "$(cat "$rivals/$name/packages" 2>/dev/null)" = "$want" ] && return
  say "installing $want"
  if python3 -m venv --clear "$rivals/$name" &&
    "$rivals/$name/bin/pip" install --quiet --disable-pip-version-check "$@" >&2; then
    echo "$want" > "$rivals/$name/packages"
  else
    rm -rf "${rivals:?}/$name"
    say "$name is left out"
  fi
}

# Later versions of ingestr fetch their program from elsewhere.
environment ingestr 'ingestr==0.15.9'
environment dlt 'dlt[postgres]==1.31.0' 'connectorx==0.4.6' pyarrow sqlalchemy pandas
echo "$rivals"
