//! Files with a byte or a score per entry of the model are never in memory as a whole, and a mask is chosen in what it takes itself.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::json;
use tickets::data::{Architecture, safetensors};
use tickets::masks;
use tickets::sparsity::Mask;

use crate::common::Bench;
use crate::support::{digest, put, size};

/// Peak resident memory of a command, in KiB, as the kernel counts it up to shortly before its end; the command must succeed.
fn peak(bench: &Bench, arguments: &[&str]) -> u64 {
    let mut child = bench.command(arguments).spawn().expect("the program can be started");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(found.unwrap_or(0));
        if let Some(ended) = child.try_wait().expect("it is ours") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(ended.success(), "{arguments:?}");
    peak
}

#[test]
fn booleans_of_64_mib_take_a_few_mib() {
    let bench = Bench::new();
    let tensors = vec![size("model.embed_tokens.weight", &[8192, 8192]), size("model.norm.weight", &[8192])];
    let every_thousandth = (0..8192 * 8192).step_by(1000).collect();
    let mask = Mask::new(tensors, vec![every_thousandth, vec![0, 8191]]).expect("a mask");
    put(&bench, "m", &mask, &json!({ "type": "by hand", "active": mask.active(), "total": mask.total() }));
    // What the program takes without any of it. The last sample of a short run may be early, so it is run more than once.
    let looks = (0..5).map(|_| peak(&bench, &["masks", "describe", "m"]));
    let own = looks.max().expect("some");
    for arguments in
        [["masks", "export", "m", "--out", "bools"], ["masks", "import", "bools", "--out", "back"]]
    {
        let taken = peak(&bench, &arguments).saturating_sub(own);
        assert!(taken < 24 << 10, "{arguments:?}: {taken} KiB more than to look at a mask");
    }
    assert!(fs::metadata(bench.path("bools")).expect("a file").len() > 64 << 20);
    assert_eq!(digest(&bench.path("back")), digest(&bench.path("m")));
}

#[test]
fn a_global_ranking_of_256_mib_of_scores_takes_a_few_mib() {
    let bench = Bench::new();
    // Zeros without a block on the disk: all scores are equal, so the mask is the prefix that the rule between ties says.
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 65_536, "hidden_size": 1024,
        "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": true, "max_position_embeddings": 128,
    })
    .to_string();
    bench.write("model/config.json", &config);
    let sizes = Architecture::from_config_json(config.as_bytes(), "config.json").expect("a shape").sizes();
    let described =
        sizes.iter().map(|size| (size.name.as_str(), "F32", size.shape.as_slice(), 4 * size.elements()));
    let head = safetensors::header(described, &std::collections::BTreeMap::new());
    let bytes = sizes.iter().map(|size| 4 * size.elements() as u64).sum::<u64>();
    let mut file = fs::File::create(bench.path("scores")).expect("a file");
    file.write_all(&head).expect("written");
    file.set_len(head.len() as u64 + bytes).expect("a hole");
    let looks = (0..5).map(|_| peak(&bench, &["task", "show", "--help"]));
    let own = looks.max().expect("some");
    let head = [
        "masks",
        "build",
        "--model",
        "model",
        "--type",
        "fisher",
        "--scores",
        "scores",
        "--sparsity",
        "0.99",
    ];
    for (number, more) in
        [["--scope", "global"], ["--scope", "per_layer"], ["--unit", "row"]].iter().enumerate()
    {
        let out = format!("m{number}");
        let arguments = [head.as_slice(), more.as_slice(), &["--out", &out]].concat();
        let taken = peak(&bench, &arguments).saturating_sub(own);
        // Pieces of 4 MiB as bytes and as numbers, counters, and a mask of 2.7 MiB as lists and as bytes.
        assert!(taken < 32 << 10, "{more:?}: {taken} KiB more than a look at the program's help");
    }
    let mask = masks::read(&bench.path("m0"), None).expect("a mask").mask;
    let kept = mask.total() / 100;
    assert_eq!(mask.indices()[0], (0..kept as u32).collect::<Vec<_>>());
}

#[test]
fn random_masks_of_half_a_billion_entries_take_what_their_largest_draw_takes() {
    let bench = Bench::new();
    let head =
        ["masks", "build", "--model", "qwen2.5-0.5b", "--type", "random", "--sparsity", "0.99", "--out"];
    for (out, more) in [("a", ["--rng", "numpy"]), ("b", ["--scope", "global"])] {
        let taken = peak(&bench, &[head.as_slice(), &[out], &more].concat());
        // 59 MiB of bits at most, a mask of 19 MiB and its copies, and the program itself with its libraries.
        assert!(taken < 300 << 10, "{more:?}: {taken} KiB");
    }
    // Both masks, 19 MiB each, and the program.
    let taken = peak(&bench, &["masks", "jaccard", "a", "b"]);
    assert!(taken < 240 << 10, "{taken} KiB");
    let said = bench.run(&["masks", "jaccard", "a", "b", "--json"]).ends(0).json();
    let (found, chance) = (said["matrix"][0][1].as_f64(), said["chance"][0][1].as_f64());
    assert!((found.expect("a number") / chance.expect("a number") - 1.0).abs() < 0.03, "{said}");
}
