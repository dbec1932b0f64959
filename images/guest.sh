#!/usr/bin/env bash
# Gathers everything that a root file system needs to become a guest's into builds/guest/, which needs nothing of this
# repository any more: `root/`, laid over a root file system by the program `inject` beside it. The agent comes with its
# own loader and libraries, the init with a static shell and tini, so they run in glibc, musl and empty roots alike.
# Does nothing where nothing changed.
#
# Usage: images/guest.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/lib.sh"
# shellcheck source=images/debian.sh
. "$here/debian.sh"

out="$repo/builds/guest"
lib=/usr/local/lib/wrenn # on the guest; known to init/wrenn-init and inject.sh
libraries=(libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2)

# fetch FOLDER: static programs and a C library from Debian, and the tool that tells the agent where that library is.
fetch() {
  local packages
  packages=$(mktemp -d "$cache/setup.XXXXXX")
  debian_download "$packages" bash-static busybox-static libc6 patchelf tini
  for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$1"; done
  rm -rf "$packages"
}

# assemble PARTS FOLDER
assemble() {
  local parts=$1 own=$2/root$lib name
  mkdir -p "$own/dev"
  install -m 755 "$parts/bin/busybox" "$own/busybox"
  install -m 755 "$parts/bin/bash-static" "$own/bash"
  install -m 755 "$parts/usr/bin/tini-static" "$own/tini"
  install -m 755 "$parts/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$own/ld.so"
  for name in "${libraries[@]}"; do install -m 644 "$parts/lib/x86_64-linux-gnu/$name" "$own/$name"; done
  install -m 755 "$repo/builds/envd" "$own/envd"
  "$parts/usr/bin/patchelf" --set-interpreter "$lib/ld.so" --set-rpath "$lib" "$own/envd"
  install -m 755 "$here/init/wrenn-init" "$own/init"
  install -m 644 "$here/init/chrony.conf" "$own/chrony.conf"
  ln -s /proc/self/fd "$own/dev/fd" # what udev would add to devtmpfs
  ln -s /proc/self/fd/0 "$own/dev/stdin"
  ln -s /proc/self/fd/1 "$own/dev/stdout"
  ln -s /proc/self/fd/2 "$own/dev/stderr"
  install -m 755 "$here/inject.sh" "$2/inject"
  install -m 644 "$here/mke2fs.conf" "$2/" # for who makes file systems of what was injected
}

[ -x "$repo/builds/envd" ] || die "builds/envd is not built yet" "Run make images, which builds it first."
wanted=$(cd "$repo" && digest_of builds/envd images/guest.sh images/inject.sh images/mke2fs.conf images/init/*)
[ "$(cat "$out/.inputs" 2>/dev/null)" != "$wanted" ] || exit 0

parts="$cache/guest-$(cd "$repo" && digest_of images/guest.sh images/debian.sh)"
if [ ! -e "$parts" ]; then
  rm -rf "$parts.new"
  mkdir -p "$parts.new"
  step "guest agent: fetching its loader, libraries and shell" fetch "$parts.new"
  mv "$parts.new" "$parts"
fi
rm -rf "$out.new"
mkdir -p "$out.new"
step "guest agent: assembling builds/guest" assemble "$parts" "$out.new"
echo "$wanted" >"$out.new/.inputs"
rm -rf "$out"
mv "$out.new" "$out"
