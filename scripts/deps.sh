#!/usr/bin/env bash
# Bun (from npm, into .tools/) and the packages of bun.lock. A stamp makes a second run free.
set -euo pipefail
cd "$(dirname "$0")/.."

bun_version=1.4.5
say() { printf '\033[2m[deps]\033[0m %s\n' "$*" >&2; }

if [ "$(.tools/node_modules/.bin/bun --version 2>/dev/null)" != "$bun_version" ] ||
  [ ! -x .tools/node_modules/@oven/bun-linux-x64-baseline/bin/bun ]; then
  say "installing Bun $bun_version (100 MB, from npm)"
  # The baseline build runs without AVX: guests and some emulated hosts lack it.
  npm install --prefix .tools --no-save --no-audit --no-fund --loglevel=error \
    "bun@$bun_version" "@oven/bun-linux-x64-baseline@$bun_version" >/dev/null
  # A processor without AVX2 cannot run the default build; nor can npm when it skipped the package's own install step.
  .tools/node_modules/.bin/bun --version >/dev/null 2>&1 ||
    ln -sf ../@oven/bun-linux-x64-baseline/bin/bun .tools/node_modules/.bin/bun
fi

stamp=node_modules/.wrenn-stamp
want=$(cat bun.lock package.json packages/*/package.json | sha256sum)
if [ "$(cat $stamp 2>/dev/null)" != "$want" ]; then
  say "installing packages"
  .tools/node_modules/.bin/bun install --frozen-lockfile --silent
  echo "$want" >$stamp
fi
