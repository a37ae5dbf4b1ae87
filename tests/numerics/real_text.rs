//! Real vocabularies and templates against transformers: a folder made by tests/oracles/real_text.py, which the variable
//! `TICKETS_REAL_TEXT` names. Without it the test says that it was skipped.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use tickets::data::ChatTemplate;

use super::tokens::{Count, Family, Fixture, ids, read};

const AGAINST: &str = "transformers 5.23.0, tokenizers 0.23.3";
const QWEN: [&str; 5] = ["qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen2_5_training", "qwen3_training"];
const LLAMA: [&str; 4] = ["llama3", "llama3_1", "llama3_2", "llama3_training"];

#[test]
fn real_text() {
    let Some(folder) = std::env::var_os("TICKETS_REAL_TEXT") else {
        // Past the test harness, which keeps what tests print to itself.
        let skipped =
            "SKIPPED: real vocabularies and templates were not compared; `make parity REAL=1` does it";
        writeln!(std::io::stderr(), "{skipped}").unwrap();
        return;
    };
    let fixture = Fixture::open(Path::new(&folder));
    for (vocabulary, names) in [("Qwen's", &QWEN[..]), ("Llama 3's", &LLAMA[..])] {
        let [mut encoded, mut decoded, mut points, mut whole, mut played] = [const { Count::new() }; 5];
        for name in names {
            let family = fixture.family(name);
            if family.expected.get("ids").is_some() {
                family.texts(&mut encoded, &mut decoded);
                code_points(&family, &mut points);
            }
            family.conversations(&mut whole);
            family.played(&mut played);
        }
        let templates = names.len();
        encoded.row(&format!("real: ids of texts, {vocabulary} vocabulary (unequal)"), AGAINST);
        decoded.row(&format!("real: text of ids, {vocabulary} vocabulary (unequal)"), AGAINST);
        points.row(&format!("real: ids of code points, {vocabulary} vocabulary (unequal)"), AGAINST);
        let of = format!("{vocabulary} vocabulary and {templates} templates");
        whole.row(&format!("real: ids of conversations, {of} (unequal)"), AGAINST);
        played.row(&format!("real: ids turn by turn, {of} (unequal)"), AGAINST);
    }
    templates(&fixture);
}

fn code_points(family: &Family<'_>, count: &mut Count) {
    let expected = &family.expected["code_points"];
    let blocks = expected["first"].as_array().unwrap();
    for (first, expected) in blocks.iter().zip(expected["ids"].as_array().unwrap()) {
        let first = first.as_u64().unwrap() as u32;
        let points = (first..first + 32).filter_map(char::from_u32);
        let text = points.map(|c| format!("x{c}{c} {c}1{c}'{c}\n")).collect::<Vec<_>>().concat();
        let got = family.chat.tokenizer.encode(&text).unwrap();
        count.equal(&got, &ids(expected), || format!("from U+{first:04X}"));
    }
}

/// Templates of all families that trl has, supported ones or not.
fn templates(fixture: &Fixture) {
    let all = read(&fixture.folder.join("templates.json"));
    let token = |name: &str| all[name].as_str().unwrap();
    let (mut count, mut unequal) = (Count::new(), Vec::new());
    for (name, case) in all["cases"].as_object().unwrap() {
        let template = ChatTemplate::new(case["source"].as_str().unwrap(), name, token("bos"), token("eos"));
        let mut of_this = Count::new();
        for (messages, expected) in fixture.conversations.iter().zip(case["texts"].as_array().unwrap()) {
            let got = match &template {
                Ok(template) => template.render(messages, true).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match expected {
                // What Jinja refuses is refused here.
                Value::Null => of_this.equal(&got.is_err(), &true, || format!("{name}: {messages:?}")),
                text => of_this.equal(&got.as_deref(), &Ok(text.as_str().unwrap()), || name.clone()),
            }
        }
        if let Some(first) = &of_this.first {
            unequal.push(name.as_str());
            println!("{name}: {} of {} differ; the first: {first}", of_this.differ, of_this.cases);
        }
        count.add(of_this);
    }
    println!("templates that differ: {unequal:?}");
    count.row("real: text of conversations, all templates of trl 1.16.0 (unequal)", AGAINST);
}
