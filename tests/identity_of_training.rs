//! Ids of what was added to the loss and the optimizer later: at the old behaviour's values they are not in any id, and at others
//! they move what they influence.

mod manifest_support;

use std::collections::BTreeSet;

use manifest_support::{HEAD, plan};
use tickets::plan::RunSpec;

const FISHER: &str = "[mask]\ntype = \"fisher\"\nsparsity = 0.9\n";

fn only_run(text: &str, set: &[&str]) -> RunSpec {
    let mut plan = plan(text, set).unwrap_or_else(|error| panic!("{set:?}: {error}"));
    assert_eq!(plan.runs.len(), 1);
    plan.runs.remove(0)
}

/// The stages whose ids differ.
fn moved(text: &str, key: &str, value: &str) -> BTreeSet<&'static str> {
    let (left, right) = (only_run(text, &[]), only_run(text, &[&format!("{key}={value}")]));
    let (a, b) = (&left.stages, &right.stages);
    let pairs = [
        ("base", a.base != b.base),
        ("scores", a.scores != b.scores),
        ("mask", a.mask != b.mask),
        ("trajectory", a.trajectory != b.trajectory),
        ("train", a.train != b.train),
        ("eval", a.eval != b.eval),
        ("run", left.id != right.id),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(stage, _)| stage).collect()
}

const TRAINED: [&str; 4] = ["trajectory", "train", "eval", "run"];

#[test]
fn the_schedule_and_the_decay_move_training_alone() {
    for (table, key, value) in [
        ("", "optimizer.schedule", "cosine"),
        ("", "optimizer.schedule", "linear"),
        ("", "optimizer.warmup_steps", "7"),
        ("", "optimizer.decay", "study"),
        ("[optimizer]\nschedule = \"linear\"\n", "optimizer.schedule", "cosine"),
        ("[optimizer]\nschedule = \"linear\"\n", "optimizer.final_share", "0.1"),
        ("[optimizer]\nschedule = \"cosine\"\n", "optimizer.final_share", "0.1"),
    ] {
        let text = format!("{HEAD}{FISHER}{table}");
        assert_eq!(moved(&text, key, value), BTreeSet::from(TRAINED), "{table}{key}={value}");
    }
}

#[test]
fn what_moves_a_gradient_moves_the_scores_of_the_batch_estimator() {
    let grpo = |text: &str| format!("[grpo]\n{text}\n");
    for (table, key, value) in [
        (String::new(), "grpo.ratio", "cispo"),
        (String::new(), "grpo.level", "sequence"),
        (String::new(), "grpo.normaliser", "constant"),
        (String::new(), "grpo.clip_delta", "3"),
        (grpo("ratio = \"cispo\""), "grpo.cispo_high", "2"),
        (grpo("ratio = \"mask\""), "grpo.sequence_mask_low", "0.1"),
        (grpo("kl_coef = 0.1"), "grpo.kl_corrected", "true"),
        (grpo("normaliser = \"constant\""), "sampling.max_tokens", "64"),
    ] {
        let stages: Vec<&str> = ["scores", "mask"].into_iter().chain(TRAINED).collect();
        let text = format!("{HEAD}{FISHER}{table}");
        assert_eq!(moved(&text, key, value), stages.into_iter().collect(), "{table}{key}={value}");
        // The other estimators take no gradient of the loss; one draws answers of that length.
        for estimator in ["sample", "model"] {
            let text = format!("{text}[fisher]\nestimator = \"{estimator}\"\n");
            let stages = if (estimator, key) == ("model", "sampling.max_tokens") {
                ["scores", "mask"].into_iter().chain(TRAINED).collect()
            } else {
                BTreeSet::from(TRAINED)
            };
            assert_eq!(moved(&text, key, value), stages, "{estimator}, {table}{key}={value}");
        }
    }
}

#[test]
fn what_moves_the_scores_of_the_models_own_labels() {
    let text = format!("{HEAD}{FISHER}[fisher]\nestimator = \"model\"\n");
    let scored: BTreeSet<&str> = ["scores", "mask"].into_iter().chain(TRAINED).collect();
    for (key, value) in [
        ("fisher.estimator", "sample"),
        ("fisher.estimator", "batch"),
        ("fisher.episodes", "512"),
        ("fisher.seed", "1"),
        ("model.dtype", "bfloat16"),
        ("sampling.max_tokens", "64"),
    ] {
        assert_eq!(moved(&text, key, value), scored, "{key}={value}");
    }
    // Its labels are drawn from the model as it is, and each is differentiated by itself, unclipped.
    for (key, value) in [
        ("sampling.temperature", "0.5"),
        ("sampling.top_p", "0.9"),
        ("sampling.top_k", "5"),
        ("sampling.min_p", "0.1"),
        ("sampling.repetition_penalty", "1.1"),
        ("grpo.group_size", "4"),
        ("grpo.advantage", "mean_std"),
        ("grpo.kl_coef", "0.1"),
        ("grpo.micro_batch", "64"),
        ("optimizer.clip_norm", "0.5"),
    ] {
        assert_eq!(moved(&text, key, value), BTreeSet::from(TRAINED), "{key}={value}");
    }
}

#[test]
fn the_number_of_steps_is_part_of_a_trajectory_whose_rate_falls() {
    for (schedule, stages) in
        [("constant", vec!["train", "run"]), ("linear", TRAINED.to_vec()), ("cosine", TRAINED.to_vec())]
    {
        let text = format!("{HEAD}[optimizer]\nschedule = \"{schedule}\"\nwarmup_steps = 3\n");
        assert_eq!(moved(&text, "grpo.steps", "99"), stages.into_iter().collect(), "{schedule}");
    }
}

#[test]
fn old_behaviour_spelled_out_moves_nothing() {
    for (key, value) in [
        ("optimizer.schedule", "constant"),
        ("optimizer.warmup_steps", "0"),
        ("optimizer.decay", "decoupled"),
        ("grpo.level", "token"),
        ("grpo.kl_corrected", "false"),
        ("grpo.activations_mib", "2048"),
        // Without a penalty there is nothing to correct.
        ("grpo.kl_corrected", "true"),
    ] {
        assert_eq!(moved(&format!("{HEAD}{FISHER}"), key, value), BTreeSet::new(), "{key}={value}");
    }
}
