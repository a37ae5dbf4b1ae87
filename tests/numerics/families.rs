//! Every family against transformers 5.23.0: logits in rows and in padded batches, greedy generation, gradients; and the
//! cache against the full forward.

use tch::{Kind, Tensor};

use tickets::counter::Counter;
use tickets::data::{Architecture, Family, ModelDir, Stored, places};
use tickets::grpo::SamplingSpec;
use tickets::torch::{
    Completion, Model, Reserve, Rollout, Row, converse_with as converse, generate, score, sequence_logits,
};

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

#[test]
fn batches_without_padding_are_the_padded_ones_of_transformers() {
    let (mut cases, mut worst) = (0, [0.0f64; 2]);
    for name in FAMILIES {
        let expected = tensors(&format!("{name}/expected.safetensors"));
        let batch = rows(&inputs(name)["batch"]);
        let positions: Vec<Vec<i64>> = batch.iter().map(|row| (0..row.len() as i64).collect()).collect();
        let list: Vec<(&[i64], &[i64])> =
            batch.iter().zip(&positions).map(|(row, at)| (row.as_slice(), at.as_slice())).collect();
        // By the fused operators of the CPU, and by those that a GPU takes.
        for (model, worst) in
            [model(name, Kind::Float), model(name, Kind::Float).unfused()].iter().zip(&mut worst)
        {
            let logits = Tensor::cat(&sequence_logits(model, &list).unwrap(), 0);
            for side in ["left", "right"] {
                *worst = larger(*worst, distance(&logits, &expected[side]));
            }
        }
        cases += batch.len();
    }
    row("logits of rows in one batch, float32", TRANSFORMERS, cases, worst[0], 1e-4);
    row("logits of rows in one batch, without fused operators", TRANSFORMERS, cases, worst[1], 1e-4);
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
    let (mut cases, mut worst) = (0, 0.0f64);
    for name in FAMILIES.iter().chain(&MODELS) {
        for model in [model(name, Kind::Float), model(name, Kind::Float).unfused()] {
            let vocabulary = model.architecture().vocab_size as u32;
            let openings: Vec<Vec<u32>> = [4u32, 9, 1, 18]
                .iter()
                .map(|&length| (0..length).map(|i| (i * 7919 + length) % vocabulary).collect())
                .collect();
            let mut counters: Vec<Counter> =
                (0..12).map(|row| Counter::new(5, "test/cache", &[row])).collect();
            let mut rows: Vec<Row<'_>> = (0..12)
                .zip(&mut counters)
                .map(|(row, counter)| Row { context: row / 3, counter, first_draw: 0 })
                .collect();
            let mut conversations: Vec<Rollout> = (0..12)
                .map(|row| Rollout {
                    tokens: openings[row / 3].clone(),
                    drawn: vec![false; openings[row / 3].len()],
                    logprobs: vec![0.0; openings[row / 3].len()],
                    ..Rollout::default()
                })
                .collect();
            // One token in eight ends a turn; rows have one to three turns, and what is said between them differs in length.
            let ends: Vec<u32> = (0..vocabulary).step_by(8).collect();
            let mut turns = [0u32; 12];
            converse(&model, &openings, &mut rows, &sampling(12), &ends, Reserve::default(), &mut |done| {
                let answer = |(row, completion): (usize, Completion)| {
                    let conversation = &mut conversations[row];
                    conversation.tokens.extend(&completion.tokens);
                    conversation.drawn.resize(conversation.tokens.len(), true);
                    conversation.logprobs.extend(&completion.logprobs);
                    turns[row] += 1;
                    if turns[row] > row as u32 % 3 {
                        return Ok(None);
                    }
                    let said: Vec<u32> = (0..=row as u32 % 5).map(|i| (i * 31 + 7) % vocabulary).collect();
                    conversation.tokens.extend(&said);
                    conversation.drawn.resize(conversation.tokens.len(), false);
                    conversation.logprobs.resize(conversation.tokens.len(), 0.0);
                    Ok(Some(said))
                };
                done.into_iter().map(answer).collect()
            })
            .unwrap();
            for (conversation, scored) in
                conversations.iter().zip(score(&model, &conversations, 1.0, 12).unwrap())
            {
                let drawn =
                    conversation.logprobs.iter().zip(&conversation.drawn).filter(|(_, drawn)| **drawn);
                for ((logprob, _), scored) in drawn.zip(scored) {
                    worst = larger(worst, f64::from((logprob - scored).abs()));
                    cases += 1;
                }
            }
        }
    }
    // Products of other shapes sum in another order; with logits of size 10 that is a few 1e-6.
    row("logprobs of tokens drawn with the cache, float32", "the full forward", cases, worst, 2e-5);
}
