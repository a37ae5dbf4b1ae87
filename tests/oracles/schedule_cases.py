"""Makes the fixture of learning rates: what transformers and torch give optimizer step after optimizer step.

    pip install torch==2.11.0 transformers==5.23.0
    python3 tests/oracles/schedule_cases.py          (writes tests/oracles/schedules.json)

transformers' schedules where they have the settings; a linear fall to a floor above 0 is torch's LinearLR, after a LinearLR as
warm-up where there is one (its start factor must be above 0, so it is 1e-300). Cases without a warm-up are made with torch's own
LinearLR and CosineAnnealingLR as well. Rates are written in full, so they can be compared to the last bit.
"""

import json
import warnings
from pathlib import Path

import torch
import transformers
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
OUT = Path(__file__).parent / "schedules.json"
TINY = 1e-300


def rates(make, lr, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=lr)
    scheduler = make(optimizer)
    taken = []
    for _ in range(steps):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return taken


def linear(optimizer, warmup, steps, floor):
    fall = LinearLR(optimizer, 1.0, floor, steps - warmup)
    if warmup == 0:
        return fall
    rise = LinearLR(optimizer, TINY, 1.0, warmup)
    return SequentialLR(optimizer, [rise, fall], [warmup])


def of_transformers(schedule, warmup, steps, floor):
    if schedule == "constant" and warmup == 0:
        return "transformers get_constant_schedule", transformers.get_constant_schedule
    if schedule == "constant":
        name, given = "get_constant_schedule_with_warmup", dict(num_warmup_steps=warmup)
    elif schedule == "linear" and floor == 0:
        name, given = "get_linear_schedule_with_warmup", dict(num_warmup_steps=warmup, num_training_steps=steps)
    elif schedule == "cosine" and floor == 0:
        name, given = "get_cosine_schedule_with_warmup", dict(num_warmup_steps=warmup, num_training_steps=steps)
    elif schedule == "cosine":
        name = "get_cosine_with_min_lr_schedule_with_warmup"
        given = dict(num_warmup_steps=warmup, num_training_steps=steps, min_lr_rate=floor)
    else:
        return None
    make = getattr(transformers.optimization, name)
    return f"transformers {name}", lambda optimizer: make(optimizer, **given)


def of_torch(schedule, warmup, steps, floor, lr):
    if schedule == "linear":
        return "torch LinearLR", lambda optimizer: linear(optimizer, warmup, steps, floor)
    if schedule == "cosine" and warmup == 0:
        return "torch CosineAnnealingLR", lambda optimizer: CosineAnnealingLR(optimizer, steps, eta_min=floor * lr)
    return None


def main():
    warnings.simplefilter("ignore")
    cases = []
    for schedule, floors in [("constant", [0.0]), ("linear", [0.0, 0.1]), ("cosine", [0.0, 0.1, 0.55])]:
        for floor in floors:
            for warmup, steps, lr in [(0, 1, 1e-6), (0, 20, 3e-4), (1, 20, 1e-2), (7, 50, 1e-6), (19, 20, 1.7e-5), (0, 61, 1e-3), (30, 90, 3e-3)]:
                for made in [of_transformers(schedule, warmup, steps, floor), of_torch(schedule, warmup, steps, floor, lr)]:
                    if made is None:
                        continue
                    against, make = made
                    cases.append({"against": against, "schedule": schedule, "final_share": floor, "warmup_steps": warmup,
                                  "steps": steps, "lr": lr, "rates": rates(make, lr, steps)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f"[\n{lines}\n]\n")
    print(len(cases), "cases,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
