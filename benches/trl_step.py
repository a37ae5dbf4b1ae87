#!/usr/bin/env python3
"""TRL's side of the step benchmark: GRPOTrainer on a model directory, the work of `tickets bench step`.

    benches/trl_step.py --model DIR [--prompts 16] [--group 8] [--prompt-tokens 8] [--new-tokens 64] [--steps 7] [--threads 2]
    benches/trl_step.py --make DIR --hidden 128 --layers 4      # a model directory with random weights, and its tokenizer

A step samples prompts x group answers of exactly --new-tokens tokens at temperature 1, scores them, and makes one AdamW step on
all parameters from one backward pass over all of them; float32, no KL. The first step is not counted. The last line of the
output is JSON with the median of the others.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
WORDS = 400


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--make")
    for name, default in [
        ("hidden", 128), ("layers", 4), ("prompts", 16), ("group", 8), ("prompt-tokens", 8), ("new-tokens", 64),
        ("steps", 7), ("threads", 2), ("updates", 1),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def make(folder, hidden, layers):
    """Qwen2 with a vocabulary of single words, so that a prompt of n words has n tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    vocabulary = {f"w{i}": i for i in range(WORDS)} | {"<pad>": WORDS, "<end>": WORDS + 1}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    config = Qwen2Config(
        vocab_size=WORDS + 8, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        eos_token_id=WORDS + 1, pad_token_id=WORDS,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(a):
    import torch

    torch.set_num_threads(a.threads)
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    draw = random.Random(0)
    prompts = [" ".join(f"w{draw.randrange(WORDS)}" for _ in range(a.prompt_tokens)) for _ in range(4096)]
    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(
            output_dir=out, per_device_train_batch_size=a.prompts * a.group, num_generations=a.group,
            max_completion_length=a.new_tokens, generation_kwargs={"min_new_tokens": a.new_tokens},
            max_steps=a.steps + 1, num_iterations=a.updates, learning_rate=1e-5, beta=0.0, temperature=1.0,
            report_to=[], use_cpu=True, bf16=False, save_strategy="no", logging_steps=1, disable_tqdm=True,
            gradient_checkpointing=False,
        )
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32),
            processing_class=PreTrainedTokenizerFast.from_pretrained(a.model),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            reward_funcs=lambda completions, **_: [float(len(set(text.split()))) for text in completions],
            args=settings, callbacks=[Clock()],
        )
        trainer.train()
    seconds = statistics.median(after - before for before, after in zip(ends, ends[1:]))
    print(json.dumps({
        "seconds_per_step": seconds,
        "rollout_tokens_per_second": a.prompts * a.group * a.new_tokens / seconds,
        "resident_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    options = arguments()
    if options.make:
        make(options.make, options.hidden, options.layers)
    else:
        train(options)
