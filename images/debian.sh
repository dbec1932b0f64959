# shellcheck shell=bash
# Debian packages without a Debian machine: mmdebstrap brings its own apt configuration, so the same call works for root
# and for an ordinary user, on Debian and on Ubuntu. Sourced after lib.sh.

suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The package sources, one line each. On a Debian machine its own mirror is used, on others mmdebstrap's default (no line).
# WRENN_DEBIAN_MIRROR overrules both; it may hold several words, for example a mirror and its security counterpart.
debian_sources() {
  local label uri
  if [ -n "${WRENN_DEBIAN_MIRROR:-}" ]; then
    tr ' ' '\n' <<<"$WRENN_DEBIAN_MIRROR" | while read -r uri; do
      case $uri in
      *security*) echo "deb $uri $suite-security main" ;;
      *) printf 'deb %s %s main\n' "$uri" "$suite" "$uri" "$suite-updates" ;;
      esac
    done
    return
  fi
  # shellcheck disable=SC2016 # the $(...) are apt's own placeholders
  apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | sort -u |
    while IFS='|' read -r label uri; do
      case $label:$uri in
      Debian:http*) printf 'deb %s %s main\n' "$uri" "$suite" "$uri" "$suite-updates" ;;
      Debian-Security:http*) echo "deb $uri $suite-security main" ;;
      esac
    done
}

# debian OPTION... -- TARGET: mmdebstrap with our sources and the machine's proxy.
debian() {
  local options=() sources key value
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  mapfile -t sources < <(debian_sources)
  for key in Acquire::http::Proxy Acquire::https::Proxy Acquire::Check-Valid-Until; do
    eval "$(apt-config shell value "$key")"
    [ -z "${value:-}" ] || options+=("--aptopt=$key \"$value\"")
    value=
  done
  # /tmp may be a small memory file system; in a user namespace the folder must be open to all, as /var/tmp is.
  TMPDIR=${TMPDIR:-/var/tmp} mmdebstrap --keyring="$keyring" "${options[@]}" "$suite" "$2" "${sources[@]}"
}

# debian_download FOLDER PACKAGE...: fetches packages without installing anything; prints nothing of use.
debian_download() {
  local folder=$1
  shift
  [ -e "$keyring" ] || die "the keys of Debian's archive are missing ($keyring)" \
    "Install them: sudo apt-get install -y debian-archive-keyring (or run make setup)"
  mkdir -p "$folder"
  # Nothing is unpacked or run as root here, so chrootless is safe for root too, which mmdebstrap would refuse.
  # shellcheck disable=SC2016 # expanded by the hook
  FOLDER=$folder PACKAGES=$* debian --mode=chrootless --skip=check/chrootless --variant=custom --format=null \
    --customize-hook='cd "$FOLDER" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download $PACKAGES' -- /dev/null
}

# debian_depends PACKAGE: the real package behind a meta package is found in the folder it was downloaded to.
real_package() { dpkg-deb -f "$1" Depends | tr ',' '\n' | sed -n 's/^ *\(linux-image-[^ ]*\).*/\1/p' | head -1; }
