#!/usr/bin/env bash
# The root file system and kernel of the lab's host: Debian with KVM, device mapper, nftables and QEMU. Done once; what is
# up to date is left alone. Works as root and as an ordinary user.
#
# Usage: lab/image.sh FOLDER    leaves FOLDER/host.ext4 and FOLDER/kernels/
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/../images/lib.sh"
# shellcheck source=images/debian.sh
. "$here/../images/debian.sh"
topic=lab

packages=(
  systemd dbus kmod iproute2 nftables dmsetup procps util-linux e2fsprogs xfsprogs btrfs-progs
  qemu-system-x86 qemu-utils busybox-static tini curl ca-certificates socat strace
)
# 2 GiB of room beside the packages, for sandboxes' layers and snapshots; holes until written to.
mib=6144

# modules WORK: the kernel's drivers as a tree that fits a merged /usr.
modules() {
  local work=$1 package
  debian_download "$work/debs" linux-image-cloud-amd64
  package=$(real_package "$work"/debs/linux-image-cloud-amd64_*.deb)
  debian_download "$work/debs" "$package"
  dpkg-deb -x "$work"/debs/"$package"_*.deb "$work/kernel"
  mkdir -p "$work/own/usr/lib" "$work/own/usr/sbin" "$work/own/lab"
  mv "$work/kernel/lib/modules" "$work/own/usr/lib/"
  install -m 755 "$here/inside/first" "$work/own/usr/sbin/lab-first"
}

# root WORK: Debian in a tar archive. No documentation, and no initramfs of its own: the kernel comes from outside.
root() {
  local work=$1 names
  names=$(IFS=, && echo "${packages[*]}")
  # shellcheck disable=SC2016 # expanded by the hook
  debian --variant=minbase --include="$names" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/qemu/keymaps/*' \
    --customize-hook="sync-in '$work/own' /" \
    --customize-hook='chroot "$1" depmod "$(ls "$1/usr/lib/modules")"' \
    --customize-hook='echo lab >"$1/etc/hostname"; echo "127.0.0.1 localhost lab" >"$1/etc/hosts"' \
    --format=tar -- "$work/root.tar"
}

# disk WORK OUT: the archive as a file system.
disk() {
  mkdir "$1/root"
  tar -C "$1/root" --numeric-owner -xf "$1/root.tar"
  rm "$1/root.tar"
  mke2fs -q -t ext4 -m 0 -O ^has_journal,^metadata_csum,^64bit -E root_owner=0:0 -d "$1/root" "$2" "${mib}m"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else fakeroot -- "$@"; fi; }

folder=${1:?usage: lab/image.sh FOLDER}
for pair in mmdebstrap:mmdebstrap mke2fs:e2fsprogs cpio:cpio dpkg-deb:dpkg; do need_command "${pair%:*}" "${pair#*:}"; done
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
take_lock "$folder"
want=$(digest_of lab/image.sh lab/inside/first images/debian.sh)
"$here/../images/kernel/fetch.sh" "$folder/kernels"
[ "$(cat "$folder/.host" 2>/dev/null)" != "$want" ] || exit 0
need_space "$folder" 2500
work=$(mktemp -d "$folder/work.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
step "fetching the host's kernel modules" modules "$work"
step "installing ${#packages[@]} packages and what they need" root "$work"
export mib
# As text: fakeroot starts its program by a shell that hands no functions on.
step "making the file system" as_root bash -euc "$(declare -f disk); disk \"\$@\"" disk "$work" "$folder/host.new"
mv "$folder/host.new" "$folder/host.ext4"
echo "$want" >"$folder/.host"
