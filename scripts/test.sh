#!/usr/bin/env bash
# Runs every test (arguments go to `cargo test`), prints the total as the last line ("N passed, M failed") and fails if one failed or did not build.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# Where there is a GPU its tests run too, and cuBLAS reads this at their start.
export CUBLAS_WORKSPACE_CONFIG="${CUBLAS_WORKSPACE_CONFIG:-:4096:8}"

status=0
cargo test --release --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=1
python3 -m unittest discover -s tests/setup -p 'test_*.py' 2>&1 | tee -a "$log" || status=1

# cargo: "test result: ok. 3 passed; 0 failed; ...". unittest: "Ran 12 tests in ...", then "OK" or "FAILED (failures=1, errors=2)".
read -r passed failed < <(awk '
    /^test result: / { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) passed += $i; if ($(i + 1) ~ /^failed/) failed += $i } }
    /^Ran [0-9]+ tests? in / { python += $2 }
    /^(OK|FAILED) ?\(/ || /^OK$/ {
        bad = skipped = 0; line = $0
        while (match(line, /(failures|errors|unexpected successes)=[0-9]+/)) {
            part = substr(line, RSTART, RLENGTH); sub(/.*=/, "", part); bad += part; line = substr(line, RSTART + RLENGTH)
        }
        if (match($0, /skipped=[0-9]+/)) skipped = substr($0, RSTART + 8, RLENGTH - 8)
        python_failed += bad; python_skipped += skipped
    }
    END { print passed + python - python_failed - python_skipped, failed + python_failed }
' "$log")
# What did not build or crashed has no count of its own.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed passed, $failed failed"
exit "$status"
