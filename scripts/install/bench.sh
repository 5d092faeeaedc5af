#!/usr/bin/env bash
# Fetches the rival that the bench compares with; prints the path of its program.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

case "$(uname -m)" in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) die "sling is not published for $(uname -m)" ;;
esac

# The wheel `sling` only downloads the program from elsewhere; this one contains it.
name="sling-linux-$arch"
sling="$TOOLS/sling/sling_linux_$arch/bin/$name"
if [ ! -x "$sling" ]; then
  say "fetching sling 1.4.11"
  pip="$("$ROOT/scripts/install/python.sh")/bin/pip"
  "$pip" install --quiet --disable-pip-version-check --no-deps --target "$TOOLS/sling" "$name==1.4.11" >&2
  chmod +x "$sling"
fi
echo "$sling"
