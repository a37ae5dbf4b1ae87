"""Makes the fixtures of tests/numerics: what transformers and torch say about tiny random models.

    pip install torch==2.11.0 transformers==5.23.0
    python3 tests/oracles/torch_cases.py          (writes the folder tests/oracles/torch)

Per model case: a Hugging Face directory written by transformers, inputs with the logits of float32 and bfloat16.
Also gradients of the GRPO loss by autograd, twenty steps of AdamW, and conversations rendered by transformers' jinja.
Nothing here uses the program under test: losses are written from their formulas, on logits of unpadded rows.
"""

import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
OUT = Path(__file__).parent / "torch"

#        name: (settings of the model, old dialect of config.json, sharded)
MODELS = {
    "tied_gqa1": (dict(num_key_value_heads=4, tie_word_embeddings=True), False, False),
    "untied_gqa2": (dict(num_key_value_heads=2, rope_theta=1e6, rms_norm_eps=1e-5), True, False),
    "tied_gqa4": (dict(num_key_value_heads=1, tie_word_embeddings=True, head_dim=8), True, True),
    "untied_gqa4": (dict(num_key_value_heads=1, rope_theta=5e5), False, True),
}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True) + "\n")


# Models -------------------------------------------------------------------------------------------------------------


def make_model(seed, vocab_size=48, **settings):
    theta = settings.pop("rope_theta", 1e4)
    common = dict(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=False,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,  # a padding token's embedding would get no gradient
    )
    model = Qwen2ForCausalLM(Qwen2Config(**{**common, **settings})).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if "norm" in name else noise)
    return model


def old_dialect(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def causal(length, dtype):
    # Given in four dimensions it is taken as it is, whatever the positions are.
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]


def logits(model, tokens, positions):
    mask = causal(len(tokens), model.dtype)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]), attention_mask=mask)
    return out.logits[0].float()


def mean_logprob(rows, tokens):
    logprobs = rows.double().log_softmax(-1)
    return float(sum(logprobs[t, tokens[t + 1]] for t in range(len(tokens) - 1)) / (len(tokens) - 1))


def model_case(name, seed):
    settings, old, sharded = MODELS[name]
    folder = OUT / name
    model = make_model(seed, **settings)
    model.save_pretrained(folder, max_shard_size=12_000 if sharded else 10**9)
    if old:
        old_dialect(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    again = Qwen2ForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    half = Qwen2ForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.bfloat16).eval()
    vocabulary = model.config.vocab_size
    tokens = lambda length, step: [(i * step + 13) % vocabulary for i in range(length)]
    inputs = [
        {"tokens": tokens(20, 7919), "positions": list(range(20)), "keep": 20},
        # Up to the last position of the model, with gaps.
        {"tokens": tokens(16, 104729), "positions": [i * i * 8191 // 225 for i in range(16)], "keep": 16},
        {"tokens": tokens(220, 611953), "positions": list(range(220)), "keep": 6},
        {"tokens": tokens(40, 15485863), "positions": list(range(4000, 4040)), "keep": 6},
    ]
    expected = {}
    for i, case in enumerate(inputs):
        rows = logits(model, case["tokens"], case["positions"])
        assert torch.equal(rows, logits(again, case["tokens"], case["positions"])), "the directory says the same"
        case["mean_logprob"] = mean_logprob(rows, case["tokens"])
        bf16 = logits(half, case["tokens"], case["positions"])
        expected[f"{i}/float32"] = rows[-case["keep"] :].contiguous()
        expected[f"{i}/bfloat16"] = bf16[-case["keep"] :].to(torch.bfloat16).contiguous()
    save_file(expected, folder / "expected.safetensors")
    write_json(folder / "inputs.json", inputs)
    return model


# The GRPO loss ------------------------------------------------------------------------------------------------------

SPANS = [
    [(False, 3), (True, 5)],
    [(False, 7), (True, 1)],
    [(False, 2), (True, 4), (False, 3), (True, 6)],
    [(False, 1), (True, 9)],
    [(False, 4), (True, 2), (False, 1), (True, 1), (False, 2), (True, 3)],
    [(False, 9), (True, 2)],
]
ADVANTAGES = [0.5, -0.25, 1.5, -1.0, 0.0, 0.75]
LOSSES = [
    dict(model="tied_gqa1", rule="clip", low=0.2, high=0.28, normaliser="token", kl_coef=0.0, temperature=1.0),
    dict(model="untied_gqa2", rule="clip", low=0.2, high=0.2, normaliser="sequence", kl_coef=0.1, temperature=0.7),
    dict(model="tied_gqa4", rule="mask", low=0.8, high=1.25, normaliser="token", kl_coef=0.05, temperature=1.3),
    dict(model="untied_gqa4", rule="mask", low=0.75, high=1.4, normaliser="sequence", kl_coef=0.0, temperature=1.0),
]


def token_logprobs(model, rollout, temperature):
    tokens = torch.tensor([rollout["tokens"]])
    rows = (model(input_ids=tokens).logits[0].float() / temperature).log_softmax(-1)
    at = [t for t, drawn in enumerate(rollout["drawn"]) if drawn]
    return torch.stack([rows[t - 1, rollout["tokens"][t]] for t in at])


def loss_case(index, case, trained):
    model = trained[case["model"]]
    generator = torch.Generator().manual_seed(100 + index)
    rollouts = []
    for spans in SPANS:
        drawn = [flag for flag, length in spans for _ in range(length)]
        tokens = torch.randint(model.config.vocab_size, (len(drawn),), generator=generator).tolist()
        rollouts.append({"tokens": tokens, "drawn": drawn})
    terms, kls, outside, count = [], [], 0, sum(sum(r["drawn"]) for r in rollouts)
    for rollout, advantage in zip(rollouts, ADVANTAGES):
        logprob = token_logprobs(model, rollout, case["temperature"])
        noise = lambda scale: torch.randn(logprob.shape, generator=generator) * scale
        behavior = logprob.detach() + noise(0.3)
        base = logprob.detach() + noise(0.3)
        rollout["behavior"], rollout["base"] = behavior.tolist(), base.tolist()
        ratio = (logprob - behavior).exp()
        if case["rule"] == "clip":
            bounded = torch.clamp(ratio, 1 - case["low"], 1 + case["high"])
            gain = torch.minimum(ratio * advantage, bounded * advantage)
            outside += int((gain != ratio * advantage).sum())
        else:
            keep = (ratio >= case["low"]) & (ratio <= case["high"])
            gain = torch.where(keep, ratio * advantage, torch.zeros(()))
            outside += int((~keep).sum())
        kl = (base - logprob).exp() - (base - logprob) - 1
        weight = 1 / count if case["normaliser"] == "token" else 1 / (len(logprob) * len(rollouts))
        terms.append(((-gain + case["kl_coef"] * kl) * weight).sum())
        kls.append(kl.detach().sum())
    assert 3 < outside < count - 3, outside
    loss = torch.stack(terms).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    save_file(dict(zip(names, gradients)), OUT / f"gradients_{index}.safetensors")
    return {**case, "rollouts": rollouts, "advantages": ADVANTAGES, "loss": float(loss.detach()),
            "kl": float(sum(kls)), "outside": outside}


# AdamW --------------------------------------------------------------------------------------------------------------


def gradient_entry(tensor, index, step):
    # Exact in float64 and rounded once: the same bits in every language.
    return ((index * 7919 + step * 104729 + tensor * 31 + 13) % 2003 - 1001) / 8008


def adamw_case(model):
    settings = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    parameters = [p.detach().clone().requires_grad_(True) for p in model.parameters()]
    optimizer = torch.optim.AdamW(parameters, **settings)
    for step in range(20):
        for t, parameter in enumerate(parameters):
            entries = [gradient_entry(t, i, step) if i % 3 == 1 else 0.0 for i in range(parameter.numel())]
            parameter.grad = torch.tensor(entries, dtype=torch.float32).view(parameter.shape)
        optimizer.step()
    result = {}
    for (name, _), parameter in zip(model.named_parameters(), parameters):
        state = optimizer.state[parameter]
        for part, tensor in [("value", parameter.detach()), ("first", state["exp_avg"]), ("second", state["exp_avg_sq"])]:
            result[f"{part}/{name}"] = tensor.flatten()[1::3].contiguous()
    save_file(result, OUT / "adamw.safetensors")


# Chat ---------------------------------------------------------------------------------------------------------------

BUILT_IN = (
    "{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}"
    "{%- if message.role == 'assistant' -%}<|end|>{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
METHODS = """{%- set ns = namespace(turn=0, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and not message.content.startswith("(") %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else "" %}
    {%- if message.role == "assistant" and "</think>" in content %}
        {%- set content = content.split("</think>")[-1].lstrip("\\n") %}
    {%- endif %}
    {%- if loop.index0 >= ns.last %}{%- set ns.turn = ns.turn + 1 %}{%- endif %}
{{ message.role.title() }} {{ ns.turn }}{{ "*" if loop.last else "" }}: {{ content.strip().replace("  ", " ") | trim }}
{% endfor %}
{%- if tools is not none or documents is not none %}TOOLS{% endif %}
{%- if add_generation_prompt %}{{ "assistant".upper() }}:{% endif %}"""
BLOCKS = """{% if messages[0].role == 'system' %}
    {% set system = messages[0].content %}
    {% set rest = messages[1:] %}
{% else %}
    {% set system = none %}
    {% set rest = messages %}
{% endif %}
{{ bos_token }}{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if loop.first and system is not none %}
<<SYS>>
{{ system }}
<</SYS>>

    {% endif %}
    {% if message.role == 'user' %}
[INST] {{ message['content'].strip() }} [/INST]{% else %}
 {{ message['content'] ~ eos_token }}
    {% endif %}
{% endfor %}
"""
TEMPLATES = {"built_in": BUILT_IN, "chatml": CHATML, "methods": METHODS, "blocks": BLOCKS}

U, A, S = "user", "assistant", "system"
CONVERSATIONS = [
    [(U, "Sort: Ada, Bob")],
    [(U, "one"), (A, "two"), (U, "three")],
    [(S, "Be brief."), (U, "  padded  text \n"), (A, "<think>\nhm\n</think>\n\nyes"), (U, "(aside) {{ braces }} {% and %}")],
    [(U, "Zo\u00eb \u4e2d\u6587 \U0001f600 \u00df"), (A, "a 'quoted' \"word\" & <tag>\n\tlast line\n"), (U, "\nnew\n\nlines\n"), (A, ""), (U, "")],
    [(U, "a"), (A, "b"), (U, "c"), (A, "d")],
]


def chat_cases():
    folder = OUT / "chat"
    # A directory is only whole with weights; these are as few as can be.
    model = make_model(
        9, vocab_size=320, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=310, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    words = "user assistant system You are a careful assistant. Sort the names: Ada, Bob, Carla, sorted one two three".split()
    backend.train_from_iterator([" ".join(words)] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    texts, streams = [], []
    for name, template in TEMPLATES.items():
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            for generation in (False, True):
                text = plain.apply_chat_template(
                    messages, chat_template=template, add_generation_prompt=generation, tokenize=False
                )
                texts.append({"template": name, "messages": conversation, "generation": generation, "text": text})
    for conversation in CONVERSATIONS:
        if conversation[0][0] == U and conversation[-1][0] == U:
            messages = [{"role": role, "content": content} for role, content in conversation]
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            streams.append({"messages": conversation, "ids": ids})
    refused = []
    for name, conversation in [("blocks", [(A, "first")])]:
        try:
            messages = [{"role": role, "content": content} for role, content in conversation]
            plain.apply_chat_template(messages, chat_template=TEMPLATES[name], tokenize=False)
        except Exception as error:
            refused.append({"template": name, "messages": conversation, "message": str(error)})
    write_json(OUT / "chat.json", {"templates": TEMPLATES, "bos": "<s>", "eos": "</s>", "texts": texts,
                                   "streams": streams, "refused": refused})


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    trained = {name: model_case(name, seed) for seed, name in enumerate(MODELS)}
    losses = [loss_case(index, case, trained) for index, case in enumerate(LOSSES)]
    write_json(OUT / "losses.json", losses)
    adamw_case(trained["tied_gqa1"])
    chat_cases()


if __name__ == "__main__":
    main()
