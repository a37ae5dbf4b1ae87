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
need cc "install a C and C++ compiler (\`apt install g++\`)"
if [ -n "${CXX:-}" ]; then
    need "${CXX%% *}" "CXX is set to \`$CXX\`: unset it, or name a C++17 compiler"
elif ! command -v c++ >/dev/null 2>&1; then
    for compiler in g++ clang++; do
        if command -v "$compiler" >/dev/null 2>&1; then CXX="$compiler" && export CXX && break; fi
    done
    [ -n "${CXX:-}" ] || need c++ "install a C++17 compiler (\`apt install g++\`), or name one by CXX"
fi

if [ "${1:-}" = "--no-libtorch" ]; then
    shift
else
    LIBTORCH="$(python3 "$here/libtorch.py")"
    export LIBTORCH
fi
exec "$@"
