//! Losses, gradients and advantages against TRL 1.16.0's GRPOTrainer, and the prime-rl form against its formula in torch.

use serde_json::{Value, json};

use tickets::grpo::{Advantage, advantages};
use tickets::torch::{Batch, gradients};

use super::oracle::numbers;
use super::rules::{Flat, json, model, rollouts, spec, worst};
use super::table::{larger, row};

/// A case of TRL in our words.
fn in_our_words(case: &Value, longest: &Value) -> Value {
    let kind = case["loss_type"].as_str().unwrap();
    let low = case["epsilon"].as_f64().unwrap_or(0.2);
    let high = case["epsilon_high"].as_f64().unwrap_or(low);
    json!({
        "ratio": if kind == "cispo" { "cispo" } else { "clip" },
        "clip_low": low,
        "clip_high": high,
        "clip_delta": case["delta"],
        "cispo_high": high,
        "level": case["importance_sampling_level"],
        "normaliser": match kind { "grpo" => "sequence", "dr_grpo" => "constant", _ => "token" },
        "longest": longest,
        "kl_coef": case["beta"],
        // TRL's default.
        "kl_corrected": case["use_bias_correction_kl"].as_bool().unwrap_or(true),
    })
}

#[test]
fn losses_and_gradients_are_those_of_trl() {
    let fixture = json("trl.json");
    let (model, expected) = (model(), Flat::open("trl.safetensors", &fixture));
    let advantages = numbers(&fixture["advantages"]);
    let mut rows = std::collections::BTreeMap::<String, (usize, f64, f64)>::new();
    for (i, case) in fixture["cases"].as_array().unwrap().iter().enumerate() {
        let (rollouts, base) = rollouts(&fixture["sets"][case["set"].as_str().unwrap()]);
        let kl = case["beta"].is_number();
        let expected = expected.case(i, &model);
        let name = format!(
            "{} {}{}{}",
            case["loss_type"].as_str().unwrap(),
            case["importance_sampling_level"].as_str().unwrap_or("token"),
            match (kl, case["use_bias_correction_kl"] == false) {
                (false, _) => "",
                (true, true) => ", KL",
                (true, false) => ", KL corrected",
            },
            if case["delta"].is_number() { ", delta" } else { "" }
        );
        let row = rows.entry(name).or_default();
        for micro_batch in [6, 4] {
            let batch = Batch {
                rollouts: &rollouts,
                advantages: &advantages,
                reference: kl.then_some(base.as_slice()),
                temperature: case["temperature"].as_f64().unwrap(),
            };
            let words = in_our_words(case, &fixture["longest"]);
            let (got, stats) = gradients(&model, batch, &spec(&words, micro_batch)).unwrap();
            row.0 += 1;
            row.1 = larger(row.1, (stats.loss - case["loss"].as_f64().unwrap()).abs());
            row.2 = larger(row.2, worst(&got, &expected, &model));
        }
    }
    assert!(rows.len() >= 12, "{rows:?}");
    for (name, (count, loss, gradient)) in rows {
        row(&format!("loss, {name}"), "TRL 1.16.0", count, loss, 1e-6);
        row(&format!("gradients of the loss, {name}"), "TRL 1.16.0", count, gradient, 1e-4);
    }
}

#[test]
fn clip_shares_are_those_of_trl() {
    let fixture = json("trl.json");
    let model = model();
    let advantages = numbers(&fixture["advantages"]);
    let (mut cases, mut seen, mut off) = (0, 0, 0.0f64);
    for case in fixture["cases"].as_array().unwrap() {
        // TRL's share counts a sequence once and not by its tokens, leaves CISPO's cut of bad tokens out, and knows no bound of its
        // own for delta.
        let token = !case["importance_sampling_level"].is_string();
        if !token || case["delta"].is_number() || case["loss_type"] == "cispo" {
            continue;
        }
        let (rollouts, _) = rollouts(&fixture["sets"][case["set"].as_str().unwrap()]);
        let temperature = case["temperature"].as_f64().unwrap();
        let batch = Batch { rollouts: &rollouts, advantages: &advantages, reference: None, temperature };
        let words = in_our_words(case, &fixture["longest"]);
        let (_, stats) = gradients(&model, batch, &spec(&words, 6)).unwrap();
        let (share, expected) = (stats.clipped / stats.tokens as f64, case["clipped"].as_f64().unwrap());
        off = larger(off, (share - expected).abs());
        seen += usize::from(expected > 0.0);
        cases += 1;
    }
    assert!(cases >= 15 && seen == cases, "{seen} of {cases}");
    row("share of tokens that the bounds cut", "TRL 1.16.0", cases, off, 1e-6);
}

#[test]
fn advantages_are_those_of_trl() {
    let fixture = json("advantages.json");
    let (mut count, mut worst) = (0, 0.0f64);
    for case in fixture.as_array().unwrap() {
        let rule = if case["scale_rewards"] == "group" { Advantage::MeanStd } else { Advantage::Mean };
        let groups = case["rewards"].as_array().unwrap().iter().map(numbers);
        let got: Vec<f64> = groups.flat_map(|rewards| advantages(&rewards, rule)).collect();
        let expected = numbers(&case["advantages"]);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            worst = larger(worst, (got - expected).abs());
            count += 1;
        }
    }
    // TRL computes in float32, on rewards rounded to it.
    row("advantages, mean and mean_std", "TRL 1.16.0", count, worst, 1e-6);
}

#[test]
fn the_form_of_prime_rl_is_its_formula() {
    let fixture = json("prime.json");
    let (model, expected) = (model(), Flat::open("prime.safetensors", &fixture));
    let advantages = numbers(&fixture["advantages"]);
    let (mut loss, mut gradient, mut count) = (0.0f64, 0.0f64, 0);
    for (i, case) in fixture["cases"].as_array().unwrap().iter().enumerate() {
        let (rollouts, _) = rollouts(&case["rollouts"]);
        for micro_batch in [6, 4] {
            let temperature = case["temperature"].as_f64().unwrap();
            let batch = Batch { rollouts: &rollouts, advantages: &advantages, reference: None, temperature };
            let (got, stats) = gradients(&model, batch, &spec(case, micro_batch)).unwrap();
            assert_eq!(stats.clipped > 0.0, i > 0, "case {i}: {} dropped", stats.clipped);
            loss = larger(loss, (stats.loss - case["loss"].as_f64().unwrap()).abs());
            gradient = larger(gradient, worst(&got, &expected.case(i, &model), &model));
            count += 1;
        }
    }
    row("loss, prime-rl's mask", "torch 2.11.0, from the formula", count, loss, 1e-6);
    row("gradients of the loss, prime-rl's mask", "torch 2.11.0, from the formula", count, gradient, 1e-4);
}
