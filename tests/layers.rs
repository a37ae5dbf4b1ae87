//! Layers: how manifests are found, what they extend, what is laid over them, which files they name.

mod manifest_support;

use manifest_support::{Folder, HEAD, plan_of, planned, refused, unloadable};
use tickets::manifest::{ModelSource, load_with};
use tickets::sparsity::{MaskRng, MaskSpec};
use tickets::task::{NamesSpec, TaskSpec};

#[test]
fn manifests_are_found_by_path_and_by_name() {
    for argument in ["quickstart", "quickstart.toml", "manifests/quickstart", "manifests/quickstart.toml"] {
        assert_eq!(load_with(argument, &[], &[]).expect(argument).name, "quickstart");
    }
    let folder = Folder::new();
    let path = folder.write("a folder/my run.toml", HEAD);
    let manifest = load_with(&path, &[], &[]).expect("spaces are fine");
    assert_eq!((manifest.name.as_str(), manifest.title.as_str()), ("my run", "my run"));
    let deep = load_with(&folder.write("manifests/micro/x.toml", HEAD), &[], &[]).expect("loaded");
    assert_eq!(deep.name, "micro/x");
}

#[test]
fn parents_are_merged_below_their_children() {
    let folder = Folder::new();
    folder.write("base/root.toml", format!("title = \"root\"\nquestion = \"why\"\nseed = 5\n{HEAD}names = \"list.jsonl\"\n[optimizer]\nlr = 1e-2\neps = 1e-6\n[mask]\ntype = \"random\"\nsparsity = 0.9\nseed = 3\n[[grid]]\nseed = [1, 2]\n"));
    folder.write("base/list.jsonl", "x");
    folder.write("base/mid.toml", "extends = \"root.toml\"\n[optimizer]\nlr = 1e-3\n");
    let path =
        folder.write("m.toml", "extends = \"base/mid.toml\"\ntitle = \"child\"\n[mask]\ntype = \"full\"\n");
    let plan = plan_of(&path, &[], &[]).expect("planned");
    assert_eq!((plan.manifest.title.as_str(), plan.manifest.question.as_str()), ("child", "why"));
    assert_eq!(plan.runs.len(), 2, "the parent's grid is inherited");
    let config = &plan.runs[0].config;
    assert_eq!(config.optimizer.lr.to_bits(), 1e-3_f64.to_bits());
    assert_eq!(config.optimizer.eps.to_bits(), 1e-6_f64.to_bits());
    assert_eq!(config.mask, MaskSpec::Full, "the parent's seed and sparsity are dropped");
    let TaskSpec::AlphabetSort(task) = &config.task else { panic!("alphabet-sort") };
    let NamesSpec::File { path: names, digest } = &task.names else { panic!("a file") };
    assert_eq!(names, &folder.path("base/list.jsonl"), "relative to the file that wrote it");
    assert_eq!(digest, &blake3::hash(b"x").to_hex().to_string());

    let path = folder.write("n.toml", "extends = \"m.toml\"\n[[grid]]\nseed = [9]\n");
    assert_eq!(plan_of(&path, &[], &[]).expect("planned").runs[0].config.seed, 9, "a child's grid replaces");
}

#[test]
fn a_chain_of_parents_that_cannot_be_followed() {
    let folder = Folder::new();
    folder.write("a.toml", "extends = \"b.toml\"\n");
    let path = folder.write("b.toml", "\nextends = \"a.toml\"\n");
    let error = unloadable(&path);
    assert_eq!(folder.strip(&error.to_string()), "a.toml:1:11: `extends` = \"b.toml\" closes a cycle");
    let path = folder.write("c.toml", "extends = \"gone.toml\"\n");
    let text = folder.strip(&unloadable(&path).to_string());
    assert!(
        text.starts_with("c.toml:1:11: `extends` = \"gone.toml\": failed to read gone.toml: No such file"),
        "{text}"
    );
    let path = folder.write("d.toml", "extends = 3\n");
    assert_eq!(folder.strip(&unloadable(&path).to_string()), "d.toml:1:11: `extends` cannot be 3");
    for n in 0..40 {
        folder.write(&format!("{n}.toml"), format!("extends = \"{}.toml\"\n", n + 1));
    }
    let text = folder.strip(&unloadable(folder.path("0.toml").to_str().expect("UTF-8")).to_string());
    assert_eq!(text, "32.toml:1:11: `extends` = \"33.toml\" is more than 32 files away");
}

#[test]
fn overrides_stand_above_everything_that_is_not_swept() {
    let folder = Folder::new();
    let path = folder
        .write("m.toml", format!("{HEAD}[optimizer]\nlr = 1e-2\n[[grid]]\ngrpo.steps = 7\nseed = [1, 2]\n"));
    let env = [
        ("TICKETS_OPTIMIZER__LR", "1e-4"),
        ("TICKETS_GRPO__STEPS", "5"),
        ("TICKETS_CACHE", "/x"),
        ("HOME", "/"),
    ];
    let plan =
        plan_of(&path, &["grpo.steps=9", "exec.device=cpu", "task.dataset=a/b", "task.split=2001"], &env)
            .expect("planned");
    let config = &plan.runs[0].config;
    assert_eq!(config.optimizer.lr.to_bits(), 1e-4_f64.to_bits());
    assert_eq!(config.grpo.steps, 9, "--set is above the environment, and both are above a block");
    let listed = plan.manifest.overridden();
    let listed = listed.iter().map(|o| format!("{} = {} ({})", o.key, o.value, o.origin)).collect::<Vec<_>>();
    assert_eq!(
        listed,
        [
            "grpo.steps = 5 (environment variable TICKETS_GRPO__STEPS)",
            "optimizer.lr = 1e-4 (environment variable TICKETS_OPTIMIZER__LR)",
            "grpo.steps = 9 (--set)",
            "exec.device = \"cpu\" (--set)",
            "task.dataset = \"a/b\" (--set)",
            // A text stays a text.
            "task.split = \"2001\" (--set)",
        ]
    );
}

#[test]
fn overrides_that_mean_nothing() {
    for (set, message) in [
        ("optimizer.lrr=1", "--set:1:1: unknown key `optimizer.lrr`"),
        ("optimizer.lr", "--set:1:1: `optimizer.lr` has no value"),
        ("optimizer.lr=fast", "--set:1:16: `optimizer.lr` cannot be \"fast\", a text"),
        ("grpo.steps=0", "--set:1:14: `grpo.steps` = 0 is out of range"),
        ("title=x", "--set:1:1: `title` cannot be overridden"),
        ("mask.seed=3", "--set:1:13: no run of the grid has a use for `mask.seed`"),
        ("mask.type=random", "--set:1:13: `mask.sparsity` is missing"),
        ("grpo.steps=1\nseed=2", "--set:1:14: `grpo.steps` cannot be \"1\\nseed=2\", a text"),
        ("model.path=nowhere", "--set:1:14: `model.path` cannot be used"),
        ("=1", "--set:1:1: there is no key before the `=`"),
    ] {
        let (text, _) = refused("", &[set]);
        assert!(text.starts_with(message), "{set}\n  wanted {message}\n  found  {text}");
    }
    let folder = Folder::new();
    let path = folder.write("m.toml", HEAD);
    let error = plan_of(&path, &[], &[("TICKETS_GRPO_STEPS", "3")]).expect_err("refused");
    assert_eq!(error.to_string(), "environment variable TICKETS_GRPO_STEPS:1:1: unknown key `grpo_steps`");
    assert!(error.hint().expect("advice").starts_with("did you mean `grpo.steps`?"));
}

#[test]
fn a_conditional_override_reaches_the_runs_that_have_a_use_for_it() {
    let text = "[[grid]]\nmask.type = \"full\"\n[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.9\n";
    let folder = Folder::new();
    let path = folder.write("m.toml", format!("{HEAD}{text}"));
    let plan = plan_of(&path, &["mask.sparsity=0.5"], &[]).expect("planned");
    assert_eq!(plan.runs[0].config.mask, MaskSpec::Full);
    assert_eq!(plan.runs[1].config.mask, MaskSpec::random(0.5, 0, MaskRng::Chacha));
    assert_eq!(plan.runs[1].label, "random-0.5");
}

#[test]
fn a_model_folder_is_hashed_by_content() {
    let folder = Folder::new();
    for name in ["a", "b"] {
        folder.write(&format!("{name}/config.json"), "{}");
        folder.write(&format!("{name}/tokenizer.json"), "{}");
        folder.write(&format!("{name}/model.safetensors"), "weights");
    }
    let text = "[task]\ntype = \"alphabet_sort\"\n[[grid]]\nmodel.path = [\"a\", \"b\"]\n";
    let plan = plan_of(&folder.write("m.toml", text), &[], &[]).expect("planned");
    assert_eq!((plan.runs.len(), plan.merged), (1, 1), "equal content is one model");
    let ModelSource::Directory { path, .. } = &plan.runs[0].config.model.source else { panic!("a folder") };
    assert_eq!(path, &folder.path("a"));
    folder.write("b/model.safetensors", "heights");
    let plan = plan_of(folder.path("m.toml").to_str().expect("UTF-8"), &[], &[]).expect("planned");
    let labels = plan.runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>();
    assert_eq!(labels, ["a", "b"]);
    folder.remove("b/config.json");
    let error = plan_of(folder.path("m.toml").to_str().expect("UTF-8"), &[], &[]).expect_err("refused");
    let text = folder.strip(&error.to_string());
    assert_eq!(text, "m.toml:4:20: `model.path` cannot be used: the model folder b has no config.json");
}

#[test]
fn a_child_may_replace_the_source_of_the_model() {
    let folder = Folder::new();
    folder.write("base.toml", "[task]\ntype = \"alphabet_sort\"\n[model]\npath = \"nowhere\"\n");
    let path = folder.write("m.toml", "extends = \"base.toml\"\n[model.pretrain]\nlayers = 1\n");
    let plan = plan_of(&path, &[], &[]).expect("the folder is not looked at");
    assert!(matches!(&plan.runs[0].config.model.source, ModelSource::Pretrain(p) if p.layers == 1));
    let error = plan_of(&path, &["model.path=gone"], &[]).expect_err("it is chosen, and absent");
    assert!(error.to_string().starts_with("--set:1:14: `model.path` cannot be used"), "{error}");
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = &planned("").runs[0].config;
    assert_eq!((config.seed, config.eval.seed, config.eval.every, config.eval.examples), (0, 2001, 10, 128));
    assert_eq!((config.grpo.steps, config.grpo.rollouts_per_step, config.grpo.group_size), (100, 128, 8));
    assert_eq!(config.optimizer.betas.map(f64::to_bits), [0.9_f64, 0.999].map(f64::to_bits));
    assert_eq!(config.sampling, config.eval.sampling);
    assert_eq!((config.exec.jobs, config.exec.threads, config.exec.keep_checkpoints), (0, 1, 2));
}
