"""Makes the fixtures of tests/numerics/families.rs: tiny random models of every family, as transformers computes them.

    pip install torch==2.11.0 transformers==5.23.0
    python3 tests/oracles/family_cases.py          (writes the folder tests/oracles/families)

Per case: a Hugging Face directory written by transformers (float32, bfloat16 or float16, one file or shards, either
dialect of config.json), logits of rows and of padded batches, and greedy generation. For two of them also gradients of
the GRPO loss by autograd. Nothing here uses the program under test.
"""

import json
import shutil
from pathlib import Path

import torch
import torch_cases as common
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

OUT = Path(__file__).parent / "families"
CLASSES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


def llama3(theta, factor, low, high, original):
    return dict(rope_type="llama3", rope_theta=theta, factor=factor, low_freq_factor=low, high_freq_factor=high,
                original_max_position_embeddings=original)


def plain(theta):
    return dict(rope_type="default", rope_theta=theta)


#   name: (settings of the model, stored type, old dialect of config.json, sharded)
MODELS = {
    "qwen2_gqa3": (dict(hidden_size=24, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True), BF16, False, False),
    "qwen2_gqa7": (dict(hidden_size=28, num_attention_heads=14, num_key_value_heads=2, head_dim=4), F16, True, True),
    "qwen3_gqa1": (dict(num_key_value_heads=4, head_dim=8, tie_word_embeddings=True), F32, False, False),
    "qwen3_gqa3": (dict(num_attention_heads=6, num_key_value_heads=2, head_dim=6, attention_bias=True,
                        rope_parameters=plain(1e6)), BF16, True, True),
    "qwen3_gqa4": (dict(num_key_value_heads=1, head_dim=4, rope_parameters=llama3(1e6, 4.0, 1.0, 4.0, 128)), F16, False, False),
    "llama_gqa2": (dict(num_key_value_heads=2, tie_word_embeddings=True, head_dim=8,
                        rope_parameters=llama3(5e5, 32.0, 1.0, 4.0, 64), rms_norm_eps=1e-5), F32, True, True),
    "llama_gqa1": (dict(num_key_value_heads=4, attention_bias=True, rope_parameters=plain(5e5)), F16, False, False),
    "llama_gqa3": (dict(hidden_size=24, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
                        rope_parameters=llama3(5e5, 8.0, 1.0, 4.0, 256)), BF16, True, False),
    "llama_gqa4": (dict(num_key_value_heads=1, attention_bias=True, tie_word_embeddings=True, num_hidden_layers=3,
                        rope_parameters=llama3(1e4, 8.0, 2.0, 3.0, 100)), BF16, False, True),
}
LOSSES = [
    dict(model="qwen3_gqa3", rule="clip", low=0.2, high=0.28, normaliser="token", kl_coef=0.05, temperature=0.8),
    dict(model="llama_gqa4", rule="mask", low=0.8, high=1.25, normaliser="sequence", kl_coef=0.0, temperature=1.0),
]
VOCABULARY, END = 40, 1
PROMPTS = [3, 9, 1, 14, 6, 2]
NEW_TOKENS = 24


def make_model(name, seed):
    settings, stored, _, _ = MODELS[name]
    config_class, model_class = CLASSES[name.split("_")[0]]
    shape = dict(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=8192,
        rope_parameters=plain(1e4),
        tie_word_embeddings=False,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=None,
    )
    model = model_class(config_class(**{**shape, **settings})).eval()
    generator = torch.Generator().manual_seed(1000 + seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if "norm" in parameter_name else noise)
    return model.to(stored)


def old_dialect(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def tokens(length, step):
    return [(i * step + 13) % VOCABULARY for i in range(length)]


def padded(model, rows, side):
    """Logits of the rows' own tokens, from one batch padded on a side, as transformers masks it."""
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = longest - len(row)
        ids.append([0] * fill + row if side == "left" else row + [0] * fill)
        mask.append([0] * fill + [1] * len(row) if side == "left" else [1] * len(row) + [0] * fill)
    mask = torch.tensor(mask)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        out = model(input_ids=torch.tensor(ids), attention_mask=mask, position_ids=positions).logits.float()
    return torch.cat([out[i][mask[i].bool()] for i in range(len(rows))])


def greedy(model, rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    out = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=END, pad_token_id=0,
        output_scores=True, return_dict_in_generate=True,
    )
    drawn, closest = [], float("inf")
    for i in range(len(rows)):
        new = out.sequences[i, longest:].tolist()
        new = new[: new.index(END) + 1] if END in new else new
        drawn.append(new)
        for step in range(len(new)):
            best = out.scores[step][i].float().topk(2).values
            closest = min(closest, float(best[0] - best[1]))
    # Else rounding could decide a token.
    assert closest > 1e-4, closest
    return drawn


def model_case(name, seed):
    _, stored, old, sharded = MODELS[name]
    folder = OUT / name
    model = make_model(name, seed)
    model.save_pretrained(folder, max_shard_size=6_000 if sharded else 10**9)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if old:
        old_dialect(folder)
    load = lambda dtype: type(model).from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()
    wide, half = load(F32), load(BF16)
    for (_, a), (_, b) in zip(model.named_parameters(), wide.named_parameters()):
        assert torch.equal(a.float(), b), "the directory says the same"
    inputs = [
        {"tokens": tokens(20, 7919), "positions": list(range(20)), "keep": 10},
        # Up to the last position of the model, with gaps.
        {"tokens": tokens(16, 104729), "positions": [i * i * 8191 // 225 for i in range(16)], "keep": 10},
        {"tokens": tokens(300, 611953), "positions": list(range(300)), "keep": 5},
        {"tokens": tokens(40, 15485863), "positions": list(range(4000, 4040)), "keep": 5},
    ]
    expected = {}
    for i, case in enumerate(inputs):
        rows = common.logits(wide, case["tokens"], case["positions"])
        case["mean_logprob"] = common.mean_logprob(rows, case["tokens"])
        bf16 = common.logits(half, case["tokens"], case["positions"])
        expected[f"{i}/float32"] = rows[-case["keep"] :].contiguous()
        expected[f"{i}/bfloat16"] = bf16[-case["keep"] :].to(torch.bfloat16).contiguous()
    batch = [tokens(length, 7919 + length) for length in (5, 11, 2)]
    for side in ("left", "right"):
        expected[side] = padded(wide, batch, side).contiguous()
    save_file(expected, folder / "expected.safetensors")
    prompts = [tokens(length, 31 + 2 * length) for length in PROMPTS]
    answers = greedy(wide, prompts)
    common.write_json(folder / "inputs.json", {
        "parameters": [parameter_name for parameter_name, _ in model.named_parameters()],
        "stored": str(stored).removeprefix("torch."), "inputs": inputs, "batch": batch,
        "prompts": prompts, "answers": answers, "end": END, "new_tokens": NEW_TOKENS,
    })
    return wide


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    trained = {name: model_case(name, seed) for seed, name in enumerate(MODELS)}
    common.OUT = OUT
    losses = [common.loss_case(index, case, trained) for index, case in enumerate(LOSSES)]
    for case in losses:
        case["model"] = "families/" + case["model"]
    common.write_json(OUT / "losses.json", losses)


if __name__ == "__main__":
    main()
