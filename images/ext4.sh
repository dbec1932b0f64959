#!/usr/bin/env bash
# Makes an ext4 file system from a root archive (tar, packed or not), with the agent injected. An ordinary user runs it
# under fakeroot, so that the owners, modes and device nodes of the archive survive.
#
# Usage: SOURCE_DATE_EPOCH=... images/ext4.sh ARCHIVE INJECT OUT MIB   (the folder of OUT is used for working files)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
archive=$1 inject=$2 out=$3 mib=$4

tree=$(mktemp -d "$(dirname "$out")/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
# Devices are the kernel's business (devtmpfs).
tar -C "$tree" -xp --xattrs --numeric-owner --anchored --exclude='./dev/*' --exclude='dev/*' -f "$archive"

# Clients run each command in a login shell. Debian's profiles start two programs in it, for what the shell knows itself
# and for a terminal that is not there: in an emulated guest a fifth of a command's time.
for profile in "$tree/etc/profile" "$tree/root/.profile"; do
  if [ ! -f "$profile" ] || [ -L "$profile" ]; then continue; fi # not Debian's, or a link of a stranger's image
  # shellcheck disable=SC2016 # the profile expands it
  sed -i -e 's/"$(id -u)"/"${EUID:-$(id -u)}"/' -e 's/^mesg n .*/[ ! -t 0 ] || mesg n 2>\/dev\/null || true/' "$profile"
  touch -d "@$SOURCE_DATE_EPOCH" "$profile"
done

"$inject" "$tree"

# The file is new and sparse, so nothing has to be zeroed now (mke2fs sees that) or by the guest's kernel later.
# A small journal: it lies in every sandbox's disk layer once written. One fixed identity: an image is told by its digest.
truncate -s "${mib}M" "$out"
MKE2FS_CONFIG="$here/mke2fs.conf" E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -m 0 -L wrenn-root \
  -U 5f0d5d4e-77a1-4d0c-9d5c-7772656e6e00 -J size=16 \
  -E lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=5f0d5d4e-77a1-4d0c-9d5c-7772656e6e01 \
  -d "$tree" "$out"
