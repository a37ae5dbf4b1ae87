//! Twenty steps of training on fixed rollouts: against torch (losses, rates, norms, weights), and against themselves (golden
//! losses, to the last bit).
//!
//! What is stepped is the trainer's own `update`. The reference decays, as dense AdamW does, every entry, and puts those outside
//! the mask back afterwards; it computes in float64.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Tensor;

use tickets::grpo::{ClipDomain, Decay, GrpoSpec, OptimizerSpec, Schedule, Shape};
use tickets::sparsity::Mask;
use tickets::torch::{Batch, Model, Rollout, SparseAdamW, device, update};

use super::oracle::{integers, numbers};
use super::rules::{Flat, json as fixture, model, rollouts, spec};
use super::table::{larger, largest, row};

/// What training gave, step by step, and the model.
struct Trained {
    losses: Vec<f64>,
    rates: Vec<f64>,
    norms: Vec<f64>,
    model: Model,
    mask: Option<Mask>,
}

fn optimizer(case: &Value) -> OptimizerSpec {
    let number = |key: &str| case[key].as_f64().unwrap();
    let floor = number("final_share");
    let betas = numbers(&case["betas"]);
    OptimizerSpec {
        lr: number("lr"),
        schedule: Schedule {
            warmup_steps: case["warmup_steps"].as_u64().unwrap() as u32,
            shape: match case["schedule"].as_str().unwrap() {
                "constant" => Shape::Constant,
                "linear" => Shape::Linear { floor },
                _ => Shape::Cosine { floor },
            },
        },
        betas: [betas[0], betas[1]],
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        decay: if case["decay"] == "study" { Decay::Study } else { Decay::Decoupled },
        clip_norm: number("clip_norm"),
        clip_domain: if case["clip_domain"] == "dense" { ClipDomain::Dense } else { ClipDomain::Masked },
    }
}

/// A mask from the places of its entries among all.
fn mask(places: &[i64], flat: &Flat, model: &Model) -> Mask {
    let within = |from: i64, length: i64| {
        let inside = places.iter().filter(move |place| (from..from + length).contains(place));
        inside.map(move |place| (place - from) as u32).collect::<Vec<_>>()
    };
    let lists = flat.spans(model).into_iter().map(|(from, length)| within(from, length)).collect();
    Mask::new(model.weights.sizes(), lists).unwrap()
}

/// Trains a case. Everything but the rollouts is a function of the case.
fn train(
    case: &Value,
    batches: &[(Vec<Rollout>, Vec<Vec<f32>>)],
    advantages: &[f64],
    places: &[i64],
    flat: &Flat,
) -> Trained {
    let model = model();
    let mask = (case["mask"] == "random").then(|| mask(places, flat, &model));
    let whole = |key: &str| case[key].as_u64().unwrap() as u32;
    let grpo = GrpoSpec {
        steps: batches.len() as u32,
        minibatches: whole("minibatches"),
        updates_per_batch: whole("updates_per_batch"),
        ..spec(case, 4)
    };
    let optimizer = optimizer(case);
    let mut adam = SparseAdamW::new(&model.weights, mask.as_ref(), &optimizer).unwrap();
    let (mut losses, mut rates, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for (step, (rollouts, base)) in (0..).zip(batches) {
        let reference = (grpo.kl_coef > 0.0).then_some(base.as_slice());
        let batch = Batch { rollouts, advantages, reference, temperature: 1.0 };
        let lr = optimizer.rate(step, grpo.steps);
        let done = update(&model, &mut adam, batch, &grpo, &optimizer, lr, None).unwrap();
        losses.push(done.loss);
        rates.push(lr);
        norms.push(match optimizer.clip_domain {
            ClipDomain::Dense => done.dense_norm,
            ClipDomain::Masked => done.masked_norm,
        });
    }
    Trained { losses, rates, norms, model, mask }
}

/// Every case and what training it gave.
fn all() -> (Value, Flat, Vec<Trained>) {
    // Threads are part of a class; tiny sums are not cut up, but a promise of equal bits does not rest on that.
    tch::set_num_threads(1);
    device::set_deterministic().unwrap();
    let said = fixture("steps.json");
    let flat = Flat::open("steps.safetensors", &said);
    let batches: Vec<_> = said["steps"].as_array().unwrap().iter().map(rollouts).collect();
    let (advantages, places) = (numbers(&said["advantages"]), integers(&said["random"]));
    let cases = said["cases"].as_array().unwrap();
    let trained = cases.iter().map(|case| train(case, &batches, &advantages, &places, &flat)).collect();
    (said, flat, trained)
}

/// The largest difference of two lists, each relative to the larger of the reference and `least`. Fails when one is not finite.
pub fn apart(got: &[f64], expected: &[f64], least: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let share = |(a, b): (&f64, &f64)| {
        assert!(a.is_finite() && b.is_finite(), "{a} and {b}");
        (a - b).abs() / b.abs().max(least)
    };
    largest(got.iter().zip(expected).map(share))
}

#[test]
fn twenty_steps_are_those_of_torch() {
    let against = "torch 2.11.0, AdamW on masked gradients";
    let (said, flat, trained) = all();
    let untrained = model();
    let (mut moved, mut outside, mut touched) = (0, 0, 0);
    let mut worst = [0.0f64; 4];
    for (i, (case, trained)) in said["cases"].as_array().unwrap().iter().zip(&trained).enumerate() {
        let lr = case["lr"].as_f64().unwrap();
        let mut off = [
            apart(&trained.losses, &numbers(&case["losses"]), 1.0),
            apart(&trained.rates, &numbers(&case["lr_of_steps"]), 1e-12),
            apart(&trained.norms, &numbers(&case["norms"]), 1e-3),
            0.0,
        ];
        let expected = flat.case(i, &trained.model);
        for (t, (tensor, expected)) in trained.model.weights.tensors.iter().zip(&expected).enumerate() {
            let list = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.detach().reshape([-1])).unwrap();
            let (got, expected, base) = (list(tensor), list(expected), list(&untrained.weights.tensors[t]));
            for entry in 0..got.len() {
                let active = trained
                    .mask
                    .as_ref()
                    .is_none_or(|mask| mask.indices()[t].binary_search(&(entry as u32)).is_ok());
                if active {
                    moved += 1;
                    off[3] = larger(off[3], f64::from((got[entry] - expected[entry]).abs()) / lr);
                } else {
                    outside += 1;
                    touched += usize::from(got[entry].to_bits() != base[entry].to_bits());
                }
            }
        }
        println!(
            "case {i}: losses {:.1e}, rates {:.1e}, norms {:.1e}, weights {:.1e} lr",
            off[0], off[1], off[2], off[3]
        );
        worst.iter_mut().zip(off).for_each(|(worst, off)| *worst = larger(*worst, off));
    }
    let steps = trained.iter().map(|trained| trained.losses.len()).sum();
    row("loss of each of 20 steps", against, steps, worst[0], 1e-5);
    row("learning rate of each of 20 steps", "transformers 5.23.0", steps, worst[1], 1e-15);
    row("gradient norm of each of 20 steps, relative", against, steps, worst[2], 1e-4);
    // AdamW divides the mean gradient by its own size, so that an entry whose gradient is little more than rounding moves by
    // up to the rate in a direction that rounding decides: the unit is the rate, of which twenty steps take at most twenty.
    row("weights after 20 steps, in learning rates", against, moved, worst[3], 1e-2);
    let what = "weights outside the mask after 20 steps (unequal in their bits)";
    row(what, "the base", outside, touched as f64, 0.0);
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses.json")
}

/// What the bits of a loss may depend on beside the program.
fn class() -> Value {
    let libtorch = device::libtorch();
    json!({
        "processor": device::processor(),
        "cpu_capability": libtorch.cpu_capability,
        "libtorch": libtorch.version,
        "threads": 1,
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "golden files are rewritten on request")]
fn losses_are_the_golden_ones() {
    let (_, _, trained) = all();
    // Shortest texts that give the same bits back; as numbers of JSON they might not.
    let text = |losses: &[f64]| losses.iter().map(|loss| format!("{loss:?}")).collect::<Vec<_>>();
    let got = json!(trained.iter().map(|trained| text(&trained.losses)).collect::<Vec<_>>());
    let class = class();
    let mut entries: Vec<Value> =
        serde_json::from_slice(&std::fs::read(golden()).unwrap_or(b"[]".to_vec())).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        entries.retain(|entry| entry["class"] != class);
        entries.push(json!({ "class": class, "losses": got }));
        entries.sort_by_key(|entry| entry["class"].to_string());
        let lines = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect::<Vec<_>>();
        std::fs::write(golden(), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    assert!(!entries.is_empty(), "tests/golden/losses.json is gone");
    let mut worst = 0.0f64;
    for entry in &entries {
        let (own, equal) = (entry["class"] == class, entry["losses"] == got);
        let advice = "UPDATE_GOLDEN=1 cargo test --release --test numerics -- golden";
        assert!(
            !own || equal,
            "losses moved in their bits (MKL_CBWR and its like do that too): if that is meant, {advice}, and say so in CHANGELOG.md"
        );
        let list = |value: &Value| -> Vec<f64> {
            let texts = value.as_array().unwrap().iter().flat_map(|case| case.as_array().unwrap());
            texts.map(|text| text.as_str().unwrap().parse().unwrap()).collect()
        };
        let off = apart(&list(&got), &list(&entry["losses"]), 1.0);
        worst = larger(worst, off);
        println!(
            "golden losses of {}: {}",
            entry["class"],
            if equal { "equal to the bit".into() } else { format!("off by {off:.1e}") }
        );
    }
    // As far as from torch: rounding of other kernels, twenty steps on.
    let cases = entries.len() * trained.iter().map(|trained| trained.losses.len()).sum::<usize>();
    row(
        "loss of each of 20 steps, all classes of golden ones",
        "tests/golden/losses.json",
        cases,
        worst,
        1e-5,
    );
    if !entries.iter().any(|entry| entry["class"] == class) {
        eprintln!(
            "NOT COMPARED TO THE BIT: tests/golden/losses.json has no entry of this class, {class}. To add one from a commit that \
             you trust: UPDATE_GOLDEN=1 cargo test --release --test numerics -- golden"
        );
    }
}
