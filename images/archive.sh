#!/usr/bin/env bash
# Makes the root archive of a template: packages installed, its own set-up run, nothing left that a guest does not need.
# mmdebstrap chooses how to be root: really, in a user namespace (package uidmap), or pretended (fakechroot).
#
# Usage: images/archive.sh TEMPLATE OUT PACKAGE...    (OUT is a .tar.zst)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/lib.sh"
# shellcheck source=images/debian.sh
. "$here/debian.sh"
template=$1 out=$2
shift 2
packages=$(IFS=, && echo "$*")

own=$(mktemp -d "$cache/setup.XXXXXX")
trap 'rm -rf "$own" "$out.tar"' EXIT
options=()
for name in $(lineage_of "$template"); do
  [ -e "$here/templates/$name/setup" ] || continue
  mkdir "$own/$name"
  install -m 755 "$here/templates/$name/setup" "$own/$name/setup"
  [ ! -e "$here/templates/$name/fetch" ] || "$here/templates/$name/fetch" "$own/$name"
  options+=(--customize-hook="chroot \"\$1\" /wrenn-setup/$name/setup")
done
if [ ${#options[@]} -gt 0 ]; then
  # sync-in works in every mode; in a user namespace the hooks themselves cannot read this repository.
  # shellcheck disable=SC2016 # expanded by the hook
  options=(--customize-hook='mkdir "$1/wrenn-setup"' --customize-hook="sync-in '$own' /wrenn-setup" "${options[@]}"
    --customize-hook='rm -rf "$1/wrenn-setup"')
fi

# Documentation, manuals and translations are never unpacked, now or by a guest's own apt-get; licences are.
# What guests keep of these settings is that alone, not the building machine's proxy, nor a mirror's password.
# The download cache lets the second image reuse what the first one fetched.
mkdir -p "$cache/debs"
# shellcheck disable=SC2016 # expanded by the hooks
debian --variant=minbase --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/locale/locale.alias' \
  --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --skip=download/empty \
  --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
  --setup-hook="sync-in '$cache/debs' /var/cache/apt/archives" \
  "${options[@]}" \
  --customize-hook="sync-out /var/cache/apt/archives '$cache/debs'" \
  --customize-hook='sed -i "/Acquire::Languages/!d" "$1/etc/apt/apt.conf.d/99mmdebstrap"' \
  --customize-hook='sed -i "s,//[^/@ ]*@,//," "$1/etc/apt/sources.list"' \
  --format=tar -- "$out.tar"
zstd -q --rm -f "$out.tar" -o "$out"
