#!/usr/bin/env python3
"""Runs the comparisons with the references and writes their table into docs/parity.md.

    scripts/env.sh python3 scripts/parity.py [--real]

A comparison prints a line `parity | what | against | cases | worst | bound |` (tests/numerics/table.rs). The lines are sorted
and put between the markers of the document. Those whose `what` begins with `real: ` have a table of their own, which stays as
it is unless they were made: with --real, or when TICKETS_REAL_TEXT names a folder of tests/oracles/real_text.py. When a test
fails nothing is written.
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
REAL = "real: "


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
    real = [(cells[0][len(REAL):], *cells[1:]) for cells in found if cells[0].startswith(REAL)]
    text = replaced(text, "parity", [cells for cells in found if not cells[0].startswith(REAL)])
    return replaced(text, "real", real) if real else text


def compare(folder):
    """The output of the tests; what they write to stderr is shown as it comes."""
    command = ["cargo", "test", "--release", "--locked", "--test", "numerics", "--", "--nocapture"]
    environment = dict(os.environ, **({"TICKETS_REAL_TEXT": str(folder)} if folder else {}))
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        sys.stdout.write(output)
        sys.exit("error: a comparison failed; docs/parity.md is as it was")
    return output


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.environ.get("TICKETS_REAL_TEXT")
        if "--real" in sys.argv[1:] and not folder:
            folder = temporary
            script = [str(ROOT / "scripts" / "oracles.sh"), str(ROOT / "tests" / "oracles" / "real_text.py"), folder]
            if subprocess.run(script).returncode != 0:
                sys.exit("error: the real vocabularies and templates cannot be had; docs/parity.md is as it was")
        found = rows(compare(folder))
    if not found:
        sys.exit("error: the tests printed no row of the parity table")
    sys.stdout.write(table(found))
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(f"\n{len(found)} comparisons, all within their bounds; the tables of docs/parity.md are written")


if __name__ == "__main__":
    main()
