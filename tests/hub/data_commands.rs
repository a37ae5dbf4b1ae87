//! The real program with a dataset of a hub: what is pinned, when it is fetched, what is used offline.

use std::fs;

use crate::commands::Site;
use crate::server::{Act, COMMIT, Hub, ID, ROWS};

/// A site whose task takes its names from the dataset.
fn site(names: &str) -> Site {
    let site = Site::new(Hub::chat());
    site.hub.put_rows("README.md", "names");
    site.hub.put_rows("data/train-00000-of-00001.jsonl", names);
    site.hub.put_rows("data/test-00000-of-00001.jsonl", "{\"names\": [\"Cy Day\", \"Di Elm\"]}\n");
    manifest(&site, &format!("revision = \"{COMMIT}\""));
    site
}

fn manifest(site: &Site, revision: &str) {
    let text = format!(
        "[model]\nid = \"{ID}\"\nrevision = \"{COMMIT}\"\n\
         [task]\ntype = \"alphabet_sort\"\nmax_turns = 1\nmax_names_per_turn = 2\ndataset = \"{ROWS}\"\n{revision}\n\
         [grpo]\nsteps = 1\nrollouts_per_step = 4\ngroup_size = 2\nmicro_batch = 4\n\
         [sampling]\nmax_tokens = 4\n[mask]\ntype = \"random\"\nsparsity = 0.5\n\
         [eval]\nexamples = 2\nsampling.max_tokens = 4\n\
         [exec]\ndevice = \"cpu\"\nretries = {{ infra = 0, store = 0 }}\n"
    );
    site.bench.write("m.toml", &text);
}

fn rows(site: &Site) -> std::path::PathBuf {
    site.bench.path("home/.cache/huggingface/hub/datasets--tiny--rows")
}

const NAMES: &str =
    "{\"names\": [\"Ann Lee\", \"Bo Fox\", \"Al Ray\"]}\n{\"names\": [\"Eva Moss\", \"Ida Bell\"]}\n";

#[test]
fn a_sweep_fetches_the_dataset_and_the_next_asks_nothing() {
    let site = site(NAMES);
    for arguments in [&["plan", "m.toml"][..], &["status", "m.toml"]] {
        site.run(arguments, &[]).ends(0);
    }
    let said = site.run(&["task", "show", "m.toml"], &[]).ends(7);
    said.names(&["tiny/rows at commit 0123456789ab is not complete in the cache", "--repo-type dataset"]);
    assert_eq!(site.hub.requests(), []);
    site.run(&["sweep", "m.toml"], &[]).ends(0).names(&["fetches the dataset tiny/rows: 79 B"]);
    let asked = site.hub.requests();
    let of_rows = asked.iter().filter(|request| request.path.contains(ROWS)).count();
    assert_eq!((of_rows, asked.len()), (2, 8), "{asked:?}");
    let shown = site.run(&["task", "show", "m.toml", "-n", "9"], &[("HF_HUB_OFFLINE", "1")]).ends(0);
    assert!(shown.out.contains("AnnLee") && !shown.out.contains("CyDay"), "{}", shown.out);
    // Another run, offline; and a finished grid needs no dataset.
    site.run(&["work", "m.toml", "--set", "seed=7"], &[("HF_HUB_OFFLINE", "1")]).ends(0);
    fs::remove_dir_all(rows(&site)).expect("there");
    site.run(&["sweep", "m.toml"], &[("HF_HUB_OFFLINE", "1")]).ends(0);
    assert_eq!(site.hub.requests(), []);
    // A run that is missing does, and is not begun without it.
    let said = site.run(&["work", "m.toml", "--set", "seed=8"], &[("HF_HUB_OFFLINE", "1")]).ends(7);
    said.names(&["files of the split `train` missing, and this is offline mode", "unset HF_HUB_OFFLINE"]);
    site.run(&["work", "m.toml", "--set", "seed=8"], &[]).ends(0);
    assert_eq!(site.hub.requests().len(), 2);
}

#[test]
fn a_dataset_without_a_commit_is_refused_with_the_line_to_add() {
    let site = site(NAMES);
    manifest(&site, "");
    let line = format!("write `revision = \"{COMMIT}\"` below `dataset` in [task]");
    site.run(&["sweep", "m.toml"], &[])
        .ends(4)
        .names(&["`task.dataset` = \"tiny/rows\" has no `task.revision`", &line]);
    assert_eq!(site.hub.requests().len(), 1);
    site.run(&["work", "m.toml"], &[("HF_HUB_OFFLINE", "1")])
        .ends(4)
        .names(&["https://huggingface.co/datasets/tiny/rows/commits/main"]);
    assert_eq!(site.hub.requests(), []);
    assert!(!site.bench.results().exists(), "nothing was begun");
    // Looking at it needs no commit: what is not in the cache is said.
    site.run(&["task", "show", "m.toml"], &[]).ends(4).names(&["no `task.revision`"]);
}

#[test]
fn a_dataset_that_does_not_serve_is_said_before_anything_is_computed() {
    for (names, phrases) in [
        (
            "{\"authors\": [\"A\"]}\n",
            &["data/train-00000-of-00001.jsonl", "line 1", "no column `names`", "authors"][..],
        ),
        ("{\"names\": [\"A\"]}\n{\"names\": null}\n", &["line 2", "`names` is null"]),
        ("{\"names\": [\"A\"]}\n", &["task.names", "needs 2"]),
        ("\n", &["there is no row"]),
    ] {
        let site = site(names);
        let said = site.run(&["sweep", "m.toml"], &[]);
        assert!([3, 7].contains(&said.code), "{}", said.all());
        for phrase in phrases {
            assert!(said.err.contains(phrase), "`{phrase}` is not in {}", said.all());
        }
        let asked = site.hub.requests();
        assert!(asked.iter().all(|request| request.path.contains(ROWS)), "nothing was begun: {asked:?}");
    }
    let site = site(NAMES);
    site.run(&["sweep", "m.toml", "--set", "task.split=\"dev\""], &[])
        .ends(7)
        .names(&["no split `dev`; by the names of its files it has test, train"]);
    site.hub.acts(|request, _| if request.path.contains(ROWS) { Act::Status(403, "") } else { Act::Serve });
    fs::remove_dir_all(rows(&site)).expect("there");
    site.run(&["sweep", "m.toml"], &[])
        .ends(7)
        .names(&["refuses (403)", "https://huggingface.co/datasets/tiny/rows"]);
}
