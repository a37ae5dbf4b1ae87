//! What a report says of masks that know their shapes, and of the scores that they were chosen by.

#![cfg(feature = "tables")]

mod report_fixture;

use std::collections::BTreeMap;
use std::path::Path;

use report_fixture::{files, quickstart, restores, row, text, write};
use serde_json::{Value, json};
use tickets::data::safetensors::{RawTensor, to_bytes};
use tickets::manifest::{Overrides, load};
use tickets::plan::{Plan, expand};
use tickets::report::scores::ScoresRecord;
use tickets::report::{Overlap, ReportError, ResultSet, collect, read};
use tickets::store::{Stage, Store};

const MANIFEST: &str = r#"
title = "Masks"
question = "Do they agree?"
model.pretrain.layers = 1
task.type = "alphabet_sort"

[[grid]]
mask.type = "random"
mask.sparsity = 0.5
mask.seed = [0, 1]

[[grid]]
mask.type = "fisher"
mask.sparsity = [0.5, 0.9]
optimizer.lr = [1e-4, 1e-3]

[[grid]]
mask.type = "fisher"
mask.sparsity = 0.5
fisher.seed = 7

[[grid]]
mask.type = "random"
mask.sparsity = 0.5
mask.seed = 0
mask.control = "permuted"
mask.modules = "mlp"
"#;

#[expect(clippy::disallowed_methods, reason = "a test sets the scene")]
fn plan(folder: &Path) -> Plan {
    let path = folder.join("masks.toml");
    std::fs::write(&path, MANIFEST).expect("written");
    expand(load(path.to_str().expect("utf-8"), &Overrides::default()).expect("a manifest")).expect("a plan")
}

/// A mask file of the two tensors `w` [2, 3] and `x` [4], which says so or, as files did before, does not.
fn mask_file(lists: [&[u32]; 2], describes_itself: bool) -> Vec<u8> {
    let tensors = ["w", "x"].iter().zip(lists).map(|(name, list)| RawTensor {
        name: (*name).to_owned(),
        dtype: "I32",
        shape: vec![list.len()],
        bytes: list.iter().flat_map(|index| index.to_le_bytes()).collect(),
    });
    let shapes = ("shapes".to_owned(), json!([["w", [2, 3]], ["x", [4]]]).to_string());
    let metadata: BTreeMap<String, String> = describes_itself.then_some(shapes).into_iter().collect();
    to_bytes(&tensors.collect::<Vec<_>>(), &metadata)
}

fn publish_mask(store: &Store, plan: &Plan, run: usize, lists: [&[u32]; 2], describes_itself: bool) {
    let id = plan.runs[run].stages.mask.as_deref().expect("a mask");
    let meta = json!({ "active": lists[0].len() + lists[1].len(), "total": 10 });
    let file = mask_file(lists, describes_itself);
    store.publish(Stage::Mask, id, &[("mask.safetensors", &file)], meta).expect("published");
}

fn is(got: Option<f64>, wanted: f64) -> bool {
    got.is_some_and(|got| (got - wanted).abs() < 1e-12)
}

#[test]
fn masks_that_know_their_shapes_are_compared_per_tensor() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path());
    let store = Store::open(&folder.path().join("results")).expect("a store");
    publish_mask(&store, &plan, 0, [&[0, 2, 5], &[1]], true);
    // The second is of before, and of the same base: the first one's shapes are its own.
    publish_mask(&store, &plan, 1, [&[2, 3, 5], &[0, 2]], false);
    let set = collect(&plan, &store).expect("results");
    let [pair] = &set.overlaps[..] else { panic!("{:?}", set.overlaps) };
    assert_eq!((pair.intersection, pair.union, pair.total), (2, 7, 10));
    // Uniform: mean 2 of counts 4 and 5; the same per tensor, 1.5 + 0.5.
    assert!(is(pair.chance, 2.0 / 7.0) && is(pair.z, 0.0), "{pair:?}");
    assert!(is(pair.chance_per_tensor, 2.0 / 7.0) && is(pair.z_per_tensor, 0.0), "{pair:?}");
    assert!(set.scores.is_empty());
    let files = restores(&set);
    let table = text(&files, "jaccard.csv");
    assert!(
        table.starts_with(
            "a,b,count_a,count_b,intersection,union,jaccard,chance,total,z,chance_per_tensor,z_per_tensor\n"
        ),
        "{table}"
    );
    let said = text(&files, "summary.md");
    let row = "| random-0.5-s0 | random-0.5-s1 | 2 | 0.285714 | 0.285714 | 1 | +0.0 | 0.285714 | +0.0 |";
    assert!(said.contains("## Overlap of the masks\n") && said.contains(row), "{said}");
    assert!(text(&files, "index.html").contains("<h2>Overlap of the masks</h2>"));
    assert!(!said.contains("## Scores") && !files.contains_key("scores.csv"));
}

#[test]
fn masks_from_before_take_the_shapes_of_their_base() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path());
    let store = Store::open(&folder.path().join("results")).expect("a store");
    let config =
        std::fs::read(format!("{}/tests/oracles/torch/tied_gqa1/config.json", env!("CARGO_MANIFEST_DIR")))
            .expect("a configuration");
    let sizes = tickets::masks::model_sizes(&config, "config.json").expect("a model");
    let total: usize = sizes.iter().map(tickets::sparsity::TensorSize::elements).sum();
    store
        .publish(Stage::Base, &plan.runs[0].stages.base, &[("config.json", &config)], json!({}))
        .expect("published");
    let list = |run: usize, name: &str, list: &[i32]| {
        let id = plan.runs[run].stages.mask.as_deref().expect("a mask");
        let bytes = list.iter().flat_map(|index| index.to_le_bytes()).collect();
        let tensor = RawTensor { name: name.to_owned(), dtype: "I32", shape: vec![list.len()], bytes };
        let file = to_bytes(&[tensor], &BTreeMap::new());
        let meta = json!({ "active": list.len(), "total": total });
        store.publish(Stage::Mask, id, &[("mask.safetensors", &file)], meta).expect("published");
    };
    list(0, &sizes[0].name, &[0, 2]);
    list(1, &sizes[0].name, &[2, 3]);
    let set = collect(&plan, &store).expect("results");
    let [pair] = &set.overlaps[..] else { panic!("{:?}", set.overlaps) };
    // Two and two entries of the first tensor alone: mean 4/n there, 4/total anywhere.
    let chance = |n: usize| 4.0 / n as f64 / (4.0 - 4.0 / n as f64);
    assert!(
        is(pair.chance, chance(total)) && is(pair.chance_per_tensor, chance(sizes[0].elements())),
        "{pair:?}"
    );

    // What is not usual is in the name.
    list(7, &sizes[1].name, &[1]);
    let set = collect(&plan, &store).expect("results");
    assert_eq!(set.overlaps[1].b, "random-0.5-s0-mlp-permuted");

    // A tensor that the base does not have.
    list(2, "strange", &[0]);
    let error = collect(&plan, &store).expect_err("no such tensor").to_string();
    assert!(
        error.contains("of fisher-0.5") && error.contains("its tensor strange is not in its base"),
        "{error}"
    );
}

#[test]
fn masks_of_different_models_have_no_overlap() {
    let mut set = quickstart();
    let masks = report_fixture::masks(&[]);
    assert!(tickets::report::masks::overlaps(&masks).is_empty());
    let named = |name: &str, shape: usize| {
        let tensors = vec![tickets::sparsity::TensorSize { name: "w".to_owned(), shape: vec![shape] }];
        let mask = tickets::sparsity::Mask::new(tensors, vec![vec![0]]).expect("a mask");
        tickets::report::masks::NamedMask { name: name.to_owned(), mask, total: None }
    };
    set.overlaps = tickets::report::masks::overlaps(&[named("a", 4), named("b", 5), named("c", 4)]);
    let pairs: Vec<(&str, &str)> =
        set.overlaps.iter().map(|pair| (pair.a.as_str(), pair.b.as_str())).collect();
    assert_eq!(pairs, [("a", "c")]);
    restores(&set);
}

#[test]
fn more_pairs_than_a_page_shows_are_counted() {
    let mut set = quickstart();
    let pair =
        |at: u64| Overlap { a: format!("m{at}"), z: Some(1.0), jaccard: Some(0.5), ..Overlap::default() };
    set.overlaps = (0..50).map(pair).collect();
    let said = text(&restores(&set), "summary.md");
    assert!(said.contains("| m44 |") && !said.contains("| m45 |"), "{said}");
    assert!(said.contains("5 further pairs are in jaccard.csv."), "{said}");
}

#[test]
fn empty_masks_have_no_jaccard_index() {
    let mut set = quickstart();
    set.overlaps = vec![Overlap { a: "a".to_owned(), b: "b".to_owned(), total: 10, ..Overlap::default() }];
    let files = restores(&set);
    assert_eq!(
        text(&files, "jaccard.csv"),
        "a,b,count_a,count_b,intersection,union,jaccard,chance,total\na,b,0,0,0,0,,,10\n"
    );
    assert!(text(&files, "figures/jaccard.svg").contains('–'));
}

/// What a trainer says of scores today; and before.
fn meta() -> Value {
    json!({
        "estimator": "batch", "measure": "square", "formula": "F_i = g_i^2, g the gradient of the loss", "episodes": 64,
        "seed": 0, "base": "ab12", "dtype": "float32",
        "parameters": 1000, "loss": { "ratio": "token", "group_size": 8 },
        "halves": { "episodes": [32, 32], "overlaps": [
            { "density": 0.1, "kept": 100, "intersection": 50, "union": 150, "jaccard": 1.0 / 3.0, "chance": 0.1 / 1.9 },
            { "density": 0.01, "kept": 10, "intersection": 1, "union": 19, "jaccard": 1.0 / 19.0, "chance": 0.01 / 1.99 },
        ] },
    })
}

#[test]
fn scores_are_shown_with_their_provenance_and_stability() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path());
    let store = Store::open(&folder.path().join("results")).expect("a store");
    let id = |run: usize| plan.runs[run].stages.scores.clone().expect("scores");
    assert_eq!((id(2), id(5)), (id(2), id(2)), "all sparsities and rates share their scores");
    assert_ne!(id(2), id(6));
    let publish = |run: usize, meta: Value| {
        store.publish(Stage::Scores, &id(run), &[("scores.safetensors", b"x")], meta).expect("published");
    };
    publish(2, meta());
    publish(6, json!({ "estimator": "batch", "episodes": 64, "seed": 7, "base": "ab12" }));
    let set = collect(&plan, &store).expect("results");
    assert_eq!(set.scores.len(), 2);
    let facts = &set.scores[0].facts;
    assert_eq!((&facts["runs"], &facts["sparsities"]), (&json!(4), &json!([0.5, 0.9])));
    assert_eq!((&facts["halves"], &facts["loss"]["group_size"]), (&json!([32, 32]), &json!(8)));
    let files = restores(&set);
    if let Ok(dir) = std::env::var("TICKETS_PICTURES") {
        write(Path::new(&dir), &files);
    }
    let short = |run: usize| id(run)[..12].to_owned();

    let table = text(&files, "scores.csv");
    assert_eq!(
        table.lines().next(),
        Some(
            "scores,estimator,measure,formula,episodes,halves,seed,base,dtype,loss,parameters,runs,sparsities"
        )
    );
    assert!(table.contains(&format!("\n{},batch,,,64,,7,ab12,,,,1,[0.5]\n", id(6))), "{table}");
    let table = text(&files, "stability.csv");
    let expected = format!(
        "scores,density,kept,intersection,union,jaccard,chance\n{0},0.1,100,50,150,0.3333333333333333,0.052631578947368425\n{0},0.01,10,1,19,",
        id(2)
    );
    assert!(table.starts_with(&expected), "{table}");

    let said = text(&files, "summary.md");
    for line in [
        format!("| {} | batch | square | 64 | float32 | ab12 | 4 | 50 %, 90 % |", short(2)),
        format!("| {} | batch |  | 64 |  | ab12 | 1 | 50 % |", short(6)),
        format!(
            "- `{}`: F_i = g_i^2, g the gradient of the loss. Loss: group_size 8, ratio token. Seed 0. Stability: halves of 32 and 32 episodes.",
            short(2)
        ),
        format!(
            "- `{}`: The formula is not recorded. Seed 7. Stability: not known, they were made before halves were compared.",
            short(6)
        ),
        format!("| batch {} | 10 % | 100 | 50 | 0.3333 | 0.052632 | 6.3 | +14.0 |", short(2)),
    ] {
        assert!(said.contains(&line), "{line}\nis not in\n{said}");
    }
    // Mean 10, variance 10 · 0.9 · 900/999 = 8.108: 40/2.847 = 14.05.
    let page = text(&files, "index.html");
    assert!(page.contains("<h2>Scores</h2>") && page.contains("made before halves were compared"), "{page}");
    let chart = text(&files, "figures/stability.svg");
    for label in [
        "Stability of the scores".to_owned(),
        format!("batch {}", short(2)),
        "density of the masks".to_owned(),
    ] {
        assert!(chart.contains(&label), "{label}");
    }
    assert!(!chart.contains(&short(6)), "only measured stability is drawn");
    assert!(page.contains("Figure") && page.contains("one set of scores"));
}

/// The quickstart with scores of one kind.
fn scored() -> ResultSet {
    let facts = row(json!({ "estimator": "sample", "episodes": 8, "runs": 2, "sparsities": [0.99] }));
    let overlap = row(json!({ "density": 0.01, "kept": 10, "jaccard": 0.5, "chance": 0.005 }));
    let mut set = quickstart();
    set.scores = vec![ScoresRecord { id: "cd34".to_owned(), facts, stability: vec![overlap] }];
    set
}

#[test]
fn scores_without_halves_have_no_figure_and_files_of_no_report_are_not_read() {
    let mut set = scored();
    let with = restores(&set);
    assert!(with.contains_key("figures/stability.svg"));
    set.scores[0].stability.clear();
    set.scores[0].facts.insert("loss".to_owned(), Value::Null);
    set.scores[0].facts.insert("measure".to_owned(), "square".into());
    let set = set.normalised();
    let without = restores(&set);
    assert!(!without.contains_key("figures/stability.svg"));
    assert_eq!(text(&without, "stability.csv"), "scores,density\n");
    assert!(text(&without, "summary.md").contains("not known, their data have no two halves."));
    // A report without scores over one with: what is left of it does not count.
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &with);
    write(dir.path(), &files(&quickstart()));
    assert_eq!(read(dir.path()).expect("a report"), quickstart());
}

#[test]
fn damaged_tables_of_scores_are_named() {
    let files = files(&scored());
    let damaged = |file: &str, content: Option<&str>| -> ReportError {
        let dir = tempfile::tempdir().expect("a folder");
        let mut files = files.clone();
        match content {
            Some(content) => files.insert(file.to_owned(), content.as_bytes().to_vec()),
            None => files.remove(file),
        };
        write(dir.path(), &files);
        read(dir.path()).expect_err("damaged")
    };
    assert!(damaged("scores.csv", None).to_string().ends_with("scores.csv"));
    let error = damaged("scores.csv", Some("scores,estimator\n")).to_string();
    assert_eq!(error, "scores.csv, line 0: it has 0 rows, runs.json counts 1");
    let error = damaged("stability.csv", Some("scores,density\nef56,0.5\n")).to_string();
    assert_eq!(error, "stability.csv, line 0: the scores `ef56` are not in scores.csv");
    let error = damaged("stability.csv", Some("run,density\n")).to_string();
    assert_eq!(error, "stability.csv, line 1: the first column is not `scores`");
    let error =
        damaged("jaccard.csv", Some("a,b,count_a,count_b,intersection,union,jaccard,chance,total,z\n"));
    assert!(error.to_string().contains("with or without z,chance_per_tensor,z_per_tensor"), "{error}");
    let columns = "a,b,count_a,count_b,intersection,union,jaccard,chance,total\n";
    let error = damaged("jaccard.csv", Some(&format!("{columns}a,b,1,1,1,1,one,1,1\n"))).to_string();
    assert_eq!(error, "jaccard.csv, line 2: `one` is not a number");
    let error = damaged("jaccard.csv", Some(&format!("{columns}a,b,1,1\n"))).to_string();
    assert_eq!(error, "jaccard.csv, line 2: 4 cells for 9 columns");
}

/// A report from before scores and indices per tensor were told restores, and its tables come out as they are.
#[test]
fn a_report_from_before_stays_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report_fixture/before");
    let set = read(&folder).expect("a report");
    assert!(set.scores.is_empty() && set.overlaps.iter().all(|pair| pair.z.is_none()));
    let made = files(&set);
    let compared: Vec<bool> = made
        .iter()
        .filter_map(|(path, bytes)| Some(std::fs::read(folder.join(path)).ok()? == *bytes))
        .collect();
    // All but the page and the pictures.
    assert!(compared.len() == 6 && compared.iter().all(|same| *same), "{compared:?}");
}

/// The committed report restores, and comes out as it is, pictures included.
#[test]
fn the_committed_report_comes_out_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/quickstart");
    let set = read(&folder).expect("a report");
    assert!(!set.scores.is_empty() && set.overlaps.iter().any(|pair| pair.z.is_some()));
    for (path, bytes) in files(&set) {
        assert!(std::fs::read(folder.join(&path)).ok().as_ref() == Some(&bytes), "{path} differs");
    }
}
