#!/usr/bin/env bash
# Validates every manifest with taplo, against the schema that its first line names. Files given as arguments instead of all.
#
# taplo is the one on PATH; else a pinned version from PyPI, put into the cache folder once (`TICKETS_CACHE`, else
# `XDG_CACHE_HOME/tickets`, else `~/.cache/tickets`). It reads local files alone: no online catalogue of schemas.
set -euo pipefail
version=0.9.3
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() { # WHAT HINT
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

# Prints the path of the cached taplo. What is prepared gets its name in one step, so a broken attempt leaves nothing.
cached() {
    local cache folder
    cache="${TICKETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tickets}"
    folder="$cache/taplo-$version"
    if [ ! -x "$folder/bin/taplo" ]; then
        command -v python3 >/dev/null 2>&1 || fail "there is neither taplo nor python3" "install taplo $version, or Python with pip"
        mkdir -p "$cache"
        scratch="$(mktemp -d -p "$cache")"
        trap 'rm -rf "$scratch"' EXIT
        echo "installing taplo $version into $folder" >&2
        PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$scratch/new" "taplo==$version" >&2 ||
            fail "taplo $version cannot be installed by pip" "put a taplo on PATH: cargo install taplo-cli --locked"
        chmod 755 "$scratch/new"
        # Where two prepare it at once, the second rename fails and the first one's serves both.
        mv -T "$scratch/new" "$folder" 2>/dev/null || [ -x "$folder/bin/taplo" ] ||
            fail "$folder is in the way" "remove it"
    fi
    echo "$folder/bin/taplo"
}

taplo="$(command -v taplo || cached)"
if [ "$#" -gt 0 ]; then
    manifests=("$@")
else
    mapfile -d '' -t manifests < <(find "$root/manifests" -name '*.toml' -print0 | sort -z)
fi
[ "${#manifests[@]}" -gt 0 ] || fail "there is no manifest below $root/manifests" "is this the whole repository?"

# Without the line taplo validates nothing, and says that all is well.
for manifest in "${manifests[@]}"; do
    case "$(head -n 1 -- "$manifest")" in
    "#:schema "*schema.json) ;;
    *) fail "$manifest does not begin with the line of its schema" "begin it with \`#:schema ./schema.json\`, relative to the file" ;;
    esac
done

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
unset TAPLO_CONFIG
if ! "$taplo" lint --no-auto-config --colors never "${manifests[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    fail "some manifest does not fit its schema" "\`tickets plan MANIFEST\` says more; after a change of keys: tickets schema > manifests/schema.json"
fi
echo "taplo: ${#manifests[@]} manifests fit their schema"
