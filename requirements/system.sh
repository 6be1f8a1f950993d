#!/usr/bin/env bash
# The programs that the tests run beside Python: a sandbox, and the languages that solutions are
# verified in. As root on Debian it installs what is missing; else it says what the tests will skip.
set -euo pipefail

declare -A package=(
  [bwrap]=bubblewrap [gcc]=gcc [g++]=g++ [node]=nodejs [npm]=npm [tsc]=node-typescript
  [javac]=default-jdk-headless [rustc]=rustc [php]=php-cli [go]=golang-go [git]=git
)
missing() { for program in "${!package[@]}"; do command -v "$program" >/dev/null || echo "$program"; done; }

wanted=$(missing)
[ -z "$wanted" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing for the tests:" $wanted
  log=$(mktemp)
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    $(for program in $wanted; do echo "${package[$program]}"; done); } >"$log" 2>&1 || tail -3 "$log"
  rm -f "$log"
  wanted=$(missing)
fi
[ -z "$wanted" ] || echo "Not installed, and so left out of the tests:" $wanted
