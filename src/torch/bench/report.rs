//! Times and peaks to one line of JSON: rates, and shares of the machine's ceilings.

use serde_json::{Value, json};

use crate::sparsity::TensorSize;

use super::super::meter::{Operator, Peak};
use super::ceilings::Ceilings;
use super::work::{Spent, Work};
use super::{BenchPart, BenchSpec};

/// What a benchmark found.
#[derive(Clone, Debug)]
pub struct BenchReport {
    /// One line of JSON.
    pub value: Value,
    /// Operators by their own time, when asked for.
    pub profile: Option<Vec<Operator>>,
}

/// What was timed, by phase.
#[derive(Debug, Default)]
pub struct Times {
    rollout: Vec<f64>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    train: Vec<f64>,
    step: Vec<f64>,
    rollout_peak: Peak,
    train_peak: Peak,
}

impl Times {
    pub fn rolled(&mut self, seconds: f64, spent: &Spent, peak: Peak, counted: bool) {
        larger(&mut self.rollout_peak, peak);
        if counted {
            self.rollout.push(seconds);
            self.prefill.push(spent.prefill);
            self.decode.push(spent.decode);
        }
    }

    pub fn trained(&mut self, seconds: f64, peak: Peak, counted: bool) {
        larger(&mut self.train_peak, peak);
        if counted {
            self.train.push(seconds);
            self.step.extend(self.rollout.last().map(|rollout| rollout + seconds));
        }
    }
}

fn larger(most: &mut Peak, peak: Peak) {
    most.tensors = most.tensors.max(peak.tensors);
    most.resident = most.resident.max(peak.resident);
}

/// The middle of some numbers, or the mean of the middle two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

pub fn report(
    spec: &BenchSpec,
    work: &Work<'_>,
    times: &Times,
    ceilings: Ceilings,
    profile: Option<Vec<Operator>>,
) -> BenchReport {
    let count = Counted::of(spec, work);
    let (rollout, train) = (median(&times.rollout), median(&times.train));
    let seconds = match spec.part {
        BenchPart::Rollout => rollout,
        BenchPart::Train => train,
        BenchPart::Step | BenchPart::Masks => median(&times.step),
    };
    let rate = |amount: f64, seconds: f64| if seconds > 0.0 { json!(amount / seconds) } else { Value::Null };
    // A phase that was not timed has no number.
    let measured = |list: &[f64]| if list.is_empty() { Value::Null } else { json!(median(list)) };
    let share = |amount: f64, seconds: f64, ceiling: f64| rate(amount / ceiling, seconds);
    let (prefill, decode) = (median(&times.prefill), median(&times.decode));
    let peak =
        |peak: Peak| json!({ "tensor_peak_bytes": peak.tensors, "resident_peak_bytes": peak.resident });
    let updates = f64::from(spec.updates);
    let value = json!({
        "part": match spec.part {
            BenchPart::Step => "step",
            BenchPart::Rollout => "rollout",
            BenchPart::Train => "train",
            BenchPart::Masks => "masks",
        },
        "parameters": count.parameters,
        "device": format!("{:?}", work.model.device()).to_lowercase(),
        "dtype": format!("{:?}", spec.dtype).to_lowercase(),
        "threads": spec.threads,
        "prompts": spec.prompts,
        "group": spec.group,
        "turns": spec.turns,
        "new_tokens": spec.new_tokens,
        "sparsity": spec.sparsity,
        "steps": spec.steps,
        "seconds_per_step": seconds,
        "rollout_seconds": measured(&times.rollout),
        "train_seconds": measured(&times.train),
        "rollout_tokens_per_second": rate(count.drawn, if spec.part == BenchPart::Step { seconds } else { rollout }),
        "prefill_tokens_per_second": rate(count.prefilled, prefill),
        "decode_tokens_per_second": rate(count.drawn, decode),
        "train_tokens_per_second": rate(count.trained * updates, train),
        "ceilings": { "matmul_flops_per_second": ceilings.matmul, "bandwidth_bytes_per_second": ceilings.bandwidth },
        "share_of_matmul": {
            "prefill": share(count.prefill_flops, prefill, ceilings.matmul),
            "decode": share(count.decode_flops, decode, ceilings.matmul),
            "train": share(count.train_flops * updates, train, ceilings.matmul),
        },
        "share_of_bandwidth": { "decode": share(count.decode_bytes, decode, ceilings.bandwidth) },
        "memory": { "rollout": peak(times.rollout_peak), "train": peak(times.train_peak) },
    });
    BenchReport { value, profile }
}

/// Tokens, operations and bytes of one repetition. Recomputed activations are not counted, nor is what padding costs.
struct Counted {
    parameters: usize,
    /// Tokens drawn.
    drawn: f64,
    /// Tokens that went through the model before a first draw, a group's prompt once.
    prefilled: f64,
    /// Tokens that training sees.
    trained: f64,
    prefill_flops: f64,
    decode_flops: f64,
    train_flops: f64,
    decode_bytes: f64,
}

impl Counted {
    fn of(spec: &BenchSpec, work: &Work<'_>) -> Self {
        let shape = work.model.architecture();
        let real = |n: usize| n as f64;
        let (h, layers, v) = (real(shape.hidden_size), real(shape.layers), real(shape.vocab_size));
        let (q, k) = (real(shape.heads * shape.head_dim), real(shape.kv_heads * shape.head_dim));
        let matrices = layers * h * (2.0 * q + 2.0 * k + 3.0 * real(shape.intermediate_size));
        let width = if work.model.kind() == tch::Kind::Float { 4.0 } else { 2.0 };
        let (rows, turns) = (real(spec.prompts * spec.group), real(spec.turns));
        let (prompt, new) = (real(spec.prompt_tokens), real(spec.new_tokens));
        let length = turns * (prompt + new);
        let drawn = rows * turns * new;
        let prefilled = prompt * (real(spec.prompts) + rows * (turns - 1.0));
        // Products with matrices; attention over the mean context; the head where logits are wanted.
        let pass = |tokens: f64, attended: f64, logits: f64| {
            tokens * (2.0 * matrices + layers * 4.0 * q * attended) + logits * 2.0 * h * v
        };
        let decoded = drawn - rows * turns;
        let attended = f64::midpoint(prompt, length);
        Self {
            parameters: shape.sizes().iter().map(TensorSize::elements).sum(),
            drawn,
            prefilled,
            trained: rows * length,
            prefill_flops: pass(prefilled, prompt / 2.0, real(spec.prompts)),
            decode_flops: pass(decoded, attended, decoded),
            train_flops: 3.0 * pass(rows * length, length / 2.0, drawn),
            decode_bytes: turns * (new - 1.0).max(0.0) * width * (matrices + h * v)
                + decoded * layers * 2.0 * k * width * attended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[]), 0.0);
    }
}
