//! Parameters, active entries and bytes, by hand.

use std::fs;
use std::path::Path;

use tickets::data::{Architecture, Parameter};
use tickets::estimate::{
    Estimate, Lengths, Memory, architecture, architecture_in, estimate, of_run, of_scores,
};
use tickets::manifest::{Dtype, RunConfig};
use tickets::sparsity::{Criterion, MaskRng, MaskSpec, Rounding, Score, Side};

use crate::{run, run_of};

/// h 8, i 12, 2 layers, 2 heads of width 4, 1 key head (k 4), vocabulary 300.
const TINY: &str = "[model.pretrain]\nhidden_size = 8\nintermediate_size = 12\nlayers = 2\nheads = 2\nkv_heads = 1\n\
    vocab_size = 300\n[task]\ntype = \"alphabet_sort\"\nmax_turns = 1\n";
/// Embedding 2400; a layer: q 72, k and v 36 each, o 64, MLP 288, norms 16, together 512; last norm 8.
const TINY_PARAMETERS: u64 = 2400 + 2 * 512 + 8;

fn hub(id: &str) -> RunConfig {
    run_of(&format!("[model]\nid = \"{id}\"\ndtype = \"bfloat16\"\n[task]\ntype = \"alphabet_sort\"\n"))
}

/// Without the cache of downloads of the machine that the test runs on.
fn without_cache(config: &RunConfig) -> Estimate {
    of_run(config, &architecture_in(config, None).expect("in the table"))
}

fn count(shape: &Architecture) -> usize {
    shape.parameters().iter().map(Parameter::elements).sum()
}

#[test]
fn the_built_in_base_is_counted_by_its_keys() {
    let estimate = estimate(&run_of(TINY)).expect("built in");
    assert_eq!((estimate.parameters, estimate.active), (TINY_PARAMETERS, TINY_PARAMETERS));
    assert_eq!(estimate.dtype, Dtype::Float32);
}

#[test]
fn random_masks_have_the_studys_counts() {
    // Sums of the per-tensor floors, as the study's file names state them.
    let counts = [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.99, 4_940_162),
        ("Qwen/Qwen2.5-0.5B", 0.995, 2_470_021),
        ("Qwen/Qwen2.5-0.5B", 0.999, 493_878),
        ("Qwen/Qwen2.5-0.5B", 0.9995, 246_939),
        ("Qwen/Qwen2.5-0.5B", 0.9999, 49_301),
        ("Qwen/Qwen2.5-1.5B", 0.99, 15_436_967),
        ("Qwen/Qwen2.5-1.5B", 0.995, 7_718_399),
        ("Qwen/Qwen2.5-1.5B", 0.9999, 154_265),
        ("Qwen/Qwen2.5-1.5B", 0.99999, 15_297),
    ];
    for (id, share, active) in counts {
        let mut config = hub(id);
        config.mask = MaskSpec::random(share, 0, MaskRng::Chacha);
        assert_eq!(without_cache(&config).active, active, "{id} at {share}");
    }
}

#[test]
fn other_masks_are_counted_by_their_rules() {
    let mut config = hub("Qwen/Qwen2.5-0.5B");
    let mut active = |mask| {
        config.mask = mask;
        without_cache(&config).active
    };
    // A hundredth of 494,032,768 is 4,940,327.68.
    assert_eq!(active(MaskSpec::scored(Score::Magnitude, 0.99, Rounding::Floor)), 4_940_327);
    assert_eq!(active(MaskSpec::scored(Score::Magnitude, 0.99, Rounding::Ceil)), 4_940_328);
    // One decoder layer; more layers than there are, are those that there are.
    let layers = |count| MaskSpec::plain(Criterion::Layers { side: Side::Last, count });
    assert_eq!(active(layers(1)), 14_912_384);
    assert_eq!(active(layers(99)), 24 * 14_912_384);
    let config = run("[mask]\ntype = \"fisher\"\nsparsity = 0.9\n");
    let shape = architecture(&config).expect("built in");
    assert_eq!(estimate(&config).expect("built in").active, (count(&shape) / 10) as u64);
}

#[test]
fn optimizer_and_gradients_take_their_bytes_per_entry() {
    let memory = |text: &str| {
        let estimate = estimate(&run_of(&format!("{text}{TINY}"))).expect("built in");
        (estimate.active, estimate.memory)
    };
    let p = TINY_PARAMETERS;
    // Full in float32: two moments and the base. The master is the weight.
    let (_, full) = memory("grpo.rollouts_per_step = 32\ngrpo.micro_batch = 8\n");
    assert_eq!(full.optimizer, 12 * p);
    // One float32 sum, whatever the micro-batches.
    assert_eq!(full.gradients, 4 * p);
    // Weights, and two rotary tables of 4096 positions by 4.
    assert_eq!(full.weights, 4 * p + 2 * 4096 * 4 * 4);
    // Full in bfloat16: a master too, and a base of two bytes.
    let (_, half) =
        memory("model.dtype = \"bfloat16\"\ngrpo.rollouts_per_step = 32\ngrpo.micro_batch = 32\n");
    assert_eq!((half.optimizer, half.gradients), (14 * p, 4 * p));
    assert_eq!(half.weights, 2 * p + 2 * 4096 * 4 * 2);
    // Masked: moments and master, an index of four bytes, the base. Floors of half of each tensor.
    let (active, masked) = memory("mask = { type = \"random\", sparsity = 0.5 }\n");
    assert_eq!(active, p / 2);
    assert_eq!(masked.optimizer, (12 + 4 + 4) * active);
    // The trained entries; densely one layer (512 without its 16 biases) and the vocabulary.
    assert_eq!(masked.gradients, 4 * (active + 496 + 2400));
    let (active, half) = memory("model.dtype = \"bfloat16\"\nmask = { type = \"random\", sparsity = 0.5 }\n");
    assert_eq!(half.optimizer, (12 + 4 + 2) * active);
}

#[test]
fn cache_tape_and_logits_are_of_the_longest_conversation() {
    let text = "grpo = { rollouts_per_step = 32, group_size = 8, micro_batch = 16 }\nsampling.max_tokens = 40\n\
        eval = { examples = 4, sampling.max_tokens = 40 }\n";
    let config = run_of(&format!("{text}{TINY}"));
    let memory = estimate(&config).expect("built in").memory;
    let lengths = Lengths::of(&config.task, &config.model.source);
    let prompt = lengths.turns[0].longest_prompt as u64;
    // Keys and values, 2 * 4 bytes * 2 layers * 4, of 32 rows and of the 4 prompts that they begin with.
    assert_eq!(memory.cache, (32 * (prompt + 40) + 4 * prompt) * 64);
    // Of 16 answers one is cut at 40, the others are as long as long ones are.
    let drawn = 40.0 + 15.0 * lengths.turns[0].longest_answer.min(40.0);
    // 300 logits and three vectors of 8 for 512 of them, and a transpose of the vocabulary's matrix.
    assert_eq!(memory.logits, (4.0 * (drawn.min(512.0) * (3.0 * 8.0 + 300.0) + 8.0 * 300.0)) as u64);
    // 32 answers without their last token, and 4 prompts; a layer keeps 2 (8 + 8 + 4 + 12) numbers and 2 sums, the stream 8.
    let tokens = 32 * 39 + 4 * prompt;
    assert_eq!(memory.tape, tokens * (2 * (64 + 2) * 4 + 8 * 4));
    // The way back adds the stream, attention's four vectors of half of the tokens, a block of what surrounds it, and transposes.
    let part = tokens / 2;
    let back =
        4 * (tokens * 8 + part * 2 * (8 + 4) + part.min(512) * (2 * 8 + 3 * 12 + 8) + 8 * (3 * 12 + 8));
    assert_eq!(memory.activations, memory.tape + back);
    // Two minibatches do not have the rollouts' weights, so nothing is written while they are played.
    let mut cut = config.clone();
    cut.grpo.minibatches = 2;
    assert_eq!(estimate(&cut).expect("built in").memory.tape, 0);
    // An evaluation that needs more decides: 64 conversations, each with a prompt of its own.
    let more =
        RunConfig { eval: tickets::manifest::EvalSpec { examples: 64, ..config.eval.clone() }, ..config };
    assert_eq!(estimate(&more).expect("built in").memory.cache, 64 * (2 * prompt + 40) * 64);
}

#[test]
fn rollouts_and_gradients_take_turns_in_memory() {
    let memory = Memory {
        weights: 1,
        optimizer: 2,
        state: 5,
        overhead: 4,
        gradients: 10,
        activations: 20,
        tape: 3,
        logits: 30,
        cache: 50,
        passing: 5,
    };
    assert_eq!(memory.total(), 7 + 60);
    assert_eq!(Memory { passing: 11, ..memory }.total(), 7 + 64);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
fn shapes_come_from_folders_caches_and_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch/chat");
    let config =
        run_of(&format!("[model]\npath = \"{}\"\n[task]\ntype = \"alphabet_sort\"\n", folder.display()));
    let shape = architecture(&config).expect("it has a config.json");
    let file = fs::metadata(folder.join("model.safetensors")).expect("committed").len();
    // Four bytes a parameter, and a header of some kilobytes.
    assert!((4 * count(&shape) as u64..4 * count(&shape) as u64 + 10_000).contains(&file), "{file}");

    let cache = tempfile::tempdir().expect("a folder");
    let (known, unknown) = (hub("Qwen/Qwen2.5-0.5B"), hub("somebody/something"));
    let table = architecture_in(&known, Some(cache.path())).expect("in the table");
    assert_eq!(table.layers, 24);
    assert_eq!(architecture_in(&unknown, Some(cache.path())), None);
    let commit = "abc0".repeat(10);
    for id in ["Qwen--Qwen2.5-0.5B", "somebody--something"] {
        let model = cache.path().join(format!("models--{id}"));
        fs::create_dir_all(model.join("refs")).expect("writable");
        fs::create_dir_all(model.join("snapshots").join(&commit)).expect("writable");
        write(&model.join("refs/main"), commit.as_bytes());
        write(
            &model.join("snapshots").join(&commit).join("config.json"),
            &fs::read(folder.join("config.json")).expect("committed"),
        );
    }
    // The file of a download is believed more than the table.
    assert_eq!(architecture_in(&known, Some(cache.path())), Some(shape.clone()));
    assert_eq!(architecture_in(&unknown, Some(cache.path())), Some(shape));
    // A file that is no use is as none.
    let snapshots = cache.path().join("models--Qwen--Qwen2.5-0.5B/snapshots");
    write(&snapshots.join(&commit).join("config.json"), b"{}");
    assert_eq!(architecture_in(&known, Some(cache.path())), Some(table));
}

#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("writable");
}

#[test]
fn scores_are_made_without_an_optimizer() {
    let config = run("[mask]\ntype = \"fisher\"\nsparsity = 0.9\n");
    let scores = of_scores(&config).expect("a Fisher mask");
    assert_eq!((scores.active, scores.memory.optimizer), (0, 0));
    assert!(scores.work.rollout.flops > 0.0 && scores.work.train.flops > 0.0);
    // Demonstrations are not played.
    let sample = run("[mask]\ntype = \"fisher\"\nsparsity = 0.9\n[fisher]\nestimator = \"sample\"\n");
    let sample = of_scores(&sample).expect("a Fisher mask");
    assert_eq!((sample.work.rollout.flops, sample.memory.cache), (0.0, 0));
    assert!(sample.work.train.flops > 0.0);
    // The model's own labels are drawn, 32 conversations at a time: a batch of 1024 needs 32 times that cache.
    let model = run("[mask]\ntype = \"fisher\"\nsparsity = 0.9\n[fisher]\nestimator = \"model\"\n");
    let model = of_scores(&model).expect("a Fisher mask");
    let ratio = scores.memory.cache as f64 / model.memory.cache as f64;
    assert!((ratio - 32.0).abs() < 8.0, "{ratio}");
    assert!(model.work.rollout.flops > 0.0);
    // Two halves: four bytes more per parameter than one episode needs.
    let one = |episodes: u32| {
        let text = format!(
            "[mask]\ntype = \"fisher\"\nsparsity = 0.9\n[fisher]\nestimator = \"sample\"\nepisodes = {episodes}\n"
        );
        of_scores(&run(&text)).expect("a Fisher mask").memory.gradients
    };
    assert_eq!(one(2) - one(1), 4 * sample.parameters);
    assert_eq!(of_scores(&run("[mask]\ntype = \"full\"\n")), None);
}
