"""Which versions of CPython say the same: a script of this folder, run under each, must print the same values.

    ORACLE_PYTHONS="PYTHON PYTHON" scripts/oracles.sh tests/oracles/remake.py random_cases.py

The versions go into the fixture as `pythons`. Where `ORACLE_PYTHONS` names no other Python they are those of the fixture as it
is, if the values are still its own, and else the version that runs.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

NOT_VALUES = ("pythons", "unicode")


def digest(values):
    kept = {key: value for key, value in values.items() if key not in NOT_VALUES}
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=16).hexdigest()


def agreeing(script, values):
    """The versions that say the same as this one. When run for another version, prints the digest and ends."""
    # As the fixture will hold them: lists for tuples, text for keys.
    own = digest(json.loads(json.dumps(values)))
    if sys.argv[1:] == ["--digest"]:
        print(platform.python_version(), own)
        sys.exit()
    versions = {platform.python_version()}
    others = os.environ.get("ORACLE_PYTHONS", "").split()
    for python in others:
        done = subprocess.run([python, script, "--digest"], check=True, stdout=subprocess.PIPE)
        version, found = done.stdout.decode().split()
        if found != own:
            sys.exit(f"error: {Path(script).name}: CPython {version} says something else than {platform.python_version()}")
        versions.add(version)
    fixture = Path(script).with_suffix(".json")
    if not others and fixture.exists() and fixture.stat().st_size > 0:
        before = json.loads(fixture.read_text(encoding="utf-8"))
        if digest(before) == own:
            versions |= set(before.get("pythons", []))
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])


def write(versions, values, rows=()):
    """Prints a fixture: a row of the tables named `rows` a line, everything else a line by key."""
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    parts = [f'"pythons":{json.dumps(versions)}']
    for key, value in values.items():
        if key in rows:
            lines = ",\n".join(json.dumps(row, **compact) for row in value)
            parts.append(f'"{key}":[\n{lines}\n]')
        else:
            parts.append(f'"{key}":{json.dumps(value, **compact)}')
    sys.stdout.reconfigure(encoding="utf-8")
    print("{\n" + ",\n".join(parts) + "\n}")
