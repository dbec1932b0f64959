#!/usr/bin/env bash
# Puts the agent and the init that were built last into an image that is there, and leaves everything else in it as it is.
# The image is replaced as a whole: sandboxes that stand on the one before go on with that. `make images` does the same by
# building anew; this is for images that cannot be, such as those of scripts/rootfs-from-container.sh.
#
# Usage: sudo scripts/update-minimal-rootfs.sh [FOLDER OF AN IMAGE]     default: WRENN_DIR/images/minimal
set -euo pipefail
# shellcheck source=images/lib.sh
. "$(dirname "$0")/../images/lib.sh"
topic=update

image=$(realpath -m "${1:-$(default_dir)/images/minimal}")
image=${image%/rootfs.ext4}
inject="$repo/builds/guest/inject"
[ -e "$image/rootfs.ext4" ] || die "there is no image in $image" "Name the folder of one; make images builds minimal."
[ -x "$inject" ] || die "the guest agent is not built" "Run make images first."
[ "$(id -u)" = 0 ] || die "a file system can be mounted by root only" "Run: sudo $0 $image"

folder=$(dirname "$image")
take_lock "$folder"
work=$(mktemp -d "$folder/.new.XXXXXX")
root=
release() {
  [ -z "$root" ] || umount "$root" || true
  rm -rf "$work"
}
trap release EXIT
chmod 755 "$work"
step "copying" cp --sparse=always --reflink=auto "$image/rootfs.ext4" "$work/rootfs.ext4"
mkdir "$work/root"
mount -o loop "$work/rootfs.ext4" "$work/root"
root="$work/root"
step "adding the agent" "$inject" "$root"
umount "$root"
root=
rmdir "$work/root"
step "checking" bash -c 'e2fsck -fp "$1" || [ $? = 1 ]' -- "$work/rootfs.ext4" # 1: something was corrected
step "publishing" bun "$repo/images/publish.ts" "$work" "$image" "$image/image.json"
