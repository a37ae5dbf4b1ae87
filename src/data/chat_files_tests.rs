//! Chat parts of model directories that cannot be used: what the messages say.

#![expect(clippy::disallowed_methods, reason = "tests break copies of their own")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Chat, DataError};

/// A copy of a fixture's directory that a test can break.
fn copy(family: &str) -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("model");
    fs::create_dir(&dir).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/text").join(family);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    (temporary, dir)
}

fn change(file: &Path, with: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    with(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// The error and its advice, and that each of `parts` is in it.
#[track_caller]
fn says(error: &DataError, parts: &[&str]) {
    let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[track_caller]
fn refused(dir: &Path, parts: &[&str]) {
    says(&Chat::read(dir, 1000).unwrap_err(), parts);
}

#[test]
fn a_vocabulary_is_as_large_as_its_highest_id() {
    let (_keep, dir) = copy("qwen2");
    let rows = Chat::read(&dir, 1000).unwrap().tokenizer.vocab_size();
    assert!(Chat::read(&dir, rows).is_ok());
    let error = Chat::read(&dir, rows - 1).unwrap_err();
    let fits = format!("only {} rows", rows - 1);
    says(&error, &["tokenizer.json", &format!("highest id is {}", rows - 1), &fits, "config.json"]);
    // One token more, whose id leaves a hole.
    change(&dir.join("tokenizer.json"), |value| value["model"]["vocab"]["~one more~"] = 900.into());
    assert_eq!(Chat::read(&dir, 901).unwrap().tokenizer.vocab_size(), 901);
    says(&Chat::read(&dir, 900).unwrap_err(), &["highest id is 900", "only 900 rows"]);
}

#[test]
fn a_broken_tokenizer_is_named_with_what_to_do() {
    let (_keep, dir) = copy("qwen2");
    let file = dir.join("tokenizer.json");
    let whole = fs::read(&file).unwrap();
    let advice = ["read the tokenizer", "tokenizer.json", "fetch the file again", "save_pretrained"];
    for broken in [&whole[..whole.len() / 2], b"", b"version https://git-lfs.github.com/spec/v1\n", b"{}"] {
        fs::write(&file, broken).unwrap();
        refused(&dir, &advice);
    }
    fs::write(&file, &whole).unwrap();
    change(&file, |value| value["model"]["type"] = "Markov".into());
    refused(&dir, &advice);
}

#[test]
fn other_kinds_of_tokenizers_are_converted_in_one_line() {
    let (_keep, dir) = copy("llama3");
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    let line = format!("AutoTokenizer.from_pretrained('{0}').save_pretrained('{0}')", dir.display());
    refused(&dir, &["has no tokenizer.json\n", &line]);
    for (files, name) in [
        (["tokenizer.model", "x"], "only tokenizer.model"),
        (["vocab.json", "merges.txt"], "only the older vocab.json and merges.txt"),
        (["vocab.txt", "x"], "only vocab.txt"),
    ] {
        for file in files {
            fs::write(dir.join(file), "").unwrap();
        }
        refused(&dir, &[name, &line]);
        for file in files {
            fs::remove_file(dir.join(file)).unwrap();
        }
    }
}

#[test]
fn a_model_without_a_template_is_told_where_to_write_one() {
    let (_keep, dir) = copy("qwen2");
    let file = dir.join("chat_template.jinja");
    let source = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    refused(&dir, &["no chat template", "tokenizer_config.json", &file.display().to_string(), "base models"]);
    // The older places: a key, or a list of named ones.
    let settings = dir.join("tokenizer_config.json");
    for value in
        [json!(source), json!([{"name": "rag", "template": "{{"}, {"name": "default", "template": source}])]
    {
        change(&settings, |all| all["chat_template"] = value);
        assert_eq!(
            Chat::read(&dir, 1000).unwrap().opening("a").unwrap(),
            Chat::read(&fixture(), 1000).unwrap().opening("a").unwrap()
        );
    }
    change(&settings, |all| all["chat_template"] = json!([{"name": "rag", "template": source}]));
    refused(&dir, &["no chat template"]);
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/text/qwen2")
}

#[test]
fn broken_and_refusing_templates_name_the_line_and_the_feature() {
    let (_keep, dir) = copy("qwen2");
    let file = dir.join("chat_template.jinja");
    let place = file.display().to_string();
    let write = |source: &[u8]| fs::write(&file, source).unwrap();
    for (source, what) in [
        ("a\n{% for %}", "line 2"),
        ("{{ bos_token", "line 1"),
        ("a\n\n{% trans %}hello{% endtrans %}", "line 3: syntax error: unknown statement trans"),
    ] {
        write(source.as_bytes());
        refused(&dir, &[&place, what, "goes before the one in tokenizer_config.json"]);
    }
    write(b"\xff\xfe");
    refused(&dir, &[&place, "not UTF-8"]);
    // What only shows when a conversation is rendered.
    for (source, what) in [
        ("{{ raise_exception('no') }}", "line 1: the template refuses this conversation: no"),
        ("{{ messages[0].content | urlize }}", "unknown filter: filter urlize"),
        ("{{ messages[0].content.casefold() }}", "unknown method"),
        ("{{ lipsum() }}", "lipsum is unknown"),
        ("{{ strftime_now('%d') }}", "today's date: write a fixed date instead"),
        ("{% macro day() %}{{ strftime_now('%d') }}{% endmacro %}{{ day() }}", "write a fixed date instead"),
        ("{{ messages[5].content + 'x' }}", "undefined"),
    ] {
        write(source.as_bytes());
        match Chat::read(&dir, 1000) {
            Ok(chat) => says(&chat.opening("a").unwrap_err(), &[&place, what, "correct it there"]),
            Err(error) => says(&error, &[&place, what, "correct it there"]),
        }
    }
}

#[test]
fn end_tokens_come_from_all_three_files() {
    let (_keep, dir) = copy("llama3");
    let (settings, generation, config) =
        (dir.join("tokenizer_config.json"), dir.join("generation_config.json"), dir.join("config.json"));
    let ends = || Chat::read(&dir, 1000).unwrap().end_tokens;
    let all = ends();
    assert_eq!(all.len(), 3);
    fs::remove_file(&generation).unwrap();
    assert_eq!(ends(), all, "config.json has the list as well");
    change(&config, |value| value["eos_token_id"] = Value::Null);
    let turn = ends();
    assert_eq!(turn.len(), 1, "eos_token alone");
    // Tokens as objects, as older tokenizers have them, and in the older file of special tokens.
    change(&settings, |value| {
        value["eos_token"] = json!({"content": "<|eot_id|>", "lstrip": false, "special": true});
    });
    assert_eq!(ends(), turn);
    change(&settings, |value| value["eos_token"] = Value::Null);
    refused(&dir, &["no end-of-sequence token", "generation_config.json", "`eos_token`"]);
    fs::write(dir.join("special_tokens_map.json"), r#"{"eos_token": {"content": "<|eot_id|>"}}"#).unwrap();
    assert_eq!(ends(), turn);
    for id in [json!(1000), json!([1, 128_009]), json!(-1), json!("2"), json!([null])] {
        change(&config, |value| value["eos_token_id"] = id);
        refused(&dir, &["config.json", "`eos_token_id` has", "ids of this model are 0 to 999"]);
    }
}

#[test]
fn special_tokens_that_the_tokenizer_does_not_know_are_refused() {
    let (_keep, dir) = copy("qwen2");
    change(&dir.join("tokenizer.json"), |value| {
        value["added_tokens"].as_array_mut().unwrap().retain(|token| token["content"] != "<|im_end|>");
    });
    refused(
        &dir,
        &["tokenizer.json", "does not know `<|im_end|>`", "tokenizer_config.json", "save_pretrained"],
    );
}

#[test]
fn a_template_that_ends_answers_otherwise_than_the_model_is_told_which_id_to_add() {
    let (_keep, dir) = copy("qwen2");
    change(&dir.join("tokenizer_config.json"), |value| value["eos_token"] = "<|endoftext|>".into());
    change(&dir.join("generation_config.json"), |value| value["eos_token_id"] = Value::Null);
    let chat = Chat::read(&dir, 1000).unwrap();
    let id = chat.tokenizer.id("<|im_end|>").unwrap();
    says(
        &chat.closing().unwrap_err(),
        &[&format!("`<|im_end|>` (id {id})"), "`eos_token_id` in generation_config.json"],
    );
}

#[test]
fn a_space_before_the_end_token_is_not_said_twice() {
    let (_keep, dir) = copy("qwen2");
    let template = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% else %} {{ m.content }} \
                    {{ eos_token }}{% endif %}{% endfor %}";
    fs::write(dir.join("chat_template.jinja"), template).unwrap();
    let chat = Chat::read(&dir, 1000).unwrap();
    let history = [super::Message::user("a")];
    let text = |ended| chat.tokenizer.decode(&chat.follow_up(&history, "b", ended).unwrap()).unwrap();
    assert_eq!(text(false), " <|im_end|>[b]");
    assert_eq!(text(true), "[b]", "the answer has its own end");
    assert_eq!(chat.closing().unwrap(), chat.tokenizer.id("<|im_end|>").unwrap());
}
