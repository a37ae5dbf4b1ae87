//! The report of runs that other builds or other kinds of machines finished: kept apart, or mixed and said so.

#![cfg(feature = "tables")]

mod report_fixture;

use report_fixture::{Recipe, build, files, quickstart, restores, text};
use serde_json::{Value, json};
use tickets::report::{ResultSet, State, classes, series, table};
use tickets::store::class_of_run;

/// The stroke of a mean over runs, in quarters of a pixel.
const MEAN_CURVE: &str = "stroke-width=\"10\"";

/// What a trainer notes of a class; `inputs` differ from run to run and make no class.
fn class(threads: u32, build: &str, inputs: &str) -> Value {
    json!({
        "device": "cpu", "processor": "AMD EPYC", "threads": threads, "libtorch": "2.11.0", "tickets": "0.1.0",
        "build": build.repeat(16), "inputs": {"mask": inputs},
    })
}

fn of_two_threads(inputs: &str) -> Value {
    class(2, "aaaa", inputs)
}

fn of_four_threads(inputs: &str) -> Value {
    class(4, "bbbb", inputs)
}

fn id(class: &Value) -> String {
    class_of_run(&json!({ "classes": [class] })).expect("a class")
}

fn made_in(set: &mut ResultSet, run: usize, classes: &[Value]) {
    set.runs[run].done.as_mut().expect("a finished run")["classes"] = json!(classes);
}

/// The quickstart, whose masks of seed 1 and whose last full run another class has finished.
fn two_classes() -> ResultSet {
    let mut set = quickstart();
    for run in 0..set.runs.len() {
        if set.runs[run].state == State::Done {
            let other = [2, 6, 8].contains(&run);
            let inputs = set.runs[run].label.clone();
            made_in(&mut set, run, &[if other { of_four_threads(&inputs) } else { of_two_threads(&inputs) }]);
        }
    }
    set
}

fn names(set: &ResultSet) -> Vec<String> {
    series::families(set).into_iter().map(|family| family.name).collect()
}

#[test]
fn no_series_is_over_two_classes() {
    let mut set = two_classes();
    // Where an unfinished run was made is not known, so two of them have no mean either.
    set.runs[10].state = State::Resumable;
    set.runs[10].evals = set.runs[9].evals.clone();
    let (two, four) = (id(&of_two_threads("")), id(&of_four_threads("")));
    let expected = [
        format!("full [class {two}]"),
        format!("full [class {four}]"),
        format!("fisher 99 % [class {two}]"),
        format!("random 99 % [class {two}]"),
        format!("random 99 % [class {four}]"),
        "random 99 % [unfinished]".to_owned(),
    ];
    assert_eq!(names(&set), expected);
    for family in series::families(&set) {
        let of = |run: &usize| set.runs[*run].class();
        assert!(family.runs.iter().all(|run| of(run) == of(&family.runs[0])), "{}", family.name);
    }
    // Seeds 0 and 1 of a rate are of different classes, so no row is a mean of both.
    let best = table::best(&set);
    let row = |name: &str| best.rows.iter().find(|row| row[0] == name).expect("a row").clone();
    for (class, run) in [(&two, 7), (&four, 8)] {
        let row = row(&format!("random 99 % [class {class}]"));
        let score = set.runs[run].final_score().expect("a score");
        assert_eq!((&row[1][..], &row[3][..], &row[4]), ("1e-2", "1", &format!("{score:.4}")));
    }
    assert_eq!(best.rows.len(), 5, "an unfinished run has no best rate");
    let written = restores(&set);
    let curves = text(&written, "figures/learning_curves.svg");
    for name in &expected {
        assert!(curves.contains(name), "{name}");
    }
    // Full fine-tuning is shown in grey behind the masks of its own class alone: fisher and random of the one, random of
    // the other.
    assert_eq!(curves.matches("stroke=\"#B9BEC4\"").count(), 3);
    assert!(curves.contains("Grey: full of the same class at its best rate."));
    assert!(!curves.contains("Several seeds"), "every curve is of one run");
    assert!(!curves.contains(MEAN_CURVE));
    assert!(text(&files(&quickstart()), "figures/learning_curves.svg").contains(MEAN_CURVE));
    let sweep = text(&written, "figures/lr_sweep.svg");
    assert!(!sweep.contains("Several seeds") && sweep.contains(&expected[4]));
}

#[test]
fn tables_and_pages_tell_classes() {
    let set = two_classes();
    let (two, four) = (id(&of_two_threads("")), id(&of_four_threads("")));
    let files = restores(&set);
    let csv = text(&files, "summary.csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].ends_with(",invariant,class,reason"), "{}", lines[0]);
    assert!(lines[1].ends_with(&format!(",holds,{two},")), "{}", lines[1]);
    assert!(lines[3].ends_with(&format!(",holds,{four},")), "{}", lines[3]);
    assert!(lines[11].ends_with(",pending,,,,,,,,"), "{}", lines[11]);

    let markdown = text(&files, "summary.md");
    let section = format!(
        "\n## Classes\n\n\
         The finished runs are of 2 classes, which differ in threads, build: no curve, mean or best rate is over runs \
         of two of them.\n\n\
         | class | finished runs | threads | build | made with |\n\
         | --- | ---: | --- | --- | --- |\n\
         | {two} | 6 | 2 | aaaaaaaa | cpu, 2 threads, libtorch 2.11.0, tickets 0.1.0, build aaaaaaaa, AMD EPYC |\n\
         | {four} | 3 | 4 | bbbbbbbb | cpu, 4 threads, libtorch 2.11.0, tickets 0.1.0, build bbbbbbbb, AMD EPYC |\n"
    );
    assert!(markdown.contains(&section), "{markdown}");
    assert!(markdown.contains("| invariant | class |\n"), "{markdown}");

    let page = text(&files, "index.html");
    assert!(page.contains("<h2>Classes</h2>"));
    assert!(page.contains("which differ in threads, build: no curve, mean or best rate"));
    for class in [&two, &four] {
        assert!(page.contains(&format!("<td>{class}</td>")), "{class}");
    }
    assert!(!page.contains("mixed"));
    assert!(page.contains("<code>tickets report quickstart</code>"));
}

#[test]
fn mixing_merges_and_says_so_everywhere() {
    let set = two_classes().with_mix_classes(true);
    assert_eq!(names(&set), names(&quickstart()));
    assert_eq!(table::best(&set), table::best(&quickstart()));
    // Written, read back without the flag, and rendered to the same bytes.
    let files = restores(&set);
    let runs: Value = serde_json::from_slice(&files["runs.json"]).expect("JSON");
    assert_eq!(runs["mix_classes"], true);
    let page = text(&files, "index.html");
    let captions: Vec<&str> =
        page.split("<figcaption>").skip(1).filter_map(|rest| rest.split("</figcaption>").next()).collect();
    assert_eq!(captions.len(), 6);
    for caption in captions {
        assert!(caption.ends_with(" Runs of 2 classes are mixed."), "{caption}");
    }
    assert!(page.contains("<span class=\"badge partial\">runs of 2 classes are mixed</span>"));
    assert!(
        page.contains("<h2>Classes</h2>\n<p>Runs of 2 classes are mixed, which differ in threads, build:")
    );
    assert!(page.contains("<code>tickets report quickstart --mix-classes</code>"));
    let pictures = files.iter().filter(|(path, _)| path.contains(".svg"));
    for (path, _) in pictures {
        assert!(text(&files, path).contains("PARTIAL 9/11, 2 CLASSES MIXED"), "{path}");
    }
    let markdown = text(&files, "summary.md");
    assert!(
        markdown.contains("\n## Classes\n\nRuns of 2 classes are mixed, which differ in threads, build:")
    );
    assert!(markdown.ends_with("Written by `tickets report quickstart --mix-classes`.\n"));
    // The table of all runs goes on saying which run is of which class.
    assert!(
        text(&files, "summary.csv").starts_with("run,id,") && text(&files, "summary.csv").contains(",class,")
    );
}

#[test]
fn one_class_changes_nothing() {
    let unsaid = files(&quickstart());
    let mut set = quickstart();
    for run in 0..set.runs.len() {
        if set.runs[run].state == State::Done {
            let inputs = set.runs[run].label.clone();
            made_in(&mut set, run, &[of_two_threads(&inputs)]);
        }
    }
    assert!(classes::sentence(&set).is_none());
    assert_eq!(set.clone().with_mix_classes(true), set, "there is nothing to mix");
    let said = restores(&set);
    assert_eq!(said.len(), unsaid.len());
    for (path, bytes) in &said {
        // The completion markers are kept as they are, classes included.
        assert!(path == "runs.json" || *bytes == unsaid[path], "{path} differs");
    }
    assert!(!text(&said, "runs.json").contains("mix_classes"));
}

#[test]
fn a_run_that_crossed_classes_is_a_class_of_its_own() {
    let (two, four) = (id(&of_two_threads("")), id(&of_four_threads("")));
    let crossed = format!("{two}+{four}");
    let mut set = two_classes();
    for run in [2, 6, 8] {
        made_in(&mut set, run, &[of_two_threads("x")]);
    }
    made_in(&mut set, 8, &[of_two_threads("x"), of_four_threads("x")]);
    let expected = [
        format!("full [class {two}]"),
        format!("fisher 99 % [class {two}]"),
        format!("random 99 % [class {two}]"),
        format!("random 99 % [class {crossed}]"),
        "random 99 % [unfinished]".to_owned(),
    ];
    assert_eq!(names(&set), expected);
    let markdown = text(&restores(&set), "summary.md");
    assert!(markdown.contains("The finished runs are of 2 classes, which differ in threads, build:"));
    for row in [
        format!("| {two} | 8 | 2 | aaaaaaaa | cpu, 2 threads,"),
        format!(
            "| {crossed} | 1 | 2, then 4 | aaaaaaaa, then bbbbbbbb | its steps were made in {two}, then in {four} |"
        ),
        format!("| {four} | 0 | 4 | bbbbbbbb | cpu, 4 threads,"),
    ] {
        assert!(markdown.contains(&row), "{row}\n{markdown}");
    }

    // Alone it is shown as what it is, and there is nothing to mix it with.
    let recipe =
        Recipe { mask: "full", sparsity: None, seed: None, lr: 1e-4, target: 0.3, state: State::Done };
    let mut alone = build("x", &[recipe]);
    made_in(&mut alone, 0, &[of_two_threads("x"), of_four_threads("x")]);
    let alone = alone.with_mix_classes(true);
    assert_eq!(names(&alone), [format!("full [class {crossed}]")]);
    let page = text(&restores(&alone), "index.html");
    let sentence =
        "The steps of 1 finished run were made in several classes, which differ in threads, build.";
    assert!(page.contains(sentence));
    assert!(!page.contains("mixed"));
}

#[test]
fn results_that_do_not_say_are_kept_apart_from_those_that_do() {
    let mut set = two_classes();
    for run in [2, 6, 8] {
        set.runs[run].done = quickstart().runs[run].done.clone();
    }
    assert!(names(&set).contains(&"random 99 % [class unknown]".to_owned()), "{:?}", names(&set));
    let files = restores(&set);
    let markdown = text(&files, "summary.md");
    assert!(markdown.contains("The finished runs are of 2 classes: no curve"), "{markdown}");
    assert!(markdown.contains("| - | 3 | its results do not say what they were made with |"), "{markdown}");
    assert!(text(&files, "summary.csv").contains(",holds,-,"));
}

#[test]
fn the_base_of_two_classes_has_one_score_only_where_they_agree() {
    let mut set = two_classes();
    assert_eq!(series::base_score(&set), Some(0.131));
    set.runs[2].evals[0].insert("eval/score".to_owned(), json!(0.5));
    assert_eq!(series::base_score(&set), None);
    let families = series::families(&set);
    assert_eq!((families[0].base(&set), families[1].base(&set)), (Some(0.131), Some(0.5)));
    assert!(series::base_score(&set.with_mix_classes(true)).is_some_and(|base| base > 0.131));
}

/// `TICKETS_PICTURES=DIR cargo test --test report_classes pictures` writes a report to look at.
#[test]
fn pictures_to_look_at() {
    if let Ok(dir) = std::env::var("TICKETS_PICTURES") {
        report_fixture::write(std::path::Path::new(&dir), &files(&two_classes()));
    }
}
