#!/usr/bin/env python3
"""A step of `tickets` beside a step of TRL: the same weights, the same work, in turns, so that a machine's moods meet both.

    make bench-peer [ARGS="--shapes 0.8m --new-tokens 7,64,200 --rounds 3"]

Prints a table of medians with the ratio of each, and the lowest and highest ratio of a round. Needs the Python packages of
tests/oracles/requirements.txt (installed once, or ORACLE_PYTHON).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Hidden size and layers, by a name that says how many parameters that is.
SHAPES = {"0.8m": (128, 4), "23.8m": (512, 8)}


def last_line(command, environment=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("python")
    parser.add_argument("--shapes", default="0.8m")
    parser.add_argument("--new-tokens", default="7,64,200")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    peer = [a.python, str(ROOT / "benches/trl_step.py")]
    # A step is that of as many threads as it is told, whatever the shell says.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    print("| parameters | new tokens | TRL s/step | tickets s/step | ratio | of each round | TRL peak MiB | tickets peak MiB |")
    print("| --: | --: | --: | --: | --: | :-- | --: | --: |")
    for shape in a.shapes.split(","):
        hidden, layers = SHAPES[shape]
        with tempfile.TemporaryDirectory() as folder:
            model = f"{folder}/model"
            subprocess.run([*peer, "--make", model, "--hidden", str(hidden), "--layers", str(layers)], check=True, stderr=subprocess.DEVNULL)
            for new_tokens in a.new_tokens.split(","):
                work = ["--model", model, "--prompts", str(a.prompts), "--group", str(a.group)]
                work += ["--new-tokens", new_tokens, "--threads", str(a.threads), "--steps", str(a.steps)]
                theirs, ours = [], []
                for _ in range(a.rounds):
                    ours.append(last_line([a.program, "bench", "step", *work, "--json"], environment))
                    theirs.append(last_line([*peer, *work], environment))
                ratios = [t["seconds_per_step"] / o["seconds_per_step"] for t, o in zip(theirs, ours)]
                of = lambda side, key: statistics.median(one[key] for one in side)
                resident = lambda one: max(phase["resident_peak_bytes"] for phase in one["memory"].values())
                print(
                    f"| {ours[0]['parameters']:,} | {new_tokens} | {of(theirs, 'seconds_per_step'):.3f} "
                    f"| {of(ours, 'seconds_per_step'):.3f} | {statistics.median(ratios):.2f} "
                    f"| {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
                    f"| {of(theirs, 'resident_peak_bytes') / 2**20:.0f} "
                    f"| {statistics.median(map(resident, ours)) / 2**20:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
