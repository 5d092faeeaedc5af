#!/usr/bin/env bash
# Checks what the documents say of the code, and that no source file outgrows a reader.
set -euo pipefail
source "$(dirname "$0")/env.sh"
cd "$ROOT"
problems=0

problem() { printf 'docs: %s\n' "$*"; problems=$((problems + 1)); }
ours() {
  git ls-files --cached --others --exclude-standard --deduplicate -- "$@" |
    while read -r file; do [ ! -f "$file" ] || echo "$file"; done
}

# Every relative link leads somewhere; code blocks are skipped.
while read -r file; do
  while read -r target; do
    case "$target" in *://* | mailto:* | '#'*) continue ;; esac
    path="${target%%#*}"
    case "$path" in /*) place=".$path" ;; *) place="$(dirname "$file")/$path" ;; esac
    [ -e "$place" ] || problem "$file: broken link $target"
  done < <(sed '/^ *```/,/^ *```/d' "$file" | grep -oP '\]\(\K[^)\s]+|^\[[^\]]+\]:\s*\K\S+' || true)
done < <(ours '*.md')

# Files stay under 500 lines; from 700 on it is an error.
while read -r file; do
  lines="$(wc -l < "$file")"
  [ "$lines" -le 500 ] || echo "docs: $file has $lines lines (aim: 500)"
  [ "$lines" -le 700 ] || problem "$file has more than 700 lines"
done < <(ours '*.rs')

# Every dependency has its reason written down, its name in backticks.
reasons=docs/decisions/dependencies.md
[ -f "$reasons" ] || problem "$reasons is missing"
while read -r crate; do
  grep -qsP "\`$crate(?![\w-])" "$reasons" || problem "$crate is not in $reasons"
done < <(sed -n '/^\[workspace\.dependencies\]/,/^\[/s/^\([a-z0-9_-]*\) *=.*/\1/p' Cargo.toml | grep -v '^tideway-')

# Every `make` command that the README shows exists.
[ -f README.md ] || problem "README.md is missing"
while read -r target; do
  grep -q "^$target:" Makefile || problem "README.md: the Makefile has no target $target"
done < <({
  sed -n '/^ *```/,/^ *```/p' README.md | grep -oP '^\s*(\$ )?make \K[a-z-]+' || true
  grep -oP '`make \K[a-z-]+' README.md
} 2>/dev/null | sort -u)

# The guards of INVARIANTS.md are where tests/guards says.
lost="$(PYTHONPATH=tests python3 -m guards --check 2>&1)" || problem "tests/guards: $lost"

[ "$problems" -eq 0 ] || die "$problems problems in the documents"
echo "documents ok"
