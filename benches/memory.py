#!/usr/bin/env python3
"""Memory of a step on a large shape with random weights: what the formulas of `plan` say beside what `tickets bench` measures.

    make bench-memory [ARGS="--config qwen2.5-0.5b --dtype bfloat16 --prompts 4 --group 8 --new-tokens 32"]

Prints a table in MiB: tensors as libtorch's allocators count them, by phase, and pages of the whole process (on a GPU what its
allocator held), each beside the prediction. `train/rollout` is the peak of training over that of the rollouts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

# Full, and 99 % frozen: everything kept, and inputs of layers alone.
CASES = [("full", 2048), ("random", 2048), ("random", 0)]
MIB = 1 << 20


def bench(program, model, a, mask, activations):
    command = [program, "bench", "step", "--model", model, "--json", "--mask", mask, "--activations-mib", str(activations)]
    command += ["--dtype", a.dtype, "--device", a.device, "--threads", str(a.threads), "--steps", str(a.steps)]
    command += ["--prompts", str(a.prompts), "--group", str(a.group), "--new-tokens", str(a.new_tokens)]
    command += ["--micro-batch", str(a.micro_batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--config", default="qwen2.5-0.5b", help="a config.json or a shape of `tickets model random`")
    parser.add_argument("--model", help="a folder with weights, instead of random ones")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1)
    a = parser.parse_args()
    print("| trained | kept MiB | rollout tensors | predicted | train tensors | predicted | train/rollout | process | predicted | s/step |")
    print("| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        model = a.model or os.path.join(folder, "model")
        if not a.model:
            make = [a.program, "model", "random", "--config", a.config, "--dtype", a.dtype, "--no-tokenizer", "--out", model]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        for mask, activations in CASES:
            found = bench(a.program, model, a, mask, activations)
            rollout, train = found["memory"]["rollout"], found["memory"]["train"]
            both = lambda phase, key: f"{phase[key] / MIB:.0f}"
            peaks = [max(rollout[f"{kind}resident_{end}"], train[f"{kind}resident_{end}"]) for kind, end in (("", "peak_bytes"), ("predicted_", "bytes"))]
            cells = ["all" if mask == "full" else "1 %", str(activations)]
            for phase in (rollout, train):
                cells += [both(phase, "tensor_peak_bytes"), both(phase, "predicted_tensor_bytes")]
            cells += [f"{train['tensor_peak_bytes'] / rollout['tensor_peak_bytes']:.2f}", f"{peaks[0] / MIB:.0f}", f"{peaks[1] / MIB:.0f}"]
            print("| " + " | ".join([*cells, f"{found['seconds_per_step']:.1f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
