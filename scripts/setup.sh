#!/usr/bin/env bash
# Installs the system packages that are missing, and those named as arguments. Checks first, so a second run changes nothing and takes no time.
set -euo pipefail

say() { printf '\033[2m[setup]\033[0m %s\n' "$*" >&2; }

declare -A provides=(
  [qemu-system-x86_64]=qemu-system-x86
  [qemu-img]=qemu-utils
  [mmdebstrap]=mmdebstrap
  [mke2fs]=e2fsprogs
  [cpio]=cpio
  [lz4]=lz4
  [newuidmap]=uidmap
  [zstd]=zstd
  [fakeroot]=fakeroot
  [skopeo]=skopeo
  [umoci]=umoci
  [docker-registry]=docker-registry
  [node]=nodejs
  [npm]=npm
  [ip]=iproute2
  [nft]=nftables
  [bwrap]=bubblewrap
)

# What is needed for some things only is named as an argument.
for extra in "$@"; do provides[$extra]=$extra; done

missing=()
for command in "${!provides[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || missing+=("${provides[$command]}")
done
# The keys that guests' packages are checked with; Ubuntu does not have them from the start.
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
# Tests drive a Python client from an environment of its own.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  say "missing: ${missing[*]}. This is not a Debian or Ubuntu machine: install the packages with these programs and run again."
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  say "missing: ${missing[*]}. Install them once with:"
  printf '  sudo apt-get update && sudo %s\n' "$install" >&2
  exit 1
fi
say "installing ${missing[*]} (about a minute)"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update -qq && $install; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  say "apt-get failed; its full output is in $log"
  exit 1
fi
rm -f "$log"
