#!/usr/bin/env bash
# Sets up .venv: pinned packages, vLLM for this machine, and this project, editable.
# Done already, it does nothing; interrupted, the next run finishes. Log: .venv/install.log
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 1; }

gpu=cpu
if nvidia-smi -L >/dev/null 2>&1; then gpu=gpu; fi
stamp="$gpu $(cat requirements/* pyproject.toml | sha256sum | cut -c1-16) $PWD"
installed() { [ "$(cat .venv/installed 2>/dev/null)" = "$stamp" ]; }
installed && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "Python 3.11 or newer is needed: install it, or name it with PYTHON=/path/to/python3.11"
if [ ! -x .venv/bin/pip ]; then
  echo "Making .venv with $("$python" --version)"
  rm -rf .venv
  "$python" -m venv .venv || { rm -rf .venv; fail "no virtual environment: apt install python3-venv"; }
fi
exec 9>.venv/install.lock
flock 9 # a second `make` waits here, then finds the work done
installed && exit 0
log=.venv/install.log
: >"$log"

# pip, with its log kept and one line that moves.
pip_install() {
  .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-deps "$@" 2>>"$log" |
    tee -a "$log" | awk -v tty="$([ -t 1 ] && echo 1)" '
      /^(Collecting|Processing|Requirement)/ { n++; if (tty) printf "\r\033[K  %d packages: %s", n, $2 }
      /^Installing collected/ { if (tty) printf "\r\033[K"; if (n) print "  installing " n " packages" }
      { fflush() }
      END { if (tty) printf "\r\033[K" }'
}

if [ "$gpu" = cpu ]; then
  echo "Installing PyTorch and vLLM for the CPU (some minutes the first time)"
  # Only PyTorch's own index has the CPU build where the configured one lacks it; PyPI's is CUDA.
  pip_install -r requirements/torch.txt ||
    pip_install --retries 0 --index-url https://download.pytorch.org/whl/cpu -r requirements/torch.txt ||
    pip_install "$(sed 's/+cpu//' requirements/torch.txt)" ||
    fail "PyTorch could not be installed: $(grep -i error "$log" | tail -1) (see $log)"
else
  echo "Installing PyTorch and vLLM for the NVIDIA GPU (several GB the first time)"
fi
pip_install -r "requirements/$gpu.txt" ||
  fail "packages could not be installed: $(grep -i error "$log" | tail -1) (see $log)"
pip_install --no-build-isolation --editable . ||
  fail "this project could not be installed: $(grep -i error "$log" | tail -1) (see $log)"
echo "$stamp" >.venv/installed
echo "Installed into .venv; try .venv/bin/magicoder --help"
