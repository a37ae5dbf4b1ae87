//! What is wrong with a manifest, as values: limits of keys, order, exit codes, files that are no manifests. What people
//! read, one case per diagnostic, is in `snapshots.rs`.

mod manifest_support;

use manifest_support::{Folder, HEAD, refused, unloadable};
use tickets::exit::{Code, Failure};
use tickets::manifest::load_with;

#[test]
fn values_beyond_their_limits() {
    for (text, message, hint) in [
        (
            "[mask]\nsparsty = 0.9\n",
            "m.toml:5:1: unknown key `mask.sparsty`",
            "did you mean `mask.sparsity`?",
        ),
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
            "[optimizer]\nweight_decay = -1\n",
            "m.toml:5:16: `optimizer.weight_decay` = -1 is out of range",
            "of at least 0",
        ),
        ("[grpo]\nsteps = 0\n", "m.toml:5:9: `grpo.steps` = 0 is out of range", "a whole number, at least 1"),
        (
            "[grpo]\nsteps = 5_000_000_000\n",
            "m.toml:5:9: `grpo.steps` = 5_000_000_000 is out of range",
            "a whole number from 1 to 4,294,967,295",
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
    ] {
        let (found, advice) = refused(text, &[]);
        let first = found.lines().next().unwrap_or_default();
        assert!(first.starts_with(message), "{text}\n  wanted {message}\n  found  {found}");
        assert!(advice.contains(hint), "{text}: {advice}");
    }
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
        says(&folder.write("huge.toml", vec![b'#'; (1 << 20) + 1])),
        "huge.toml has 1048577 bytes, more than the 1048576 that a manifest may have"
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

    let evaluations = (0..101).map(|n| format!("[eval.a{n}]\nseed = 7")).collect::<Vec<_>>();
    let (text, hint) = refused(&evaluations.join("\n"), &[]);
    assert_eq!(text, "m.toml:205:8: there are more than 100 named evaluations");
    assert_eq!(hint, "every run makes all of them: name fewer");

    let selectors = "{ seed = 3000 }, ".repeat(10_001);
    let figure = format!("[[figure]]\nid = \"f\"\nkind = \"curves\"\nruns = [{selectors}]\n");
    let (text, hint) = refused(&format!("[[grid]]\nseed = {{ range = [3000, 4000] }}\n{figure}"), &[]);
    assert_eq!(text, "m.toml:9:9: 10,001 selectors stand against 1,000 runs");
    assert_eq!(hint, "together they make at most 10,000,000 pairs: use fewer");

    let folder = Folder::new();
    let error = unloadable(&folder.write("huge.toml", vec![b'#'; (1 << 20) + 1]));
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

#[test]
fn of_very_many_issues_the_first_hundred_are_shown_and_said_to_be() {
    let lines = |count: usize| (0..count).map(|n| format!("[x{n}]\n")).collect::<Vec<_>>().concat();
    let shown = |count: usize| {
        let folder = Folder::new();
        let path = folder.write("m.toml", format!("{HEAD}{}", lines(count)));
        let issues = load_with(&path, &[], &[]).expect_err("refused").issues().to_vec();
        let last = issues.last().and_then(|issue| issue.help.clone()).unwrap_or_default();
        (issues.len(), last.ends_with("these are the first 100 issues; there may be more"))
    };
    assert_eq!(shown(99), (99, false));
    assert_eq!(shown(5_000), (100, true));
}
