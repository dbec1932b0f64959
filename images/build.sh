#!/usr/bin/env bash
# Builds the guest kernel and the templates' root file systems. Does nothing where nothing changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/lib.sh"
# shellcheck source=images/debian.sh
. "$here/debian.sh"

usage() {
  cat <<'TEXT'
Usage: images/build.sh [--dir WRENN_DIR] [--force] [minimal|base|code-interpreter]...

Fetches a guest kernel and builds the images into WRENN_DIR/kernels and WRENN_DIR/images. What is up to date is left
alone. Works as root and as an ordinary user. Default: minimal base.

  --dir WRENN_DIR   data folder; default $WRENN_DIR, else /var/lib/wrenn for root, ~/.local/share/wrenn for others
  --force           fetch and build again with today's packages and kernel
  --help            this text

  WRENN_DEBIAN_MIRROR   address of a Debian mirror, or two with the security one; default: the machine's own
  WRENN_IMAGE_MIB       disk size that a guest sees, MiB; default 5120
TEXT
}

# packages_of TEMPLATE: one package a line; "@other" takes the packages of another template along.
packages_of() {
  local line
  while read -r line; do
    case $line in
    '' | '#'*) ;;
    @*) packages_of "${line#@}" ;;
    *) echo "$line" ;;
    esac
  done <"$here/templates/$1/packages"
}

# Everything that decides what is in a root archive: package names, own files of the template and of those below it, how
# it is made.
archive_digest() {
  local name own=()
  for name in $(lineage_of "$1"); do
    mapfile -t -O ${#own[@]} own < <(find "images/templates/$name" -name also -prune -o \
      -type f ! -name packages ! -name image.json -print | sort)
  done
  {
    packages_of "$1"
    digest_of images/archive.sh images/debian.sh "${own[@]}"
  } | b2sum -l 160 | cut -d' ' -f1
}

# inputs_of NAME: one line that changes when the image must be built again. Its first word is the key of its root archive.
inputs_of() {
  echo "$(archive_digest "$1") $guest_digest $files_digest $mib $(facts_of "$1")"
}

facts_of() {
  local facts=("images/templates/$1/image.json" "images/templates/$1/also/"*.json)
  [ -e "${facts[1]}" ] || unset 'facts[1]' # nothing matched
  digest_of "${facts[@]}"
}

is_current() { [ -z "$FORCE" ] && [ "$(cat "$dir/images/$1/.inputs" 2>/dev/null)" = "$(inputs_of "$1")" ]; }

archive_of() {
  local inputs
  inputs=$(inputs_of "$1")
  echo "$cache/$1-${inputs%% *}.tar.zst"
}

needs_archive() { [ -n "$FORCE" ] || [ ! -e "$(archive_of "$1")" ]; }

# Before anything is started, so that nothing fails half-way for want of space. The figures are those of "base" with room
# for a third more: 0.5 GB of file system, the same unpacked beside it; in the cache the archive, unpacked and packed. The
# code interpreter takes three times that.
check_space() {
  local name count=$#
  for name in "$@"; do [ "$name" != code-interpreter ] || count=$((count + 2)); done
  need_space "$dir/images" $((count * 700 + 700))
  for name in "$@"; do
    needs_archive "$name" || continue
    need_space "$cache" $((count * 400 + 800))
    need_space "${TMPDIR:-/var/tmp}" 1536
  done
}

# image NAME: the root archive from the cache or built, then the file system with the agent in it.
image() {
  local name=$1 archive work facts
  archive=$(archive_of "$name")
  if needs_archive "$name"; then
    mapfile -t packages < <(packages_of "$name")
    step "$name: installing ${#packages[@]} packages and what they need" \
      "$here/archive.sh" "$name" "$archive.new" "${packages[@]}"
    mv "$archive.new" "$archive"
    find "$cache" -maxdepth 1 -name "$name-*.tar.zst" ! -path "$archive" -delete
  fi
  work=$(mktemp -d "$dir/images/.new.XXXXXX")
  chmod 755 "$work"
  step "$name: making the file system" as_root "$here/ext4.sh" "$archive" "$repo/builds/guest/inject" "$work/rootfs.ext4" "$mib"
  for facts in "$here/templates/$name/also/"*.json; do
    [ ! -e "$facts" ] || also "$name" "$work" "$facts"
  done
  inputs_of "$name" >"$work/.inputs"
  step "$name: publishing" bun "$here/publish.ts" "$work" "$dir/images/$name" "$here/templates/$name/image.json"
  rm -rf "$work" # the image before this one, if there was one
}

# also NAME FOLDER FACTS: the same file system under another name, with facts of its own. It comes before the image itself,
# whose .inputs say that all is done.
also() {
  local other name
  name=$(basename "$3" .json)
  other=$(mktemp -d "$dir/images/.new.XXXXXX")
  chmod 755 "$other"
  ln "$2/rootfs.ext4" "$other/rootfs.ext4"
  step "$1: publishing as $name" bun "$here/publish.ts" "$other" "$dir/images/$name" "$3"
  rm -rf "$other"
}

# Owners and modes as root would set them, whoever runs this.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else fakeroot -- "$@"; fi
}

dir=$(default_dir)
names=()
while [ $# -gt 0 ]; do
  case $1 in
  --dir)
    [ $# -ge 2 ] || die "--dir needs a folder" "See images/build.sh --help."
    dir=$2
    shift
    ;;
  --force) FORCE=1 ;;
  --help | -h) usage && exit ;;
  *)
    [ -e "$here/templates/$1/packages" ] ||
      die "there is no template $1" "Templates: $(cd "$here/templates" && echo *). See images/build.sh --help."
    names+=("$1")
    ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || names=(minimal base)
dir=$(realpath -m "$dir")
cd "$repo"
mib=${WRENN_IMAGE_MIB:-5120}
# All times in an image are this one, or earlier.
export SOURCE_DATE_EPOCH=1700000000 FORCE=${FORCE:-}

mkdir -p "$dir/images" 2>/dev/null || true
take_lock "$cache"
take_lock "$dir/images"
# What a build that was killed has left.
find "$dir/images" -maxdepth 1 -name '.new.*' -exec rm -rf {} +
find "$cache" -maxdepth 1 \( -name '*.new*' -o -name 'setup.*' -o -name 'kernel.*' \) -exec rm -rf {} +
"$here/guest.sh"
guest_digest=$(cat builds/guest/.inputs)
files_digest=$(digest_of images/ext4.sh images/mke2fs.conf images/publish.ts images/digest.ts)

outdated=()
for name in "${names[@]}"; do is_current "$name" || outdated+=("$name"); done
[ ${#outdated[@]} = 0 ] || check_space "${outdated[@]}"
"$here/kernel/fetch.sh" "$dir/kernels"
for name in "${outdated[@]}"; do image "$name"; done
for name in "${names[@]}"; do
  # What has to start a server first; the others are frozen in seconds.
  ! grep -q '"start"' "$here/templates/$name/image.json" || bun "$here/announce.ts" "$dir" "$name"
done
