"""Runs every *_cases.py here, in order of their names, and says what moved against the commit.

    make oracles                       (all of them, with the pinned packages)
    scripts/oracles.sh tests/oracles/remake.py [text_cases.py ...]

A script writes its fixtures itself; one with a .json of its own name beside it prints that file. On one machine every run
gives the same bytes. On another processor the last bits of float sums differ: a file in which nothing but that has changed is
put back as it was committed, so what `git diff` shows afterwards has really moved.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load

HERE = Path(__file__).resolve().parent
# Of float32 sums, relative to the largest number of the tensor or list; bfloat16 keeps 8 bits.
ROUNDING, HALF_ROUNDING = 2e-5, 2**-6


def git(*arguments):
    return subprocess.run(["git", "-C", str(HERE), *arguments], check=True, stdout=subprocess.PIPE).stdout


def run(script):
    printed = script.with_suffix(".json")
    done = subprocess.run([sys.executable, str(script)], cwd=HERE.parent.parent, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"error: {script.name} failed; the lines above say why")
    if printed.exists():
        printed.write_bytes(done.stdout)
    else:
        sys.stdout.write(done.stdout.decode())


def apart(new, old):
    """How far two lists of numbers are apart, relative to the largest."""
    largest = max((abs(x) for x in old), default=0.0) or 1.0
    return max((abs(a - b) / largest for a, b in zip(new, old)), default=0.0)


def json_apart(new, old):
    """The same for JSON values; infinite where anything but a float differs."""
    if isinstance(new, float) and isinstance(old, float):
        return 0.0 if new == old else abs(new - old) / max(abs(old), 1e-3)
    if type(new) is not type(old):
        return math.inf
    if isinstance(new, list) and len(new) == len(old):
        if new and all(isinstance(x, float) for x in new + old):
            return apart(new, old)
        return max(map(json_apart, new, old), default=0.0)
    if isinstance(new, dict) and new.keys() == old.keys():
        return max((json_apart(new[key], old[key]) for key in new), default=0.0)
    return 0.0 if new == old else math.inf


def tensors_apart(new, old):
    if new.keys() != old.keys():
        return math.inf
    worst = 0.0
    for name, tensor in new.items():
        other = old[name]
        if tensor.dtype != other.dtype or tensor.shape != other.shape or not tensor.dtype.is_floating_point:
            same = tensor.dtype == other.dtype and torch.equal(tensor, other)
            worst = max(worst, 0.0 if same else math.inf)
            continue
        bound = ROUNDING if tensor.dtype == torch.float32 else HALF_ROUNDING
        distance = apart(tensor.double().flatten().tolist(), other.double().flatten().tolist())
        worst = max(worst, distance / bound * ROUNDING)
    return worst


def distance(name, new, old):
    try:
        if name.endswith(".safetensors"):
            return tensors_apart(load(new), load(old))
        if name.endswith(".json"):
            return json_apart(json.loads(new), json.loads(old))
    except ValueError:
        pass
    return math.inf


def is_fixture(name):
    return bool(name) and not name.endswith((".py", ".txt", ".md"))


def main():
    wanted = sys.argv[1:]
    scripts = [HERE / name for name in wanted] or sorted(HERE.glob("*_cases.py"))
    for script in scripts:
        print(f"{script.name}", flush=True)
        run(script)
    moved = []
    # Model weights are written by the scripts from a seed and must be the same to the bit.
    for name in git("diff", "--name-only", "--relative", "-z", "--", ".").decode().split("\0"):
        path = HERE / name
        if not is_fixture(name) or not path.is_file():
            continue
        worst = distance(name, path.read_bytes(), git("show", f":./{name}"))
        if worst <= ROUNDING and not path.name.startswith("model"):
            git("checkout", "--", name)
            print(f"put back: {name} (rounding of another processor, {worst:.0e})")
        else:
            moved.append(name)
            print(f"moved: {name}")
    gone = git("ls-files", "--deleted", "-z").decode().split("\0")
    added = git("ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")
    gone, added = list(filter(is_fixture, gone)), list(filter(is_fixture, added))
    for what, names in [("gone", gone), ("new", added)]:
        for name in names:
            print(f"{what}: {name}")
    print(f"{len(scripts)} scripts; {len(moved) + len(gone)} fixtures moved, {len(added)} new")


if __name__ == "__main__":
    main()
