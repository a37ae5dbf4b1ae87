//! Disk space against files that were really written: sizes of a real store, and a run that the store itself keeps.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tickets::estimate::{Disk, Footprint, footprint};
use tickets::manifest::RunConfig;
use tickets::store::Store;

use crate::manifest_support::plan_of;
use crate::run_of;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// h 8, i 12, 2 layers, 2 heads of width 4, 1 key head, vocabulary 300: 3432 parameters in 26 tensors.
const TINY: &str = "[model.pretrain]\nhidden_size = 8\nintermediate_size = 12\nlayers = 2\nheads = 2\nkv_heads = 1\n\
    vocab_size = 300\n[task]\ntype = \"alphabet_sort\"\nmax_turns = 1\n";

fn of(config: &RunConfig) -> Footprint {
    footprint(config).expect("a built-in base")
}

/// Whole blocks.
fn file(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

#[test]
fn sizes_are_those_of_a_store_of_the_smoke_manifest() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/smoke.toml");
    let plan = plan_of(path.to_str().expect("UTF-8"), &[], &[]).expect("valid");
    let found = |kind: &str| {
        let run = plan.runs.iter().find(|run| run.label == kind).unwrap_or_else(|| panic!("{kind}"));
        of(&run.config)
    };
    let (full, fisher, random) = (found("full"), found("fisher"), found("random"));
    // The files of a store that was made with libtorch, by their bytes.
    assert_eq!((full.state, random.state), (356_232, 43_100));
    assert!(fisher.state.abs_diff(43_160) <= 128, "{}", fisher.state);
    assert_eq!((full.mask, full.scores, random.scores), (0, 0, 0));
    assert_eq!(random.mask, file(14_284) + 2 * BLOCK);
    assert_eq!(fisher.mask, file(14_392) + 2 * BLOCK);
    assert_eq!(fisher.scores, file(119_160) + 2 * BLOCK);
    // Weights, tokenizer, four small files, marker, folder.
    let base = file(118_456) + file(10_152) + 6 * BLOCK;
    assert_eq!((full.base, random.base), (fisher.base, fisher.base));
    assert!(full.base >= base && full.base <= base + BLOCK, "{} for {base}", full.base);
    // `du` of the runs' folders: two states, rows of either kind, records, folders. Newer stores have a few records more.
    for (run, du) in [(full, 748 << 10), (fisher, 140 << 10), (random, 140 << 10)] {
        let kept = run.run.kept_bytes;
        assert!(kept >= du && kept <= du + 4 * BLOCK, "{kept} for {du}");
    }
}

#[test]
fn states_hold_three_floats_per_trained_entry() {
    // 64 Mi entries and more: the header, some kB, is nothing beside them.
    let large = "[model.pretrain]\nhidden_size = 1024\nheads = 16\nlayers = 8\nvocab_size = 20000\n\
        intermediate_size = 4096\n[task]\ntype = \"alphabet_sort\"\n";
    let full = of(&run_of(large));
    let parameters = tickets::estimate::estimate(&run_of(large)).expect("built in").parameters;
    let near = |bytes: u64, wanted: u64| bytes >= wanted && bytes < wanted + (64 << 10);
    assert!(parameters > 64 * MIB && near(full.state, 12 * parameters), "{}", full.state);
    assert!(near(full.base, 4 * parameters) || full.base < 4 * parameters + 4 * MIB, "{}", full.base);
    // The type of the weights is not that of what is stored.
    let text = large.replacen("[model.pretrain]", "[model]\ndtype = \"bfloat16\"\n[model.pretrain]", 1);
    assert_eq!(of(&run_of(&text)), full);
    let sparse = of(&run_of(&format!("{large}[mask]\ntype = \"magnitude\"\nsparsity = 0.99\n")));
    let active = parameters / 100;
    assert!(near(sparse.state, 12 * active) && near(sparse.mask, 4 * active), "{sparse:?}");
}

#[test]
fn a_model_that_exists_is_not_copied() {
    let text = "[model]\nid = \"Qwen/Qwen2.5-0.5B\"\n[task]\ntype = \"alphabet_sort\"\n";
    let found = of(&run_of(text));
    assert!(found.base < MIB && found.state > 12 * 494_032_768, "{found:?}");
    let other = "[model]\nid = \"Somebody/Unheard-of\"\n[task]\ntype = \"alphabet_sort\"\n";
    assert_eq!(footprint(&run_of(other)), None);
}

/// The bytes of everything below a folder, in whole blocks.
fn taken(folder: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("readable"));
    let size = |entry: walkdir::DirEntry| {
        if entry.file_type().is_dir() { BLOCK } else { file(entry.metadata().expect("readable").size()) }
    };
    entries.map(size).sum()
}

/// Writes a run of this configuration as the trainer does; the most bytes that it took, and those that stay.
fn written(config: &RunConfig) -> Disk {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let mut attempt = store.begin("0f").expect("begun");
    let exec = &config.exec;
    attempt.keep_bytes(u64::from(exec.keep_mib) << 20);
    let state = vec![7; of(config).state as usize];
    let files: &[(&str, &[u8])] = &[("state.safetensors", &state)];
    let row =
        |bytes: usize| json!({ "step": 1, "text": "x".repeat(bytes) }).as_object().cloned().expect("a row");
    let (metrics, eval) = (row(760), row(180));
    let runs = folder.path().join(".store/run");
    let mut peak = 0;
    attempt.eval(&eval).expect("written");
    for step in 0..=config.grpo.steps {
        if step > 0 {
            attempt.metrics(&metrics).expect("written");
            if step.is_multiple_of(config.eval.every) || step == config.grpo.steps {
                attempt.eval(&eval).expect("written");
            }
        }
        if step.is_multiple_of(exec.checkpoint_every) && step < config.grpo.steps {
            // Beside the others until it is complete.
            peak = peak.max(taken(&runs) + file(state.len() as u64) + 2 * BLOCK);
            attempt.checkpoint(step, files, json!({}), exec.keep_checkpoints).expect("written");
        }
    }
    peak = peak.max(taken(&runs) + file(state.len() as u64));
    attempt.finish(files, json!({})).expect("finished");
    Disk { peak_bytes: peak, kept_bytes: taken(&runs) }
}

#[test]
fn a_run_takes_what_the_store_keeps_of_it() {
    // A state has 47 KiB, so that one MiB holds some twenty of them.
    for (steps, every, keep, mib) in
        [(1, 1, 1, 1), (4, 2, 2, 0), (60, 1, 2, 1), (61, 3, 5, 1), (90, 2, 30, 1), (12, 50, 2, 9)]
    {
        let text = format!(
            "{TINY}[grpo]\nsteps = {steps}\n[eval]\nevery = 7\n[exec]\ncheckpoint_every = {every}\n\
             keep_checkpoints = {keep}\nkeep_mib = {mib}\n"
        );
        let config = run_of(&text);
        let (wanted, found) = (written(&config), of(&config).run);
        let context = format!("{steps} {every} {keep} {mib}: {found:?} for {wanted:?}");
        // Records that this test does not write, and rows that are a little shorter than they may be.
        let above = |found: u64, wanted: u64| found.checked_sub(wanted).expect(&context) / BLOCK;
        assert!(above(found.kept_bytes, wanted.kept_bytes) <= 14, "{context}");
        assert!(above(found.peak_bytes, wanted.peak_bytes) <= 18, "{context}");
    }
}

#[test]
fn a_grid_takes_what_stays_and_what_its_workers_have_beyond() {
    let run = |peak_bytes, kept_bytes| Disk { peak_bytes, kept_bytes };
    let runs = [run(100, 40), run(70, 50), run(300, 10), run(20, 20)];
    // Beyond what stays: 60, 20, 290, 0.
    let grid = |jobs| Disk::of_grid(1000, &runs, jobs);
    assert_eq!(grid(1), run(1120 + 290, 1120));
    assert_eq!(grid(2), run(1120 + 350, 1120));
    assert_eq!((grid(9), grid(0)), (run(1120 + 370, 1120), grid(1)));
    assert_eq!(Disk::of_grid(7, &[], 2), run(7, 7));
    // What is there already is not needed again, and never a debt.
    assert_eq!(run(100, 40).less(30), run(70, 10));
    assert_eq!(run(100, 40).less(70), run(30, 0));
    assert_eq!(run(100, 40).less(200), run(0, 0));
    assert_eq!(Disk::of_grid(1, &[run(u64::MAX, 3)], 1), run(u64::MAX, 4));
}
