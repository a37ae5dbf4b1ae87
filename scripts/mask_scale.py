#!/usr/bin/env python3
"""Time and peak memory of masks at the size of real models, on this machine.

    make mask-scale                  qwen2.5-0.5b
    make mask-scale SHAPE=qwen2.5-1.5b

Random masks are drawn from the shape alone. Scores are the absolute weights of a model with random weights in float32, which is
written first (4 bytes per parameter) and removed at the end: what is ranked does not change how ranking works. Times include the
program's own start, which the first row has alone.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time


def measured(program, *arguments):
    begun = time.monotonic()
    child = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"error: tickets {' '.join(arguments)} failed")
    return time.monotonic() - begun, usage.ru_maxrss / 1024, said.strip()


def make_absolute(path):
    """Clears the sign of every float32 of a safetensors file: squares and absolute gradients have none."""
    positive = bytes(byte & 0x7F for byte in range(256))
    with open(path, "r+b") as file:
        at = 8 + int.from_bytes(file.read(8), "little")
        while True:
            file.seek(at)
            piece = bytearray(file.read(1 << 24))
            if not piece:
                return
            piece[3::4] = piece[3::4].translate(positive)
            file.seek(at)
            file.write(piece)
            at += len(piece)


def main():
    program, shape = sys.argv[1], sys.argv[2]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mask-scale-", dir=os.environ.get("TMPDIR", ".")))
    rows = []

    def row(name, *arguments):
        seconds, mib, said = measured(program, "masks", *arguments)
        rows.append(f"| {name} | {seconds:.2f} s | {mib:.0f} MiB |")
        print(f"{rows[-1]}  {said.splitlines()[0][:100]}", flush=True)

    def build(name, out, model, *arguments):
        row(name, "build", "--model", model, "--out", str(folder / out), *arguments)

    try:
        row("start of the program alone", "--help")
        random = ("--type", "random", "--sparsity")
        build("random, NumPy, 99 %", "a", shape, *random, "0.99", "--seed", "0", "--rng", "numpy")
        build("random, NumPy, 99 %", "b", shape, *random, "0.99", "--seed", "42", "--rng", "numpy")
        build("random, NumPy, 50 % (tail shuffle)", "h", shape, *random, "0.5", "--rng", "numpy")
        build("random, ChaCha, 99 %", "c", shape, *random, "0.99")
        build("random, ChaCha, 99 %, global", "g", shape, *random, "0.99", "--scope", "global")
        build("random, ChaCha, 2 of 4", "n", shape, *random, "0.5", "--scope", "per_group")
        row("Jaccard of two at 99 %", "jaccard", str(folder / "a"), str(folder / "b"), "--json")
        row("Jaccard matrix of four", "jaccard", *(str(folder / name) for name in "abcg"), "--json")
        row("describe", "describe", str(folder / "a"), "--json")
        row("complement", "complement", str(folder / "a"), "--out", str(folder / "d"))
        model = str(folder / "model")
        subprocess.run(
            [program, "model", "random", "--config", shape, "--dtype", "float32", "--no-tokenizer", "--out", model],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        make_absolute(folder / "model/model.safetensors")
        scores = ("--scores", str(folder / "model/model.safetensors"))
        build("Fisher, 99 %, global", "f", model, "--type", "fisher", "--sparsity", "0.99", *scores)
        build("Fisher, 99.9 %, global", "e", model, "--type", "fisher", "--sparsity", "0.999", *scores)
        build("Fisher, 99 %, per layer", "l", model, "--type", "fisher", "--sparsity", "0.99", "--scope", "per_layer", *scores)
        build("magnitude, 99 %, global", "m", model, "--type", "magnitude", "--sparsity", "0.99")
        build("magnitude, 99 %, rows", "r", model, "--type", "magnitude", "--sparsity", "0.99", "--unit", "row")
        build("SNIP, 99 %, global", "s", model, "--type", "snip", "--sparsity", "0.99", *scores)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{shape}, {os.cpu_count()} processors\n\n| what | time | peak memory |\n| --- | --- | --- |")
    print("\n".join(rows))


main()
