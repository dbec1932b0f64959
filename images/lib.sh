# shellcheck shell=bash
# What the scripts of images/ share. Sourced, never run. Callers set `set -euo pipefail`.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="$repo/.cache/images"
export PATH="$repo/.tools/node_modules/.bin:$PATH:/usr/sbin:/sbin"

say() { printf '\033[2m[%s]\033[0m %s\n' "${topic:-images}" "$*" >&2; }

# die CAUSE REMEDY
die() {
  printf '\033[31m[%s]\033[0m %s\n' "${topic:-images}" "$1" >&2
  printf '  %s\n' "$2" >&2
  exit 1
}

# step TEXT COMMAND...: one line that says what is under way and then how long it took; the output goes to a log.
step() {
  local text=$1 log started=$SECONDS
  shift
  mkdir -p "$cache/logs"
  log="$cache/logs/$(date +%s)-$$.log"
  printf '\033[2m[%s]\033[0m %s ...' "${topic:-images}" "$text" >&2
  # Not `if "$@"`: bash would ignore a failure inside the command, as it does in every condition.
  set +e
  (
    set -eE
    trap 'echo "at line $LINENO of $0: $BASH_COMMAND"' ERR
    "$@"
  ) >"$log" 2>&1 </dev/null
  local status=$?
  set -e
  if [ $status = 0 ]; then
    printf ' %d s\n' $((SECONDS - started)) >&2
    rm -f "$log"
  else
    printf ' failed\n' >&2
    tail -n 20 "$log" >&2
    die "$text failed (status $status)" "Everything it printed is in $log"
  fi
}

# Where images and kernels go: --dir, else $WRENN_DIR, else the default of docs/ARCHITECTURE.md.
default_dir() {
  if [ -n "${WRENN_DIR:-}" ]; then
    echo "$WRENN_DIR"
  elif [ "$(id -u)" = 0 ]; then
    echo /var/lib/wrenn
  else
    echo "${XDG_DATA_HOME:-$HOME/.local/share}/wrenn"
  fi
}

# lineage_of TEMPLATE: those whose packages it takes along ("@other" among its packages), the first ones first, and itself.
lineage_of() {
  local other
  while read -r other; do lineage_of "$other"; done < <(sed -n 's/^@//p' "$repo/images/templates/$1/packages")
  echo "$1"
}

# digest_of FILE...: one word for the names and contents of files, in the order given.
digest_of() { (cd "$repo" && b2sum -l 160 -- "$@" | b2sum -l 160 | cut -d' ' -f1); }

# need_space DIR MIB: refuses to start what would fill the disk half-way.
need_space() {
  local have
  mkdir -p "$1"
  have=$(df --output=avail -BM "$1" | tail -1 | tr -dc 0-9)
  [ "$have" -ge "$2" ] || die "not enough disk space in $1: need $2 MiB, have $have MiB" \
    "Free some space there, or name another place with --dir (images) or TMPDIR (working files)."
}

need_command() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || die "the program $1 is missing" "Install it: sudo apt-get install -y $2 (or run make setup)"
}

# take_lock FOLDER: one build at a time; a second one waits, then finds everything done.
take_lock() {
  local lock
  mkdir -p "$1" 2>/dev/null || true
  [ -w "$1" ] || die "$1 is not writable for $(id -un)" "Name a folder of your own with --dir, or take this one over: sudo chown -R $(id -un) $1"
  exec {lock}>"$1/.lock" # held until this process ends
  flock -n "$lock" || {
    say "another build is running; waiting for it"
    flock "$lock"
  }
}
