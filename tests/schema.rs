//! `manifests/schema.json`: it is what the program makes, says what the key table and docs/manifest.md say, accepts every
//! committed manifest, and refuses what the loader refuses.
//!
//! The schema knows single keys. Left to the loader are rules across keys, the values that a range stands for, and whole
//! numbers with a point (`4.0`), which are whole in JSON.

mod json_schema;
mod manifest_support;

use std::path::Path;

use clap::Parser;
use json_schema::judge;
use manifest_support::Folder;
use serde_json::Value;
use tickets::cli::{self, Cli};
use tickets::manifest::{KEYS, Key, Kind, load_with, schema_text};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&schema_text()).expect("JSON")
}

/// A manifest as `taplo` sees it.
fn as_json(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Compares the schema's verdict on manifests with the loader's.
struct Judges {
    schema: Value,
    folder: Folder,
}

impl Judges {
    fn new() -> Self {
        Self { schema: schema(), folder: Folder::new() }
    }

    fn schema_accepts(&self, text: &str) -> bool {
        judge(&self.schema, &as_json(text)).is_empty()
    }

    fn loader_accepts(&self, text: &str) -> bool {
        load_with(&self.folder.write("m.toml", text), &[], &[]).is_ok()
    }

    /// What both say; a panic when they disagree.
    fn agree(&self, text: &str) -> bool {
        let (schema, loader) = (self.schema_accepts(text), self.loader_accepts(text));
        assert_eq!(schema, loader, "schema {schema}, loader {loader}:\n{text}");
        schema
    }
}

#[test]
fn the_committed_schema_is_what_the_program_makes() {
    assert!(
        read("manifests/schema.json") == schema_text(),
        "manifests/schema.json is out of date: tickets schema > manifests/schema.json"
    );
}

#[test]
fn the_command_prints_the_schema_and_checks_a_file() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| {
        let mut out = Vec::new();
        let parsed = Cli::try_parse_from([&["tickets", "schema"], arguments].concat()).expect("parsed");
        let ended = cli::run(parsed.command, &mut out);
        let ended = ended.map_err(|failure| (failure.code as u8, failure.to_string()));
        (ended.map(|code| code as u8), String::from_utf8(out).expect("UTF-8"))
    };
    let (ended, printed) = run(&[]);
    assert_eq!((ended, printed.as_str()), (Ok(0), schema_text().as_str()));
    assert!(printed.ends_with("}\n"));
    let path = folder.write("schema.json", &printed);
    assert_eq!(run(&["--check", &path]), (Ok(0), String::new()));
    folder.write("schema.json", printed.replacen("\"title\"", "\"name\"", 1));
    let (ended, printed) = run(&["--check", &path]);
    let (code, text) = ended.expect_err("it differs");
    assert_eq!((code, printed.as_str()), (3, ""));
    assert!(text.contains("it differs from line 3 on") && text.contains("hint: make it anew"), "{text}");
    let (code, text) = run(&["--check", "no/such.json"]).0.expect_err("it is not there");
    assert!(code == 3 && text.contains("no/such.json") && text.contains("tickets schema > "), "{text}");
}

/// The definition that a dotted path leads to, through the tables.
fn definition<'s>(schema: &'s Value, path: &str) -> &'s Value {
    let follow = |found: &'s Value| match found["$ref"].as_str() {
        Some(target) => schema.pointer(&target[1..]).expect("a definition"),
        None => found,
    };
    path.split('.').fold(schema, |table, name| {
        let known = table["properties"].get(name).unwrap_or(&table["additionalProperties"]);
        follow(known)
    })
}

#[test]
fn every_key_has_its_meaning_and_default() {
    let schema = schema();
    for key in KEYS {
        let found = definition(&schema, key.path);
        let text = found["description"].as_str().unwrap_or_else(|| panic!("{} has no description", key.path));
        assert_eq!(text[1..].split(".\n\nDefault: ").next(), Some(&key.doc[1..]), "{}", key.path);
        assert!(text[..1].eq_ignore_ascii_case(&key.doc[..1]), "{text}");
        assert_eq!(found.get("default"), key.preset().map(|value| value.json()).as_ref(), "{}", key.path);
        let named = match key.section() {
            "eval" => key.path.replacen("eval.", "eval.some.", 1),
            "task" => format!("eval.some.{}", key.path),
            _ => continue,
        };
        let found = definition(&schema, &named);
        let text = found["description"].as_str().expect("a description");
        assert_eq!(text[1..].split(".\n\nDefault: ").next(), Some(&key.doc[1..]), "{named}");
        assert!(text.contains(&format!("Default: that of `{}`.", key.path)), "{text}");
        assert_eq!(found.get("default"), None, "{named}");
    }
    assert_eq!(
        definition(&schema, "mask.rounding")["description"],
        "Rounding of the kept count.\n\nDefault: `\"floor\"`. One of: `\"floor\"`, `\"ceil\"`.\n\n\
         Only with `mask.type` = `\"fisher\"` or `\"gradient\"` or `\"snip\"` or `\"magnitude\"` or `\"moved\"`."
    );
}

/// The rows of the tables of keys in docs/manifest.md: path, default, range, meaning.
fn documented() -> Vec<(String, String, String, String)> {
    let mut table = String::new();
    let mut rows = Vec::new();
    for line in read("docs/manifest.md").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let name = heading.strip_prefix("`[").and_then(|name| name.strip_suffix("]`"));
            table = name.map(|name| format!("{name}.")).unwrap_or_default();
        }
        let cells = line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
        if let [name, _, default, range, meaning] = cells.as_slice()
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            let row = [*default, *range, *meaning].map(str::to_owned);
            let [default, range, meaning] = row;
            rows.push((format!("{table}{name}"), default, range, meaning));
        }
    }
    rows
}

#[test]
fn the_page_of_keys_says_the_same() {
    let (schema, rows) = (schema(), documented());
    let paths = rows.iter().map(|(path, ..)| path.as_str()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(paths, KEYS.iter().map(|key| key.path).collect(), "docs/manifest.md has every key once");
    assert_eq!(rows.len(), KEYS.len());
    for (path, default, range, meaning) in rows {
        let key = tickets::manifest::find_key(&path).expect("a key");
        // The page may add what the program does not do yet, or what the key needs.
        let same = meaning == key.doc || meaning.starts_with(&format!("{};", key.doc));
        assert!(same, "{path}: docs/manifest.md says `{meaning}`, the key table `{}`", key.doc);
        match default.trim_matches('`') {
            "none" => assert!(key.preset().is_none(), "{path}"),
            "built in" => assert!(key.preset().is_some(), "{path}"),
            written => {
                let written = as_json(&format!("x = {written}"));
                assert_eq!(Some(&written["x"]), key.preset().map(|value| value.json()).as_ref(), "{path}");
            }
        }
        let text = definition(&schema, &path)["description"].as_str().expect("a description");
        let text = text.split("Default: ").nth(1).expect("a default").lines().next().expect("a line");
        let said = [" Range: ", " One of: ", " Form: "].iter().find_map(|lead| text.split_once(lead));
        let said = said.map_or("", |(_, said)| said.trim_end_matches('.'));
        assert_eq!(said, range, "{path}: the range in docs/manifest.md");
    }
}

#[test]
fn every_committed_manifest_is_valid() {
    let schema = schema();
    let mut judged = 0;
    for entry in walkdir::WalkDir::new(root().join("manifests")) {
        let entry = entry.expect("readable");
        if entry.path().extension().is_some_and(|end| end == "toml") {
            let text = std::fs::read_to_string(entry.path()).expect("readable");
            assert_eq!(judge(&schema, &as_json(&text)), Vec::<String>::new(), "{}", entry.path().display());
            judged += 1;
        }
    }
    assert!(judged >= 20, "{judged} manifests");
}

#[test]
fn slips_are_refused() {
    let judges = Judges::new();
    for text in [
        "sed = 1\n",
        "title = 3\n",
        "extends = [\"a.toml\"]\n",
        "[optimizer]\nlearning_rate = 1e-4\n",
        "[optimiser]\nlr = 1e-4\n",
        "[optimizer]\nlr = [1e-4, 1e-3]\n",
        "[optimizer]\nlr = { logspace = [1e-7, 1e-2, 11] }\n",
        "[optimizer]\nbetas = [[0.9, 0.99]]\n",
        "optimizer = 3\n",
        "[mask]\ntype = \"randon\"\n",
        "[grpo]\nsteps = \"many\"\n",
        "[eval]\nexmples = 3\n",
        "[eval.a]\n",
        "[eval.A]\nseed = 1\n",
        "[eval.task]\ntype = \"math\"\n",
        "[eval.a]\nlr = 1\n",
        "[eval.a.task]\nkind = \"math\"\n",
        "[grid]\nseed = 1\n",
        "[[grid]]\noptimizer.lrr = [1e-4]\n",
        "[[grid]]\nexec.jobs = 2\n",
        "[[grid]]\nseed = []\n",
        "[[grid]]\nmask.type = [\"full\", \"non\"]\n",
        "[[grid]]\nmask.type = { range = [0, 3] }\n",
        "[[grid]]\nseed = { linspace = [0, 3, 4] }\n",
        "[[grid]]\nseed = { range = [0] }\n",
        "[[grid]]\nseed = { range = [0, 3, 0] }\n",
        "[[grid]]\nseed = { rang = [0, 3] }\n",
        "[[grid]]\noptimizer.lr = { logspace = [0, 1e-2, 3] }\n",
        "[[grid]]\noptimizer.lr = { logspace = [1e-3, 1e-2, 1] }\n",
        "[[grid]]\noptimizer.lr = { logspace = [1e-3, 1e-2] }\n",
        "[[grid]]\noptimizer.lr = { logspace = [1e-3, 1e-2, 3], range = [0, 1] }\n",
        "[[grid]]\nseed = [0, 1]\nzip = [\"seed\"]\n",
        "[[grid]]\nseed = [0, 1]\nzip = [[\"seed\"]]\n",
        "[[grid]]\nseed = [0, 1]\nzip = [[\"seed\", \"optimizer\"]]\n",
        "[[grid]]\nseed = [0, 1]\nexclude = { seed = 1 }\n",
        "[[grid]]\nseed = [0, 1]\nexclude = [{}]\n",
        "[[grid]]\nseed = [0, 1]\nexclude = [{ seed = [1] }]\n",
        "[[grid]]\nseed = [0, 1]\nexclude = [{ exec.jobs = 1 }]\n",
        "[[grid]]\nseed = [0, 1]\nexclude = [{ task.names = \"a\" }]\n",
    ] {
        assert!(!judges.agree(text), "{text}");
    }
}

#[test]
fn the_language_is_accepted() {
    let judges = Judges::new();
    for text in [
        "title = \"t\"\nquestion = \"q\"\nseed = 3\n[model.pretrain]\n[task]\ntype = \"math\"\n",
        "model = { path = \"a folder\", dtype = \"bfloat16\" }\n",
        "[eval.math500]\nexamples = 5\ntask.split = \"test\"\nsampling = { top_p = 0.5 }\n",
        "[[grid]]\nmask = { type = \"random\", seed = [0, 1] }\noptimizer.lr = { logspace = [1e-7, 1e-2, 11] }\n",
        "[[grid]]\noptimizer.lr = { linspace = [0.1, 0.2, 3] }\nseed = { range = [0, 20] }\ngrpo.steps = { range = [1, 9, 4] }\n",
        "[[grid]]\noptimizer.betas = [0.9, 0.95]\n[[grid]]\noptimizer.betas = [[0.9, 0.95], [0.9, 0.99]]\n",
        "[[grid]]\ntask.power_per_turn = [true, false]\nmodel.pretrain = {}\neval.a.examples = [3, 4]\n",
        "[[grid]]\nseed = [0, 1]\nmask.seed = [0, 1]\nzip = [[\"seed\", \"mask.seed\", \"eval.a.task.seed\"]]\nexclude = [{ seed = 1, mask = { seed = 0 } }]\n",
        "grid = []\nfigure = []\nclaim = []\n",
    ] {
        assert!(judges.agree(text), "{text}");
    }
}

/// Values of every type, and around the bounds of a key.
fn samples(key: &Key) -> Vec<String> {
    let mut found = [
        "\"text\"",
        "\"\"",
        "\" \"",
        "\"a/b\"",
        "\"a/b/c\"",
        "\"a/.b\"",
        "\"0123456789abcdef0123456789abcdef01234567\"",
        "\"0123456789ABCDEF0123456789abcdef01234567\"",
        "true",
        "-1",
        "0",
        "1",
        "2",
        "4294967296",
        "9223372036854775807",
        "0.25",
        "-0.25",
        "1.5",
        "100.5",
        "1e300",
        "inf",
        "nan",
        "[]",
        "[0.9]",
        "[0.9, 0.95]",
        "[0.9, 1.0]",
        "[0.9, 0.9, 0.9]",
        "[\"a\", \"b\"]",
        "[[0.9, 0.95]]",
        "{}",
        "{ range = 3 }",
        "{ first = 1 }",
    ]
    .map(str::to_owned)
    .to_vec();
    match key.kind {
        Kind::Integer(low, high) => {
            let around = |x: i64| [x.checked_sub(1), Some(x), x.checked_add(1)];
            let bounds = around(low).into_iter().chain(around(high)).flatten();
            found.extend(bounds.map(|x| x.to_string()));
        }
        Kind::Number(range) | Kind::Pair(range) => {
            let ends = [Some(range.low().0), range.high().map(|(high, _)| high)].into_iter().flatten();
            let near = ends.flat_map(|end| [end.next_down(), end, end.next_up()]);
            found.extend(near.flat_map(|x| [format!("{x:?}"), format!("[{x:?}, 0.5]")]));
        }
        Kind::Choice(words) => found.extend(words.iter().map(|word| format!("{word:?}"))),
        _ => {}
    }
    found
}

#[test]
fn single_keys_are_judged_as_the_loader_judges_them() {
    let judges = Judges::new();
    let mut verdicts = [0, 0];
    for (number, key) in KEYS.iter().enumerate() {
        let named = match key.section() {
            "eval" => Some(key.path.replacen("eval.", "eval.some.", 1)),
            "task" => Some(format!("eval.some.{}", key.path)),
            _ => None,
        };
        // Each value as a setting and in one of the other places, another one from key to key.
        let judge_at = |path: &str, value: &str, turn: usize| {
            let elsewhere = match turn % 3 {
                0 => format!("[[grid]]\n{path} = {value}\n"),
                1 => format!("[[grid]]\n{path} = [{value}, {value}]\n"),
                _ => format!("[[figure]]\nid = \"f\"\nkind = \"table\"\nruns = [{{ {path} = {value} }}]\n"),
            };
            [format!("{path} = {value}\n"), elsewhere].map(|text| usize::from(judges.agree(&text)))
        };
        for (turn, value) in samples(key).iter().enumerate() {
            let mut found = judge_at(key.path, value, turn + number).to_vec();
            // The values of named evaluations are those of the plain one, so fewer will do.
            if let Some(path) = named.as_ref().filter(|_| (turn + number) % 5 == 0) {
                found.extend(judge_at(path, value, turn));
            }
            for verdict in found {
                verdicts[verdict] += 1;
            }
        }
    }
    // Both verdicts are common, so neither judge says the same to everything.
    assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?}");
}

/// Values of the keys of blocks; of `expect` that which the kind takes.
fn filled(name: &str, kind: &str) -> &'static str {
    match (name, kind) {
        ("id", _) => "\"a-b_c.9\"",
        ("of" | "left" | "right", _) => "{ mask.type = \"full\", optimizer.lr = 1e-3 }",
        ("runs", _) => "[{ seed = 1 }]",
        ("expect", "optimum") => "[1e-6, 1e-5]",
        ("over", "slope") => "\"mask.density\"",
        ("over", _) => "\"eval.a.examples\"",
        ("expect" | "at_step" | "grid_steps", _) => "3",
        ("margin", _) => "0.5",
        ("metric", _) => "\"eval/a/perfect\"",
        _ => "\"words\"",
    }
}

#[test]
fn kinds_of_blocks_have_the_keys_that_the_loader_reads() {
    let judges = Judges::new();
    let others =
        ["0.5", "3", "-1", "\"x\"", "\".x\"", "\"mask.density\"", "\"exec.jobs\"", "true", "{}", "[]"];
    let lists =
        ["[1]", "[1, 2]", "[1, 2, 3]", "[\"x\"]", "[{}]", "[{ mask.type = \"full\" }]", "{ mask.type = 3 }"];
    for what in ["figure", "claim"] {
        let block = &judges.schema["definitions"][what];
        let names = block["properties"].as_object().expect("keys").keys().map(String::as_str);
        let names = names.filter(|name| *name != "kind").chain(["bogus"]).collect::<Vec<_>>();
        for case in block["allOf"].as_array().expect("cases") {
            let kind = case["if"]["properties"]["kind"]["const"].as_str().expect("a kind");
            let needs = case["then"]["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let needs = std::iter::once("id").chain(needs).collect::<Vec<_>>();
            let write = |has: &dyn Fn(&str) -> bool, changed: Option<(&str, &str)>| {
                let lines = names.iter().filter(|name| has(name)).map(|name| {
                    let value = changed
                        .filter(|(other, _)| other == name)
                        .map_or(filled(name, kind), |(_, value)| value);
                    format!("{name} = {value}\n")
                });
                format!("[[{what}]]\nkind = \"{kind}\"\n{}", lines.collect::<String>())
            };
            assert!(judges.agree(&write(&|name| needs.contains(&name), None)), "{kind} with what it needs");
            for toggled in &names {
                let has = |name: &str| needs.contains(&name) != (name == *toggled);
                judges.agree(&write(&has, None));
                let has = |name: &str| needs.contains(&name) || name == *toggled;
                for value in others.iter().chain(&lists) {
                    judges.agree(&write(&has, Some((toggled, value))));
                }
            }
        }
        let text = |kind: &str| format!("[[{what}]]\nid = \"x\"\n{kind}");
        assert!(!judges.agree(&text("")) && !judges.agree(&text("kind = \"graph\"\n")));
    }
}

/// The words in backquotes, without quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(|word| word.trim_matches('"').to_owned()).collect()
}

/// What a key needs: the key that chooses, and its choices. `text` is such as `` `a.b` = `"x"` or `"y"` ``.
fn need(text: &str) -> (String, std::collections::BTreeSet<String>) {
    let mut words = quoted(text).into_iter();
    (words.next().expect("the key that chooses"), words.collect())
}

#[test]
fn the_page_of_keys_says_what_keys_need() {
    let schema = schema();
    let mine = |path: &str| ["mask.", "fisher.", "grpo.", "optimizer."].iter().any(|of| path.starts_with(of));
    let paths = || KEYS.iter().map(|key| key.path).filter(|path| mine(path));
    let expected = paths().filter_map(|path| {
        let text = definition(&schema, path)["description"].as_str().expect("a description");
        let (_, only) = text.split_once("Only with ")?;
        Some((path, need(only)))
    });
    let page = read("docs/manifest.md");
    let (_, table) = page.split_once("| keys | need |").expect("the table of what keys need");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let mut said = std::collections::BTreeMap::new();
    for line in table.lines().skip(2) {
        let (keys, needed) = line.trim_matches('|').split_once(" | ").expect("two columns");
        for key in quoted(keys).iter().filter(|key| mine(key)) {
            // The page joins a key and its first choice: `a.b = "x"`.
            let needed = need(&needed.replacen(" = ", "` = `", 1));
            let whole = key.strip_suffix('*');
            for path in paths().filter(|path| whole.map_or(path == key, |start| path.starts_with(start))) {
                assert!(said.insert(path, needed.clone()).is_none(), "{path} is there twice");
            }
        }
    }
    assert_eq!(said, expected.collect());
}
