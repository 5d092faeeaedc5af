#!/usr/bin/env bash
# Makes up inputs for whatever reads bytes from a network or a foreign file (fuzz/).
#   fuzz.sh [SECONDS] [TARGET…]   each target for so long, by default all of them for a minute
# What is found is kept in fuzz/artifacts/TARGET and ends the run of that target; once it is
# mended it belongs into fuzz/seeds/TARGET, which the tests go through each time.
set -euo pipefail
source "$(dirname "$0")/env.sh"
cd "$ROOT"
need cargo c++
seconds="${1:-60}"
shift $(($# > 0))

fuzz="$(scripts/install/fuzz.sh)"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz/targets && ls -- *.rs | sed 's/\.rs$//')
# Our code is safe Rust, so there is nothing for the address sanitizer to see; without it any
# toolchain will do. The build has flags of its own, and so a folder of its own.
options=(--sanitizer none --target-dir "$CARGO_TARGET_DIR/fuzz")
say "building ${#targets[@]} fuzz targets"
"$fuzz" build "${options[@]}"

found=0
for target in "${targets[@]}"; do
  corpus="$CACHE/fuzz/$target"
  log="$CACHE/fuzz/$target.log"
  mkdir -p "$corpus" "fuzz/artifacts/$target"
  if "$fuzz" run "${options[@]}" "$target" "$corpus" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
    >"$log" 2>&1; then
    executions="$(grep -oP 'number_of_executed_units: \K\d+' "$log" || true)"
    say "$target: ${executions:-no} inputs, nothing found"
  else
    found=$((found + 1))
    grep -vE '^#[0-9]+|^INFO' "$log" | tail -40 >&2
    say "$target: FOUND, see fuzz/artifacts/$target"
  fi
done
echo "     Summary [${SECONDS}s] ${#targets[@]} targets run: $((${#targets[@]} - found)) passed, $found failed"
[ "$found" -eq 0 ]
