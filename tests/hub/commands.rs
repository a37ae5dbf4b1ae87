//! The real program with a hub on loopback: what is pinned, what is asked for and when, what a changed cache comes to.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Bench, Said};
use crate::server::{Act, COMMIT, Hub, ID};

/// Variables that would let the machine's own settings into a test.
const OWN: [&str; 20] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// A bench whose model comes from a hub.
pub struct Site {
    pub bench: Bench,
    pub hub: Hub,
}

impl Site {
    /// With a manifest of one tiny run.
    pub fn new(hub: Hub) -> Self {
        let site = Self { bench: Bench::new(), hub };
        site.manifest(&format!("revision = \"{COMMIT}\""));
        site
    }

    pub fn manifest(&self, revision: &str) {
        let text = format!(
            "[model]\nid = \"{ID}\"\n{revision}\n\
             [task]\ntype = \"alphabet_sort\"\nmax_turns = 1\nmax_names_per_turn = 2\n\
             [grpo]\nsteps = 2\nrollouts_per_step = 4\ngroup_size = 2\nmicro_batch = 4\n\
             [sampling]\nmax_tokens = 4\n[mask]\ntype = \"random\"\nsparsity = 0.5\n\
             [eval]\nexamples = 2\nevery = 1\nsampling.max_tokens = 4\n\
             [exec]\ndevice = \"cpu\"\ncheckpoint_every = 1\nretries = {{ infra = 0, store = 0 }}\n"
        );
        self.bench.write("m.toml", &text);
    }

    /// The program with the hub, and a cache in the bench.
    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.bench.command(arguments);
        for name in OWN {
            command.env_remove(name);
        }
        command.env("HOME", self.bench.path("home")).env("HF_ENDPOINT", &self.hub.endpoint);
        command.env("HF_HUB_ETAG_TIMEOUT", "1").env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
        command.envs(variables.iter().copied());
        command
    }

    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let output = self.command(arguments, variables).output().expect("the program can be started");
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// The repository in the cache, in the home folder's usual place.
    pub fn repository(&self) -> std::path::PathBuf {
        self.bench.path("home/.cache/huggingface/hub/models--tiny--chat")
    }

    /// What the base's artifact says.
    pub fn checked(&self) -> serde_json::Value {
        let base = crate::common::only(&self.bench.results().join(".store/base"));
        serde_json::from_slice(&fs::read(base.join("checked.json")).expect("a record")).expect("JSON")
    }
}

#[test]
fn a_sweep_fetches_trains_and_the_next_asks_nothing() {
    let site = Site::new(Hub::chat());
    // Planning, and what looks at results, needs nobody.
    for arguments in [&["plan", "m.toml"][..], &["status", "m.toml"], &["plan", "m.toml", "--json"]] {
        site.run(arguments, &[]).ends(0);
    }
    assert_eq!(site.hub.requests(), []);
    site.run(&["task", "show", "m.toml"], &[])
        .ends(7)
        .names(&["tiny/chat is not in the cache", &format!("hf download tiny/chat --revision {COMMIT}")]);
    site.run(&["sweep", "m.toml"], &[])
        .ends(0)
        .names(&["download", "model.safetensors: 13.0 KiB of 13.0 KiB"]);
    assert_eq!(site.hub.requests().len(), 6);
    let checked = site.checked();
    assert_eq!(checked["model"], serde_json::json!({ "id": ID, "commit": COMMIT }));
    let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    assert_eq!(checked["files"]["model.safetensors"], digest(&site.hub.file("model.safetensors")));
    assert_eq!(checked["files"].as_object().map(serde_json::Map::len), Some(5));
    // A task is shown as the model sees it, by its own template.
    let shown = site.run(&["task", "show", "m.toml", "-n", "1"], &[]).ends(0);
    assert!(shown.out.contains("<|im_start|>"), "{}", shown.out);
    // Another run from the same base, without a network and in offline mode.
    for (seed, variables) in
        [("seed=7", &[("HF_ENDPOINT", "http://127.0.0.1:9")][..]), ("seed=8", &[("HF_HUB_OFFLINE", "1")])]
    {
        site.run(&["work", "m.toml", "--set", seed], variables).ends(0);
    }
    // Another results folder: the base is checked anew, from the cache alone.
    site.run(&["work", "m.toml", "--results", "other"], &[("TRANSFORMERS_OFFLINE", "yes")]).ends(0);
    assert_eq!(site.hub.requests(), []);
}

#[test]
fn a_model_without_a_commit_is_refused_with_the_line_to_add() {
    let site = Site::new(Hub::chat());
    site.manifest("");
    let line = format!("write `revision = \"{COMMIT}\"` below `id` in [model]");
    site.run(&["sweep", "m.toml"], &[]).ends(4).names(&[
        "has no `model.revision`",
        &format!("{COMMIT} now"),
        &line,
    ]);
    assert_eq!(site.hub.requests().len(), 1);
    // No network: what the cache knows, else where it can be looked up.
    site.run(&["sweep", "m.toml"], &[("HF_HUB_OFFLINE", "1")])
        .ends(4)
        .names(&["huggingface.co/tiny/chat/commits/main"]);
    fs::create_dir_all(site.repository().join("refs")).expect("writable");
    fs::write(site.repository().join("refs/main"), COMMIT).expect("writable");
    site.run(&["sweep", "m.toml"], &[("HF_HUB_OFFLINE", "1")])
        .ends(4)
        .names(&[&format!("{COMMIT} in the cache"), &line]);
    assert_eq!(site.hub.requests(), []);
    // A hub in trouble is asked once.
    site.hub.acts(|_, _| Act::Status(502, ""));
    site.run(&["sweep", "m.toml"], &[]).ends(4).names(&[&format!("{COMMIT} in the cache")]);
    assert_eq!(site.hub.requests().len(), 1);
    site.hub.acts(|_, _| Act::Status(401, ""));
    site.run(&["sweep", "m.toml"], &[]).ends(7).names(&["refuses (401)", "HF_TOKEN"]);
    assert!(!site.bench.results().exists(), "nothing was begun");
}

#[test]
fn a_hub_that_refuses_fails_the_base_with_advice_and_the_next_sweep_goes_on() {
    let site = Site::new(Hub::chat());
    site.hub.acts(|_, _| Act::Status(401, ""));
    site.run(&["sweep", "m.toml"], &[("HF_TOKEN", "hf_secret")]).ends(6).names(&[
        "bad-input",
        "refuses (401), with the token that it was shown",
        "https://huggingface.co/tiny/chat",
    ]);
    assert_eq!(site.hub.requests().len(), 1, "it is not tried again");
    let said = site.run(&["sweep", "m.toml"], &[("HF_HUB_OFFLINE", "1")]).ends(6);
    let said =
        said.names(&["config.json, tokenizer.json, model.safetensors missing", "unset HF_HUB_OFFLINE"]);
    assert!(!said.all().contains("secret"));
    assert_eq!(site.hub.requests(), []);
    site.hub.acts(|_, _| Act::Serve);
    site.run(&["work", "m.toml"], &[]).ends(0);
}

#[test]
fn a_cache_that_changed_is_an_error_and_one_that_was_emptied_is_filled() {
    let site = Site::new(Hub::chat());
    site.run(&["sweep", "m.toml"], &[]).ends(0);
    site.hub.requests();
    // A file more, which would change what the model is told.
    let snapshot = site.repository().join("snapshots").join(COMMIT);
    for name in ["generation_config.json", "special_tokens_map.json"] {
        let more = snapshot.join(name);
        fs::write(&more, r#"{"eos_token_id": 3}"#).expect("writable");
        site.run(&["work", "m.toml", "--set", "seed=7"], &[])
            .ends(6)
            .names(&[&format!("{name} has changed")]);
        fs::remove_file(&more).expect("there");
    }
    // A file of another content, by way of the link.
    let config = fs::canonicalize(snapshot.join("config.json")).expect("a link");
    let text = fs::read_to_string(&config).expect("readable");
    fs::write(&config, text.replace("1e-06", "1e-05")).expect("writable");
    let said = site.run(&["work", "m.toml", "--set", "seed=7"], &[]).ends(6);
    said.names(&["config.json has changed since the base of these runs was checked", "remove the file"]);
    assert_eq!(site.hub.requests(), []);
    // The advice helps; and a cache that is gone is fetched again, and compared.
    fs::remove_file(&config).expect("there");
    site.run(&["work", "m.toml", "--set", "seed=7"], &[]).ends(0);
    fs::remove_dir_all(site.repository()).expect("there");
    site.run(&["work", "m.toml", "--set", "seed=8"], &[]).ends(0).names(&["no longer complete in the cache"]);
    fs::remove_dir_all(site.repository()).expect("there");
    site.run(&["work", "m.toml", "--set", "seed=9"], &[("HF_HUB_OFFLINE", "1")])
        .ends(6)
        .names(&["offline mode"]);
}

/// Fetches with less and less room, in a file system of its own.
const SCRIPT: &str = r#"
    mkdir disk && mount -t tmpfs -o size=300k tmpfs disk || exit 90
    export HF_HUB_CACHE=$PWD/disk/hub
    "$TICKETS" work m.toml; echo "work $?"
    mount -o remount,size=30m disk || exit 91
    "$TICKETS" work m.toml; echo "work $?"
"#;

#[test]
fn a_disk_that_is_too_small_is_said_before_anything_comes() {
    let hub = Hub::chat();
    // A tokenizer with much white space is one all the same.
    let mut tokenizer = hub.file("tokenizer.json");
    tokenizer.extend(vec![b' '; 1 << 20]);
    hub.put("tokenizer.json", tokenizer);
    let site = Site::new(hub);
    let possible = Command::new("unshare").args(["-rm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("not tried: `unshare -rm` does not work here, so nothing can be mounted");
        return;
    }
    let command = site.command(&[], &[]);
    let mut outer = Command::new("unshare");
    outer.args(["-rm", "sh", "-c", SCRIPT]).current_dir(site.bench.path("."));
    command.get_envs().for_each(|(name, value)| match value {
        Some(value) => drop(outer.env(name, value)),
        None => drop(outer.env_remove(name)),
    });
    let done = outer.env("TICKETS", Path::new(env!("CARGO_BIN_EXE_tickets"))).output().expect("unshare");
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let codes: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("work ")).collect();
    assert_eq!(codes, ["5", "0"], "{said}");
    for phrase in
        ["disk-full", "download tiny/chat at commit 0123456789ab: 1.0 MiB are to come", "HF_HUB_CACHE"]
    {
        assert!(said.contains(phrase), "`{phrase}` is not in {said}");
    }
}
