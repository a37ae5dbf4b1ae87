"""Loads an exported directory with transformers and says what it computes.

    python3 tests/oracles/load_export.py DIR DTYPE

Every weight must be there and none too many, the tokenizer and its template must work, and greedy generation must run.
Prints one line of JSON: `tokens`, a prompt and what was generated, and `logprobs`, those of tokens[1:] in float32.
"""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
folder, dtype = sys.argv[1:]
torch.set_num_threads(1)

model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
problems = {key: found for key, found in info.items() if found}
assert not problems, problems
assert model.dtype == getattr(torch, dtype), model.dtype
if model.config.tie_word_embeddings:
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
generation = GenerationConfig.from_pretrained(folder)
assert generation.eos_token_id is not None

tokenizer = AutoTokenizer.from_pretrained(folder)
messages = [{"role": "user", "content": "Sort these names: Zoe, Adam, Béla"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                     do_sample=False, max_new_tokens=12)[0].tolist()
assert len(out) > len(prompt)

wide = model.float().eval()
with torch.no_grad():
    rows = wide(torch.tensor([out])).logits[0].double().log_softmax(-1)
logprobs = [float(rows[t, out[t + 1]]) for t in range(len(out) - 1)]
print(json.dumps({"tokens": out, "logprobs": logprobs}))
