#!/usr/bin/env bash
# Makes the root file system of any Linux image that of a guest: lays the agent, its loader and libraries, its init and
# tini over it, and adds what every guest needs and an image may lack (mount points, /tmp, root's account, a shell).
# Nothing of the image's own programs is used or replaced. Safe for images of strangers: their symbolic links are followed
# inside ROOT only. A second run on the same root renews the agent.
#
# Runs as root, or under fakeroot, for the owners of the files. Whoever has the result boots it with
# init=/usr/local/bin/wrenn-init; the agent then answers on port 49983.
#
# Usage: builds/guest/inject ROOT     (made by images/guest.sh; the folder builds/guest may be moved anywhere as a whole)
#   SOURCE_DATE_EPOCH   time stamp of the files it adds; default 1700000000
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
epoch=${SOURCE_DATE_EPOCH:-1700000000}

fail() {
  printf 'inject: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}

[ -d "${1:-}" ] || fail "no root file system is named" "Usage: $0 ROOT, where ROOT is a folder."
[ -d "$here/root" ] || fail "there is no agent beside $0" "Run images/guest.sh and use builds/guest/inject."
[ "$(id -u)" = 0 ] || fail "files could not be given to root" "Run as root: sudo $0 $1, or under fakeroot."
root=$(realpath "$1")
[ "$root" != / ] || fail "ROOT is this machine's own" "Name the folder of the image."

# where PATH: the place of the guest's PATH on this machine, its links followed as the guest would, never out of ROOT.
where() {
  local rest=$1 at=$root part target hops=0
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    if [ "$part" = "$rest" ]; then rest=; else rest=${rest#*/}; fi
    case $part in
    '' | .) continue ;;
    ..)
      [ "$at" = "$root" ] || at=${at%/*}
      continue
      ;;
    esac
    if [ ! -L "$at/$part" ]; then
      at=$at/$part
      continue
    fi
    [ $((hops += 1)) -le 40 ] || fail "too many symbolic links in $1" "The image is damaged: look at $at/$part."
    target=$(readlink "$at/$part")
    [ "${target#/}" = "$target" ] || at=$root
    rest=$target/$rest
  done
  printf '%s\n' "$at"
}

# folder PATH [MODE]: the folder, made where it is missing; prints its place.
folder() {
  local place
  place=$(where "$1")
  if [ ! -d "$place" ]; then
    mkdir -p "$place" || fail "$1 is not a folder in this image" "Remove what stands there."
    chmod "${2:-755}" "$place"
    touch -d "@$epoch" "$place"
  fi
  printf '%s\n' "$place"
}

# put FOLDER NAME TEXT: a file that replaces whatever stood there, a link included.
put() {
  local file
  file=$(folder "$1")/$2
  rm -rf "$file"
  printf '%s' "$3" >"$file"
  chmod 644 "$file"
  touch -d "@$epoch" "$file"
}

# link FOLDER NAME TARGET
link() {
  local file
  file=$(folder "$1")/$2
  rm -rf "$file"
  ln -s "$3" "$file"
  touch -h -d "@$epoch" "$file"
}

# has PATH...: whether one of them leads to a file in the guest.
has() {
  local path
  for path in "$@"; do [ ! -e "$(where "$path")" ] || return 0; done
  return 1
}

agent() {
  local own
  own=$(folder /usr/local/lib)/wrenn
  rm -rf "$own"
  cp -R --no-dereference --preserve=mode --reflink=auto "$here/root/usr/local/lib/wrenn" "$own"
  chown -R 0:0 "$own"
  find "$own" -exec touch -h -d "@$epoch" {} +
  link /usr/local/bin envd ../lib/wrenn/envd
  link /usr/local/bin wrenn-init ../lib/wrenn/init
}

# What the kernel's file systems are mounted on, and what programs take for granted.
system() {
  local path
  for path in /proc /sys /dev /run /etc /var /home; do folder "$path" >/dev/null; done
  folder /root 700 >/dev/null
  folder /tmp 1777 >/dev/null
  folder /var/tmp 1777 >/dev/null
  has /etc/passwd || put /etc passwd $'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n'
  has /etc/group || put /etc group $'root:x:0:\nnogroup:x:65534:\n'
  # The building machine's, or that of whoever made the image; each sandbox gets its own.
  put /etc hostname $'wrenn\n'
  put /etc hosts $'127.0.0.1\tlocalhost wrenn\n::1\tlocalhost ip6-localhost ip6-loopback\n'
  put /etc resolv.conf ''
  put /etc machine-id ''
}

# Clients run commands by /bin/bash; an image without one gets the agent's. One without any shell has no programs that
# a person could look around with either, and gets busybox's as well.
shells() {
  local bin name path
  local -A present=()
  has /bin/bash /usr/bin/bash || link /bin bash /usr/local/lib/wrenn/bash
  ! has /bin/sh || return 0
  bin=$(folder /bin)
  for path in /bin /sbin /usr/bin /usr/sbin; do
    for name in "$(where "$path")"/*; do present[${name##*/}]=1; done
  done
  for name in $("$here/root/usr/local/lib/wrenn/busybox" --list); do
    [ -z "${present[$name]:-}" ] || continue
    ln -s /usr/local/lib/wrenn/busybox "$bin/$name"
    touch -h -d "@$epoch" "$bin/$name"
  done
}

# Folders have the time of their last new file: that of the image, or ours, but never that of this run.
times() {
  local path
  for path in / /bin /etc /usr /usr/local /usr/local/bin /usr/local/lib /var; do
    find "$(where "$path")" -maxdepth 0 -newermt "@$epoch" -exec touch -d "@$epoch" {} +
  done
}

agent
system
shells
times
