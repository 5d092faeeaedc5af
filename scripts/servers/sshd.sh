#!/usr/bin/env bash
# A throwaway OpenSSH server in a folder: `sshd.sh start DIR PORT`, `sshd.sh stop DIR`.
#
# The user named in DIR/user signs in with DIR/key (Ed25519) or DIR/key_rsa and may forward
# connections, but for port 1, and has no shell. DIR/key_locked has the passphrase `tideway`,
# DIR/key_other is not known to it. DIR/host_key.pub is what it shows.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
action="${1:?start or stop}" dir="${2:?the folder}"

start() {
  local port="$1" server user
  server="$("$ROOT/scripts/install/sshd.sh")"
  mkdir -p "$dir"
  cd "$dir"
  user="$(id -un)"
  if [ "$(id -u)" -eq 0 ]; then
    user=tideway_ssh
    # The first is who the server is before anybody has signed in.
    id sshd >/dev/null 2>&1 || useradd --system --home-dir /run/sshd --shell /usr/sbin/nologin sshd
    id "$user" >/dev/null 2>&1 ||
      useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin --password '*' "$user"
    mkdir -p /run/sshd
  fi
  echo "$user" > user
  for key in host_key key key_other; do ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$key"; done
  ssh-keygen -q -t rsa -b 3072 -N '' -C key_rsa -f key_rsa
  ssh-keygen -q -t ed25519 -N tideway -C key_locked -f key_locked
  cat key.pub key_rsa.pub key_locked.pub > authorized_keys
  cat > sshd_config <<CONF
ListenAddress 127.0.0.1
Port $port
HostKey $dir/host_key
PidFile $dir/pid
AuthorizedKeysFile $dir/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitTTY no
AllowTcpForwarding local
PermitOpen 127.0.0.1:* localhost:* no-such-host.invalid:*
CONF
  "$server" -D -e -f "$dir/sshd_config" </dev/null >log 2>&1 &
  wait_for 30 bash -c ": </dev/tcp/127.0.0.1/$port" || { cat log >&2; exit 1; }
}

stop() {
  [ -f "$dir/pid" ] || return 0
  kill "$(cat "$dir/pid")" 2>/dev/null || true
}

case "$action" in
  start) start "${3:?the port}" ;;
  stop) stop ;;
  *) die "start or stop, not $action" ;;
esac
