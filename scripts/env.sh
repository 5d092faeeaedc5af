# Sourced by the other scripts: where things are, and a few small words.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/tideway"
TOOLS="$CACHE/tools"

# Build output lives outside the source tree, so that several clones share it.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND...: stops with one message that names all that is missing.
need() {
  local missing=()
  for command in "$@"; do
    command -v "$command" >/dev/null || missing+=("$command")
  done
  [ ${#missing[@]} -eq 0 ] || die "not found on PATH: ${missing[*]} (README.md, 'What you need')"
}

# apt_install PACKAGE...: installs when we may, else says what to type.
apt_install() {
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "please install: $* (Debian: sudo apt-get install $*)"
  fi
  say "installing $*"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# cargo_tool CRATE VERSION [FLAG...]: builds one command-line tool into the tools folder, once.
cargo_tool() {
  local crate="$1" version="$2"
  grep -qsF "\"$crate $version " "$TOOLS/.crates.toml" && return
  shift 2
  need cargo cc
  say "building $crate $version (once)"
  # A target folder of its own: the workspace's must neither wait for nor keep this.
  CARGO_TARGET_DIR="$TOOLS/build" \
    cargo install "$crate" --version "$version" --locked --debug --quiet --root "$TOOLS" "$@" >&2
  rm -rf "$TOOLS/build"
}

# free_port: a port that nobody listens on, below the range of outgoing connections.
free_port() {
  local port
  while port=$((RANDOM % 10000 + 20000)); do
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# wait_for SECONDS COMMAND...: repeats the command until it succeeds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}
