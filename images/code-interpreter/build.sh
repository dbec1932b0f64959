#!/usr/bin/env bash
# Builds the templates code-interpreter (also under the name that clients of the E2B code interpreter ask for) and
# code-runner-beta on the running system. Packages are fetched on this machine, where they are only unpacked; whatever
# runs of them runs in the build's sandbox.
#
# Usage: images/code-interpreter/build.sh [code-interpreter|code-interpreter-v1|code-runner-beta]...
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=images/lib.sh
. "$here/lib.sh"
topic=code-interpreter
own="$here/code-interpreter"
wrenn=${WRENN:-$repo/builds/wrenn}
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(code-interpreter code-interpreter-v1 code-runner-beta)

need_command python3 python3
python3 -m pip --version >/dev/null 2>&1 || die "pip is missing" "Install it: sudo apt-get install -y python3-pip"

# packages FOLDER: what requirements.txt names, for the Python of the template (Debian 12).
packages() {
  python3 -m pip install --quiet --no-compile --target "$1/site" --python-version 3.11 --implementation cp \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
    --only-binary=:all: -r "$own/requirements.txt"
  # Tests of packages are half of their files, and nobody runs them in a sandbox.
  find "$1/site" -type d -name tests -prune -exec rm -rf {} +
  rm -rf "$1/site/bin"
  # Compiled here where the same Python is: an emulated guest takes minutes for what this machine does in seconds.
  ! python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || (cd "$1/site" && python3 -m compileall -q \
    numpy pandas matplotlib dateutil PIL IPython ipykernel jupyter_client jupyter_core traitlets tornado zmq aiohttp) || true
  mkdir -p "$1/share/kernels/python3" "$1/share/kernels/bash"
  kernel "$1" python3 Python python '"-m", "ipykernel_launcher"'
  kernel "$1" bash Bash bash '"-m", "bash_kernel"'
}

# kernel FOLDER NAME TITLE LANGUAGE MODULE: a kernel that python3 runs.
kernel() {
  printf '{"argv": ["python3", %s, "-f", "{connection_file}"], "display_name": "%s", "language": "%s"}\n' \
    "$5" "$3" "$4" >"$1/share/kernels/$2/kernel.json"
}

fetched="$cache/code-interpreter-$(digest_of images/code-interpreter/requirements.txt images/code-interpreter/build.sh)"
if [ ! -e "$fetched" ]; then
  rm -rf "$fetched.new"
  mkdir -p "$fetched.new"
  step "fetching Python packages (150 MB)" packages "$fetched.new"
  mv "$fetched.new" "$fetched"
fi

context=$(mktemp -d "${TMPDIR:-/var/tmp}/code-interpreter.XXXXXX")
trap 'rm -rf "$context"' EXIT
cp -al "$fetched/." "$context/" 2>/dev/null || cp -a "$fetched/." "$context/"
cp -a "$own/Dockerfile" "$own/server" "$own/startup" "$own/kernels" "$context/"
mkdir -p "$context/share/kernels/javascript"
cp "$own/kernels/javascript/kernel.json" "$context/share/kernels/javascript/"
for name in "${names[@]}"; do
  target=$name
  [ "$name" != code-interpreter-v1 ] || target=code-interpreter
  "$wrenn" template build "$context" --tag "$name" --target "$target" --memory 1G --vcpus 2
done
