#!/usr/bin/env bash
# Makes a template of a container of this machine's Docker or Podman: its files as they are now, with the agent added, and
# its user, folder and environment. The container may run or be stopped; it is only read.
#
# Usage: scripts/rootfs-from-container.sh CONTAINER NAME [WRENN_DIR]
#   docker create --name tools python:3.12-slim && scripts/rootfs-from-container.sh tools python && wrenn run -t python -- python3 -V
set -euo pipefail
# shellcheck source=images/lib.sh
. "$(dirname "$0")/../images/lib.sh"
topic=container

[ $# -ge 2 ] || die "a container and a name for the template are needed" "Usage: $0 CONTAINER NAME [WRENN_DIR]"
container=$1 name=$2 dir=${3:-$(default_dir)}
[[ $name =~ ^[a-z0-9][a-z0-9._-]{0,63}$ ]] || die "\"$name\" is no name of a template" "Use small letters, digits, '.', '_' and '-'."
inject="$repo/builds/guest/inject"
[ -x "$inject" ] || die "the guest agent is not built" "Run make images first."
need_command mke2fs e2fsprogs

engine=
for program in docker podman; do
  if command -v "$program" >/dev/null && "$program" container inspect "$container" >/dev/null 2>&1; then engine=$program; fi
done
[ -n "$engine" ] || die "no container \"$container\" is known to Docker or Podman" "See docker ps -a, or podman ps -a; the engine must run."

mkdir -p "$dir/images"
take_lock "$dir/images"
work=$(mktemp -d "$dir/images/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
step "exporting $container from $engine" "$engine" export --output "$work/root.tar" "$container"
"$engine" container inspect "$container" >"$work/container.json"

# A guest works without these; what it then lacks is said, since nobody would look for the cause here.
files=$(tar -tf "$work/root.tar")
lacks() {
  grep -qE "(^|/)s?bin/$1\$" <<<"$files" || say "warning: the image has no $1: $2"
}
lacks chronyd "the clock is set at each start only, and drifts in between"
lacks curl "health checks that use it fail"
lacks git "git commands of clients fail"

mib=${WRENN_IMAGE_MIB:-5120}
used=$(($(stat -c %s "$work/root.tar") / 1048576))
[ "$mib" -ge $((used * 3 / 2 + 1024)) ] || mib=$((used * 3 / 2 + 1024))
as_root=()
[ "$(id -u)" = 0 ] || as_root=(fakeroot --)
export SOURCE_DATE_EPOCH=1700000000
step "making the file system" "${as_root[@]}" "$repo/images/ext4.sh" "$work/root.tar" "$inject" "$work/rootfs.ext4" "$mib"
bun "$repo/images/facts.ts" "$work/container.json" >"$work/facts.json"
step "publishing $name" bun "$repo/images/publish.ts" "$work" "$dir/images/$name" "$work/facts.json"
say "the template $name is there: wrenn create -t $name"
