//! Every family against transformers 5.23.0: logits in rows and in padded batches, greedy generation, gradients; and the
//! cache against the full forward.

use tch::{Device, Kind, Tensor};

use tickets::counter::Counter;
use tickets::data::{Architecture, Family, ModelDir, Stored, places};
use tickets::grpo::SamplingSpec;
use tickets::torch::{Model, Rollout, Row, generate, score};

use super::oracle::{
    FAMILIES, MODELS, Off, TRANSFORMERS, conversation, gradients_differ, integers, json, model, path, tensors,
};
use super::support::{distance, sampling};
use super::table::{larger, row};

/// The inputs of a case.
fn inputs(name: &str) -> serde_json::Value {
    json(&format!("{name}/inputs.json"))
}

fn rows(value: &serde_json::Value) -> Vec<Vec<i64>> {
    value.as_array().unwrap().iter().map(integers).collect()
}

#[test]
fn the_cases_cover_what_families_may_have() {
    let open = |name: &str| ModelDir::open(&path(name)).unwrap();
    let shapes: Vec<Architecture> = FAMILIES.iter().map(|name| open(name).architecture).collect();
    let has = |what: &dyn Fn(&Architecture) -> bool| shapes.iter().any(what);
    for family in Family::ALL {
        assert!(has(&|shape| shape.family == family && shape.tied));
        assert!(has(&|shape| shape.family == family && !shape.tied));
        assert!(has(&|shape| shape.family == family && shape.head_dim * shape.heads != shape.hidden_size));
        if family != Family::Qwen2 {
            assert!(has(&|shape| shape.family == family && shape.attention_bias));
            assert!(has(&|shape| shape.family == family && !shape.attention_bias));
            assert!(has(&|shape| shape.family == family && shape.rope_scaling.is_some()));
        }
    }
    let mut ratios: Vec<usize> = shapes.iter().map(|shape| shape.heads / shape.kv_heads).collect();
    ratios.sort_unstable();
    ratios.dedup();
    assert_eq!(ratios, [1, 2, 3, 4, 7]);
    for name in FAMILIES {
        let dir = open(name);
        let stored = match inputs(name)["stored"].as_str().unwrap() {
            "float32" => Stored::F32,
            "bfloat16" => Stored::Bf16,
            _ => Stored::F16,
        };
        let places = places(&dir).unwrap();
        assert!(places.parameters.iter().all(|place| place.stored == stored), "{name}");
        let shards = dir.weights.len();
        assert_eq!(shards > 1, path(name).join("model.safetensors.index.json").exists(), "{name}");
        // Study order is the order in which transformers lists them.
        let names: Vec<String> = dir.architecture.parameters().into_iter().map(|p| p.name).collect();
        let expected = inputs(name)["parameters"].clone();
        assert_eq!(serde_json::to_value(names).unwrap(), expected, "{name}");
        // A round trip through our own config.json.
        let written = dir.architecture.to_config_json(1, 0, "float32").to_string();
        let again = Architecture::from_config_json(written.as_bytes(), "config.json").unwrap();
        assert_eq!(again, dir.architecture, "{name}");
    }
}

#[test]
fn logits_of_every_family_are_those_of_transformers() {
    for family in Family::ALL {
        let prefix = format!("families/{}_", family.model_type());
        let cases = FAMILIES.iter().filter(|name| name.starts_with(&prefix));
        let measured = cases.map(|name| Off::measure(name, &inputs(name)["inputs"]));
        measured.fold(Off::default(), Off::and).rows(&format!("{} cases", family.model_type()));
    }
}

#[test]
fn mean_logprobs_of_every_family_are_those_of_transformers() {
    let (mut cases, mut worst) = (0, 0.0f64);
    for name in FAMILIES {
        let model = model(name, Kind::Float);
        let inputs = inputs(name);
        let inputs = [&inputs["inputs"][0], &inputs["inputs"][2]];
        let rollouts: Vec<Rollout> = inputs.iter().map(|input| conversation(input)).collect();
        for (list, input) in score(&model, &rollouts, 1.0, 2).unwrap().iter().zip(inputs) {
            let mean = list.iter().map(|&logprob| f64::from(logprob)).sum::<f64>() / list.len() as f64;
            worst = larger(worst, (mean - input["mean_logprob"].as_f64().unwrap()).abs());
            cases += 1;
        }
    }
    row("mean per-token logprob of every family, float32", TRANSFORMERS, cases, worst, 1e-5);
}

/// Rows padded on the left: tokens, positions, padding.
fn pad(rows: &[Vec<i64>]) -> (Tensor, Tensor, Tensor) {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let pads: Vec<i64> = rows.iter().map(|row| (longest - row.len()) as i64).collect();
    let flat: Vec<i64> =
        rows.iter().flat_map(|row| [vec![0; longest - row.len()], row.clone()].concat()).collect();
    let shape = [rows.len() as i64, longest as i64];
    let pad_b = Tensor::from_slice(&pads);
    let positions =
        Tensor::arange(longest as i64, (Kind::Int64, Device::Cpu)).unsqueeze(0) - pad_b.unsqueeze(1);
    (Tensor::from_slice(&flat).view(shape), positions.clamp_min(0), pad_b)
}

#[test]
fn padded_batches_are_those_of_transformers() {
    let _guard = tch::no_grad_guard();
    let (mut cases, mut left, mut right) = (0, 0.0f64, 0.0f64);
    for name in FAMILIES {
        let model = model(name, Kind::Float);
        let expected = tensors(&format!("{name}/expected.safetensors"));
        let batch = rows(&inputs(name)["batch"]);
        let longest = batch.iter().map(Vec::len).max().unwrap() as i64;
        let (tokens, positions, pad_b) = pad(&batch);
        let mask = model.causal_mask(longest, longest, Some(&pad_b)).unwrap();
        let logits = model.logits(&model.hidden(&tokens, &positions, &mask, None).unwrap()).unwrap();
        let own = |i: usize, from: i64| logits.get(i as i64).narrow(0, from, batch[i].len() as i64);
        let parts: Vec<Tensor> = (0..batch.len()).map(|i| own(i, longest - batch[i].len() as i64)).collect();
        left = larger(left, distance(&Tensor::cat(&parts, 0), &expected["left"]));

        let flat: Vec<i64> = batch
            .iter()
            .flat_map(|row| [row.clone(), vec![0; longest as usize - row.len()]].concat())
            .collect();
        let tokens = Tensor::from_slice(&flat).view([batch.len() as i64, longest]);
        let positions = Tensor::arange(longest, (Kind::Int64, Device::Cpu)).unsqueeze(0);
        let mask = model.causal_mask(longest, longest, None).unwrap();
        let logits = model.logits(&model.hidden(&tokens, &positions, &mask, None).unwrap()).unwrap();
        let own = |i: usize| logits.get(i as i64).narrow(0, 0, batch[i].len() as i64);
        let parts: Vec<Tensor> = (0..batch.len()).map(own).collect();
        right = larger(right, distance(&Tensor::cat(&parts, 0), &expected["right"]));
        cases += batch.len();
    }
    row("logits of rows padded on the left, float32", TRANSFORMERS, cases, left, 1e-4);
    row("logits of rows padded on the right, float32", TRANSFORMERS, cases, right, 1e-4);
}

/// What transformers' `generate` is asked for.
fn greedily(model: &Model, contexts: &[Vec<u32>], end: u32, max_tokens: u32) -> Vec<Vec<u32>> {
    let mut counters: Vec<Counter> =
        (0..contexts.len()).map(|i| Counter::new(1, "test/greedy", &[i as u64])).collect();
    let mut rows: Vec<Row<'_>> = counters
        .iter_mut()
        .enumerate()
        .map(|(context, counter)| Row { context, counter, first_draw: 0 })
        .collect();
    let sampling = SamplingSpec { temperature: 0.0, ..sampling(max_tokens) };
    let completions = generate(model, contexts, &mut rows, &sampling, &[end]).unwrap();
    completions.into_iter().map(|completion| completion.tokens).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let (mut tokens, mut different) = (0, 0);
    for name in FAMILIES {
        let model = model(name, Kind::Float);
        let inputs = inputs(name);
        let ids = |key: &str| -> Vec<Vec<u32>> {
            let narrow = |row: Vec<i64>| row.into_iter().map(|id| id as u32).collect();
            rows(&inputs[key]).into_iter().map(narrow).collect()
        };
        let number = |key: &str| inputs[key].as_u64().unwrap() as u32;
        let got = greedily(&model, &ids("prompts"), number("end"), number("new_tokens"));
        for (got, expected) in got.iter().zip(ids("answers")) {
            assert_eq!(got.len(), expected.len(), "{name}");
            different += got.iter().zip(&expected).filter(|(a, b)| a != b).count();
            tokens += expected.len();
        }
    }
    row(
        "greedy tokens of prompts of six lengths",
        "transformers 5.23.0 generate",
        tokens,
        different as f64,
        0.0,
    );
}

#[test]
fn gradients_of_the_other_families_are_those_of_autograd() {
    let cases = json("families/losses.json");
    let models: Vec<&str> =
        cases.as_array().unwrap().iter().map(|case| case["model"].as_str().unwrap()).collect();
    let of_each = gradients_differ(&cases, "families/");
    assert_eq!(of_each.len(), 2);
    for ((model, (tensors, worst)), (word, name)) in
        models.iter().zip(of_each).zip([("qwen3", "Qwen3"), ("llama", "Llama")])
    {
        assert!(model.contains(word), "{model}");
        let what = format!("gradients of the GRPO loss of {name}, per tensor");
        row(&what, "torch 2.11.0", tensors, worst, 1e-4);
    }
}

#[test]
fn decoding_with_a_cache_equals_the_full_forward_in_every_family() {
    let _guard = tch::no_grad_guard();
    let (mut cases, mut worst) = (0, 0.0f64);
    for name in FAMILIES.iter().chain(&MODELS) {
        let model = model(name, Kind::Float);
        let vocabulary = model.architecture().vocab_size as i64;
        let lengths = [4usize, 9, 6];
        let tokens: Vec<Vec<i64>> = lengths
            .iter()
            .map(|&length| (0..length as i64 + 12).map(|i| (i * 7919 + length as i64) % vocabulary).collect())
            .collect();
        let (prompts, longest) = (lengths.iter().zip(&tokens).map(|(&n, row)| row[..n].to_vec()), 9);
        let (ids, positions, pad_b) = pad(&prompts.collect::<Vec<_>>());
        let mask = model.causal_mask(longest, longest, Some(&pad_b)).unwrap();
        let mut prefill = model.cache(3, longest).unwrap();
        let _ = model.hidden(&ids, &positions, &mask, Some(&mut prefill)).unwrap();
        // Rows change their order, one twice, and after half of the steps one leaves.
        let mut order = vec![2usize, 0, 1, 0];
        let chosen =
            |order: &[usize]| Tensor::from_slice(&order.iter().map(|&i| i as i64).collect::<Vec<_>>());
        let mut cache = prefill.select(&chosen(&order), longest + 12).unwrap();
        for step in 0..12 {
            if step == 6 {
                cache = cache.select(&chosen(&[0, 2, 3]), longest + 12).unwrap();
                order.remove(1);
            }
            let next: Vec<i64> = order.iter().map(|&i| tokens[i][lengths[i] + step]).collect();
            let at: Vec<i64> = order.iter().map(|&i| (lengths[i] + step) as i64).collect();
            let pads = pad_b.index_select(0, &chosen(&order));
            let mask = model.causal_mask(1, longest + step as i64 + 1, Some(&pads)).unwrap();
            let column = |list: &[i64]| Tensor::from_slice(list).unsqueeze(1);
            let hidden = model.hidden(&column(&next), &column(&at), &mask, Some(&mut cache)).unwrap();
            let logits = model.logits(&hidden).unwrap();
            for (slot, &i) in order.iter().enumerate() {
                let length = (lengths[i] + step + 1) as i64;
                let row = Tensor::from_slice(&tokens[i][..length as usize]).unsqueeze(0);
                let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0);
                let mask = model.causal_mask(length, length, None).unwrap();
                let full = model.logits(&model.hidden(&row, &positions, &mask, None).unwrap()).unwrap();
                let off = distance(&logits.get(slot as i64).get(0), &full.get(0).get(length - 1));
                worst = larger(worst, off);
                cases += 1;
            }
        }
    }
    // Products of other shapes sum in another order; with logits of size 10 that is a few 1e-6.
    row("decoding with the cache, float32", "the full forward", cases, worst, 2e-5);
}
