"""Makes the fixtures of tests/masks: masks as PyTorch programs write them.

    pip install torch==2.11.0 transformers==5.23.0 safetensors==0.8.0
    python3 tests/oracles/mask_cases.py          (writes the folder tests/oracles/masks)

Of the tied model torch/tied_gqa4, by the names and shapes that transformers gives it:
- bools.safetensors: booleans of named_parameters().
- bytes.safetensors: the same as uint8, of state_dict(), where the tied head is there a second time with a mask of its own.
- int32.safetensors, int64.safetensors: flat indices of the same masks; the second of state_dict() again.
- expected.json: the parameters in order, with shapes, counts and indices.
"""

import json
from pathlib import Path

import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
assert safetensors.__version__ == "0.8.0", safetensors.__version__
HERE = Path(__file__).parent
OUT = HERE / "masks"
OUT.mkdir(exist_ok=True)

model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(HERE / "torch" / "tied_gqa4"))
parameters, state = dict(model.named_parameters()), model.state_dict()
assert set(state) - set(parameters) == {"lm_head.weight"}

draw = torch.Generator().manual_seed(6)
masks = {name: torch.rand(tensor.shape, generator=draw) < 0.1 for name, tensor in state.items()}
# A tensor of which nothing is trained, and one that is trained whole.
masks["model.layers.0.self_attn.k_proj.bias"][:] = False
masks["model.norm.weight"][:] = True
lists = {name: mask.flatten().nonzero().flatten() for name, mask in masks.items()}
assert lists["lm_head.weight"].tolist() != lists["model.embed_tokens.weight"].tolist()

save_file({name: masks[name] for name in parameters}, OUT / "bools.safetensors")
save_file({name: mask.to(torch.uint8) for name, mask in masks.items()}, OUT / "bytes.safetensors")
save_file({name: lists[name].int() for name in parameters}, OUT / "int32.safetensors")
save_file(lists, OUT / "int64.safetensors")
expected = [[name, list(tensor.shape), lists[name].tolist()] for name, tensor in parameters.items()]
(OUT / "expected.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in expected) + "\n]\n")
