//! What people read when a manifest is wrong: place, text, advice. One case per diagnostic.

mod manifest_support;

use manifest_support::{Folder, HEAD, plan_of, planned, refused, unloadable};
use tickets::exit::{Code, Failure};
use tickets::manifest::{ModelSource, load_with};
use tickets::sparsity::MaskSpec;
use tickets::task::{NamesSpec, TaskSpec};

#[test]
fn single_settings() {
    for (text, message, hint) in [
        (
            "[optimizer]\nlrr = 1e-4\n",
            "m.toml:5:1: unknown key `optimizer.lrr`",
            "did you mean `optimizer.lr`?",
        ),
        ("[optimiser]\nlr = 1e-4\n", "m.toml:4:2: unknown key `optimiser`", "did you mean `optimizer`?"),
        (
            "[mask]\nsparsty = 0.9\n",
            "m.toml:5:1: unknown key `mask.sparsty`",
            "did you mean `mask.sparsity`?",
        ),
        ("[grpo]\nlr = 1e-4\n", "m.toml:5:1: unknown key `grpo.lr`", "did you mean `optimizer.lr`?"),
        (
            "[exec]\nqqq = 1\n",
            "m.toml:5:1: unknown key `exec.qqq`",
            "[exec] has the keys device, jobs, threads",
        ),
        ("[zzz]\n", "m.toml:4:2: unknown key `zzz`", "the tables are model, task, grpo"),
        (
            "[optimizer]\nlr = \"1e-4\"\n",
            "m.toml:5:6: `optimizer.lr` cannot be \"1e-4\", a text",
            "a number in (0, 1]",
        ),
        ("[optimizer]\nlr = 0\n", "m.toml:5:6: `optimizer.lr` = 0 is out of range", "a number in (0, 1]"),
        (
            "[optimizer]\nlr = -1e-4\n",
            "m.toml:5:6: `optimizer.lr` = -1e-4 is out of range",
            "a number in (0, 1]",
        ),
        ("[optimizer]\nlr = nan\n", "m.toml:5:6: `optimizer.lr` = nan is out of range", "a number in (0, 1]"),
        ("[optimizer]\nlr = inf\n", "m.toml:5:6: `optimizer.lr` = inf is out of range", "a number in (0, 1]"),
        (
            "[optimizer]\nlr = 1e999\n",
            "m.toml:5:6: `optimizer.lr` = 1e999 is out of range",
            "a number in (0, 1]",
        ),
        (
            "[optimizer]\nbetas = [0.9]\n",
            "m.toml:5:9: `optimizer.betas` = [0.9] has 1 values",
            "a list of two numbers",
        ),
        (
            "[optimizer]\nbetas = [0.9, 1]\n",
            "m.toml:5:15: `optimizer.betas` holds 1, which is out of range",
            "each in [0, 1)",
        ),
        (
            "[optimizer]\nweight_decay = -1\n",
            "m.toml:5:16: `optimizer.weight_decay` = -1 is out of range",
            "of at least 0",
        ),
        (
            "[optimizer]\nlr = [1e-4]\n",
            "m.toml:5:6: `optimizer.lr` cannot be [1e-4], a list",
            "axes belong in a [[grid]] block",
        ),
        (
            "[optimizer]\nlr = 2020-01-01\n",
            "m.toml:5:6: `optimizer.lr` cannot be 2020-01-01, a date",
            "a number",
        ),
        (
            "[grpo]\nsteps = 1.5\n",
            "m.toml:5:9: `grpo.steps` cannot be 1.5, a number",
            "a whole number, at least 1",
        ),
        ("[grpo]\nsteps = 0\n", "m.toml:5:9: `grpo.steps` = 0 is out of range", "a whole number, at least 1"),
        (
            "[grpo]\nsteps = 99999999999999999999\n",
            "m.toml:5:9: `grpo.steps` = 99999999999999999999 is out of range",
            "whole",
        ),
        (
            "[grpo]\nsteps = 5_000_000_000\n",
            "m.toml:5:9: `grpo.steps` = 5_000_000_000 is out of range",
            "whole",
        ),
        (
            "[grpo]\nadvantage = \"means\"\n",
            "m.toml:5:13: `grpo.advantage` cannot be \"means\"",
            "did you mean \"mean\"?",
        ),
        (
            "[grpo]\nsteps = { a = 1 }\n",
            "m.toml:5:9: `grpo.steps` cannot be { a = 1 }, a table",
            "a whole number",
        ),
        ("[sampling]\ntop_p = 0\n", "m.toml:5:9: `sampling.top_p` = 0 is out of range", "in (0, 1]"),
        (
            "[sampling]\ntemperature = 0\n",
            "m.toml:5:15: `sampling.temperature` = 0 is out of range",
            "in (0, 100]",
        ),
        (
            "[mask]\ntype = \"random\"\nsparsity = 1\n",
            "m.toml:6:12: `mask.sparsity` = 1 is out of range",
            "in (0, 1)",
        ),
        (
            "[[grid]]\nmodel.pretrain.vocab_size = 299\n",
            "m.toml:5:29: `model.pretrain.vocab_size` = 299 is out of range",
            "from 300 to",
        ),
        ("[mask]\n\"type\" = true\n", "m.toml:5:10: `mask.type` cannot be true, a flag", "one of \"full\""),
        ("exec = 3\n", "m.toml:4:8: unknown key `task.exec`", "[task] has the keys type"),
        (
            "[[mask]]\n",
            "m.toml:4:1: `mask` cannot be [[mask]]",
            "`mask` is a table with the keys type, sparsity",
        ),
        (
            "[grid]\nseed = 1\n",
            "m.toml:4:1: `grid` is not a list of blocks",
            "write [[grid]], with two brackets",
        ),
        ("x = = 1\n", "m.toml:4:5: not TOML: extra `=`", ""),
    ] {
        let (found, advice) = refused(text, &[]);
        let first = found.lines().next().unwrap_or_default();
        assert!(first.starts_with(message), "{text}\n  wanted {message}\n  found  {found}");
        assert!(advice.contains(hint), "{text}: {advice}");
    }
}

#[test]
fn rules_across_settings() {
    for (text, message) in [
        ("[eval]\nseed = 0\n", "m.toml:5:8: `eval.seed` and `seed` are both 0"),
        ("min_turns = 4\n", "m.toml:4:13: `task.min_turns` = 4 is more than `task.max_turns` = 3"),
        (
            "max_names_per_turn = 2\nmin_names_per_turn = 3\n",
            "m.toml:5:22: `task.min_names_per_turn` = 3 is more than `task.max_names_per_turn` = 2",
        ),
        (
            "[grpo]\ngroup_size = 7\n",
            "m.toml:5:14: `grpo.group_size` = 7 does not divide `grpo.rollouts_per_step` = 128",
        ),
        (
            "[grpo]\nminibatches = 3\n",
            "m.toml:5:15: `grpo.minibatches` = 3 does not divide the 16 groups of a step (grpo.rollouts_per_step / grpo.group_size)",
        ),
        ("[mask]\ntype = \"random\"\n", "m.toml:5:8: `mask.sparsity` is missing"),
        (
            "[mask]\ntype = \"fisher\"\nsparsity = 0.9\n[fisher]\nepisodes = 9\n",
            "m.toml:8:12: `grpo.group_size` = 8 does not divide `fisher.episodes` = 9",
        ),
        (
            "[mask]\ntype = \"full\"\nseed = 3\n",
            "m.toml:6:8: `mask.seed` does not apply to `mask.type` = \"full\"",
        ),
        ("[mask]\nsparsity = 0.9\n", "m.toml:5:12: `mask.sparsity` does not apply to `mask.type` = \"full\""),
        (
            "[grpo]\nratio = \"mask\"\nclip_low = 0.1\n",
            "m.toml:6:12: `grpo.clip_low` does not apply to `grpo.ratio` = \"mask\"",
        ),
        (
            "[grpo]\nmask_high = 9\n",
            "m.toml:5:13: `grpo.mask_high` does not apply to `grpo.ratio` = \"clip\"",
        ),
        ("[model]\npath = \"x\"\n", "m.toml:5:8: `model.path` does not apply beside [model.pretrain]"),
        (
            "names = \"nowhere.jsonl\"\n",
            "m.toml:4:9: `task.names` cannot be used: nowhere.jsonl: No such file",
        ),
    ] {
        let (found, _) = refused(text, &[]);
        assert!(found.starts_with(message), "{text}\n  wanted {message}\n  found  {found}");
    }
    let heads = |text: &str| {
        let folder = Folder::new();
        let text = format!("[task]\ntype = \"alphabet_sort\"\n[model.pretrain]\n{text}");
        folder.strip(&plan_of(&folder.write("m.toml", text), &[], &[]).expect_err("refused").to_string())
    };
    let found = heads("heads = 3\nkv_heads = 1\n");
    assert_eq!(
        found,
        "m.toml:4:9: `model.pretrain.heads` = 3 does not divide `model.pretrain.hidden_size` = 128"
    );
    let found = heads("heads = 128\nkv_heads = 1\n");
    assert_eq!(found, "m.toml:4:9: `model.pretrain.hidden_size` / `model.pretrain.heads` = 1, which is odd");
    let found = heads("kv_heads = 3\n");
    assert_eq!(
        found,
        "m.toml:4:12: `model.pretrain.kv_heads` = 3 does not divide `model.pretrain.heads` = 4"
    );
}

#[test]
fn what_is_missing_altogether() {
    let folder = Folder::new();
    let without = |text: &str| {
        let path = folder.write("m.toml", text);
        let error = plan_of(&path, &[], &[]).expect_err("refused");
        (folder.strip(&error.to_string()), error.hint().unwrap_or_default())
    };
    let (text, hint) = without("[task]\ntype = \"alphabet_sort\"\n");
    assert_eq!(text, "m.toml:1:1: there is no base model");
    assert!(hint.contains("[model.pretrain]"));
    let (text, hint) = without("[model.pretrain]\n");
    assert_eq!(text, "m.toml:1:1: `task.type` is missing");
    assert_eq!(hint, "write [task] with type = \"alphabet_sort\"");
}

#[test]
fn every_issue_of_a_file_is_shown_and_underlined() {
    let folder = Folder::new();
    let path = folder.write("m.toml", format!("{HEAD}[optimizer]\nlr = 2\n[grpo]\nstep = 3\n"));
    let error = load_with(&path, &[], &[]).expect_err("refused");
    assert_eq!(error.issues().len(), 2);
    let drawn = folder.strip(&error.render(false).expect("it points into a text"));
    let wanted = "  × `optimizer.lr` = 2 is out of range
   ╭─[m.toml:5:6]
 4 │ [optimizer]
 5 │ lr = 2
   ·      ─
 6 │ [grpo]
   ╰────
  help: it must be a number in (0, 1]

  × unknown key `grpo.step`
   ╭─[m.toml:7:1]
 6 │ [grpo]
 7 │ step = 3
   · ────
   ╰────
  help: did you mean `grpo.steps`?
";
    assert_eq!(drawn, wanted);
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::Manifest);
    assert_eq!(
        failure.hint.as_deref(),
        Some("line 5: it must be a number in (0, 1]\n        line 7: did you mean `grpo.steps`?")
    );
}

#[test]
fn files_that_are_no_manifests() {
    let folder = Folder::new();
    let says = |argument: &str| folder.strip(&unloadable(argument).to_string());
    assert_eq!(says(&folder.write("empty.toml", " \n")), "empty.toml is empty");
    assert_eq!(says(&folder.write("latin.toml", b"# ok\nt\xefle = 1")), "latin.toml:2:2: not UTF-8 text");
    folder.write("sub/x.toml", HEAD);
    let error = unloadable(folder.path("sub").to_str().expect("UTF-8"));
    assert_eq!(folder.strip(&error.to_string()), "sub is a folder, not a manifest");
    assert_eq!(error.hint().as_deref(), Some("it holds x"));
    assert_eq!(
        says(&folder.write("huge.toml", vec![b'#'; (4 << 20) + 1])),
        "huge.toml has 4194305 bytes, more than the 4194304 that a manifest may have"
    );

    let error = unloadable("quickstrat");
    assert_eq!(error.to_string(), "there is no manifest `quickstrat`");
    let hint = error.hint().expect("a list");
    assert!(hint.starts_with("did you mean `quickstart`? available under manifests/: "), "{hint}");
    assert!(hint.contains("smoke"), "{hint}");
    assert_eq!(Failure::from(error).code, Code::Manifest);
}

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
    let TaskSpec::AlphabetSort(task) = &config.task;
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
    let plan = plan_of(&path, &["grpo.steps=9", "exec.device=cpu", "task.prompts.first=2001"], &env)
        .expect("planned");
    let config = &plan.runs[0].config;
    assert_eq!(config.optimizer.lr.to_bits(), 1e-4_f64.to_bits());
    assert_eq!(config.grpo.steps, 9, "--set is above the environment, and both are above a block");
    let TaskSpec::AlphabetSort(task) = &config.task;
    assert_eq!(task.prompts.first, "2001", "a text stays a text");
    let listed = plan.manifest.overridden();
    let listed = listed.iter().map(|o| format!("{} = {} ({})", o.key, o.value, o.origin)).collect::<Vec<_>>();
    assert_eq!(
        listed,
        [
            "grpo.steps = 5 (environment variable TICKETS_GRPO__STEPS)",
            "optimizer.lr = 1e-4 (environment variable TICKETS_OPTIMIZER__LR)",
            "grpo.steps = 9 (--set)",
            "exec.device = \"cpu\" (--set)",
            "task.prompts.first = \"2001\" (--set)",
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
        ("title=x", "--set:1:1: unknown key `title`"),
        ("mask.seed=3", "--set:1:13: no run of the grid has a use for `mask.seed`"),
        ("mask.type=random", "--set:1:13: `mask.sparsity` is missing"),
        ("grpo.steps=1\nseed=2", "--set:1:14: `grpo.steps` cannot be \"1\\nseed=2\", a text"),
        ("model.path=nowhere", "--set:1:14: `model.path` cannot be used"),
        ("=1", "--set:1:1: unknown key ``"),
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
    assert!(matches!(plan.runs[1].config.mask, MaskSpec::Random { sparsity, .. } if sparsity == 0.5));
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
    std::fs::remove_file(folder.path("b/config.json")).expect("removed");
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
    assert_eq!(config.optimizer.betas, [0.9, 0.999]);
    assert_eq!(config.sampling, config.eval.sampling);
    assert_eq!((config.exec.jobs, config.exec.threads, config.exec.keep_checkpoints), (0, 1, 2));
}
