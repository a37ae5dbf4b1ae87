"""Makes the fixtures of tests/numerics/steps.rs: the prime-rl form of the loss, and twenty steps of training.

    pip install torch==2.11.0 transformers==5.23.0
    python3 tests/oracles/step_cases.py          (after trl_cases.py; writes tests/oracles/losses)

Everything is written from formulas, on logits of unpadded rows. Twenty steps go: loss, gradients by autograd, the mask, clipping by
`torch.nn.utils.clip_grad_norm_` (before the mask for the dense domain, after it for the masked one), then torch's dense AdamW on the
masked gradients at the rate of transformers' scheduler, which is stepped once per step of GRPO. Dense AdamW takes decay off entries
without a gradient too, so these are put back to the base afterwards. `decay = "study"` is a loop over p <- p - s (m / d + w p) with
s = lr / (1 - b1^t) and d = sqrt(v) / sqrt(1 - b2^t) + eps. Weights, losses and moments are in float64, so that
the reference rounds little (transformers' norms and rotary tables stay in float32).
"""

import math

import torch
import transformers
from tiny import ADVANTAGES, OUT, TURNS, flat, make_model, make_rollouts, names, save, token_logprobs, write_json
from torch.nn.utils import clip_grad_norm_

STEPS = 20


def token_losses(logprob, rollout, advantage, case):
    """Losses of a rollout's drawn tokens before normalisation."""
    behavior = torch.tensor(rollout["behavior"], dtype=logprob.dtype)
    log_ratio = logprob - behavior
    if case.get("level") == "sequence":
        log_ratio = log_ratio.mean().expand_as(log_ratio)
    ratio = log_ratio.exp()
    if case["ratio"] == "clip":
        bounded = torch.clamp(ratio, 1 - case["clip_low"], 1 + case["clip_high"])
        losses = -torch.minimum(ratio * advantage, bounded * advantage)
    elif case["ratio"] == "mask":
        keep = (ratio >= case["mask_low"]) & (ratio <= case["mask_high"])
        if ratio.min() < case.get("sequence_mask_low", 0.0):
            keep = torch.zeros_like(keep)
        losses = torch.where(keep, -ratio * advantage, torch.zeros_like(ratio))
    else:
        losses = -ratio.detach().clamp(max=case["cispo_high"]) * advantage * logprob
    if case.get("kl_coef"):
        gap = torch.tensor(rollout["base"], dtype=logprob.dtype) - logprob
        losses = losses + case["kl_coef"] * (gap.exp() - gap - 1)
    return losses


def batch_loss(model, rollouts, advantages, case):
    total = sum(sum(rollout["drawn"]) for rollout in rollouts)
    loss = 0
    for rollout, advantage in zip(rollouts, advantages):
        losses = token_losses(token_logprobs(model, rollout, case.get("temperature", 1.0)), rollout, advantage, case)
        if case["normaliser"] == "token":
            loss = loss + losses.sum() / total
        elif case["normaliser"] == "sequence":
            loss = loss + losses.mean() / len(rollouts)
        else:
            loss = loss + losses.sum() / (len(rollouts) * case["longest"])
    return loss


# The prime-rl form --------------------------------------------------------------------------------------------------

# Tokens are dropped outside [low, high], rollouts for one ratio below a bound; the sum is divided by all drawn tokens of the batch,
# dropped ones included; no KL.
PRIME = [
    dict(mask_low=0.125, mask_high=8.0),
    dict(mask_low=0.8, mask_high=1.25),
    dict(mask_low=0.8, mask_high=1.25, temperature=0.7),
    dict(mask_low=0.8, mask_high=1.25, sequence_mask_low=0.7),
    dict(mask_low=0.96, mask_high=1.04, level="sequence"),
]


def prime_cases(model):
    cases, gradients = [], {}
    for index, settings in enumerate(PRIME):
        case = dict(ratio="mask", normaliser="token", temperature=1.0) | settings
        generator = torch.Generator().manual_seed(40 + index)
        rollouts = make_rollouts(model, TURNS, case["temperature"], generator, 0.25)
        loss = batch_loss(model, rollouts, ADVANTAGES, case)
        gradients[str(index)] = flat(torch.autograd.grad(loss, list(model.parameters()))).float()
        cases.append({**case, "rollouts": rollouts, "loss": float(loss.detach())})
    write_json(OUT / "prime.json", {"parameters": names(model), "advantages": ADVANTAGES, "cases": cases})
    save(gradients, OUT / "prime.safetensors")


# Twenty steps -------------------------------------------------------------------------------------------------------

CLIP = dict(ratio="clip", clip_low=0.2, clip_high=0.28)
OPTIMIZER = dict(lr=3e-3, betas=[0.9, 0.99], eps=1e-8, weight_decay=0.1, clip_norm=0.5, minibatches=1, updates_per_batch=1)
TRAINED = [
    dict(CLIP, normaliser="token", mask="full", decay="decoupled", clip_domain="masked", schedule="constant"),
    dict(CLIP, normaliser="token", mask="full", decay="study", clip_domain="dense", schedule="constant"),
    dict(CLIP, normaliser="token", mask="random", decay="decoupled", clip_domain="dense", schedule="cosine", warmup_steps=3),
    dict(CLIP, normaliser="token", mask="random", decay="study", clip_domain="masked", schedule="linear", warmup_steps=2),
    dict(ratio="cispo", cispo_high=1.2, normaliser="token", mask="random", decay="decoupled", clip_domain="masked",
         schedule="cosine", warmup_steps=4, final_share=0.1),
    dict(ratio="cispo", cispo_high=1.2, normaliser="constant", longest=24, kl_coef=0.05, mask="full", decay="study",
         clip_domain="dense", schedule="constant", warmup_steps=5),
    dict(ratio="clip", clip_low=0.03, clip_high=0.04, level="sequence", normaliser="sequence", kl_coef=0.05, mask="random",
         decay="study", clip_domain="dense", schedule="cosine"),
    dict(ratio="mask", mask_low=0.125, mask_high=8.0, normaliser="token", mask="random", decay="decoupled", clip_domain="masked",
         schedule="linear", minibatches=2, updates_per_batch=2),
]


def scheduler(optimizer, case):
    warmup, floor = case["warmup_steps"], case["final_share"]
    if case["schedule"] == "constant":
        return transformers.get_constant_schedule_with_warmup(optimizer, warmup)
    if case["schedule"] == "linear":
        assert floor == 0
        return transformers.get_linear_schedule_with_warmup(optimizer, warmup, STEPS)
    return transformers.get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, STEPS, min_lr_rate=floor)


class StudyAdamW(torch.optim.Optimizer):
    def __init__(self, parameters, **settings):
        super().__init__(parameters, settings)
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            b1, b2 = group["betas"]
            size = group["lr"] / (1 - b1**self.steps)
            for p in group["params"]:
                state = self.state[p]
                first = state["first"] = b1 * state.get("first", 0) + (1 - b1) * p.grad
                second = state["second"] = b2 * state.get("second", 0) + (1 - b2) * p.grad**2
                denominator = second.sqrt() / math.sqrt(1 - b2**self.steps) + group["eps"]
                p -= size * (first / denominator + group["weight_decay"] * p)


def train(case, masks, batches):
    model = make_model().double()
    parameters = list(model.parameters())
    base = [p.detach().clone() for p in parameters]
    kind = StudyAdamW if case["decay"] == "study" else torch.optim.AdamW
    optimizer = kind(parameters, lr=case["lr"], betas=tuple(case["betas"]), eps=case["eps"], weight_decay=case["weight_decay"])
    rates = scheduler(optimizer, case)
    result = {"losses": [], "lr_of_steps": [], "norms": []}
    for rollouts in batches:
        size = len(rollouts) // case["minibatches"]
        losses, norms = [], []
        for start in list(range(0, len(rollouts), size)) * case["updates_per_batch"]:
            part = slice(start, start + size)
            loss = batch_loss(model, rollouts[part], ADVANTAGES[part], case)
            optimizer.zero_grad()
            loss.backward()
            if case["clip_domain"] == "dense":
                norms.append(float(clip_grad_norm_(parameters, case["clip_norm"])))
            for p, mask in zip(parameters, masks):
                p.grad *= mask
            if case["clip_domain"] == "masked":
                norms.append(float(clip_grad_norm_(parameters, case["clip_norm"])))
            optimizer.step()
            with torch.no_grad():
                for p, mask, old in zip(parameters, masks, base):
                    p.copy_(torch.where(mask, p, old))
            losses.append(float(loss.detach()))
        result["losses"].append(sum(losses) / len(losses))
        result["norms"].append(sum(norms) / len(norms))
        result["lr_of_steps"].append(optimizer.param_groups[0]["lr"])
        rates.step()
    return result, flat(parameters)


def step_cases(model):
    generator = torch.Generator().manual_seed(77)
    batches = [make_rollouts(model, TURNS[step % 2 :] + TURNS[: step % 2], 1.0, generator, 0.25) for step in range(STEPS)]
    masks = {
        "full": [torch.ones_like(p, dtype=torch.bool) for p in model.parameters()],
        "random": [torch.rand(p.shape, generator=generator) < 0.4 for p in model.parameters()],
    }
    cases, weights = [], {}
    for index, settings in enumerate(TRAINED):
        case = OPTIMIZER | dict(warmup_steps=0, final_share=0.0, level="token", kl_coef=0.0) | settings
        result, weights[str(index)] = train(case, masks[case["mask"]], batches)
        assert sum(norm > case["clip_norm"] for norm in result["norms"]) > 2, "clipping happens"
        weights[str(index)] = weights[str(index)].float()
        cases.append({**case, **result})
    active = torch.cat([mask.flatten() for mask in masks["random"]]).nonzero().flatten().tolist()
    write_json(OUT / "steps.json", {"parameters": names(model), "advantages": ADVANTAGES, "random": active,
                                    "steps": batches, "cases": cases})
    save(weights, OUT / "steps.safetensors")
    print([round(min(case["norms"]), 3) for case in cases], [round(max(case["norms"]), 3) for case in cases])


def main():
    model = make_model()
    prime_cases(model)
    step_cases(model)


if __name__ == "__main__":
    main()
