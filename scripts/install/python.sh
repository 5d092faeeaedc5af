#!/usr/bin/env bash
# Makes a Python environment with what tests/python needs; prints its folder.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

requirements="$ROOT/tests/python/requirements.txt"
# One for each set of packages: clones that differ in it must not pull it from under each other.
venv="$TOOLS/python-$(sha256sum < "$requirements" | head -c 12)"
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
  # Debian's python3 comes without venv.
  python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3 python3-venv
  say "installing the Python packages of $(basename "$requirements")"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  cp "$requirements" "$venv/requirements.txt"
fi
echo "$venv"
