//! The report from results alone: exact tables, charts by structure, files that restore what they were made of.

#![cfg(feature = "tables")]

mod report_fixture;

use std::collections::BTreeMap;
use std::path::Path;

use report_fixture::{Recipe, build, files, quickstart, restores, row, text, write};
use serde_json::{Value, json};
use tickets::report::{Overlap, ResultSet, RunResult, State, read};

/// Two finished runs and a failed one, with numbers that can be worked by hand.
fn small() -> ResultSet {
    let eval = |step: u32, score: f64| {
        row(json!({"step": step, "eval/score": score, "eval/stderr": 0.03125, "eval/examples": 64}))
    };
    let run = |id: char, label: &str, axes: Value, state, evals| RunResult {
        id: id.to_string().repeat(64),
        label: label.to_owned(),
        axes: axes.as_object().expect("an object").clone().into_iter().collect(),
        config: vec![("seed".to_owned(), json!(0))],
        state,
        step: Some(2),
        reason: None,
        metrics: vec![row(json!({"step": 1, "reward/mean": 0.5})), row(json!({"step": 2, "entropy": 0.125}))],
        evals,
        done: None,
    };
    let mut full = run(
        'a',
        "full-lr1e-4",
        json!({"mask.type": "full", "optimizer.lr": 1e-4}),
        State::Done,
        vec![eval(0, 0.25), eval(2, 0.5)],
    );
    full.done = Some(json!({"invariant": {"holds": true}, "weights": "ff"}));
    let random = run(
        'b',
        "random|0.99",
        json!({"mask.type": "random", "mask.sparsity": 0.99, "mask.seed": 7, "optimizer.lr": 1e-3}),
        State::Done,
        vec![eval(0, 0.25), eval(2, 0.375)],
    );
    let mut failed = run(
        'c',
        "random, \"x\"",
        json!({"mask.type": "random", "mask.sparsity": 0.99, "mask.seed": 8, "optimizer.lr": 1e-3}),
        State::Failed,
        vec![eval(0, 0.25)],
    );
    failed.reason = Some("nan: the loss is\nnot finite".to_owned());
    ResultSet {
        title: "A title".to_owned(),
        question: "A question?".to_owned(),
        manifest: "micro/small".to_owned(),
        runs: vec![full, random, failed],
        overlaps: vec![Overlap {
            a: "random-0.99-s7".to_owned(),
            b: "random-0.99-s8".to_owned(),
            count_a: 10,
            count_b: 10,
            total: 1000,
            intersection: 4,
            union: 16,
            jaccard: Some(0.25),
            chance: Some(0.005),
            z: None,
            chance_per_tensor: None,
            z_per_tensor: None,
        }],
        scores: Vec::new(),
        mix_classes: false,
    }
}

#[test]
fn tables_are_exact() {
    let files = restores(&small());
    assert_eq!(
        text(&files, "summary.csv"),
        "run,id,mask.type,mask.sparsity,mask.seed,optimizer.lr,state,step,base/score,eval/score,eval/stderr,gain,\
         invariant,reason\n\
         full-lr1e-4,aaaaaaaaaaaa,full,,,0.0001,done,2,0.25,0.5,0.03125,0.25,holds,\n\
         random|0.99,bbbbbbbbbbbb,random,0.99,7,0.001,done,2,0.25,0.375,0.03125,0.125,,\n\
         \"random, \"\"x\"\"\",cccccccccccc,random,0.99,8,0.001,failed,2,0.25,,,,,\"nan: the loss is\nnot finite\"\n"
    );
    assert_eq!(
        text(&files, "metrics.csv"),
        "run,step,reward/mean,entropy\n\
         full-lr1e-4,1,0.5,\nfull-lr1e-4,2,,0.125\n\
         random|0.99,1,0.5,\nrandom|0.99,2,,0.125\n\
         \"random, \"\"x\"\"\",1,0.5,\n\"random, \"\"x\"\"\",2,,0.125\n"
    );
    assert_eq!(
        text(&files, "evals.csv"),
        "run,step,eval/score,eval/stderr,eval/examples\n\
         full-lr1e-4,0,0.25,0.03125,64\nfull-lr1e-4,2,0.5,0.03125,64\n\
         random|0.99,0,0.25,0.03125,64\nrandom|0.99,2,0.375,0.03125,64\n\
         \"random, \"\"x\"\"\",0,0.25,0.03125,64\n"
    );
    assert_eq!(
        text(&files, "jaccard.csv"),
        "a,b,count_a,count_b,intersection,union,jaccard,chance,total\n\
         random-0.99-s7,random-0.99-s8,10,10,4,16,0.25,0.005,1000\n"
    );
}

#[test]
fn markdown_is_exact() {
    let markdown = text(&files(&small()), "summary.md");
    let expected = "\
# A title

A question?

**PARTIAL 2/3** runs: 2 done, 1 failed.

## Best learning rate per mask

| mask | best learning rate | rates tried | runs | score | ± s.e. | gain over base |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| full | 1e-4 | 1 | 1 | 0.5000 | 0.0312 | +0.2500 |
| random 99 % | 1e-3 | 1 | 1 | 0.3750 | 0.0312 | +0.1250 |

Base model: 0.2500. The best rate is chosen by the score that is shown, so it flatters masks with more rates tried; with one run, s.e. is that of the evaluation, with several, that over the runs.

## Runs

| run | id | mask.type | mask.sparsity | mask.seed | optimizer.lr | state | step | base/score | eval/score | eval/stderr | gain | invariant |
| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |
| full-lr1e-4 | aaaaaaaaaaaa | full |  |  | 1e-4 | done | 2 | 0.2500 | 0.5000 | 0.0312 | +0.2500 | holds |
| random\\|0.99 | bbbbbbbbbbbb | random | 0.99 | 7 | 1e-3 | done | 2 | 0.2500 | 0.3750 | 0.0312 | +0.1250 |  |
| random, \"x\" | cccccccccccc | random | 0.99 | 8 | 1e-3 | failed | 2 | 0.2500 |  |  |  |  |

## Failed runs

- `random, \"x\"` at step 2: nan: the loss is not finite

Written by `tickets report micro/small`.
";
    assert_eq!(markdown, expected);
}

#[test]
fn runs_json_keeps_settings_and_markers() {
    let runs: Value = serde_json::from_slice(&files(&small())["runs.json"]).expect("JSON");
    assert_eq!(runs["format"], 1);
    assert_eq!(runs["runs"][0]["done"], json!({"invariant": {"holds": true}, "weights": "ff"}));
    assert_eq!(runs["runs"][1]["axes"]["mask.seed"], 7);
    assert_eq!(runs["runs"][1]["config"], json!({"seed": 0}));
    assert_eq!(runs["runs"][2]["reason"], "nan: the loss is\nnot finite");
}

/// The elements of an SVG or a page, by a reader that knows tags, attributes and text; panics when they do not nest.
fn elements(xml: &str) -> Vec<(String, String)> {
    let (mut open, mut found, mut rest) = (Vec::new(), Vec::new(), xml);
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a closed tag");
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let content = &rest[..rest.find('<').unwrap_or(rest.len())];
        found.push((tag.to_owned(), content.to_owned()));
        if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    found
}

fn texts(elements: &[(String, String)]) -> Vec<&str> {
    elements.iter().filter(|(tag, _)| tag.starts_with("text ")).map(|(_, text)| text.trim()).collect()
}

#[test]
fn charts_name_what_they_show() {
    let files = files(&quickstart());
    let names: Vec<&str> =
        files.keys().filter_map(|path| path.strip_prefix("figures/")?.strip_suffix(".svg")).collect();
    assert_eq!(
        names,
        ["entropy", "jaccard", "learning_curves", "lr_sweep", "training_reward", "update_sparsity"]
    );
    for name in &names {
        let svg = text(&files, &format!("figures/{name}.svg"));
        let elements = elements(&svg);
        assert!(texts(&elements).contains(&"PARTIAL 9/11"), "{name}");
        let png = &files[&format!("figures/{name}.png")];
        let info = png::Decoder::new(png.as_slice()).read_info().expect("a PNG").info().clone();
        let size = |key: &str| -> u32 {
            let rest = svg.split(&format!(" {key}=\"")).nth(1).expect("a size");
            rest[..rest.find('"').expect("closed")].parse().expect("a number")
        };
        assert_eq!((info.width, info.height), (2 * size("width"), 2 * size("height")), "{name}");
    }
    let of = |name: &str| elements(&text(&files, &format!("figures/{name}.svg")));
    for name in ["learning_curves", "training_reward", "entropy"] {
        let elements = of(name);
        let texts = texts(&elements);
        for label in [
            "full",
            "fisher 99 %",
            "random 99 %",
            "1e-4",
            "3e-4",
            "1e-3",
            "3e-3",
            "1e-2",
            "3e-2",
            "training step",
        ] {
            assert!(texts.contains(&label), "{name} lacks {label}: {texts:?}");
        }
    }
    let sweep = of("lr_sweep");
    for label in ["full", "fisher 99 %", "random 99 %", "failed run", "base", "0.131", "1e-4", "1e-3", "1e-2"]
    {
        assert!(texts(&sweep).contains(&label), "lr_sweep lacks {label}");
    }
    // A series a colour: full has three rates with an error bar (a stroke and two caps) each and a line to join them.
    let strokes =
        |color: &str| sweep.iter().filter(|(tag, _)| tag.contains(&format!("stroke=\"{color}\""))).count();
    assert_eq!(strokes("#0072B2"), 3 * 3 + 1 + 1, "the last one is in the legend");
    let jaccard = of("jaccard");
    let numbers = texts(&jaccard);
    assert_eq!(numbers.iter().filter(|text| **text == "1").count(), 3, "{numbers:?}");
    assert_eq!(numbers.iter().filter(|text| text.ends_with("× chance")).count(), 6 + 1, "{numbers:?}");
    assert!(numbers.iter().any(|text| text.contains("p/(2 − p) = 0.00")), "{numbers:?}");
}

#[test]
fn the_same_results_give_the_same_bytes() {
    restores(&quickstart());
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let mut set = quickstart();
    set.title = "<b>\"Masks\" & 'rates'</b><script>alert(1)</script>".to_owned();
    set.runs[9].reason = Some("nan: <img src=x>".to_owned());
    let page = text(&files(&set), "index.html");
    for outside in ["http:", "https:", "src=", "href=", "<script", "<link", "<img", "@import", "xmlns"] {
        assert!(
            !page.contains(outside) || outside == "src=" && page.contains("&lt;img src=x&gt;"),
            "{outside}"
        );
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(data:font/ttf;base64,").count());
    assert!(page.contains("&lt;b&gt;&quot;Masks&quot; &amp; &#39;rates&#39;&lt;/b&gt;&lt;script&gt;"));
    assert!(page.contains("<span class=\"badge partial\">PARTIAL 9/11</span>"));
    assert!(page.contains("nan: &lt;img src=x&gt;"));
    assert!(page.contains("<code>tickets report quickstart</code>"));
    assert_eq!(page.matches("<svg ").count(), 6);
    assert_eq!(page.matches("<figcaption>").count(), 6);
    assert!(page.contains("10 of 11 runs"), "captions count runs");
    for run in &set.runs {
        assert!(page.contains(&run.id) && page.contains(&format!("({})", run.state.name())));
    }
    // A budget: a page that a browser on a phone opens at once.
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn degenerate_results_have_a_report() {
    let recipe = |mask, sparsity, seed, lr, state| Recipe { mask, sparsity, seed, lr, target: 0.3, state };
    let figures = |set: &ResultSet| -> Vec<String> {
        let files = restores(set);
        assert!(files.contains_key("index.html") && files.contains_key("summary.csv"));
        files
            .keys()
            .filter_map(|path| Some(path.strip_prefix("figures/")?.strip_suffix(".png")?.to_owned()))
            .collect()
    };
    // No run at all, and no run that has started.
    assert!(figures(&ResultSet::default()).is_empty());
    let pending = build("x", &[recipe("full", None, None, 1e-4, State::Pending)]);
    assert!(figures(&pending).is_empty());
    assert!(text(&files(&pending), "index.html").contains("PARTIAL 0/1"));
    // One run, no masks.
    let one = build("x", &[recipe("full", None, None, 1e-4, State::Done)]);
    assert_eq!(
        figures(&one),
        ["entropy", "learning_curves", "lr_sweep", "training_reward", "update_sparsity"]
    );
    // One that was interrupted: curves, but no final score.
    let half = build("x", &[recipe("random", Some(0.9), Some(0), 1e-4, State::Resumable)]);
    assert_eq!(figures(&half), ["entropy", "learning_curves", "training_reward", "update_sparsity"]);
    // A single evaluation, equal scores, no learning rate, no sparsity.
    let mut flat = build(
        "x",
        &[
            recipe("full", None, None, 1e-4, State::Done),
            recipe("random", Some(0.5), Some(1), 1e-4, State::Done),
        ],
    );
    for run in &mut flat.runs {
        run.axes.clear();
        run.metrics.clear();
        run.evals = vec![row(json!({"step": 0, "eval/score": 0.5}))];
    }
    assert_eq!(figures(&flat), ["learning_curves"]);
    assert!(text(&files(&flat), "summary.csv").contains("full-lr1e-4,"));
    // All zero.
    for run in &mut flat.runs {
        run.evals =
            vec![row(json!({"step": 0, "eval/score": 0.0})), row(json!({"step": 10, "eval/score": 0.0}))];
        run.axes = vec![("optimizer.lr".to_owned(), json!(1e-4))];
    }
    assert_eq!(figures(&flat), ["learning_curves", "lr_sweep"]);
}

#[test]
fn odd_labels_and_cells_survive() {
    let mut set = small();
    let odd = ["a,b", "\"quoted\"", "line\nbreak", "<&>'\u{1}", " spaced ", "émoji 🎟", "null", "1e5"];
    let template = set.runs[0].clone();
    set.runs = odd
        .iter()
        .enumerate()
        .map(|(index, label)| {
            let mut run = template.clone();
            run.label = (*label).to_owned();
            run.axes =
                vec![("mask.type".to_owned(), json!(label)), ("grpo.x".to_owned(), json!([index, "y"]))];
            run.metrics = vec![row(json!({"step": 1, "reward/mean": 0.5, "note": label, "list": [1, null]}))];
            run
        })
        .collect();
    let files = restores(&set);
    for (path, bytes) in &files {
        if path.starts_with("figures/") && path.contains("svg") {
            elements(std::str::from_utf8(bytes).expect("utf-8"));
            assert!(!bytes.contains(&1), "{path} has a control character");
        }
    }
}

#[test]
fn null_cells_are_missing() {
    let mut set = small();
    set.runs[0].metrics[0].insert("kl/base".to_owned(), Value::Null);
    set.runs[0].axes.push(("mask.seed".to_owned(), Value::Null));
    assert_eq!(set.clone().normalised(), small());
    // Not a number is null in JSON: nothing is drawn of it and nothing is written as zero.
    set.runs[0].evals[1].insert("eval/score".to_owned(), json!(f64::NAN));
    let set = set.normalised();
    let files = restores(&set);
    assert!(text(&files, "evals.csv").contains("full-lr1e-4,2,,0.03125,64\n"));
    assert_eq!(set.runs[0].final_score(), Some(0.25), "the last evaluation that has a score");
}

#[test]
fn families_split_on_what_else_varies() {
    let mut set = build(
        "x",
        &[0.001, 0.01, 0.001, 0.01].map(|lr| Recipe {
            mask: "fisher",
            sparsity: Some(0.99),
            seed: None,
            lr,
            target: 0.3,
            state: State::Done,
        }),
    );
    for (index, run) in set.runs.iter_mut().enumerate() {
        run.label = format!("r{index}");
        run.axes.push(("fisher.estimator".to_owned(), json!(if index < 2 { "batch" } else { "sample" })));
    }
    let names: Vec<String> =
        tickets::report::series::families(&set).into_iter().map(|family| family.name).collect();
    assert_eq!(names, ["fisher 99 %, estimator batch", "fisher 99 %, estimator sample"]);
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = read(dir.path()).expect_err("nothing there");
    assert!(error.to_string().ends_with("runs.json"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("tickets sweep")));
    let mut files = files(&small());
    let damaged = |files: &BTreeMap<String, Vec<u8>>| {
        write(dir.path(), files);
        read(dir.path()).expect_err("damaged").to_string()
    };
    let evals = files.insert("evals.csv".to_owned(), b"run,step\nnobody,1\n".to_vec());
    assert_eq!(damaged(&files), "evals.csv, line 0: run `nobody` is not in runs.json");
    files.insert("evals.csv".to_owned(), evals.expect("there"));
    let runs = text(&files, "runs.json");
    files.insert("runs.json".to_owned(), runs.replace("\"format\": 1", "\"format\": 2").into_bytes());
    assert_eq!(damaged(&files), "runs.json, line 0: format Some(2) is not 1");
    files.insert("runs.json".to_owned(), runs.replace("\"done\"", "\"gone\"").into_bytes());
    assert_eq!(damaged(&files), "runs.json, line 0: `gone` is not a run's state");
    files.insert("runs.json".to_owned(), b"{".to_vec());
    assert!(damaged(&files).starts_with("runs.json, line 1: EOF"));
}

/// `TICKETS_PICTURES=DIR cargo test --test report pictures` writes a report to look at.
#[test]
fn pictures_to_look_at() {
    if let Ok(dir) = std::env::var("TICKETS_PICTURES") {
        write(Path::new(&dir), &files(&quickstart()));
    }
}
