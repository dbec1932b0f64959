#!/usr/bin/env bash
# Makes the built programs commands: links in PREFIX/bin, so that the next build is there by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" = 0 ]; then default=/usr/local; else default=$HOME/.local; fi
bin=${1:-$default}/bin

mkdir -p "$bin"
for program in wrenn wrenn-cp wrenn-agent; do
  # A program that is not ours is somebody's: a link is ours to replace, a file is not.
  if [ -e "$bin/$program" ] && [ ! -L "$bin/$program" ]; then
    echo "$bin/$program exists and is no link: remove it, or choose another folder with PREFIX=" >&2
    exit 1
  fi
  ln -sfn "$PWD/builds/$program" "$bin/$program"
done
echo "wrenn, wrenn-cp and wrenn-agent are in $bin"
case ":$PATH:" in *":$bin:"*) ;; *) echo "which is not in your PATH: export PATH=$bin:\$PATH" ;; esac
