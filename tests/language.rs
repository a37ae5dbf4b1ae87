//! The rest of the language: ranges, named evaluations, settings that exclude each other, figures, claims, origins.

mod manifest_support;

use manifest_support::{Folder, HEAD, labels, plan, plan_of, planned, refused};
use tickets::manifest::{
    ClaimTest, EVALUATION, FigureKind, ModelSource, Retries, RunConfig, TRAINING, load_with,
};
use tickets::plan::{selects, settings};
use tickets::sparsity::{Criterion, MaskSpec, Side};
use tickets::task::{DataSpec, NamesSpec, TaskSpec};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn config(text: &str, set: &[&str]) -> RunConfig {
    let mut plan = plan(text, set).unwrap_or_else(|error| panic!("{set:?}: {error}"));
    plan.runs.remove(0).config
}

#[test]
fn ranges_are_axes() {
    let text = "[[grid]]\noptimizer.lr = { logspace = [1e-7, 1e-5, 3] }\nseed = { range = [0, 2] }\n";
    let all =
        ["lr1e-7-seed0", "lr1e-7-seed1", "lr1e-6-seed0", "lr1e-6-seed1", "lr1e-5-seed0", "lr1e-5-seed1"];
    assert_eq!(labels(text), all);
    assert_eq!(labels("[[grid]]\nseed = { range = [3, 10, 3] }\n"), ["seed3", "seed6", "seed9"]);
    // A number key takes whole steps too, and a range equals the list that it stands for.
    let text = "[[grid]]\nmask = { type = \"random\", sparsity = { linspace = [0.5, 0.9, 3] } }\n";
    let list = "[[grid]]\nmask = { type = \"random\", sparsity = [0.5, 0.7, 0.9] }\n";
    let ids = |text: &str| planned(text).runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(ids(text), ids(list));
    // Half decades are rounded to twelve digits, whichever way the platform rounds its logarithms.
    let rates = planned("[[grid]]\noptimizer.lr = { logspace = [1e-7, 1e-2, 11] }\n").runs;
    let wanted = [
        1e-7,
        3.162_277_660_17e-7,
        1e-6,
        3.162_277_660_17e-6,
        1e-5,
        3.162_277_660_17e-5,
        1e-4,
        3.162_277_660_17e-4,
        1e-3,
        3.162_277_660_17e-3,
        1e-2,
    ];
    assert_eq!(rates.iter().map(|run| run.config.optimizer.lr).collect::<Vec<_>>(), wanted);
    // Ranges zip like lists.
    let text = "[[grid]]\nseed = { range = [0, 3] }\noptimizer.lr = [1e-4, 1e-5, 1e-6]\nzip = [[\"seed\", \"optimizer.lr\"]]\n";
    assert_eq!(labels(text), ["seed0-lr1e-4", "seed1-lr1e-5", "seed2-lr1e-6"]);
}

#[test]
fn a_list_for_a_key_of_lists_is_one_value() {
    assert_eq!(planned("[[grid]]\noptimizer.betas = [0.9, 0.95]\n").runs.len(), 1);
    assert_eq!(planned("[[grid]]\noptimizer.betas = [[0.9, 0.95]]\n").runs.len(), 1);
    assert_eq!(planned("[[grid]]\noptimizer.betas = [[0.9, 0.95], [0.9, 0.99]]\n").runs.len(), 2);
}

#[test]
fn named_evaluations_start_from_the_plain_one_and_from_the_task() {
    let text = format!(
        "[model]\nid = \"a/b\"\nrevision = \"{COMMIT}\"\n[task]\ntype = \"math\"\ndataset = \"x/train\"\nrevision = \"{COMMIT}\"\n\
         subset = \"all\"\nsystem_prompt = \"Think.\"\n[eval]\nevery = 7\nexamples = 10\nsampling.temperature = 0.9\n\
         [eval.math500]\ntask.dataset = \"x/test\"\ntask.split = \"test\"\nexamples = 500\n\
         [eval.gsm8k]\ntask = {{ type = \"gsm8k\", split = \"dev\" }}\nsampling.top_p = 0.5\n"
    );
    let found = config(&text, &[]);
    let names = found.evals.iter().map(|eval| eval.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["gsm8k", "math500"], "sorted, so that their order in the text is not identity");
    let [gsm8k, math500] = found.evals.as_slice() else { panic!("two") };
    assert_eq!((gsm8k.eval.every, gsm8k.eval.examples, math500.eval.examples), (7, 10, 500));
    assert_eq!(gsm8k.eval.sampling.temperature.to_bits(), 0.9_f64.to_bits());
    assert_eq!((gsm8k.eval.sampling.top_p, math500.eval.sampling.top_p), (0.5, 1.0));
    let hub = |task: &TaskSpec| match task {
        TaskSpec::Math(spec) | TaskSpec::Gsm8k(spec) => match &spec.data {
            DataSpec::Hub(hub) => (hub.clone(), spec.system_prompt.clone()),
            DataSpec::File { .. } => panic!("a dataset"),
        },
        _ => panic!("questions"),
    };
    let (test, prompt) = hub(&math500.task);
    assert!(matches!(math500.task, TaskSpec::Math(_)) && prompt == "Think.");
    assert_eq!((test.id.as_str(), test.split.as_str()), ("x/test", "test"));
    assert_eq!(
        (test.revision, test.subset),
        (None, None),
        "those of another dataset say nothing about this one"
    );
    let (dev, _) = hub(&gsm8k.task);
    assert!(matches!(gsm8k.task, TaskSpec::Gsm8k(_)));
    assert_eq!((dev.id.as_str(), dev.split.as_str()), ("x/train", "dev"));
    assert_eq!(dev.revision.as_deref(), Some(COMMIT));
    // A child lays its own values over a named evaluation of its parent.
    let folder = Folder::new();
    folder.write("base.toml", &text);
    let child = folder.write("child.toml", "extends = \"base.toml\"\n[eval.math500]\nexamples = 9\n");
    let found = plan_of(&child, &["eval.gsm8k.every=3"], &[]).expect("planned").runs.remove(0).config;
    assert_eq!((found.evals[1].eval.examples, found.evals[0].eval.every), (9, 3));
}

#[test]
fn named_evaluations_can_be_swept() {
    let text = "[eval.a]\nseed = 7\n[[grid]]\neval.a.examples = [3, 4]\n";
    let plan = planned(text);
    assert_eq!(plan.axes, ["eval.a.examples"]);
    let examples = plan.runs.iter().map(|run| run.config.evals[0].eval.examples).collect::<Vec<_>>();
    assert_eq!(examples, [3, 4]);
}

#[test]
fn of_settings_that_exclude_each_other_the_strongest_counts() {
    let hub = format!(
        "[model]\nid = \"a/b\"\nrevision = \"{COMMIT}\"\n[task]\ntype = \"alphabet_sort\"\ndataset = \"a/n\"\nrevision = \"{COMMIT}\"\n"
    );
    let folder = Folder::new();
    folder.write("hub.toml", &hub);
    folder.write("names.jsonl", "x");
    let child = |text: &str| {
        let path = folder.write("child.toml", format!("extends = \"hub.toml\"\n{text}"));
        plan_of(&path, &[], &[]).unwrap_or_else(|error| panic!("{text}: {error}")).runs.remove(0)
    };
    let of = |config: &RunConfig| match &config.model.source {
        ModelSource::Hub { id, revision } => (id.clone(), revision.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(&child("").config), ("a/b".into(), true));
    assert_eq!(
        of(&child("[model]\nid = \"a/c\"\n").config),
        ("a/c".into(), false),
        "an inherited commit is of another model"
    );
    let both = child(&format!("[model]\nid = \"a/c\"\nrevision = \"{COMMIT}\"\n"));
    assert_eq!(of(&both.config), ("a/c".into(), true));
    assert!(matches!(child("[model.pretrain]\n").config.model.source, ModelSource::Pretrain(_)));
    assert!(matches!(
        child("[[grid]]\nmodel.pretrain.layers = 2\n").config.model.source,
        ModelSource::Pretrain(_)
    ));
    let names = |run: &tickets::plan::RunSpec| match &run.config.task {
        TaskSpec::AlphabetSort(sort) => sort.names.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(names(&child("")), NamesSpec::Hub(hub) if hub.revision.is_some()));
    assert!(matches!(names(&child("task.names = \"names.jsonl\"\n")), NamesSpec::File { .. }));
    assert!(
        matches!(names(&child("task.dataset = \"a/m\"\n")), NamesSpec::Hub(hub) if hub.revision.is_none())
    );
}

#[test]
fn masks_of_layers_have_a_side_and_a_count_and_no_sparsity() {
    let text =
        "[mask]\nsparsity = 0.9\n[[grid]]\nmask.type = \"layers\"\nmask.layers = [\"first\", \"last\"]\n";
    let plan = planned(text);
    assert_eq!(plan.runs[1].config.mask, MaskSpec::plain(Criterion::Layers { side: Side::Last, count: 1 }));
    let labels = plan.runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>();
    assert_eq!(labels, ["first", "last"]);
}

const SWEEP: &str = "[grpo]\nsteps = 30\n[[grid]]\nmask.type = \"full\"\n[[grid]]\nmask = { type = \"random\", sparsity = 0.99 }\noptimizer.lr = [1e-4, 1e-3]\n";

#[test]
fn figures_and_claims_select_runs_by_their_settings() {
    let text = format!(
        "{SWEEP}[[figure]]\nid = \"f\"\nkind = \"lr_sweep\"\nat_step = 20\nruns = [{{ mask.type = \"full\" }}, {{ mask = {{ type = \"random\" }}, optimizer.lr = 0.001 }}]\n\
         [[claim]]\nid = \"c\"\nsource = \"C2\"\nstatement = \"Half is enough.\"\nkind = \"equivalence\"\nleft = {{ mask.type = \"random\", mask.sparsity = 0.99 }}\n\
         right = {{ optimizer.betas = [0.9, 0.999], mask.type = \"full\" }}\nmargin = 0.04\n"
    );
    let plan = planned(&text);
    let chosen = |selector| plan.runs.iter().map(|run| selects(selector, run)).collect::<Vec<_>>();
    let figure = &plan.manifest.figures[0];
    assert_eq!((figure.kind, figure.measure.metric.as_str()), (FigureKind::LrSweep, "eval/score"));
    assert_eq!(figure.measure.at_step, Some(20));
    assert_eq!(chosen(&figure.runs[0]), [true, false, false]);
    assert_eq!(chosen(&figure.runs[1]), [false, false, true]);
    let claim = &plan.manifest.claims[0];
    assert_eq!((claim.source.as_str(), claim.statement.as_str()), ("C2", "Half is enough."));
    let ClaimTest::Equivalence { left, right, margin, .. } = &claim.test else { panic!("{claim:?}") };
    assert_eq!(
        (chosen(left), chosen(right), *margin),
        (vec![false, true, true], vec![true, false, false], 0.04)
    );
    assert_eq!(left.to_string(), "{ mask.type = \"random\", mask.sparsity = 0.99 }");
    // They are no part of what a run is.
    let bare = planned(SWEEP);
    assert!(plan.runs.iter().zip(&bare.runs).all(|(one, other)| one.id == other.id));
}

#[test]
fn figures_and_claims_that_cannot_be_had() {
    for (block, message) in [
        (
            "[[figure]]\nid = \"f\"\nkind = \"curves\"\nruns = [{ mask.type = \"fisher\" }]\n",
            "the selector { mask.type = \"fisher\" } matches no run",
        ),
        (
            "[[figure]]\nid = \"f\"\nkind = \"table\"\nat_step = 15\n",
            "`at_step` = 15, but run full-lr1e-6 has no `eval/score` at that step",
        ),
        ("[[figure]]\nid = \"f\"\nkind = \"table\"\nat_step = 40\n", "`at_step` = 40, but run"),
        (
            "[[figure]]\nid = \"f\"\nkind = \"table\"\nmetric = \"eval/a/score\"\n",
            "no evaluation of run full-lr1e-6 gives `metric` = \"eval/a/score\"",
        ),
        (
            "[[figure]]\nid = \"f\"\nkind = \"table\"\nmetric = \"loss\"\nat_step = 31\n",
            "`at_step` = 31, but run",
        ),
        (
            "[[claim]]\nid = \"c\"\nkind = \"count\"\nof = { mask.seed = 9 }\nexpect = 1\n",
            "the selector { mask.seed = 9 } matches no run",
        ),
    ] {
        let (text, _) = refused(&format!("{SWEEP}{block}"), &[]);
        assert!(text.split_once(": ").is_some_and(|(_, rest)| rest.starts_with(message)), "{block}\n{text}");
    }
    // The last step is evaluated whatever `every` is.
    planned(&format!("[eval]\nevery = 7\n{SWEEP}[[figure]]\nid = \"f\"\nkind = \"table\"\nat_step = 30\n"));
}

#[test]
fn the_metrics_that_a_figure_may_name_are_those_that_runs_record() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("the trainer");
    // A row of a step is written as one `json!` object whose first column is the step.
    let columns = |file: &str| {
        let text = read(file);
        let row = text.split("\"step\": step").nth(1).expect("a row").split("})").next().expect("its end");
        let names = row.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": "));
        names.map(|(name, _)| name.to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let known = TRAINING.iter().map(ToString::to_string).collect();
    assert_eq!(columns("src/torch/train.rs"), known);
    // That of an evaluation column by column.
    let text = read("src/torch/evaluate.rs");
    let put = text.split("put(\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let evaluated = put.map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(evaluated, EVALUATION.iter().copied().collect());
}

#[test]
fn a_childs_figures_and_claims_replace_its_parents() {
    let folder = Folder::new();
    let block = |id: &str| {
        format!(
            "[[figure]]\nid = \"{id}\"\nkind = \"curves\"\n[[claim]]\nid = \"{id}\"\nkind = \"value\"\nof = {{ mask.type = \"full\" }}\nexpect = 1\nmargin = 1\n"
        )
    };
    folder.write("base.toml", format!("{HEAD}[[grid]]\nseed = [0, 1]\n{}", block("parent")));
    let ids = |text: &str| {
        let path = folder.write("child.toml", format!("extends = \"base.toml\"\n{text}"));
        let manifest = plan_of(&path, &[], &[]).expect("planned").manifest;
        let figures = manifest.figures.iter().map(|figure| figure.id.clone());
        figures.chain(manifest.claims.iter().map(|claim| claim.id.clone())).collect::<Vec<_>>()
    };
    assert_eq!(ids(""), ["parent", "parent"]);
    assert_eq!(ids("[[figure]]\nid = \"own\"\nkind = \"table\"\n"), ["own", "parent"]);
    assert_eq!(ids(&block("own")), ["own", "own"]);
    assert_eq!(ids("claim = []\n"), ["parent"]);
}

#[test]
fn every_value_has_an_origin() {
    let folder = Folder::new();
    folder.write("base.toml", format!("{HEAD}[optimizer]\nlr = 1e-2\neps = 1e-8\n[grpo]\nsteps = 7\n"));
    let path = folder.write(
        "m.toml",
        "extends = \"base.toml\"\n[optimizer]\nlr = 1e-3\n[[grid]]\nseed = [1, 2]\ngrpo.steps = 9\n",
    );
    let set = ["eval.every=3".to_owned()];
    let env = [("TICKETS_MODEL__DTYPE".to_owned(), "bfloat16".to_owned())];
    let manifest = load_with(&path, &set, &env).expect("loaded");
    let shown = manifest.origins().into_iter().map(|origin| {
        let hides =
            origin.hides.iter().map(|(value, place)| format!(" over {value} {}", folder.strip(place)));
        let block = origin.block.map(|number| format!(" block {number}")).unwrap_or_default();
        format!(
            "{} = {} {}{block}{}",
            origin.key,
            origin.value,
            folder.strip(&origin.place),
            hides.collect::<String>()
        )
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "eval.every = 3 --set",
            "grpo.steps = 7 base.toml:8:9",
            "model.dtype = \"bfloat16\" environment variable TICKETS_MODEL__DTYPE",
            "optimizer.lr = 1e-3 m.toml:3:6 over 1e-2 base.toml:5:6",
            "task.type = \"alphabet_sort\" base.toml:3:8",
            "seed = 1, 2 m.toml:5:8 block 1",
            "grpo.steps = 9 m.toml:6:14 block 1 over 7 base.toml:8:9",
        ]
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_in_order() {
    let folder = Folder::new();
    folder.write("base.toml", format!("{HEAD}[optimizer]\nlr = \"fast\"\n"));
    let text = "extends = \"base.toml\"\n[grpo]\ngroup_size = 7\nstep = 3\n[[grid]]\nmask.seed = 1\nmask.type = \"full\"\n";
    let error = plan_of(&folder.write("m.toml", text), &["eval.every=0"], &[]).expect_err("refused");
    let lines = folder.strip(&error.to_string());
    let lines = lines.lines().map(|line| line.split_once(": ").expect("a place")).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            ("m.toml:3:14", "`grpo.group_size` = 7 does not divide `grpo.rollouts_per_step` = 128"),
            ("m.toml:4:1", "unknown key `grpo.step`"),
            ("m.toml:6:13", "`mask.seed` does not apply to `mask.type` = \"full\""),
            ("base.toml:5:6", "`optimizer.lr` cannot be \"fast\", a text"),
            ("--set:1:14", "`eval.every` = 0 is out of range"),
        ]
    );
}

#[test]
fn readers_see_every_setting_of_a_run() {
    let text = format!(
        "[model]\nid = \"a/b\"\nrevision = \"{COMMIT}\"\n[task]\ntype = \"gsm8k\"\ndataset = \"x/y\"\n[eval.a]\nseed = 5\n"
    );
    let found = settings(&config(&text, &[]));
    let keys = found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>();
    for key in [
        "model.id",
        "model.revision",
        "task.dataset",
        "task.split",
        "eval.a.seed",
        "eval.a.task.type",
        "eval.a.every",
    ] {
        assert!(keys.contains(&key), "{key}: {keys:?}");
    }
    assert!(!keys.contains(&"eval.seed"), "the plain evaluation is not made");
}

#[test]
fn the_widest_base_is_planned_and_not_overflowed() {
    let widest =
        "hidden_size = 4294967294\nintermediate_size = 4294967295\nheads = 1\nkv_heads = 1\nlayers = 1024\n";
    let plan = |mask: &str| {
        plan(&format!("[task]\ntype = \"alphabet_sort\"\n[model.pretrain]\n{widest}{mask}"), &[])
    };
    assert_eq!(plan("").expect("planned").runs.len(), 1);
    let sparse = "[mask]\ntype = \"magnitude\"\nsparsity = 0.9999999\n";
    assert_eq!(plan(sparse).expect("something is kept").runs.len(), 1);
}

#[test]
fn every_class_of_failure_has_its_own_retries() {
    let of = |set: &[&str]| config(HEAD, set).exec;
    let plain = of(&[]);
    assert_eq!(plain.retries, Retries { nan: 0, oom: 0, killed: 2, infra: 2, store: 1, task: 1 });
    assert_eq!(plain.lease_seconds, 300);
    let set = ["nan=3", "oom=4", "killed=5", "infra=6", "store=7", "task=8"]
        .map(|text| format!("exec.retries.{text}"));
    let set = set.iter().map(String::as_str).chain(["exec.lease_seconds=0"]).collect::<Vec<_>>();
    let changed = of(&set);
    assert_eq!(changed.retries, Retries { nan: 3, oom: 4, killed: 5, infra: 6, store: 7, task: 8 });
    assert_eq!(changed.lease_seconds, 0);
}
