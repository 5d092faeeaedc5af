#!/usr/bin/env bash
# Makes sure that libfaketime exists, by which tests move a process's clock; prints its path.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

find_it() { find /usr/lib /usr/local/lib -name libfaketimeMT.so.1 -print -quit 2>/dev/null; }

[ -n "$(find_it)" ] || apt_install libfaketime
library="$(find_it)"
[ -n "$library" ] || die "libfaketimeMT.so.1 was not found"
echo "$library"
