#!/usr/bin/env bash
# Debian's cloud kernel as a guest kernel: vmlinux-{version} (uncompressed, so QEMU and Firecracker enter it directly)
# and initrd-{version} with the few drivers it has as modules. fuse-{version}.ko goes to guests that mount a volume only,
# which the host gives it then.
#
# How versions are named: Debian's package 6.1.192-2 becomes 6.1.192.2; `make kernel` adds .1 to the version of its
# source, so 6.1.192.2.1. Numbers are compared one by one and the longer name wins a tie: the small kernel is preferred
# to Debian's of the same source, a newer kernel to an older one.
#
# Usage: images/kernel/fetch.sh FOLDER    (FOLDER is $WRENN_DIR/kernels)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/../lib.sh"
# shellcheck source=images/debian.sh
. "$here/../debian.sh"
topic=images

# virtio_ring before virtio, which uses its symbols; failover before the network driver. Firecracker may give PCI devices.
modules=(
  virtio/virtio_ring virtio/virtio virtio/virtio_mmio
  virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci
  block/virtio_blk net/core/failover net/net_failover net/virtio_net
  char/hw_random/virtio-rng ptp/ptp_kvm
)

# u32 FILE OFFSET: a little-endian number of the boot header (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
u32() { od -An -tu4 -j"$2" -N4 "$1" | tr -d ' '; }

# extract_vmlinux VMLINUZ OUT: the ELF inside a bzImage. Debian packs it with lz4; other ways are told by their magic.
extract_vmlinux() {
  local sectors offset length magic
  sectors=$(od -An -tu1 -j$((0x1f1)) -N1 "$1" | tr -d ' ')
  offset=$(((sectors + 1) * 512 + $(u32 "$1" $((0x248)))))
  length=$(u32 "$1" $((0x24c)))
  # The last four bytes are the unpacked size (scripts/Makefile.lib, size_append); gzip has it as a part of its format.
  dd if="$1" of="$2.packed" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count=$((length - 4)) status=none
  magic=$(od -An -tx1 -N4 "$2.packed" | tr -d ' ')
  case $magic in
  02214c18) need_command lz4 lz4 && lz4 -dcq "$2.packed" >"$2" ;;
  28b52ffd) zstd -dcq "$2.packed" >"$2" ;;
  fd377a58) xz -dcq "$2.packed" >"$2" ;;
  *) die "$1 is packed in a way this script does not know ($magic)" "Report it together with the kernel's version." ;;
  esac
  rm "$2.packed"
  [ "$(stat -c %s "$2")" = "$(u32 "$1" $((offset + length - 4)))" ] ||
    die "the kernel in $1 did not unpack to the size it states" "Run again; report it if it stays."
}

# make_initrd TREE BUSYBOX OUT
make_initrd() {
  local tree=$1 busybox=$2 out=$3 number=10 module file
  mkdir -p "$out.d"/{bin,dev,proc,sys,root,modules}
  install -m 755 "$busybox" "$out.d/bin/busybox"
  install -m 755 "$here/initrd-init" "$out.d/init"
  for module in "${modules[@]}"; do
    file=$(find "$tree" -path "*/$module.ko")
    [ -n "$file" ] || die "the kernel has no module $module" "Report it together with the kernel's version."
    install -m 644 "$file" "$out.d/modules/$number-$(basename "$module").ko"
    number=$((number + 1))
  done
  find "$out.d" -exec touch -h -d @0 {} +
  (cd "$out.d" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) | gzip -9n >"$out"
}

fetch() {
  local work=$1 package version
  debian_download "$work/debs" linux-image-cloud-amd64 busybox-static
  package=$(real_package "$work"/debs/linux-image-cloud-amd64_*.deb)
  debian_download "$work/debs" "$package"
  dpkg-deb -x "$work"/debs/"$package"_*.deb "$work/tree"
  dpkg-deb -x "$work"/debs/busybox-static_*.deb "$work/busybox"
  version=$(dpkg-deb -f "$work"/debs/"$package"_*.deb Version)
  version=${version%%[+~]*}
  version=${version//-/.}
  mkdir "$work/out"
  extract_vmlinux "$work"/tree/boot/vmlinuz-* "$work/out/vmlinux-$version"
  install -m 644 "$(find "$work/tree" -path '*/fs/fuse/fuse.ko')" "$work/out/fuse-$version.ko"
  make_initrd "$work/tree" "$work/busybox/bin/busybox" "$work/initrd"
  mv "$work/initrd" "$work/out/initrd-$version"
}

target=${1:?usage: fetch.sh FOLDER}
stamp="$target/.debian"
want=$(digest_of images/kernel/fetch.sh images/kernel/initrd-init)
[ "${FORCE:-}" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || exit 0

for pair in mmdebstrap:mmdebstrap cpio:cpio dpkg-deb:dpkg; do need_command "${pair%:*}" "${pair#*:}"; done
mkdir -p "$target"
need_space "$target" 100
need_space "$cache" 400
work=$(mktemp -d "$cache/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
step "kernel: fetching Debian's cloud kernel" fetch "$work"
# The initramfs first: a kernel without its initramfs beside it does not boot.
for file in "$work"/out/fuse-* "$work"/out/initrd-* "$work"/out/vmlinux-*; do
  cp "$file" "$target/.new"
  chmod 644 "$target/.new"
  mv "$target/.new" "$target/$(basename "$file")"
done
echo "$want" >"$stamp"
say "kernel: $(basename "$work"/out/vmlinux-*)"
