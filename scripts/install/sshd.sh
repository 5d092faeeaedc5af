#!/usr/bin/env bash
# Makes sure that OpenSSH's server program exists; prints its path.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

need ssh-keygen ldd
server="${TIDEWAY_SSHD:-/usr/sbin/sshd}"
if [ ! -x "$server" ]; then
  [ -z "${TIDEWAY_SSHD:-}" ] || die "TIDEWAY_SSHD: there is no program $server"
  server="$TOOLS/openssh/usr/sbin/sshd"
fi
if [ ! -x "$server" ]; then
  # Debian's package would start a server of its own on 22; all we want is the program.
  need apt-get dpkg-deb
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
  [ "$(id -u)" -ne 0 ] || apt-get update -qq >&2
  say "unpacking openssh-server"
  (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root openssh-server >&2)
  mkdir -p "$TOOLS/openssh"
  dpkg-deb --extract "$folder"/openssh-server_*.deb "$TOOLS/openssh"
fi
missing() { ldd "$server" | grep 'not found' || true; }
[ -z "$(missing)" ] || apt_install libwrap0
[ -z "$(missing)" ] || die "$server needs libraries: $(missing)"
echo "$server"
