//! A sweep that the disk has no room for is refused before anything is started, and `plan` says what a grid takes.

mod manifest_support;

use clap::Parser;
use manifest_support::{Folder, HEAD};
use serde_json::{Value, json};
use tickets::cli::sweep::{SweepHooks, sweep};
use tickets::cli::{self, Cli, Command};
use tickets::exit::{Code, Failure};
use tickets::store::{Stage, Store};

/// Some five million TiB of weights.
const HUGE: &str = "[model.pretrain]\nhidden_size = 4194304\nintermediate_size = 4194304\nlayers = 1024\nheads = 64\n\
    kv_heads = 64\n[task]\ntype = \"alphabet_sort\"\nmax_turns = 1\n[grpo]\nsteps = 50\n[eval]\nexamples = 2\n\
    [exec]\ndevice = \"cpu\"\njobs = 1\n";

fn parsed(words: &[&str]) -> Command {
    Cli::try_parse_from([&["tickets"], words].concat()).expect("a command").command
}

/// `sweep` in this process, which can train nothing: a stage that is started fails.
fn swept(words: &[&str]) -> Result<Code, Failure> {
    let Command::Sweep(args) = parsed(&[&["sweep"], words].concat()) else { panic!("a sweep") };
    let hooks =
        SweepHooks { report: &|_, store| Ok(store.results().to_path_buf()), gpus: &|_| Ok(Vec::new()) };
    sweep(&args, &hooks, &mut Vec::new())
}

fn planned(words: &[&str]) -> String {
    let mut out = Vec::new();
    let words = [&["plan", "--no-env"], words].concat();
    assert_eq!(cli::run(parsed(&words), &mut out).expect("planned"), Code::Ok);
    String::from_utf8(out).expect("text")
}

#[test]
fn a_grid_that_cannot_fit_is_refused_unless_the_user_insists() {
    let folder = Folder::new();
    let (manifest, results) = (folder.write("huge.toml", HUGE), folder.path("results"));
    let words = [manifest.as_str(), "--results", results.to_str().expect("UTF-8")];
    let failure = swept(&words).expect_err("no disk is so large");
    assert_eq!(failure.code, Code::Store);
    let text = failure.to_string();
    for wanted in
        ["TiB are needed", " free in ", results.to_str().expect("UTF-8"), "--no-preflight", "exec.keep_mib=0"]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert_eq!(Store::open_read_only(&results).expect("a store").runs().expect("read"), Vec::<String>::new());
    // The base is tried, fails here, and takes the run with it.
    let code = swept(&[&words[..], &["--no-preflight"]].concat()).expect("swept");
    assert_eq!(code, Code::RunsFailed);
}

#[test]
fn a_plan_says_what_stays_and_counts_shared_stages_once() {
    let folder = Folder::new();
    let grid = "[grpo]\nsteps = 20\n[mask]\ntype = \"random\"\nsparsity = 0.9\n[exec]\njobs = 2\nkeep_mib = 0\n\
        [[grid]]\noptimizer.lr = [1e-3, 1e-4, 1e-5]\n";
    let manifest = folder.write("m.toml", format!("{HEAD}{grid}"));
    let results = folder.path("results");
    let words = [manifest.as_str(), "--results", results.to_str().expect("UTF-8")];
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&planned(&[&words[..], &["--json"], more].concat())).expect("JSON")
    };
    let bytes = |value: &Value| value.as_u64().expect("bytes");
    let object = json(&[]);
    let (runs, all) = (object["runs"].as_array().expect("runs"), &object["estimate"]["disk"]);
    let first = &runs[0]["disk"];
    let (peak, kept) = (bytes(&first["peak_bytes"]), bytes(&first["kept_bytes"]));
    assert!(kept < peak && runs.iter().all(|run| run["disk"] == *first), "{object:#}");
    // A base and a mask for all three; two runs under way at the same time.
    let shared = bytes(&all["kept_bytes"]) - 3 * kept;
    assert_eq!(bytes(&all["peak_bytes"]), shared + 3 * kept + 2 * (peak - kept));
    // 804992 parameters of four bytes, an index of four bytes for a tenth of them, a tokenizer.
    assert!((3_550_000..3_650_000).contains(&shared), "{shared}");
    let text = planned(&words);
    let line = text.lines().find(|line| line.starts_with("disk: ")).expect("the disk's line");
    assert!(line.contains(" MiB at most, ") && line.ends_with(" MiB stay"), "{line}");
    assert_eq!(json(&["--set", "exec.jobs=1"])["estimate"]["disk"]["peak_bytes"], shared + 2 * kept + peak);

    // What is there is not needed again: a base, and what a run has begun to write.
    let store = Store::open(&results).expect("a store");
    let base = object["stages"][0]["id"].as_str().expect("the base");
    assert_eq!(object["stages"][0]["stage"], "base");
    store.publish(Stage::Base, base, &[("x", b"x")], json!({})).expect("published");
    let less = bytes(&json(&[])["estimate"]["disk"]["kept_bytes"]);
    assert!(less < 3 * kept + shared - 3_200_000, "{less}");
    let mut attempt = store.begin(runs[1]["id"].as_str().expect("an id")).expect("begun");
    attempt.checkpoint(0, &[("state", &vec![0; 100_000])], json!({}), 1).expect("written");
    let now = bytes(&json(&[])["estimate"]["disk"]["kept_bytes"]);
    assert!((100_000..102_000).contains(&(less - now)), "{less} {now}");
    // A finished run needs nothing more.
    attempt.finish(&[("state", b"x")], json!({})).expect("finished");
    let done = json(&[]);
    assert_eq!((&done["runs"][1]["state"], &done["runs"][1]["disk"]), (&json!("done"), first));
    assert_eq!(bytes(&done["estimate"]["disk"]["kept_bytes"]), less - kept);
}
