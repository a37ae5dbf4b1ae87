#!/usr/bin/env bash
# Runs a Python script of tests/oracles with the packages of tests/oracles/requirements.txt.
#
#   scripts/oracles.sh tests/oracles/remake.py [ARGUMENTS]
#   scripts/oracles.sh --python       # prints the Python, and makes nothing: status 3 where there is none yet
#
# The Python is the one that ORACLE_PYTHON names, if it has those versions; else that of a virtual environment in the cache
# folder (`TICKETS_CACHE`, else `XDG_CACHE_HOME/tickets`, else `~/.cache/tickets`), which is made once: some gigabytes.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
requirements="$root/tests/oracles/requirements.txt"

fail() { # WHAT HINT
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

# Prints what a Python lacks of the requirements, one a line.
lacks() { # PYTHON
    "$1" - "$requirements" <<'PY'
import importlib.metadata as metadata
import sys

for line in open(sys.argv[1], encoding="utf-8"):
    name, _, version = line.split("#")[0].strip().partition("==")
    try:
        found = metadata.version(name) if name else ""
    except metadata.PackageNotFoundError:
        found = "none"
    if name and found.split("+")[0] != version:
        print(f"{name}=={version} (found: {found})")
PY
}

# The environment in the cache.
cache="${TICKETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tickets}"
folder="$cache/oracles-$(cksum <"$requirements" | cut -d' ' -f1)"

# Prints its Python, and makes it where there is none. What is prepared gets its mark in one step.
cached() {
    if [ ! -e "$folder/complete" ]; then
        command -v python3 >/dev/null 2>&1 || fail "\`python3\` is not on PATH" "install Python 3.10 or newer, with pip and venv"
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            fail "this python3 is too old for the oracles" "install Python 3.10 or newer, or name one with the packages by ORACLE_PYTHON"
        mkdir -p "$cache"
        # A virtual environment knows its own path, so it is made in place, and whole only with its mark.
        exec 9>"$folder.lock"
        if command -v flock >/dev/null 2>&1; then flock 9; fi
        if [ ! -e "$folder/complete" ]; then
            rm -rf "$folder"
            echo "installing the oracles into $folder (once; some gigabytes)" >&2
            python3 -m venv "$folder" >&2 || fail "no virtual environment can be made" "apt install python3-venv"
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 ||
                fail "the oracles cannot be installed by pip" "look at the lines above; ORACLE_PYTHON may name a Python that has them"
            touch "$folder/complete"
        fi
        exec 9>&-
    fi
    echo "$folder/bin/python"
}

if [ -n "${ORACLE_PYTHON:-}" ]; then
    python="$ORACLE_PYTHON"
    command -v "$python" >/dev/null 2>&1 || fail "ORACLE_PYTHON is \`$python\`, which cannot be run" "name a Python, or unset it"
elif [ "${1:-}" = --python ] && [ ! -e "$folder/complete" ]; then
    exit 3
else
    python="$(cached)"
fi
missing="$(lacks "$python")"
if [ -n "$missing" ]; then
    echo "$missing" >&2
    fail "$python lacks the packages above" "$python -m pip install -r tests/oracles/requirements.txt, or unset ORACLE_PYTHON"
fi

if [ "${1:-}" = --python ]; then
    command -v "$python"
    exit
fi

# No network, no GPU, one thread, no bars: the same on every run.
export HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
export HF_HUB_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false
exec "$python" "$@"
