//! Arbitrary bytes, arbitrary TOML and damaged manifests: no panic, no hang, no plan without runs, errors that can be
//! read. `fuzz/` holds a target for cargo-fuzz that asks for the same.

mod manifest_support;

use std::path::Path;
use std::time::{Duration, Instant};

use manifest_support::{Folder, HEAD};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;
use tickets::manifest::{KEYS, load_with};
use tickets::plan::expand;

/// What a single case may take: far more than any does, and far less than a hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// Plans, and checks what must hold for every input.
fn survives(path: &str, set: &[String], env: &[(String, String)]) -> Result<(), TestCaseError> {
    let started = Instant::now();
    match load_with(path, set, env).map_err(Into::into).and_then(expand) {
        Ok(plan) => prop_assert!(!plan.runs.is_empty()),
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            let drawn = error.render(false);
            prop_assert!(drawn.as_ref().is_none_or(|text| !text.is_empty() && text.len() < 1 << 20));
            prop_assert_eq!(error.render(true).is_some(), drawn.is_some());
            let _ = error.hint();
        }
    }
    prop_assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let folder = Folder::new();
        survives(&folder.write("m.toml", bytes), &[], &[])?;
    }

    #[test]
    fn arbitrary_toml_never_panics(text in document(), set in "[ -~]{0,40}") {
        let folder = Folder::new();
        let path = folder.write("m.toml", &text);
        survives(&path, &[], &[])?;
        survives(&path, &[set], &[])?;
    }

    #[test]
    fn damaged_manifests_never_panic(
        which in any::<Index>(),
        changes in prop::collection::vec(change(), 1..8),
        bytes in prop::collection::vec((any::<Index>(), any_byte()), 0..2),
    ) {
        let committed = committed();
        let mut lines = committed[which.index(committed.len())].clone();
        for change in &changes {
            change.apply(&mut lines);
        }
        let mut text = lines.join("\n").into_bytes();
        for (at, byte) in bytes {
            text.insert(at.index(text.len() + 1), byte);
        }
        let folder = Folder::new();
        survives(&folder.write("m.toml", text), &[], &[])?;
    }

    #[test]
    fn overrides_never_panic(
        set in prop::collection::vec(overriding(), 0..4),
        env in prop::collection::vec(("[A-Z_.a-z0-9é]{0,24}", "[ -~\n\u{0}é\u{FFFD}]{0,24}"), 0..4),
    ) {
        let folder = Folder::new();
        let path = folder.write("m.toml", format!("{HEAD}[[grid]]\nseed = [1, 2]\n"));
        let env = env.into_iter().map(|(name, value)| (format!("TICKETS_{name}"), value)).collect::<Vec<_>>();
        survives(&path, &set, &env)?;
    }

    #[test]
    fn chains_of_parents_end(
        parents in prop::collection::vec((0_usize..8, prop::option::of(document())), 1..7),
        spelled in prop::sample::select(vec!["", "./", "../x/", "x/../", "//", "\u{0}"]),
    ) {
        // File n extends file `parent`, which may be itself, an earlier one, or missing.
        let folder = Folder::new();
        for (number, (parent, text)) in parents.iter().enumerate() {
            let extends = format!("extends = {}\n", serde_json::json!(format!("{spelled}{parent}.toml")));
            let text = text.as_deref().unwrap_or_default();
            folder.write(&format!("x/{number}.toml"), format!("{extends}{text}"));
        }
        survives(folder.path("x/0.toml").to_str().expect("UTF-8"), &[], &[])?;
    }
}

/// Bytes that end characters, texts and lines early.
fn any_byte() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0_u8, 0xFF, 0xC3, 0xED, b'"', b'\'', b'[', b'\n', b'\r'])
}

/// The committed manifests, line by line. Here they are without their parents, so that they have a base of their own.
fn committed() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let paths = entries.map(|entry| entry.expect("readable").into_path());
    let toml = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let lines = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("text");
        let head = if text.contains("\nextends") { HEAD } else { "" };
        let kept = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("extends"));
        head.lines().chain(kept).map(str::to_owned).collect()
    };
    toml.map(lines).collect()
}

/// One damage to the lines of a manifest.
#[derive(Clone, Debug)]
enum Change {
    Delete(Index),
    Repeat(Index, Index),
    Swap(Index, Index),
    Value(Index, String),
    Key(Index, String),
    Line(Index, String),
    Cut(Index, Index),
    Windows,
    Mark,
}

impl Change {
    fn apply(&self, lines: &mut Vec<String>) {
        let count = lines.len();
        if count == 0 {
            return;
        }
        match self {
            Self::Delete(at) => drop(lines.remove(at.index(count))),
            Self::Repeat(from, to) => lines.insert(to.index(count), lines[from.index(count)].clone()),
            Self::Swap(one, other) => lines.swap(one.index(count), other.index(count)),
            Self::Value(at, value) => {
                let line = &mut lines[at.index(count)];
                if let Some((key, _)) = line.split_once('=') {
                    *line = format!("{key}= {value}");
                }
            }
            Self::Key(at, key) => {
                let line = &mut lines[at.index(count)];
                if let Some((_, value)) = line.split_once('=') {
                    *line = format!("{key} ={value}");
                }
            }
            Self::Line(at, line) => lines.insert(at.index(count + 1), line.clone()),
            Self::Cut(at, place) => {
                let line = &mut lines[at.index(count)];
                *line = line.chars().take(place.index(line.chars().count() + 1)).collect();
            }
            Self::Windows => lines.iter_mut().for_each(|line| line.push('\r')),
            Self::Mark => lines[0].insert(0, '\u{feff}'),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let keys = KEYS.iter().map(|key| key.path);
    let odd =
        ["grid", "extends", "eval.a.seed", "eval.a.task.type", "\"mask.seed\"", "a.b.c.d", "zip", "\"\""];
    let key = prop::sample::select(keys.chain(odd).collect::<Vec<_>>()).prop_map(str::to_owned);
    let line = prop_oneof![
        6 => prop::sample::select(ODD_LINES.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        1 => Just("\u{0}".to_owned()),
        1 => (1_usize..400).prop_map(|depth| format!("x = {}{}", "[".repeat(depth), "]".repeat(depth))),
        1 => (1_usize..400).prop_map(|depth| format!("x = {}1{}", "{ a = ".repeat(depth), "}".repeat(depth))),
        1 => (1_usize..3000).prop_map(|depth| format!("{}a = 1", "mask.".repeat(depth))),
        1 => (1_usize..30_000).prop_map(|width| format!("seed = [{}1]", "1, ".repeat(width))),
        1 => (1_usize..30_000).prop_map(|width| format!("title = \"{}\"", "é".repeat(width))),
    ];
    prop_oneof![
        2 => at().prop_map(Change::Delete),
        2 => (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        2 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        4 => (at(), value()).prop_map(|(at, value)| Change::Value(at, value)),
        3 => (at(), key).prop_map(|(at, key)| Change::Key(at, key)),
        3 => (at(), line).prop_map(|(at, line)| Change::Line(at, line)),
        1 => (at(), at()).prop_map(|(at, place)| Change::Cut(at, place)),
        1 => Just(Change::Windows),
        1 => Just(Change::Mark),
    ]
}

const ODD_LINES: &str = r#"[[grid]]
[grid]
[[figure]]
[[claim]]
[mask]
[[mask]]
[eval.a]
[eval.a.task]
[model.pretrain]
extends = "m.toml"
extends = "."
x = "\uD800"
'''
"""
}
]"#;

const ODD_VALUES: &str = r#"0
-1
1e999
nan
inf
-0.0
9223372036854775807
-9223372036854775808
99999999999999999999
0xFFFFFFFFFFFFFFFF
true
""
" "
"\u0000"
"../../x"
"/dev/null"
[]
[[]]
{}
[{}]
{ range = [0, 1000000] }
{ range = [-9223372036854775808, 9223372036854775807, 1] }
{ range = [9223372036854775800, 9223372036854775807, 5] }
{ range = [5, 9, 0] }
{ logspace = [1e-300, 1e300, 1000] }
{ linspace = [-1e308, 1e308, 5] }
[1, 2, 3, 4]
[0.5, 0.25]
[[0.5, 0.25], [0.1, 0.2]]
["random", "fisher", "full", "layers"]
[{ mask.type = "full" }]
[["seed", "optimizer.lr"]]
1979-05-27T07:32:00Z
"{{ names }}{% for x in slots %}""#;

/// A value in TOML, or nearly.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(ODD_VALUES.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|x| format!("{x:?}")),
        1 => "[ -~é]{0,20}",
    ]
}

/// An argument of `--set`.
fn overriding() -> impl Strategy<Value = String> {
    let keys = KEYS.iter().map(|key| key.path).collect::<Vec<_>>();
    prop_oneof![
        4 => (prop::sample::select(keys), value()).prop_map(|(key, value)| format!("{key}={value}")),
        1 => ("[a-z._ ]{0,20}", value()).prop_map(|(key, value)| format!("{key}={value}")),
        1 => "[ -~\n\u{0}é]{0,30}",
    ]
}

/// Text that looks like a manifest: known, misspelt and odd keys, with all kinds of values, in tables and blocks.
fn document() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        6 => prop::sample::select(KEYS.iter().map(|key| key.path.to_owned()).collect::<Vec<_>>()),
        1 => prop::sample::select(vec!["mask", "grid", "zip", "exclude", "title", "extends", "model.pretrain", "\"a b\"", "x.y.z"])
            .prop_map(str::to_owned),
    ];
    let plain = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-5_i64..300).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|x| format!("{x:?}").replace("NaN", "nan")),
        (0.0..1.0_f64).prop_map(|x| format!("{x:?}")),
        prop::sample::select(vec![
            "true",
            "\"fisher\"",
            "\"random\"",
            "\"full\"",
            "\"é\"",
            "1979-05-27",
            "[[1, 2], [3, 4]]",
            "{ mask.seed = 1 }"
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        3 => plain.clone(),
        1 => prop::collection::vec(plain, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}\n"));
    let block =
        prop::collection::vec(line.clone(), 0..6).prop_map(|lines| format!("[[grid]]\n{}", lines.concat()));
    let blocks = prop::collection::vec(block, 0..3);
    (any::<bool>(), prop::collection::vec(line, 0..6), blocks).prop_map(|(head, lines, blocks)| {
        let head = if head { "model.pretrain = {}\ntask.type = \"alphabet_sort\"\n" } else { "" };
        format!("{head}{}{}", lines.concat(), blocks.concat())
    })
}

#[test]
fn the_deepest_and_longest_texts_are_refused_in_time() {
    let folder = Folder::new();
    for text in [
        format!("x = {}", "[".repeat(200_000)),
        format!("x = {}1{}", "{a = ".repeat(50_000), "}".repeat(50_000)),
        format!("{}a = 1", "a.".repeat(200_000)),
        format!("[{}a]", "a.".repeat(200_000)),
        (0..100_000).map(|n| ["k", &n.to_string(), " = 1\n"].concat()).collect::<String>(),
        format!("[[grid]]\nseed = [{}]", "1, ".repeat(500_000)),
        "[[grid]]\n".repeat(100_000),
        // All of these took minutes or gigabytes once.
        format!("{HEAD}{}", "[[grid]]\nseed = 1\n".repeat(200_000)),
        format!("{HEAD}{}", "[[grid]]\nsed = 1\n".repeat(100_000)),
        format!("{HEAD}{}", "[[grid]]\nseed = { range = [0, 1_000_000] }\n".repeat(1000)),
        format!("{HEAD}[[grid]]\ngrpo.steps = [{}]\n", "\"a\",".repeat(500_000)),
        format!(
            "{HEAD}{}",
            (0..100_000).map(|n| format!("[eval.a{n}]\nseed = 1\n")).collect::<Vec<_>>().concat()
        ),
        format!(
            "{HEAD}[[grid]]\nseed = {{ range = [0, 1000] }}\nexclude = [{}]\n",
            "{ seed = 1 },".repeat(200_000)
        ),
        format!("{HEAD}[[grid]]\nseed = [1]\nzip = [{}]\n", "[\"seed\", \"grpo.steps\"],".repeat(100_000)),
    ] {
        let started = Instant::now();
        let path = folder.write("m.toml", text);
        let error = load_with(&path, &[], &[]).map_err(Into::into).and_then(expand).expect_err("refused");
        assert!(error.render(false).is_none_or(|text| text.len() < 1 << 20));
        // The slowest takes some five seconds on a busy machine.
        assert!(started.elapsed() < Duration::from_mins(1), "{:?}: {error}", started.elapsed());
    }
}

#[test]
fn ten_to_the_eighteen_points_are_counted_and_not_made() {
    let folder = Folder::new();
    let range = "{ range = [0, 1_000_000] }";
    let text =
        format!("{HEAD}[[grid]]\nseed = {range}\neval.seed = {range}\nmodel.pretrain.seed = {range}\n");
    let started = Instant::now();
    let path = folder.write("m.toml", text);
    let error = load_with(&path, &[], &[]).map_err(Into::into).and_then(expand).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the grid of `m` has 1,000,000,000,000,000,000 points, more than the 1,000 runs that it may have"
    );
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
