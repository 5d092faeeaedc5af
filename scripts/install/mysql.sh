#!/usr/bin/env bash
# Unpacks a real MySQL server beside the system; prints the folder that it is in.
#
# Debian's stable releases have MariaDB under MySQL's name. The unstable one has MySQL, built
# against newer libraries than ours, so its packages are unpacked into a folder together with
# the libraries that they need, and the server is started through their own loader. Nothing
# of the system is changed. The unstable release moves on: what there is today is taken, and
# its packages are kept.
set -euo pipefail
source "$(dirname "$0")/../env.sh"

root="$TOOLS/mysql"
if [ ! -x "$root/usr/sbin/mysqld" ]; then
  need apt-get dpkg-deb dpkg
  debs="$CACHE/debs/mysql"
  arch="$(dpkg --print-architecture)"
  mkdir -p "$debs/partial" "$debs/lists/partial" "$TOOLS"
  # The mirror that this machine's own settings name.
  mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
    grep -v security | sort -u | head -1)"
  if [ -z "$mirror" ]; then
    # Nothing was fetched yet, so only the files tell.
    mirror="$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
      grep -oE '(https?|file)://[^ ]*/debian/?( |$)' | head -1 | tr -d ' ')"
  fi
  [ -n "$mirror" ] || die "no Debian mirror is known to this machine's apt"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [arch=$arch signed-by=$keys] $mirror sid main" > "$debs/sources.list"
  : > "$debs/status"
  private=(
    -o "Dir::Etc::sourcelist=$debs/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$debs/lists" -o "Dir::State::status=$debs/status"
    -o "Dir::Cache::archives=$debs" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Debug::NoLocking=true
  )
  if ! compgen -G "$debs/mysql-server-core_*.deb" >/dev/null; then
    say "fetching MySQL from Debian sid"
    apt-get "${private[@]}" -qq update >&2
    apt-get "${private[@]}" -qq --download-only -y install mysql-server-core >&2
  fi
  say "unpacking $(basename "$(ls "$debs"/mysql-server-core_*.deb | tail -1)")"
  rm -rf "$root.new"
  mkdir "$root.new"
  # Since folders such as /lib have become links, packages agree on where things are only
  # if the links are there first.
  for folder in bin lib lib64 sbin; do
    mkdir -p "$root.new/usr/$folder"
    ln -s "usr/$folder" "$root.new/$folder"
  done
  for deb in "$debs"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root.new"
  done
  rm -rf "$root"
  mv "$root.new" "$root"
fi
echo "$root"
