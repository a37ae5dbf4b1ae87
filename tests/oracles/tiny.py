"""What trl_cases.py and step_cases.py share: one tiny random Qwen2 model and rollouts made by hand."""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
OUT = Path(__file__).parent / "losses"
VOCABULARY = 32

# (drawn, length): the first span is the prompt, later spans that are not drawn are the template's text between answers.
ONE_TURN = [
    [(False, 3), (True, 5)],
    [(False, 7), (True, 1)],
    [(False, 2), (True, 9)],
    [(False, 4), (True, 3)],
    [(False, 6), (True, 6)],
    [(False, 5), (True, 4)],
]
TURNS = [
    [(False, 3), (True, 5)],
    [(False, 7), (True, 1), (False, 2), (True, 3)],
    [(False, 2), (True, 4), (False, 3), (True, 6)],
    [(False, 1), (True, 9)],
    [(False, 4), (True, 2), (False, 1), (True, 1), (False, 2), (True, 3)],
    [(False, 9), (True, 2), (False, 4), (True, 2)],
]
ADVANTAGES = [0.5, -0.25, 1.5, -1.0, 0.0, -0.75]


def make_model():
    """Biases and norms are random too, so that every parameter has a say."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            tie_word_embeddings=False,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=None,
        )
    ).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.4
            parameter.copy_(noise + 1 if "norm" in name else noise)
    return model


def token_logprobs(model, rollout, temperature):
    """Logprobs of the drawn tokens, from one unpadded row."""
    rows = (model(input_ids=torch.tensor([rollout["tokens"]])).logits[0] / temperature).log_softmax(-1)
    at = [t for t, drawn in enumerate(rollout["drawn"]) if drawn]
    return torch.stack([rows[t - 1, rollout["tokens"][t]] for t in at])


def make_rollouts(model, shapes, temperature, generator, spread):
    """Random tokens; behavior and base logprobs are the model's own plus noise."""
    rollouts = []
    for spans in shapes:
        drawn = [flag for flag, length in spans for _ in range(length)]
        # Token 0 stands for padding elsewhere, and padding's embedding must not be told apart by its gradient.
        tokens = torch.randint(1, VOCABULARY, (len(drawn),), generator=generator).tolist()
        rollout = {"tokens": tokens, "drawn": drawn}
        with torch.no_grad():
            logprob = token_logprobs(model, rollout, temperature)
        noise = lambda: torch.randn(logprob.shape, generator=generator) * spread
        rollout["behavior"], rollout["base"] = (logprob + noise()).tolist(), (logprob + noise()).tolist()
        rollouts.append(rollout)
    return rollouts


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True) + "\n")


def names(model):
    return [[name, list(parameter.shape)] for name, parameter in model.named_parameters()]


def flat(tensors):
    """Tensors of all parameters, one after the other."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).contiguous()


def save(tensors, path):
    save_file(tensors, path)
    path.chmod(0o644)
