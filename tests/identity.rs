//! Ids: what leaves them alone, what moves them, and which stages it moves.

mod manifest_support;

use std::collections::BTreeSet;

use manifest_support::{Folder, HEAD, plan, plan_of};
use proptest::prelude::*;
use proptest::test_runner::Config;
use tickets::manifest::{KEYS, Kind, find_key, load_with};
use tickets::plan::{RunSpec, identify};
use tickets::task::{PromptTemplates, TaskSpec};

/// A stage, in the order in which they stand on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Base,
    Scores,
    Mask,
    Trajectory,
    Train,
    Eval,
    Run,
}
use Stage::{Base, Eval, Mask, Run, Scores, Train, Trajectory};

/// Everything that stands on a mask.
const TRAINED: [Stage; 4] = [Trajectory, Train, Eval, Run];

fn only_run(text: &str, set: &[&str]) -> RunSpec {
    let mut plan = plan(text, set).unwrap_or_else(|error| panic!("{set:?}: {error}"));
    assert_eq!(plan.runs.len(), 1);
    plan.runs.remove(0)
}

/// The stages whose ids differ.
fn moved(left: &RunSpec, right: &RunSpec) -> BTreeSet<Stage> {
    let mut stages = BTreeSet::new();
    let mut note = |stage, differs: bool| differs.then(|| stages.insert(stage));
    note(Base, left.stages.base != right.stages.base);
    note(Scores, left.stages.scores != right.stages.scores);
    note(Mask, left.stages.mask != right.stages.mask);
    note(Trajectory, left.stages.trajectory != right.stages.trajectory);
    note(Train, left.stages.train != right.stages.train);
    note(Eval, left.stages.eval != right.stages.eval);
    note(Run, left.id != right.id);
    stages
}

/// Another valid value of every key (as TOML), and the kind of influence that it has.
#[rustfmt::skip]
const CHANGES: &[(&str, &str, Influence)] = {
    use Influence::*;
    &[
        ("seed", "1", Training),
        ("model.dtype", "bfloat16", Typing),
        ("model.pretrain.hidden_size", "64", Everything),
        ("model.pretrain.intermediate_size", "351", Everything),
        ("model.pretrain.layers", "3", Everything),
        ("model.pretrain.heads", "2", Everything),
        ("model.pretrain.kv_heads", "4", Everything),
        ("model.pretrain.vocab_size", "513", Everything),
        ("model.pretrain.steps", "599", Everything),
        ("model.pretrain.batch", "63", Everything),
        ("model.pretrain.lr", "1e-3", Everything),
        ("model.pretrain.shuffled", "0.5", Everything),
        ("model.pretrain.target_reward", "0.5", Everything),
        ("model.pretrain.seed", "1", Everything),
        ("task.min_turns", "2", Everything),
        ("task.max_turns", "2", Everything),
        ("task.min_names_per_turn", "2", Everything),
        ("task.max_names_per_turn", "4", Everything),
        ("task.sort_by", "first", Everything),
        ("task.similarity_power", "3", Everything),
        ("task.power_per_turn", "false", Everything),
        ("task.prompts.first", "another wording of {{ names }}", Everything),
        ("task.prompts.second", "another wording of {{ names }}", Everything),
        ("task.prompts.later", "another wording of {{ names }}", Everything),
        ("grpo.steps", "99", Lasting),
        ("grpo.rollouts_per_step", "64", Training),
        ("grpo.group_size", "4", BatchGradient),
        ("grpo.advantage", "mean_std", BatchGradient),
        ("grpo.ratio", "mask", BatchGradient),
        ("grpo.clip_low", "0.1", BatchGradient),
        ("grpo.clip_high", "0.1", BatchGradient),
        ("grpo.mask_low", "0.25", BatchGradient),
        ("grpo.mask_high", "4", BatchGradient),
        ("grpo.normaliser", "sequence", BatchGradient),
        ("grpo.kl_coef", "0.1", BatchGradient),
        ("grpo.minibatches", "2", Training),
        ("grpo.updates_per_batch", "2", Training),
        ("grpo.micro_batch", "64", BatchGradient),
        ("grpo.activations_mib", "4096", Training),
        ("optimizer.lr", "2e-6", Training),
        ("optimizer.betas", "[0.9, 0.95]", Training),
        ("optimizer.eps", "1e-7", Training),
        ("optimizer.weight_decay", "0", Training),
        ("optimizer.clip_norm", "0.5", BatchGradient),
        ("optimizer.clip_domain", "dense", Training),
        ("sampling.temperature", "0.9", BatchGradient),
        ("sampling.top_p", "0.9", BatchGradient),
        ("sampling.top_k", "5", BatchGradient),
        ("sampling.min_p", "0.1", BatchGradient),
        ("sampling.repetition_penalty", "1.1", BatchGradient),
        ("sampling.max_tokens", "64", BatchGradient),
        ("mask.sparsity", "0.5", Selecting),
        ("mask.seed", "1", Selecting),
        ("mask.rng", "numpy", Selecting),
        ("mask.rounding", "ceil", Selecting),
        ("fisher.estimator", "*", Scoring),
        ("fisher.episodes", "512", Scoring),
        ("fisher.seed", "1", Scoring),
        ("eval.examples", "127", Evaluating),
        ("eval.seed", "2002", Evaluating),
        ("eval.every", "5", Pacing),
        ("eval.sampling.temperature", "0", Evaluating),
        ("eval.sampling.top_p", "0.9", Evaluating),
        ("eval.sampling.top_k", "5", Evaluating),
        ("eval.sampling.min_p", "0.1", Evaluating),
        ("eval.sampling.repetition_penalty", "1.1", Evaluating),
        ("eval.sampling.max_tokens", "64", Evaluating),
        ("exec.device", "cpu", Nothing),
        ("exec.jobs", "3", Nothing),
        ("exec.threads", "2", Nothing),
        ("exec.checkpoint_every", "5", Nothing),
        ("exec.keep_checkpoints", "3", Nothing),
        ("exec.keep_mib", "0", Nothing),
        ("exec.lease_seconds", "2", Nothing),
        ("exec.retries.nan", "1", Nothing),
        ("exec.retries.oom", "1", Nothing),
        ("exec.retries.killed", "1", Nothing),
        ("exec.retries.infra", "1", Nothing),
        ("exec.retries.store", "0", Nothing),
        ("exec.cuda_graphs", "true", Nothing),
        ("exec.max_runs", "3", Nothing),
    ]
};

/// The keys of tests/identity_of_training.rs and tests/identity_of_masks.rs.
#[rustfmt::skip]
const OF_TRAINING: [&str; 19] = ["optimizer.schedule", "optimizer.final_share", "optimizer.warmup_steps", "optimizer.decay",
    "grpo.level", "grpo.clip_delta", "grpo.sequence_mask_low", "grpo.cispo_high", "grpo.kl_corrected", "mask.scope",
    "mask.group", "mask.unit", "mask.keep", "mask.modules", "mask.run", "mask.file", "mask.other", "mask.control", "mask.control_seed"];

/// Keys that `identity_of_tasks.rs` is about.
#[rustfmt::skip]
const OF_TASKS: [&str; 19] = ["task.episodes", "task.seed", "task.file", "task.order", "task.question_column",
    "task.answer_column", "task.digits", "task.terms", "task.length", "task.numbers", "task.largest", "task.program",
    "task.command", "eval.rows", "model.run", "model.pretrain.mix", "exec.retries.task", "exec.task_workers",
    "exec.task_timeout"];

/// Keys that have tests of their own: files, and the choice of the mask.
const ELSEWHERE: [&str; 5] = ["model.path", "task.names", "task.row_names", "task.type", "mask.type"];

/// The keys of inputs from a hub, of tasks of questions and of masks without a sparsity: a manifest, another value, the
/// stages that move.
#[rustfmt::skip]
const FROM_A_HUB: &[(&str, &str, &[Stage])] = &[
    ("model.id", "Qwen/Qwen2.5-1.5B", &[Base, Mask, Trajectory, Train, Eval, Run]),
    ("model.revision", "0000000000000000000000000000000000000002", &[Base, Mask, Trajectory, Train, Eval, Run]),
    ("model.dtype", "bfloat16", &[Base, Mask, Trajectory, Train, Eval, Run]),
    ("mask.layers", "last", &[Mask, Trajectory, Train, Eval, Run]),
    ("mask.count", "2", &[Mask, Trajectory, Train, Eval, Run]),
    ("task.dataset", "openai/other", &[Trajectory, Train, Eval, Run]),
    ("task.revision", "0000000000000000000000000000000000000003", &[Trajectory, Train, Eval, Run]),
    ("task.subset", "socratic", &[Trajectory, Train, Eval, Run]),
    ("task.split", "test", &[Trajectory, Train, Eval, Run]),
    ("task.system_prompt", "Think.", &[Trajectory, Train, Eval, Run]),
    ("eval.one.examples", "9", &[Eval, Run]),
    ("eval.one.seed", "9", &[Eval, Run]),
    ("eval.one.sampling.temperature", "0.9", &[Eval, Run]),
    ("eval.one.task.split", "validation", &[Eval, Run]),
    ("eval.one.every", "9", &[Run]),
    ("eval.two.examples", "9", &[Eval, Run]),
    // Where there are named evaluations, the plain one is only their default.
    ("eval.examples", "9", &[Eval, Run]),
];

const HUB: &str = "[model]\nid = \"Qwen/Qwen2.5-0.5B\"\nrevision = \"0000000000000000000000000000000000000001\"\n\
    [task]\ntype = \"gsm8k\"\ndataset = \"openai/gsm8k\"\nrevision = \"0000000000000000000000000000000000000002\"\n\
    subset = \"main\"\n[mask]\ntype = \"layers\"\n[eval.one]\nexamples = 5\ntask.split = \"test\"\n[eval.two]\nseed = 7\n";

#[test]
fn inputs_of_a_hub_are_their_repository_and_commit() {
    let before = only_run(HUB, &[]);
    assert!(before.provisional.is_empty(), "{:?}", before.provisional);
    for (key, value, stages) in FROM_A_HUB {
        let after = only_run(HUB, &[&format!("{key}={value}")]);
        assert_eq!(moved(&before, &after), stages.iter().copied().collect(), "{key}={value}");
    }
    // A key that both evaluations set for themselves is nobody's default.
    let text = format!("{HUB}examples = 4\n");
    assert_eq!(moved(&only_run(&text, &[]), &only_run(&text, &["eval.examples=9"])), BTreeSet::new());
}

#[test]
fn what_is_not_pinned_is_provisional_and_another_repository_has_no_inherited_revision() {
    let run = only_run(HUB, &["model.id=Qwen/Qwen2.5-1.5B"]);
    assert_eq!(run.provisional, ["model.revision"]);
    let run = only_run(HUB, &["task.dataset=openai/other"]);
    assert_eq!(run.provisional, ["task.revision", "eval.one.task.revision", "eval.two.task.revision"]);
    let run = only_run(HUB, &["eval.two.task.dataset=openai/other"]);
    assert_eq!(run.provisional, ["eval.two.task.revision"]);
    // A provisional id is never that of a pinned run.
    let pinned = only_run(
        HUB,
        &["model.id=Qwen/Qwen2.5-1.5B", "model.revision=0000000000000000000000000000000000000001"],
    );
    assert!(pinned.provisional.is_empty());
    assert_ne!(pinned.id, only_run(HUB, &["model.id=Qwen/Qwen2.5-1.5B"]).id);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Influence {
    Everything,
    /// The type of the weights: the built-in base learns in float32 whatever it is.
    Typing,
    BatchGradient,
    Scoring,
    Selecting,
    Training,
    /// The number of steps: the trajectory is the same, there is more of it.
    Lasting,
    Evaluating,
    /// How often is evaluated, not what.
    Pacing,
    Nothing,
}

/// The stages of a run with this mask that an influence must move.
fn expected(influence: Influence, mask: &str) -> BTreeSet<Stage> {
    let fisher = mask.starts_with("fisher");
    let below: &[Stage] = match influence {
        Influence::Everything if fisher => &[Base, Scores, Mask],
        Influence::Everything if mask == "full" => &[Base],
        Influence::Everything => &[Base, Mask],
        Influence::Typing | Influence::Scoring if fisher => &[Scores, Mask],
        Influence::Typing if mask == "magnitude" => &[Mask],
        Influence::BatchGradient if mask == "fisher batch" => &[Scores, Mask],
        Influence::Selecting => &[Mask],
        Influence::Lasting => return BTreeSet::from([Train, Run]),
        Influence::Evaluating => return BTreeSet::from([Eval, Run]),
        Influence::Pacing => return BTreeSet::from([Run]),
        Influence::Nothing => return BTreeSet::new(),
        Influence::Typing | Influence::Scoring | Influence::BatchGradient | Influence::Training => &[],
    };
    below.iter().copied().chain(TRAINED).collect()
}

fn base_of(mask: &str, ratio: &str) -> String {
    let mask = match mask {
        "full" => "type = \"full\"".to_owned(),
        "fisher batch" => "type = \"fisher\"\nsparsity = 0.9".to_owned(),
        "fisher sample" => "type = \"fisher\"\nsparsity = 0.9\n[fisher]\nestimator = \"sample\"".to_owned(),
        other => format!("type = \"{other}\"\nsparsity = 0.9"),
    };
    format!("{HEAD}[grpo]\nratio = \"{ratio}\"\n[mask]\n{mask}\n")
}

#[test]
fn every_setting_moves_its_stages_and_no_others() {
    let mut tried = BTreeSet::new();
    for mask in ["full", "random", "magnitude", "fisher batch", "fisher sample"] {
        for ratio in ["clip", "mask"] {
            let text = base_of(mask, ratio);
            let before = only_run(&text, &[]);
            for (key, value, influence) in CHANGES {
                let value = match (*key, mask, ratio) {
                    ("fisher.estimator", "fisher sample", _) => "batch",
                    ("fisher.estimator", ..) => "sample",
                    ("grpo.ratio", _, "mask") => "clip",
                    _ => value,
                };
                let applies = match *key {
                    "mask.sparsity" => mask != "full",
                    "mask.seed" | "mask.rng" => mask == "random",
                    "mask.rounding" => mask == "magnitude" || mask.starts_with("fisher"),
                    "grpo.clip_low" | "grpo.clip_high" => ratio == "clip",
                    "grpo.mask_low" | "grpo.mask_high" => ratio == "mask",
                    _ => !key.starts_with("fisher.") || mask.starts_with("fisher"),
                };
                if !applies {
                    continue;
                }
                let after = only_run(&text, &[&format!("{key}={value}")]);
                assert_eq!(moved(&before, &after), expected(*influence, mask), "{mask}: {key}={value}");
                tried.insert(*key);
            }
        }
    }
    let elsewhere = |path: &str| {
        let hub = FROM_A_HUB.iter().any(|(key, ..)| *key == path) && !tried.contains(path);
        hub || OF_TRAINING.contains(&path) || ELSEWHERE.contains(&path) || OF_TASKS.contains(&path)
    };
    let all = KEYS.iter().map(|key| key.path).filter(|path| !elsewhere(path)).collect::<BTreeSet<_>>();
    assert_eq!(tried, all, "a key without a test of its influence");
}

#[test]
fn inherited_settings_without_a_use_move_nothing() {
    let idle = "[mask]\nsparsity = 0.9\nseed = 7\nrng = \"numpy\"\nrounding = \"ceil\"\n[fisher]\nepisodes = 64\nseed = 3\n";
    let full = "[[grid]]\nmask.type = \"full\"\n[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.9\nmask.seed = 0\nmask.rng = \"chacha\"\n";
    let plain = plan(&format!("{HEAD}{full}"), &[]).expect("planned");
    let laden = plan(&format!("{HEAD}{idle}{full}"), &[]).expect("planned");
    for (left, right) in plain.runs.iter().zip(&laden.runs) {
        assert_eq!((&left.id, &left.stages), (&right.id, &right.stages));
    }
}

#[test]
fn scores_serve_every_sparsity_and_masks_every_learning_rate() {
    let text = "[[grid]]\nmask.type = \"fisher\"\nmask.sparsity = [0.9, 0.99]\noptimizer.lr = [1e-3, 1e-4]\n";
    let runs = plan(&format!("{HEAD}{text}"), &[]).expect("planned").runs;
    let distinct = |of: fn(&RunSpec) -> Option<String>| runs.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(|run| Some(run.stages.base.clone())), 1);
    assert_eq!(distinct(|run| run.stages.scores.clone()), 1);
    assert_eq!(distinct(|run| run.stages.mask.clone()), 2);
    assert_eq!(distinct(|run| Some(run.stages.train.clone())), 4);
}

#[test]
fn mask_types_differ_and_full_has_no_mask() {
    let text = "[[grid]]\nmask.type = \"full\"\n[[grid]]\nmask.type = [\"random\", \"fisher\", \"magnitude\"]\nmask.sparsity = 0.9\n";
    let runs = plan(&format!("{HEAD}{text}"), &[]).expect("planned").runs;
    let masks = runs.iter().map(|run| run.stages.mask.clone()).collect::<BTreeSet<_>>();
    let trains = runs.iter().map(|run| run.stages.train.clone()).collect::<BTreeSet<_>>();
    assert_eq!((masks.len(), trains.len()), (4, 4));
    assert_eq!(runs[0].stages.mask, None);
    let scored = runs.iter().map(|run| run.stages.scores.is_some()).collect::<Vec<_>>();
    assert_eq!(scored, [false, false, true, false]);
}

#[test]
fn files_count_by_content_and_not_by_name() {
    let folder = Folder::new();
    for (name, bytes) in [("a.jsonl", "x"), ("b.jsonl", "x"), ("c.jsonl", "y")] {
        folder.write(name, bytes);
    }
    let of = |names: &str| {
        let path = folder.write("m.toml", format!("{HEAD}{names}"));
        plan_of(&path, &[], &[]).expect("planned").runs.remove(0)
    };
    let [shipped, a, b, c] =
        ["", "names = \"a.jsonl\"\n", "names = \"b.jsonl\"\n", "names = \"c.jsonl\"\n"].map(of);
    assert_eq!(moved(&a, &b), BTreeSet::new());
    assert_eq!(moved(&a, &c), BTreeSet::from([Base, Trajectory, Train, Eval, Run]));
    assert_eq!(moved(&a, &shipped), BTreeSet::from([Base, Trajectory, Train, Eval, Run]));
    let sampled = of("names = \"a.jsonl\"\nrow_names = \"sample\"\n");
    assert_eq!(moved(&a, &sampled), BTreeSet::from([Base, Trajectory, Train, Eval, Run]));

    // A model folder does not learn from the task, so the task moves only what trains on it.
    for (name, weights) in [("m1", "w"), ("m2", "w"), ("m3", "v")] {
        folder.write(&format!("{name}/config.json"), "{}");
        folder.write(&format!("{name}/tokenizer.json"), "{}");
        folder.write(&format!("{name}/model.safetensors"), weights);
    }
    let model = |name: &str, set: &[&str]| {
        let text = format!("[model]\npath = \"{name}\"\n[task]\ntype = \"alphabet_sort\"\n");
        plan_of(&folder.write("n.toml", text), set, &[]).expect("planned").runs.remove(0)
    };
    assert_eq!(moved(&model("m1", &[]), &model("m2", &[])), BTreeSet::new());
    assert_eq!(
        moved(&model("m1", &[]), &model("m3", &[])),
        BTreeSet::from([Base, Trajectory, Train, Eval, Run])
    );
    let task = model("m1", &["task.max_turns=2"]);
    assert_eq!(moved(&model("m1", &[]), &task), BTreeSet::from(TRAINED));
}

#[test]
fn ids_are_pinned() {
    // One configuration without any defaults that come from other rooms' texts.
    let mut config = only_run(&format!("{HEAD}[mask]\ntype = \"fisher\"\nsparsity = 0.99\n"), &[]).config;
    let TaskSpec::AlphabetSort(task) = &mut config.task else { panic!("alphabet-sort") };
    task.prompts = PromptTemplates { first: "1".into(), second: "2".into(), later: "3".into() };
    let (run, stages) = identify(&config);
    let short = |id: &str| id[..16].to_owned();
    let found = [
        short(&stages.base),
        short(stages.scores.as_deref().expect("Fisher")),
        short(stages.mask.as_deref().expect("a mask")),
        short(&stages.train),
        short(run.as_str()),
    ];
    assert_eq!(found, PINNED, "ids moved: raise the stage's REV if results changed, else undo");
}

const PINNED: [&str; 5] =
    ["c47689b5493f45a2", "6a622abcde88b5b0", "5c8c4f879f74cf35", "e9a4b267964935bc", "3bb43b7da3dc5316"];

/// Settings away from their defaults, each with other spellings of the same value.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("seed", &["3", "0x3", "+3", "0b11"]),
    ("optimizer.lr", &["1e-4", "0.0001", "1E-4", "10e-5", "0.000_1"]),
    ("optimizer.betas", &["[0.9, 0.95]", "[9e-1, 0.950]", "[\n  0.9, # one\n  0.95,\n]"]),
    ("optimizer.weight_decay", &["0", "0.0", "-0.0", "0e5"]),
    ("optimizer.clip_norm", &["2", "2.0", "0.2e1"]),
    ("grpo.steps", &["1000", "1_000", "0x3E8"]),
    ("grpo.ratio", &["\"mask\"", "'mask'", "\"\"\"mask\"\"\"", "\"m\\u0061sk\""]),
    ("grpo.mask_high", &["5", "5.0"]),
    ("mask.type", &["\"random\"", "'random'"]),
    ("mask.sparsity", &["0.99", "99e-2", "0.990"]),
    ("mask.seed", &["42", "4_2"]),
    ("eval.every", &["5"]),
    ("eval.sampling.top_k", &["7"]),
    ("task.prompts.first", &["\"sort \\\"{{ names }}\\\"\"", "'sort \"{{ names }}\"'"]),
];

/// Settings at their defaults, which may be spelled out.
const DEFAULTS: &[(&str, &str)] = &[
    ("title", "\"any title\""),
    ("question", "'any question'"),
    ("model.dtype", "\"float32\""),
    ("model.pretrain.layers", "4"),
    ("task.max_turns", "3"),
    ("grpo.group_size", "8"),
    ("grpo.kl_coef", "-0.0"),
    ("optimizer.eps", "0.00000001"),
    ("sampling.temperature", "1"),
    ("mask.rng", "'chacha'"),
    ("fisher.episodes", "1024"),
    ("eval.seed", "2001"),
    ("eval.sampling.top_p", "1.0"),
];

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn order_comments_spelling_and_spelled_defaults_keep_ids(
        order in Just((0..SPELLINGS.len() + DEFAULTS.len()).collect::<Vec<_>>()).prop_shuffle(),
        spelling in prop::collection::vec(0_usize..8, SPELLINGS.len()),
        spelled in prop::collection::vec(any::<bool>(), DEFAULTS.len()),
        dotted in any::<bool>(),
        exec in 1_u32..9,
    ) {
        let mut settings = vec![
            ("task.type", "\"alphabet_sort\"".to_owned()),
            ("model.pretrain.batch", "64".to_owned()),
            ("exec.jobs", exec.to_string()),
        ];
        for index in order {
            if let Some((key, spellings)) = SPELLINGS.get(index) {
                settings.push((key, spellings[spelling[index] % spellings.len()].to_owned()));
            } else if spelled[index - SPELLINGS.len()] {
                let (key, value) = DEFAULTS[index - SPELLINGS.len()];
                settings.push((key, value.to_owned()));
            }
        }
        let line = |(key, value): (&str, &str)| format!("{key}  = {value}   # {key}\n\n");
        let mut text = String::new();
        if dotted {
            text.extend(settings.iter().map(|(key, value)| line((key, value))));
        } else {
            // Tables in the order in which the shuffle first names them; keys in shuffled order within.
            let split = |key: &'static str| key.rsplit_once('.').unwrap_or(("", key));
            let mut tables: Vec<&str> = vec![""];
            for (table, _) in settings.iter().map(|(key, _)| split(key)) {
                if !tables.contains(&table) { tables.push(table) }
            }
            for table in tables {
                if !table.is_empty() { text.extend(["[", table, "] # table\n"]) }
                let members = settings.iter().filter(|(key, _)| split(key).0 == table);
                text.extend(members.map(|(key, value)| line((split(key).1, value))));
            }
        }
        let mut reference = String::from("task.type = \"alphabet_sort\"\nmodel.pretrain = {}\n");
        reference.extend(SPELLINGS.iter().map(|(key, spellings)| line((key, spellings[0]))));
        let (found, wanted) = (only_run(&text, &[]), only_run(&reference, &[]));
        prop_assert_eq!(found.id, wanted.id);
        prop_assert_eq!(found.stages, wanted.stages);
    }

    #[test]
    fn two_learning_rates_have_one_id_exactly_when_their_bits_agree(a in 1e-9_f64..1.0, b in 1e-9_f64..1.0) {
        let id = |lr: f64| only_run(HEAD, &[&format!("optimizer.lr={lr:e}")]).id;
        prop_assert_eq!(id(a) == id(b), a.to_bits() == b.to_bits());
        prop_assert_eq!(id(a), only_run(HEAD, &[&format!("optimizer.lr={a:?}")]).id);
    }
}

#[test]
fn every_default_is_a_legal_value() {
    for key in KEYS {
        assert!(
            find_key(key.path).is_some_and(|found| std::ptr::eq(found, key)),
            "{} is listed twice",
            key.path
        );
        assert!(!key.doc.is_empty());
        if let (Some(value), false) = (key.preset(), matches!(key.kind, Kind::Path)) {
            let written = value.to_string();
            let run = load_with("smoke", &[format!("{}={written}", key.path)], &[]);
            assert!(run.is_ok(), "{} = {written}", key.path);
        }
    }
}
