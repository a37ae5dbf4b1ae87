"""Loads an exported mask with PyTorch and says what it holds.

    python3 tests/oracles/load_mask.py FILE MODEL_DIR

Every parameter of the model that transformers makes of MODEL_DIR/config.json must have a boolean tensor of its shape, and
nothing else may be there; a step of AdamW whose gradients the mask cuts must move masked entries alone. Prints one line of
JSON: [name, flat indices] of every parameter, in order.
"""

import json
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
file, folder = sys.argv[1:]
torch.manual_seed(0)

masks = load_file(file)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
parameters = dict(model.named_parameters())
assert masks.keys() == parameters.keys(), masks.keys() ^ parameters.keys()
for name, parameter in parameters.items():
    assert masks[name].dtype == torch.bool and masks[name].shape == parameter.shape, name

before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
tokens = torch.arange(8)[None]
model(tokens, labels=tokens).loss.backward()
for name, parameter in parameters.items():
    parameter.grad *= masks[name]
optimizer.step()
moved = 0
for name, parameter in parameters.items():
    changed = parameter.detach() != before[name]
    assert not (changed & ~masks[name]).any(), name
    moved += int(changed.sum())
assert moved > 0

print(json.dumps([[name, masks[name].flatten().nonzero().flatten().tolist()] for name in parameters]))
