//! A study manifest at the shape of a model of the study, with random weights that the program makes itself: two steps, an
//! evaluation, and a resume that comes out the same, for full fine-tuning and for a random 1 %.
//!
//! By default the shape is tiny. `TICKETS_STUDY_SHAPE=qwen2.5-0.5b` (`make study-shape`) takes the study's own, which needs
//! 20 GB of memory, 40 GB of disk below `TMPDIR` and some minutes, and prints what was measured.
#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;

use std::fs;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use common::Bench;
use tickets::data::{ModelDir, TensorFile};

/// Settings that the study's manifest is run with: what is not built yet is replaced, and the rollouts are few and short.
const OVERRIDES: &[&str] = &[
    "mask.rng=chacha",
    "task.episodes=counter",
    "task.order=shuffled",
    "task.similarity_power=1",
    "task.max_names_per_turn=2",
    "grpo.steps=2",
    "grpo.rollouts_per_step=8",
    "grpo.group_size=4",
    "grpo.micro_batch=4",
    "sampling.max_tokens=24",
    "eval.examples=4",
    "eval.every=2",
    "eval.sampling.max_tokens=8",
    "exec.device=auto",
    "exec.checkpoint_every=1",
    "exec.keep_checkpoints=1",
    "exec.keep_mib=0",
];

const TINY: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 6000, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true,
    "max_position_embeddings": 32768, "hidden_act": "silu"}"#;

/// Gives the model a liking for the answer's tags and some letters, whatever it has read: random weights earn nothing, and
/// equal rewards have no gradient. The first feature of every token is the same but for those it likes, and so large that no layer
/// drowns it.
fn give_a_liking(folder: &Path) {
    let dir = ModelDir::open(folder).unwrap();
    let chat = dir.chat().unwrap();
    let tags = [
        "<alphabetical_sorted>",
        "</alphabetical_sorted>",
        "<combined_alphabetical_sorted>",
        "</combined_alphabetical_sorted>",
    ];
    let liked: Vec<u32> = tags
        .into_iter()
        .chain(["a", "e", "i", "n", "r", "l"])
        .map(|text| chat.tokenizer.id(text).unwrap())
        .collect();
    let path = &dir.weights[0];
    let tensors = TensorFile::open(path).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let put = |name: &str, index: usize, value: f32| {
        let bytes = ((value.to_bits() >> 16) as u16).to_le_bytes();
        let at = tensors.entry(name).unwrap().start + 2 * index as u64;
        file.write_all_at(&bytes, at).unwrap();
    };
    for token in 0..dir.architecture.vocab_size {
        let value = if liked.contains(&(token as u32)) { 10.0 } else { 8.0 };
        put("model.embed_tokens.weight", token * dir.architecture.hidden_size, value);
    }
    put("model.norm.weight", 0, 3.0);
}

/// The rows of the newest attempt below a kept scratch folder, whichever store it is in.
fn rows_below(folder: &Path, file: &str) -> Vec<serde_json::Map<String, Value>> {
    let found = Command::new("find").arg(folder).args(["-name", file]).output().unwrap();
    let mut paths: Vec<String> =
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    paths.sort();
    // With what was measured, which the other tests leave out.
    let text = fs::read_to_string(paths.last().unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_study_manifest_runs_and_resumes_at_its_shape() {
    let wanted = std::env::var("TICKETS_STUDY_SHAPE").unwrap_or_default();
    let bench = Bench::new();
    bench.write("tiny.json", TINY);
    let shape = if wanted.is_empty() { "tiny.json" } else { &wanted };
    let threads = if wanted.is_empty() { 1 } else { std::thread::available_parallelism().unwrap().get() };
    bench.run(&["model", "random", "--config", shape, "--out", "model", "--seed", "7"]).ends(0);
    give_a_liking(&bench.path("model"));
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = project.join("manifests/lr_random.toml");
    let mut overrides: Vec<String> = OVERRIDES.iter().map(|&text| text.to_owned()).collect();
    overrides.push(format!("model.path={}", bench.path("model").display()));
    overrides.push(format!("task.names={}", project.join("manifests/names/short.jsonl").display()));
    overrides.push(format!("exec.threads={threads}"));
    for run in ["full-lr1e-6", "random-0.99-s0-lr1e-4"] {
        let mut arguments = vec![
            "verify",
            "resume",
            manifest.to_str().unwrap(),
            "--run",
            run,
            "--at",
            "1",
            "--keep",
            "--json",
        ];
        arguments.extend(overrides.iter().flat_map(|text| ["--set", text]));
        let begun = Instant::now();
        let mut command = bench.command(&arguments);
        let output = command.output().unwrap();
        let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}{said}");
        let verdict: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(verdict["equal"], true, "{verdict:#}");
        let scratch = bench.path(verdict["kept"].as_str().unwrap());
        let metrics = rows_below(&scratch, "metrics.jsonl");
        assert_eq!(metrics.len(), 2);
        // What was compared is training: rewards differ, and the weights moved.
        let number = |row: &serde_json::Map<String, Value>, key: &str| row[key].as_f64().unwrap();
        assert!(metrics.iter().all(|row| number(row, "reward/std") > 0.0), "{metrics:?}");
        assert!(metrics.iter().all(|row| number(row, "grad_norm/masked") > 0.0), "{metrics:?}");
        assert!(number(&metrics[1], "update/l2") > 0.0, "{metrics:?}");
        if !wanted.is_empty() {
            let peak = metrics.iter().map(|row| number(row, "peak_memory_bytes")).fold(0.0, f64::max);
            for row in &metrics {
                println!(
                    "{shape} {run}: step {}: rollouts {:.1} s, training {:.1} s, reward {:.4} +- {:.4}",
                    row["step"],
                    number(row, "rollout_seconds"),
                    number(row, "train_seconds"),
                    number(row, "reward/mean"),
                    number(row, "reward/std"),
                );
            }
            println!(
                "{shape} {run}: peak memory {:.1} GiB, {:.0} s in all for twice two steps",
                peak / (1u64 << 30) as f64,
                begun.elapsed().as_secs_f64()
            );
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}
