#!/usr/bin/env python3
"""Runs the comparisons with the references and writes their table into docs/parity.md.

    scripts/env.sh python3 scripts/parity.py [--real | --exports]

A comparison prints a line `parity | what | against | cases | worst | bound |` (tests/numerics/table.rs). The lines are sorted
and put between the markers of the document. Two kinds have a table of their own, which stays as it is unless they were made:

- `real: `, with --real, or when TICKETS_REAL_TEXT names a folder of tests/oracles/real_text.py;
- `exports: ` (tests/export.rs, tests/masks), which load exports with transformers and PyTorch: where scripts/oracles.sh has a Python, that of
  ORACLE_PYTHON or of its environment. TICKETS_REQUIRE_ORACLE=1 makes it an error to have none, and so does --exports,
  which runs nothing else.

When a test fails nothing is written.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "parity.md"
HEADER = "| what | against | cases | worst | allowed |\n| :-- | :-- | --: | --: | --: |\n"
# Tables that stay when they were not made, by the first word of their rows.
APART = ["real", "exports"]
LOADING = {
    "export": "transformers_loads_what_is_exported_and_generates_the_same",
    "masks": "pytorch::pytorch_reads_what_is_exported",
}
NOT_MADE = """
NOT MADE: there is no Python with transformers, so no export was loaded with it; its table in docs/parity.md is as it was.
`make oracles` installs one and loads exports, or set ORACLE_PYTHON to a Python with tests/oracles/requirements.txt.
"""


def rows(output):
    """The rows of a test run's output: [what, against, cases, worst, bound], sorted."""
    found = set()
    for line in output.splitlines():
        # The harness may have begun the line with the name of the test.
        match = re.search(r"parity \| (.+) \|\s*$", line)
        if match:
            cells = tuple(cell.strip() for cell in match.group(1).split(" | "))
            if len(cells) != 5:
                sys.exit(f"error: this row of the parity table has not five cells: {line}")
            found.add(cells)
    return sorted(found)


def table(found):
    return HEADER + "".join("| " + " | ".join(cells) + " |\n" for cells in found)


def replaced(text, name, found):
    """The document with the table between the markers of that name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        sys.exit(f"error: docs/parity.md has not one `{begin.strip()}` before one `{end.strip()}`")
    before, rest = text.split(begin)
    return before + begin + "\n" + table(found) + "\n" + end + rest.split(end)[1]


def document(text, found):
    common = [cells for cells in found if cells[0].split(": ")[0] not in APART]
    text = replaced(text, "parity", common) if common else text
    for name in APART:
        start = name + ": "
        own = [(cells[0][len(start):], *cells[1:]) for cells in found if cells[0].startswith(start)]
        text = replaced(text, name, own) if own else text
    return text


def compare(test, filters=(), **variables):
    """The output of the tests of a file; what they write to stderr is shown as it comes."""
    command = ["cargo", "test", "--release", "--locked", "--test", test, "--", "--nocapture", *filters]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE)
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        sys.stdout.write(output)
        sys.exit("error: a comparison failed; docs/parity.md is as it was")
    return output


def oracle_python(required):
    """The Python of the references, or nothing where there is none. One that lacks packages is an error, as none is if required."""
    done = subprocess.run([str(ROOT / "scripts" / "oracles.sh"), "--python"], stdout=subprocess.PIPE)
    if done.returncode not in (0, 3):
        sys.exit("error: the Python of the references cannot be used; docs/parity.md is as it was")
    found = done.stdout.decode().strip()
    if not found and required:
        sys.exit("error: there is no Python with transformers to load exports with\nhint: `make oracles` installs one")
    return found


def load_exports(python):
    """The rows of exports that transformers loads. That there are some is the point."""
    found = []
    for test, name in LOADING.items():
        loaded = rows(compare(test, ["--exact", name], ORACLE_PYTHON=python, TICKETS_REQUIRE_ORACLE="1"))
        if not loaded:
            sys.exit(f"error: the test `{test}` printed no row; is `{name}` still its name?")
        found += loaded
    return found


def numerics():
    """The rows of tests/numerics and tests/reference, and of files that PyTorch wrote."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.environ.get("TICKETS_REAL_TEXT")
        if "--real" in sys.argv[1:] and not folder:
            folder = temporary
            script = [str(ROOT / "scripts" / "oracles.sh"), str(ROOT / "tests" / "oracles" / "real_text.py"), folder]
            if subprocess.run(script).returncode != 0:
                sys.exit("error: the real vocabularies and templates cannot be had; docs/parity.md is as it was")
        found = rows(compare("numerics", **({"TICKETS_REAL_TEXT": str(folder)} if folder else {})))
    found += rows(compare("reference"))
    found += rows(compare("masks", ["pytorch_files"]))
    if not found:
        sys.exit("error: the tests printed no row of the parity table")
    return sorted(found)


def main():
    only_exports = "--exports" in sys.argv[1:]
    python = oracle_python(only_exports or bool(os.environ.get("TICKETS_REQUIRE_ORACLE")))
    if not python:
        sys.stderr.write(NOT_MADE)
    found = [] if only_exports else numerics()
    if python:
        found = sorted(found + load_exports(python))
    sys.stdout.write(table(found))
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(f"\n{len(found)} comparisons, all within their bounds; the tables of docs/parity.md are written")
    if not python:
        sys.stderr.write(NOT_MADE)


if __name__ == "__main__":
    main()
