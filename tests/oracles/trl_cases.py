"""Makes the fixtures of tests/numerics/trl.rs: losses, gradients and advantages by TRL's own GRPOTrainer.

    pip install torch==2.11.0 transformers==5.23.0 trl==1.16.0 datasets
    python3 tests/oracles/trl_cases.py          (writes tests/oracles/losses)

Per case a real trainer is made for the tiny model, and its `_compute_loss` is called on rollouts made by hand; what the model draws
in a second turn is told apart from the text between by TRL's `tool_mask`. Advantages are those that the trainer computes when its
generation gives fixed completions and its reward function fixed rewards. Nothing here uses the program under test.
"""

import shutil
import tempfile

import tokenizers
import torch
import trl
from datasets import Dataset
from tiny import ADVANTAGES, ONE_TURN, OUT, TURNS, flat, make_model, make_rollouts, names, save, write_json
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

assert trl.__version__ == "1.16.0", trl.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__

#      name: (turns, temperature)
SETS = {"one": (ONE_TURN, 1.0), "turns": (TURNS, 1.0), "warm": (TURNS, 0.7)}
LONGEST = 24
# TRL's settings. `epsilon_high` of cispo is the bound itself and not a margin.
CASES = [
    dict(loss_type="grpo", epsilon=0.2),
    dict(loss_type="grpo", epsilon=0.2, epsilon_high=0.28, beta=0.1),
    dict(loss_type="bnpo", epsilon=0.1, epsilon_high=0.3),
    dict(loss_type="dr_grpo", epsilon=0.2),
    dict(loss_type="dr_grpo", epsilon=0.15, beta=0.04),
    dict(loss_type="dapo", epsilon=0.2, epsilon_high=0.28),
    dict(loss_type="dapo", epsilon=0.2, epsilon_high=0.28, beta=0.1),
    dict(loss_type="grpo", epsilon=0.2, epsilon_high=0.28, beta=0.1, use_bias_correction_kl=False),
    dict(loss_type="cispo", epsilon_high=1.2, beta=0.1, use_bias_correction_kl=False),
    dict(loss_type="cispo", epsilon_high=1.2),
    dict(loss_type="cispo", epsilon_high=1.5, beta=0.04),
    dict(loss_type="grpo", epsilon=0.03, epsilon_high=0.04, importance_sampling_level="sequence"),
    dict(loss_type="grpo", epsilon=0.03, epsilon_high=0.04, importance_sampling_level="sequence", beta=0.1),
    dict(loss_type="bnpo", epsilon=0.02, importance_sampling_level="sequence"),
    dict(loss_type="dr_grpo", epsilon=0.05, importance_sampling_level="sequence"),
    dict(loss_type="dapo", epsilon=0.03, epsilon_high=0.04, importance_sampling_level="sequence"),
    dict(loss_type="cispo", epsilon_high=1.02, importance_sampling_level="sequence"),
    dict(loss_type="grpo", epsilon=0.1, delta=1.25),
    dict(loss_type="dapo", epsilon=0.1, epsilon_high=0.2, delta=1.3, beta=0.04),
    dict(loss_type="bnpo", epsilon=0.02, delta=1.05, importance_sampling_level="sequence"),
]
REWARDS = [[0.1, 0.9, 0.4, 0.4], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.3, 0.7, 0.30000001, 0.5]]


def tokenizer():
    words = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, 32)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def trainer(folder, reward=lambda completions, **_: [0.0] * len(completions), prompts=4, **settings):
    settings = dict(num_generations=2, per_device_train_batch_size=6, beta=0.0) | settings
    arguments = GRPOConfig(
        output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], disable_tqdm=True,
        gradient_accumulation_steps=1, max_completion_length=LONGEST, **settings,
    )
    dataset = Dataset.from_dict({"prompt": [f"w{i + 2}" for i in range(prompts)]})
    # With a KL term the trainer wants to load its reference model from where the model came from.
    model = Qwen2ForCausalLM.from_pretrained(OUT / "model", attn_implementation="eager", dtype=torch.float32)
    made = GRPOTrainer(model=model, reward_funcs=reward, args=arguments, train_dataset=dataset, processing_class=tokenizer())
    # The training loop sets this.
    made.current_gradient_accumulation_steps = 1
    return made


def batch(rollouts):
    """Prompts padded on the left, completions on the right; `tool_mask` is 0 where the model did not draw."""
    split = [next(t for t, drawn in enumerate(r["drawn"]) if drawn) for r in rollouts]
    prompt = max(split)
    completion = max(len(r["tokens"]) - s for r, s in zip(rollouts, split))
    rows = {key: [] for key in ["prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask", "old", "ref"]}
    for r, s in zip(rollouts, split):
        left, right = prompt - s, completion - (len(r["tokens"]) - s)
        rows["prompt_ids"].append([0] * left + r["tokens"][:s])
        rows["prompt_mask"].append([0] * left + [1] * s)
        rows["completion_ids"].append(r["tokens"][s:] + [0] * right)
        rows["completion_mask"].append([1] * len(r["tokens"][s:]) + [0] * right)
        rows["tool_mask"].append([int(drawn) for drawn in r["drawn"][s:]] + [1] * right)
        # Where nothing was drawn the numbers must not matter.
        behavior, base = iter(r["behavior"]), iter(r["base"])
        rows["old"].append([next(behavior) if drawn else -0.5 for drawn in r["drawn"][s:]] + [-0.5] * right)
        rows["ref"].append([next(base) if drawn else -0.5 for drawn in r["drawn"][s:]] + [-0.5] * right)
    tensors = {key: torch.tensor(value) for key, value in rows.items()}
    return {
        **{key: tensors[key] for key in ["prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask"]},
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["ref"],
        "advantages": torch.tensor(ADVANTAGES),
        "num_items_in_batch": (tensors["completion_mask"] * tensors["tool_mask"]).sum(),
    }


def loss_cases(folder):
    base = make_model()
    base.save_pretrained(OUT / "model")
    (OUT / "model/generation_config.json").unlink(missing_ok=True)
    sets = {
        name: make_rollouts(base, shapes, temperature, torch.Generator().manual_seed(11 + i), 0.25)
        for i, (name, (shapes, temperature)) in enumerate(SETS.items())
    }
    cases, gradients = [], {}
    for settings in CASES:
        for name, (_, temperature) in SETS.items():
            made = trainer(folder, temperature=temperature, **settings)
            made.model.train()
            loss = made._compute_loss(made.model, batch(sets[name]))
            gradients[str(len(cases))] = flat(torch.autograd.grad(loss, list(made.model.parameters())))
            clipped = made._metrics["train"].get("clip_ratio/region_mean", made._metrics["train"].get("cispo_clip_ratio"))
            cases.append({"set": name, "temperature": temperature, "loss": float(loss.detach()), "clipped": clipped[-1], **settings})
    write_json(OUT / "trl.json", {"parameters": names(base), "sets": sets, "advantages": ADVANTAGES, "longest": LONGEST, "cases": cases})
    save(gradients, OUT / "trl.safetensors")
    return len(cases)


def advantage_cases(folder):
    rewards = [reward for group in REWARDS for reward in group]
    cases = []
    for scale in ["group", "none"]:
        made = trainer(
            folder, reward=lambda completions, **_: rewards, scale_rewards=scale, num_generations=4, per_device_train_batch_size=16
        )
        drawn = [[2, 3, 1]] * 16
        original = made._generate

        def generate(prompts):
            made._generate_single_turn = lambda prompt_ids, *_: (drawn, None)
            return original(prompts)

        made._generate = generate
        made.model.train()
        rows = [{"prompt": f"w{i // 4 + 2}"} for i in range(16)]
        cases.append({"scale_rewards": scale, "rewards": REWARDS,
                      "advantages": made._generate_and_score_completions(rows)["advantages"].tolist()})
    write_json(OUT / "advantages.json", cases)


def main():
    OUT.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp()
    print(loss_cases(folder), "cases")
    advantage_cases(folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
