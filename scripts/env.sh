#!/usr/bin/env bash
# Runs a command with everything that a build needs: checks the tools, finds or makes libtorch, exports LIBTORCH.
#
#   scripts/env.sh cargo build --release --locked
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

need() { # COMMAND WHAT-TO-DO
    command -v "$1" >/dev/null 2>&1 && return
    echo "error: \`$1\` is not on PATH" >&2
    echo "hint: $2" >&2
    exit 1
}

# rustup puts cargo here and asks for a new shell; the shell that make runs in may be older.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    export PATH
fi
need cargo "install Rust 1.91 or newer (https://rustup.rs), then open a new shell"
need python3 "install Python 3.8 or newer, with pip"
if [ -n "${CXX:-}" ]; then
    need "${CXX%% *}" "CXX names a C++ compiler that is not there"
elif ! command -v c++ >/dev/null 2>&1; then
    need g++ "install a C++ compiler (\`apt install g++\`), or name one by CXX"
fi

if [ "${1:-}" = "--no-libtorch" ]; then
    shift
else
    LIBTORCH="$(python3 "$here/libtorch.py")"
    export LIBTORCH
fi
exec "$@"
