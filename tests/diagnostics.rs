//! What people read when a manifest is wrong: place, text, advice. One case per diagnostic.

mod manifest_support;

use manifest_support::{Folder, HEAD, plan_of, refused, unloadable};
use tickets::exit::{Code, Failure};
use tickets::manifest::load_with;

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
            "m.toml:5:9: `optimizer.betas` = [0.9] has 1 value",
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
        ("exec = 3\n", "m.toml:4:1: unknown key `task.exec`", "belongs at the top of the file"),
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
        ("row_names = \"sample\"\n", "m.toml:4:13: `task.row_names` does not apply to the shipped names"),
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
    assert_eq!(hint, "write [task] with type = \"alphabet_sort\", \"gsm8k\" or \"math\"");
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
fn what_is_too_much_is_refused_with_its_count() {
    let blocks = "[[grid]]\n".repeat(10_001);
    let (text, hint) = refused(&blocks, &[]);
    assert_eq!(text, "m.toml:10004:1: the grid has 10,001 blocks");
    assert_eq!(hint, "it may have 10,000 blocks: keys with lists of values make many runs of one");

    let evaluations = (0..101).map(|n| format!("[eval.a{n}]\nseed = 7\n")).collect::<String>();
    let (text, hint) = refused(&evaluations, &[]);
    assert_eq!(text, "m.toml:205:8: there are more than 100 named evaluations");
    assert_eq!(hint, "every run makes all of them: name fewer");

    let selectors = "{ seed = 3000 }, ".repeat(10_001);
    let figure = format!("[[figure]]\nid = \"f\"\nkind = \"curves\"\nruns = [{selectors}]\n");
    let (text, hint) = refused(&format!("[[grid]]\nseed = {{ range = [3000, 4000] }}\n{figure}"), &[]);
    assert_eq!(text, "m.toml:9:9: 10,001 selectors stand against 1,000 runs");
    assert_eq!(hint, "together they make at most 10,000,000 pairs: use fewer");

    let folder = Folder::new();
    let error = unloadable(&folder.write("huge.toml", vec![b'#'; (4 << 20) + 1]));
    assert_eq!(error.hint().as_deref(), Some("write long axes as ranges, such as { range = [0, 1000] }"));
}

#[cfg(unix)]
#[test]
fn an_environment_variable_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tickets"));
    command.args(["plan", &folder.write("m.toml", HEAD)]);
    let ended = command.env("TICKETS_SEED", std::ffi::OsStr::from_bytes(b"\xff")).output().expect("started");
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(
        String::from_utf8_lossy(&ended.stderr),
        "error: environment variable TICKETS_SEED is not UTF-8 text\n  hint: set it anew, or ignore the environment with --no-env\n"
    );
}
