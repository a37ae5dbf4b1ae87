//! Against transformers 5.23.0 and torch 2.11.0: logits, gradients of the GRPO loss, AdamW.

use std::collections::BTreeMap;

use serde_json::Value;
use tch::{Kind, Tensor};

use tickets::data::{Architecture, ModelDir};
use tickets::grpo::{ClipDomain, Decay, Normaliser, OptimizerSpec, RatioRule, Schedule};
use tickets::sparsity::Mask;
use tickets::torch::{Batch, Rollout, SparseAdamW, gradients, score};

use super::oracle::{MODELS, integers, json, model, numbers, path, tensors};
use super::support::{distance, grpo};
use super::table::row;

/// Our logits of a case's input, its last `keep` positions.
fn logits(model: &tickets::torch::Model, input: &Value) -> Tensor {
    let row = |key: &str| Tensor::from_slice(&integers(&input[key])).unsqueeze(0);
    let (tokens, positions) = (row("tokens"), row("positions"));
    let length = tokens.size()[1];
    let mask = model.causal_mask(length, length, None).unwrap();
    let keep = input["keep"].as_i64().unwrap();
    let hidden = model.hidden(&tokens, &positions, &mask, None).unwrap();
    model.logits(&hidden).unwrap().squeeze_dim(0).narrow(0, length - keep, keep)
}

/// A rollout whose tokens from the second on count as drawn.
fn conversation(input: &Value) -> Rollout {
    let tokens: Vec<u32> = integers(&input["tokens"]).into_iter().map(|id| id as u32).collect();
    let length = tokens.len();
    Rollout {
        tokens,
        drawn: (0..length).map(|t| t > 0).collect(),
        logprobs: vec![0.0; length],
        answers: Vec::new(),
        truncated: 0,
        reward: 0.0,
    }
}

#[test]
fn logits_are_those_of_transformers() {
    let _guard = tch::no_grad_guard();
    for name in MODELS {
        let (model, half) = (model(name, Kind::Float), model(name, Kind::BFloat16));
        let expected = tensors(&format!("{name}/expected.safetensors"));
        for (i, input) in json(&format!("{name}/inputs.json")).as_array().unwrap().iter().enumerate() {
            let wide = &expected[&format!("{i}/float32")];
            let off = distance(&logits(&model, input), wide);
            // In bfloat16 every product is rounded to 8 bits: two programs differ by no more than each of them
            // differs from float32.
            let narrow = &expected[&format!("{i}/bfloat16")];
            let (off_half, rounding) = (distance(&logits(&half, input), narrow), distance(narrow, wide));
            println!("{name} {i}: float32 {off:.1e}, bfloat16 {off_half:.1e} (rounding {rounding:.1e})");
            assert!(off < 1e-4, "{name} {i}: off by {off}");
            assert!(off_half < 0.25 && off_half < 2.0 * rounding, "{name} {i}: {off_half}, {rounding}");
            assert!(rounding > 1e-3, "{name} {i}: bfloat16 is in use");
        }
    }
}

#[test]
fn mean_logprobs_are_those_of_transformers() {
    let (mut cases, mut worst) = (0, 0.0f64);
    for name in MODELS {
        let model = model(name, Kind::Float);
        let inputs = json(&format!("{name}/inputs.json"));
        // Right-padded to the longest; the second and the last input have positions of their own.
        let inputs: Vec<&Value> = [0, 2].iter().map(|&i| &inputs[i]).collect();
        let rollouts: Vec<Rollout> = inputs.iter().map(|input| conversation(input)).collect();
        for (list, input) in score(&model, &rollouts, 1.0, 2).unwrap().iter().zip(inputs) {
            let mean = list.iter().map(|&logprob| f64::from(logprob)).sum::<f64>() / list.len() as f64;
            let expected = input["mean_logprob"].as_f64().unwrap();
            assert!((mean - expected).abs() < 1e-5, "{name}: {mean} and {expected}");
            worst = worst.max((mean - expected).abs());
            cases += 1;
        }
    }
    row("mean per-token logprob, float32", "transformers 5.23.0", cases, worst, 1e-5);
}

#[test]
fn both_dialects_and_shards_are_read() {
    let open = |name: &str| ModelDir::open(&path(name)).unwrap();
    let shards: Vec<usize> = MODELS.iter().map(|name| open(name).weights.len()).collect();
    assert_eq!(shards, [1, 1, 2, 2]);
    let text = |name: &str| std::fs::read_to_string(path(name).join("config.json")).unwrap();
    let old: Vec<bool> = MODELS.iter().map(|name| text(name).contains("torch_dtype")).collect();
    assert_eq!(old, [false, true, true, false]);
    for name in MODELS {
        assert_ne!(text(name).contains("torch_dtype"), text(name).contains("rope_parameters"), "{name}");
    }
    let shapes: Vec<Architecture> = MODELS.iter().map(|name| open(name).architecture).collect();
    assert_eq!(shapes.iter().map(|shape| shape.kv_heads).collect::<Vec<_>>(), [4, 2, 1, 1]);
    assert_eq!(shapes.iter().map(|shape| shape.head_dim).collect::<Vec<_>>(), [4, 4, 8, 4]);
    assert_eq!(shapes.iter().map(|shape| shape.rope_theta).collect::<Vec<_>>(), [1e4, 1e6, 1e4, 5e5]);
    assert_eq!(shapes.iter().map(|shape| shape.tied).collect::<Vec<_>>(), [true, false, true, false]);
}

/// A rollout of the loss cases and the base model's logprobs of its drawn tokens.
fn fixed_rollout(value: &Value) -> (Rollout, Vec<f32>) {
    let drawn: Vec<bool> = value["drawn"].as_array().unwrap().iter().map(|d| d.as_bool().unwrap()).collect();
    let mut behavior = numbers(&value["behavior"]).into_iter();
    let logprobs = drawn.iter().map(|&d| if d { behavior.next().unwrap() as f32 } else { 0.0 }).collect();
    let tokens = integers(&value["tokens"]).into_iter().map(|id| id as u32).collect();
    let base = numbers(&value["base"]).into_iter().map(|logprob| logprob as f32).collect();
    (Rollout { tokens, drawn, logprobs, answers: Vec::new(), truncated: 0, reward: 0.0 }, base)
}

#[test]
fn gradients_of_the_loss_are_those_of_autograd_in_torch() {
    for (i, case) in json("losses.json").as_array().unwrap().iter().enumerate() {
        let model = model(case["model"].as_str().unwrap(), Kind::Float);
        let (rollouts, base): (Vec<Rollout>, Vec<Vec<f32>>) =
            case["rollouts"].as_array().unwrap().iter().map(fixed_rollout).unzip();
        let number = |key: &str| case[key].as_f64().unwrap();
        let (low, high) = (number("low"), number("high"));
        let rule = match case["rule"].as_str().unwrap() {
            "clip" => RatioRule::Clip { low, high, delta: None },
            _ => RatioRule::Mask { low, high, sequence_low: 0.0 },
        };
        let normaliser = if case["normaliser"] == "token" { Normaliser::Token } else { Normaliser::Sequence };
        let expected = tensors(&format!("gradients_{i}.safetensors"));
        for micro_batch in [2, 6] {
            let spec = grpo(rule, normaliser, number("kl_coef"), micro_batch);
            let advantages = numbers(&case["advantages"]);
            let batch = Batch {
                rollouts: &rollouts,
                advantages: &advantages,
                reference: Some(&base),
                temperature: number("temperature"),
            };
            let (got, stats) = gradients(&model, batch, &spec).unwrap();
            assert!((stats.loss - number("loss")).abs() < 1e-6, "case {i}: loss {}", stats.loss);
            assert!((stats.kl - number("kl")).abs() < 1e-4, "case {i}: KL {}", stats.kl);
            assert!((stats.clipped - number("outside")).abs() < 0.5, "case {i}: {} clipped", stats.clipped);
            let mut worst = 0.0f64;
            for (parameter, gradient) in model.weights.parameters.iter().zip(&got) {
                let expected = &expected[&parameter.name];
                let largest = expected.abs().max().double_value(&[]);
                let off = distance(gradient, expected) / largest;
                // The key bias moves all scores of a query alike but for the rotation, so its gradient is a small
                // difference of large terms.
                assert!(off < 1e-4, "case {i}, {}: off by {off} of {largest}", parameter.name);
                worst = worst.max(off);
            }
            println!("case {i}, micro-batch {micro_batch}: worst {worst:.1e}");
        }
    }
}

/// The gradients of the fixture: exact in float64, rounded once.
fn gradient_entry(tensor: i64, index: i64, step: i64) -> f32 {
    (((index * 7919 + step * 104_729 + tensor * 31 + 13) % 2003 - 1001) as f64 / 8008.0) as f32
}

/// Twenty steps on the fixture's mask; values and moments by name.
fn adamw(kind: Kind) -> (tickets::torch::Model, BTreeMap<String, Tensor>) {
    let model = model("tied_gqa1", kind);
    let sizes = model.weights.sizes();
    let every_third = sizes.iter().map(|size| (1..size.elements as u32).step_by(3).collect()).collect();
    let mask = Mask::new(sizes, every_third).unwrap();
    let spec = OptimizerSpec {
        lr: 3e-3,
        schedule: Schedule::CONSTANT,
        betas: [0.9, 0.95],
        eps: 1e-8,
        weight_decay: 0.1,
        decay: Decay::Decoupled,
        clip_norm: 0.0,
        clip_domain: ClipDomain::Masked,
    };
    let mut adam = SparseAdamW::new(&model.weights, Some(&mask), &spec).unwrap();
    for step in 0..20 {
        let gradients: Vec<Tensor> = model
            .weights
            .tensors
            .iter()
            .zip(0..)
            .map(|(tensor, t)| {
                let entry = |index| gradient_entry(t, index, step);
                let entries: Vec<f32> = (0..tensor.numel() as i64).map(entry).collect();
                Tensor::from_slice(&entries).view(tensor.size().as_slice())
            })
            .collect();
        let gathered = adam.gather(&gradients).unwrap();
        adam.step(&model.weights, &gathered, 1.0, spec.lr).unwrap();
    }
    let mut state = BTreeMap::new();
    for (i, parameter) in model.weights.parameters.iter().enumerate() {
        for (part, tensor) in ["value", "first", "second"].iter().zip(adam.state(i)) {
            state.insert(format!("{part}/{}", parameter.name), tensor.copy());
        }
    }
    (model, state)
}

#[test]
fn twenty_steps_of_adamw_are_those_of_torch() {
    let (_, got) = adamw(Kind::Float);
    let expected = tensors("adamw.safetensors");
    assert_eq!(got.len(), expected.len());
    let (mut worst, mut equal, mut total) = (0.0f64, 0, 0);
    for (name, expected) in &expected {
        let (got, expected) =
            (Vec::<f32>::try_from(&got[name]).unwrap(), Vec::<f32>::try_from(expected).unwrap());
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(&expected) {
            worst = worst.max(f64::from((a - b).abs()) / f64::from(b.abs()).max(1e-12));
            equal += usize::from(a.to_bits() == b.to_bits());
            total += 1;
        }
    }
    println!("{equal} of {total} equal to the bit, worst relative difference {worst:.1e}");
    assert!(worst < 1e-6, "off by {worst}");
}

#[test]
fn half_precision_weights_are_rounded_float32_masters() {
    let (model, state) = adamw(Kind::BFloat16);
    for (parameter, tensor) in model.weights.parameters.iter().zip(&model.weights.tensors) {
        let master = &state[&format!("value/{}", parameter.name)];
        let active: Vec<i64> = (1..tensor.numel() as i64).step_by(3).collect();
        let written = tensor.detach().view([-1]).index_select(0, &Tensor::from_slice(&active));
        assert!(written.equal(&master.to_kind(Kind::BFloat16)));
        // Steps below the spacing of bfloat16 are not lost: the masters hold more than their rounding.
        assert!(distance(master, &written) > 0.0);
    }
}
