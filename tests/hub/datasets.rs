//! The files of a dataset: which are fetched, how they lie in the cache, what is not asked for again, what goes wrong.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tickets::data::hub::{DataFile, HubError, Settings, Told, Watch, cached_dataset, fetch_dataset};
use tickets::data::read_questions;
use tickets::task::HubDataset;

use crate::server::{Act, COMMIT, Hub, ROWS, blob};
use crate::support::settings;

/// A hub, a cache and a dataset in it.
struct Bench {
    hub: Hub,
    folder: TempDir,
    settings: Settings,
}

const FILES: [(&str, &str); 6] = [
    ("README.md", "rows"),
    ("main/test-00000-of-00001.parquet", "main test"),
    ("main/train-00000-of-00002.parquet", "main train 0"),
    ("main/train-00001-of-00002.parquet", "main train 1"),
    ("more/train.jsonl", "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n"),
    ("more/test.jsonl", "{\"question\": \"2 + 2?\", \"answer\": \"4\"}\n"),
];

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let hub = Hub::chat();
        for (name, text) in files {
            hub.put_rows(name, *text);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = settings(&hub.endpoint, folder.path());
        settings.retry_after = Duration::from_millis(5);
        Self { hub, folder, settings }
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("datasets--tiny--rows")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT).join(name)
    }

    fn fetch(&self, dataset: &HubDataset) -> Result<Vec<String>, String> {
        self.fetch_told(dataset).0
    }

    /// The names of the files, or the error with its advice; and the notes that were told.
    fn fetch_told(&self, dataset: &HubDataset) -> (Result<Vec<String>, String>, Vec<String>) {
        let notes = RefCell::new(Vec::new());
        let tell = |told| match told {
            Told::Note(note) => notes.borrow_mut().push(note),
            Told::Begin { .. } | Told::Progress { .. } => {}
        };
        let found = fetch_dataset(&self.settings, dataset, Watch { stop: &|| false, tell: &tell });
        (found.map(|files| names(&files)).map_err(|error| said(&error)), notes.into_inner())
    }

    fn cached(&self, dataset: &HubDataset) -> Result<Vec<String>, String> {
        cached_dataset(self.folder.path(), dataset).map(|files| names(&files)).map_err(|error| said(&error))
    }

    /// The last parts of the paths that were asked for, sorted.
    fn asked(&self) -> Vec<String> {
        let last = |path: String| path.rsplit('/').next().expect("a path").to_owned();
        let mut asked: Vec<String> =
            self.hub.requests().into_iter().map(|request| last(request.path)).collect();
        asked.sort();
        asked
    }
}

fn names(files: &[DataFile]) -> Vec<String> {
    files.iter().map(|file| file.name.clone()).collect()
}

fn said(error: &HubError) -> String {
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

fn dataset(subset: &str, split: &str) -> HubDataset {
    HubDataset {
        id: ROWS.into(),
        revision: Some(COMMIT.into()),
        subset: Some(subset.to_owned()).filter(|subset| !subset.is_empty()),
        split: split.into(),
    }
}

#[track_caller]
fn has(said: &str, phrases: &[&str]) {
    for phrase in phrases {
        assert!(said.contains(phrase), "`{phrase}` is not in {said}");
    }
}

#[test]
fn a_split_is_fetched_as_python_keeps_it_and_not_asked_for_again() {
    let mut bench = Bench::new(&FILES);
    let train = dataset("main", "train");
    let missing = bench.cached(&train).expect_err("nothing is there");
    has(
        &missing,
        &["tiny/rows at commit 0123456789ab is not complete", "files of the split `train` missing"],
    );
    has(&missing, &[&format!("hf download tiny/rows --repo-type dataset --revision {COMMIT}")]);
    let (first, second) = (FILES[2].0, FILES[3].0);
    assert_eq!(bench.fetch(&train).expect("fetched"), [first, second]);
    let list = format!("{COMMIT}?blobs=true");
    let last = |name: &str| name.rsplit('/').next().expect("a name").to_owned();
    assert_eq!(bench.asked(), [list.clone(), last(first), last(second)]);
    for at in [2, 3] {
        let (name, text) = FILES[at];
        assert_eq!(fs::read_to_string(bench.file(name)).expect(name), text);
        let target = fs::read_link(bench.file(name)).expect("a link");
        assert_eq!(target, Path::new("../../../blobs").join(blob(name, text.as_bytes())));
    }
    assert!(!bench.file(FILES[1].0).exists(), "only what is needed comes");
    assert_eq!(bench.fetch(&train).expect("there"), [first, second]);
    bench.settings.offline = true;
    assert_eq!(bench.fetch(&train).expect("there"), [first, second]);
    assert_eq!(bench.cached(&train).expect("there"), [first, second]);
    // The list is known, so the other subset is known to be missing.
    let both = dataset("more+main", "train");
    has(
        &bench.fetch(&both).expect_err("offline"),
        &["more/train.jsonl missing", "offline", "--repo-type dataset"],
    );
    has(&bench.cached(&both).expect_err("not there"), &["more/train.jsonl missing"]);
    has(&bench.cached(&dataset("main", "dev")).expect_err("no split"), &["no split `dev`", "test, train"]);
    assert_eq!(bench.asked(), Vec::<String>::new());
    bench.settings.offline = false;
    assert_eq!(bench.fetch(&both).expect("fetched"), ["more/train.jsonl", first, second]);
    assert_eq!(bench.asked(), [list, "train.jsonl".into()]);
    let unpinned = HubDataset { revision: None, ..train };
    has(&bench.fetch(&unpinned).expect_err("no commit"), &["`task.dataset`", "`task.revision`"]);
    // Whoever only looks is content with the commit that Python's tools noted.
    has(&bench.cached(&unpinned).expect_err("no commit"), &["datasets/tiny/rows/commits/main"]);
    fs::create_dir_all(bench.repository().join("refs")).expect("writable");
    fs::write(bench.repository().join("refs/main"), COMMIT).expect("writable");
    assert_eq!(bench.cached(&unpinned).expect("there"), [first, second]);
}

#[test]
fn rows_are_read_from_the_cache_and_their_bytes_are_checked() {
    let bench = Bench::new(&FILES);
    let test = dataset("more", "test");
    bench.fetch(&test).expect("fetched");
    let files = cached_dataset(bench.folder.path(), &test).expect("there");
    let rows = read_questions(&[&files[0].path], None, None).expect("rows").rows;
    assert_eq!((rows[0].question.as_str(), rows[0].answer.as_str()), ("2 + 2?", "4"));
    files[0].check(&fs::read(&files[0].path).expect("readable")).expect("its own bytes");
    let error = files[0].check(b"{\"question\": \"2 + 2?\", \"answer\": \"5\"}\n").expect_err("others");
    has(&said(&error), &["more/test.jsonl is damaged", "git SHA-1"]);
}

#[test]
fn damage_is_found_and_mended_where_there_is_a_network() {
    let mut bench = Bench::new(&FILES);
    let test = dataset("main", "test");
    bench.fetch(&test).expect("fetched");
    let path = fs::canonicalize(bench.file(FILES[1].0)).expect("a link");
    fs::write(&path, "main tesT").expect("writable");
    bench.settings.offline = true;
    has(&bench.fetch(&test).expect_err("damaged"), &["is damaged: it has the SHA-256"]);
    bench.settings.offline = false;
    let (found, notes) = bench.fetch_told(&test);
    assert_eq!(found.expect("mended"), [FILES[1].0]);
    has(&notes.join("\n"), &["is damaged", "fetched again"]);
    assert_eq!(fs::read_to_string(&path).expect("there"), FILES[1].1);
    // A hub, or something on the way, that changes bytes.
    let bench = Bench::new(&FILES);
    bench.hub.acts_on(".parquet", |_| Act::Wrong);
    has(
        &bench.fetch(&test).expect_err("wrong"),
        &["main/test-00000-of-00001.parquet of tiny/rows", "is expected"],
    );
    assert!(!bench.file(FILES[1].0).exists(), "what is wrong has no name");
}

#[test]
fn a_cache_that_python_filled_is_used_with_the_hub_s_list_or_with_a_note() {
    let mut bench = Bench::new(&FILES);
    for at in [2, 3] {
        let (name, text) = FILES[at];
        let path = bench.repository().join("blobs").join(blob(name, text.as_bytes()));
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        fs::create_dir_all(bench.file(name).parent().expect("a folder")).expect("writable");
        fs::write(&path, text).expect("writable");
        let target = Path::new("../../../blobs").join(path.file_name().expect("a name"));
        std::os::unix::fs::symlink(target, bench.file(name)).expect("writable");
    }
    let train = dataset("main", "train");
    let both = [FILES[2].0, FILES[3].0];
    let endpoint = bench.settings.endpoint.clone();
    for (offline, elsewhere) in [(true, endpoint.as_str()), (false, "http://127.0.0.1:9")] {
        (bench.settings.offline, bench.settings.endpoint) = (offline, elsewhere.into());
        let (found, notes) = bench.fetch_told(&train);
        assert_eq!(found.expect("used"), both);
        has(&notes.join("\n"), &["which files tiny/rows at commit 0123456789ab has is not known", both[1]]);
    }
    assert_eq!(bench.cached(&train).expect("there"), both);
    has(&bench.cached(&dataset("", "test")).expect_err("not there"), &["files of the split `test` missing"]);
    (bench.settings.offline, bench.settings.endpoint) = (false, endpoint);
    assert_eq!(bench.fetch(&train).expect("there"), both);
    assert_eq!(bench.asked(), [format!("{COMMIT}?blobs=true")], "nothing came again");
    // A part of a set is none, with a list or without.
    fs::remove_dir_all(bench.repository().join(".tickets")).expect("there");
    fs::remove_file(bench.file(both[1])).expect("there");
    bench.settings.offline = true;
    has(&bench.fetch(&train).expect_err("half"), &["files of the split `train` missing"]);
}

#[test]
fn what_is_not_there_or_unclear_is_said_before_anything_comes() {
    for (files, (subset, split), phrases) in [
        (&FILES[..], ("main", "dev"), &["no split `dev`", "it has test, train", "`split`"][..]),
        (&FILES, ("", "train"), &["several subsets, and none is named: main, more"]),
        (&FILES, ("main+x", "train"), &["no subset `x`", "there are main, more"]),
        (
            &[("rows.py", "x"), ("data/train.csv", "x")],
            ("", "train"),
            &["no Parquet", ".csv, .py", "refs/convert/parquet"],
        ),
        (&[("train-00000-of-00002.parquet", "x")], ("", "train"), &["should have 2 files"]),
        (
            &[("../train.jsonl", "x"), ("/train.jsonl", "x"), ("a/../../../train.jsonl", "x")],
            ("", "train"),
            &["no Parquet"],
        ),
    ] {
        let bench = Bench::new(files);
        let found = bench.fetch(&dataset(subset, split)).expect_err("it cannot be had");
        has(&found, phrases);
        has(&found, &["tiny/rows at commit 0123456789ab"]);
        assert_eq!(bench.asked().len(), 1, "no file is fetched");
        // The list is known now.
        has(&bench.fetch(&dataset(subset, split)).expect_err("still"), phrases);
        assert_eq!(bench.asked().len(), 0);
    }
    let bench = Bench::new(&FILES);
    let other = HubDataset { id: "tiny/none".into(), ..dataset("", "train") };
    has(&bench.fetch(&other).expect_err("no such dataset"), &["no repository tiny/none", "(404)"]);
    bench.hub.acts(|_, _| Act::Status(401, ""));
    has(
        &bench.fetch(&dataset("main", "test")).expect_err("refused"),
        &["https://huggingface.co/datasets/tiny/rows"],
    );
    bench.hub.acts(|_, _| Act::NoDigest("main/test-00000-of-00001.parquet"));
    has(&bench.fetch(&dataset("main", "test")).expect_err("not to be checked"), &["no digest or no size"]);
    assert_eq!(bench.fetch(&dataset("more", "test")).map_err(|_| ()), Ok(vec!["more/test.jsonl".into()]));
}

#[test]
fn several_at_once_fetch_once_and_half_a_file_is_gone_on_with() {
    let long = "{\"question\": \"?\", \"answer\": \"!\"}\n".repeat(1000);
    let bench = Bench::new(&[("train.jsonl", &long)]);
    bench.hub.acts_on("train.jsonl", |before| if before == 0 { Act::Cut(10_000) } else { Act::Serve });
    let train = dataset("", "train");
    std::thread::scope(|scope| {
        let fetch = || fetch_dataset(&bench.settings, &train, Watch::NOBODY).map(drop);
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(fetch)).collect();
        for thread in threads {
            thread.join().expect("no panic").expect("fetched");
        }
    });
    let asked: Vec<_> =
        bench.hub.requests().into_iter().filter(|request| request.path.ends_with("train.jsonl")).collect();
    assert_eq!(asked.iter().map(|request| request.from).collect::<Vec<_>>(), [None, Some(10_000)]);
    assert_eq!(fs::read_to_string(bench.file("train.jsonl")).expect("there"), long);
}
