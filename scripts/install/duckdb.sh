#!/usr/bin/env bash
# Fetches libduckdb.so, which the DuckDB connector loads at run time; prints its path.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

# DuckDB publishes its shared library for Node; npm is the registry that carries it.
case "$(uname -m)" in
  x86_64)
    package=@duckdb/node-bindings-linux-x64@1.5.6-r.1
    sha256=1b9f82478539bb9a1d1df44bd103121a12ae52142c07158dc52b97d2ec1d69ff ;;
  aarch64)
    package=@duckdb/node-bindings-linux-arm64@1.5.5-r.5
    sha256=3b85f3ea438f7dc3691d7b5e6e4222ffe9127fd17885f96ca72e0c99925c348e ;;
  *) die "no DuckDB library is published for $(uname -m): set TIDEWAY_DUCKDB_LIBRARY to your own" ;;
esac

library="$TOOLS/duckdb/libduckdb.so"
if ! grep -qsxF "$package" "$TOOLS/duckdb/package"; then
  need npm
  say "fetching $package"
  mkdir -p "$TOOLS/duckdb"
  download="$(mktemp -d "$TOOLS/duckdb/download.XXXXXX")"
  trap 'rm -rf "$download"' EXIT
  # `pack` only downloads: no dependency is resolved and no package script runs.
  (cd "$download" && npm pack --silent --ignore-scripts "$package" >/dev/null && mv ./*.tgz package.tgz)
  echo "$sha256  $download/package.tgz" | sha256sum --check --quiet >&2
  tar -xzf "$download/package.tgz" -C "$download" package/libduckdb.so
  mv "$download/package/libduckdb.so" "$library"
  echo "$package" > "$TOOLS/duckdb/package"
fi
echo "$library"
