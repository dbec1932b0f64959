#!/usr/bin/env bash
# Builds the small guest kernel from Debian's linux-source package and the options of wrenn.config.
# The file is vmlinux-{version of the source}.1, so the host prefers it to Debian's own (see fetch.sh). It has no modules
# and needs no initramfs. What was built stays in .cache/kernel: a second run only checks.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=images/lib.sh
. "$here/../lib.sh"
# shellcheck source=images/debian.sh
. "$here/../debian.sh"
topic=kernel
kernels="$repo/.cache/kernel"

usage() {
  cat <<'TEXT'
Usage: images/kernel/build.sh [--dir WRENN_DIR] [--force]

Builds the small guest kernel once (about 10 processor minutes) into WRENN_DIR/kernels. Guests then boot about three
times as fast as with Debian's kernel. Templates are frozen again with it at their next use.

  --dir WRENN_DIR   data folder; default $WRENN_DIR, else /var/lib/wrenn for root, ~/.local/share/wrenn for others
  --force           fetch today's source and build again
  --help            this text

  WRENN_DEBIAN_MIRROR   address of a Debian mirror, or two with the security one; default: the machine's own
  WRENN_JOBS            how many compilers at once; default: one a processor
TEXT
}

# Compilers and what the kernel's own tools are linked with.
need_compilers() {
  local missing=() command pair
  for pair in gcc:gcc make:make flex:flex bison:bison bc:bc xz:xz-utils perl:perl strip:binutils; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  command -v gcc >/dev/null && echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
  command -v gcc >/dev/null && echo '#include <gelf.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libelf-dev)
  [ ${#missing[@]} -gt 0 ] || return 0
  command="apt-get install -y --no-install-recommends ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}" "Install them once: sudo apt-get update && sudo $command"
  step "installing ${missing[*]}" bash -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command"
}

# Fetches and unpacks the newest source; the folder's name carries the package's version.
get_source() {
  local work package version
  work=$(mktemp -d "$kernels/source.XXXXXX")
  debian_download "$work" linux-source
  package=$(dpkg-deb -f "$work"/linux-source_*.deb Depends | grep -o 'linux-source-[0-9.]*')
  debian_download "$work" "$package"
  version=$(dpkg-deb -f "$work/$package"_*.deb Version)
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -xO --wildcards "./usr/src/*.tar.xz" | tar -xJ -C "$work"
  rm -rf "$kernels"/linux-*
  mv "$work/$package" "$kernels/linux-$version"
  rm -rf "$work"
}

# Every line of the fragment must have come into effect: an option that was renamed or misses another is silent otherwise.
check_config() {
  local line lost=()
  while read -r line; do
    case $line in
    CONFIG_*=n) ! grep -q "^${line%n}" .config || lost+=("$line") ;;
    CONFIG_*) grep -qxF -- "$line" .config || lost+=("$line") ;;
    esac
  done <"$here/wrenn.config"
  [ ${#lost[@]} = 0 ] || die "this source does not take these options: ${lost[*]}" "Correct images/kernel/wrenn.config."
}

configure() {
  make KCONFIG_ALLCONFIG="$here/wrenn.config" allnoconfig
  check_config
}

# Prints how far `make` is, from the number of its lines; about 1,550 for this configuration.
compile() {
  local log=$1 expected=1550 count=0 shown=0 percent line
  make -j"${WRENN_JOBS:-$(nproc)}" vmlinux 2>&1 | tee "$log" | while IFS= read -r line; do
    [[ $line == "  "* ]] || continue
    count=$((count + 1))
    percent=$((count * 100 / expected))
    if [ $percent -ge $((shown + 10)) ] && [ $percent -lt 100 ]; then
      shown=$percent
      say "compiling: $percent %, $SECONDS s"
    fi
  done
}

build() {
  local out=$1
  cd "$source"
  # The same source and options give the same file, whoever builds it and when.
  export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=wrenn KBUILD_BUILD_HOST=wrenn KBUILD_BUILD_VERSION=1
  step "configuring $(basename "$source")" configure
  say "compiling with ${WRENN_JOBS:-$(nproc)} jobs: about 10 processor minutes"
  compile "$kernels/build.log" || {
    tail -n 20 "$kernels/build.log" >&2
    die "the kernel does not compile" "Everything make printed is in $kernels/build.log"
  }
  strip --strip-all -o "$out.new" vmlinux
  chmod 644 "$out.new"
  mv "$out.new" "$out"
  say "compiled in $SECONDS s"
}

newest_source() { find "$kernels" -maxdepth 1 -name 'linux-*' | sort -V | tail -1; }

dir=$(default_dir)
force=
while [ $# -gt 0 ]; do
  case $1 in
  --dir)
    [ $# -ge 2 ] || die "--dir needs a folder" "See images/kernel/build.sh --help."
    dir=$2
    shift
    ;;
  --force) force=1 ;;
  --help | -h) usage && exit ;;
  *) die "$1 is no option" "See images/kernel/build.sh --help." ;;
  esac
  shift
done
dir=$(realpath -m "$dir")
mkdir -p "$dir/kernels" 2>/dev/null || true
take_lock "$kernels"
take_lock "$dir/kernels"
find "$kernels" -maxdepth 1 -name 'source.*' -exec rm -rf {} + # left by a build that was killed

source=$(newest_source)
if [ "$force" ] || [ -z "$source" ]; then
  need_command mmdebstrap mmdebstrap
  need_space "$kernels" 3072 # 1.3 GB of source, 0.5 GB of objects, the archives while they are unpacked
  step "fetching Debian's linux-source (140 MB)" get_source
  source=$(newest_source)
fi
version=${source##*/linux-}
version=${version%%[+~]*}
name="vmlinux-${version//-/.}.1"
want=$(digest_of images/kernel/wrenn.config)
built="$kernels/$name-$want"
if [ "$force" ] || [ ! -e "$built" ]; then
  need_compilers
  need_space "$kernels" 1024
  build "$built"
  find "$kernels" -maxdepth 1 -name 'vmlinux-*' ! -path "$built" -delete
fi
if ! cmp -s "$built" "$dir/kernels/$name"; then
  need_space "$dir/kernels" 100
  cp "$built" "$dir/kernels/.new"
  mv "$dir/kernels/.new" "$dir/kernels/$name"
fi
say "$dir/kernels/$name"
