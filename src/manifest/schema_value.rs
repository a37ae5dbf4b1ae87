//! What a single key may hold, as JSON Schema: type, range, default and a description that says all of it in words.

use serde_json::{Map, Value, json};

use super::keys::{Kind, Preset, Range};
use super::schema::{Entry, NAME};
use super::variant;

/// The schema of one value of a key.
pub(super) fn of_key(entry: &Entry) -> Value {
    let mut schema = Map::new();
    schema.insert("description".into(), description(entry).into());
    schema.extend(of_kind(entry.key.kind));
    if !entry.named() {
        schema.extend(entry.key.preset().map(|value| ("default".to_owned(), value.json())));
    }
    schema.into()
}

fn of_kind(kind: Kind) -> Map<String, Value> {
    let schema = match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Path => json!({ "type": "string", "pattern": "\\S" }),
        Kind::Repository => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9_-][A-Za-z0-9._-]*$" })
        }
        Kind::Commit => json!({ "type": "string", "pattern": "^[0-9a-f]{40}$" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(range) => number(range),
        Kind::Pair(range) => json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": number(range) }),
        Kind::Flag => json!({ "type": "boolean" }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn number(range: Range) -> Value {
    let ((low, low_outside), high) = (range.low(), range.high());
    let mut schema = json!({ "type": "number" });
    schema[if low_outside { "exclusiveMinimum" } else { "minimum" }] = plain(low);
    if let Some((high, outside)) = high {
        schema[if outside { "exclusiveMaximum" } else { "maximum" }] = plain(high);
    }
    schema
}

/// A bound, without a fraction when it has none.
fn plain(x: f64) -> Value {
    if x.fract() == 0.0 { (x as i64).into() } else { x.into() }
}

fn description(entry: &Entry) -> String {
    let key = entry.key;
    let mut letters = key.doc.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter();
    let meaning = first.chain(letters).collect::<String>();
    let default = match (entry.path.strip_prefix("eval.NAME."), key.default) {
        (Some(_), _) => format!("that of `{}`", key.path),
        (None, Preset::Absent) => "none".into(),
        (None, Preset::Prompt) => "built in".into(),
        (None, Preset::Text("")) => "empty".into(),
        (None, _) => key.preset().map(|value| format!("`{value}`")).unwrap_or_default(),
    };
    let range = match in_words(key.kind) {
        words if words.is_empty() => words,
        words => match key.kind {
            Kind::Choice(_) | Kind::Flag => format!(" One of: {words}."),
            Kind::Repository | Kind::Commit => format!(" Form: {words}."),
            _ => format!(" Range: {words}."),
        },
    };
    let condition = condition(entry).map(|text| format!("\n\n{text}")).unwrap_or_default();
    format!("{meaning}.\n\nDefault: {default}.{range}{condition}")
}

/// What a value must be, as the tables of docs/manifest.md have it; empty where the type says it all.
fn in_words(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Path => String::new(),
        Kind::Repository => "`\"owner/name\"`".into(),
        Kind::Commit => "40 hexadecimal digits".into(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Integer(low, high) if high >= i64::from(u32::MAX) => format!("at least {low}"),
        Kind::Integer(low, high) => format!("{low} to {}", thousands(high)),
        Kind::Number(range) => number_in_words(range),
        Kind::Pair(range) => format!("each {}", number_in_words(range)),
        Kind::Flag => "`true`, `false`".into(),
    }
}

fn number_in_words(range: Range) -> String {
    let (low, low_outside) = range.low();
    match (range.high(), low_outside) {
        (Some((high, false)), false) => format!("{low} to {high}"),
        (None, false) => format!("at least {low}"),
        (None, true) => format!("above {low}"),
        (Some((high, outside)), _) => {
            let from = if low_outside { "above" } else { "at least" };
            format!("{from} {low}, {} {high}", if outside { "below" } else { "at most" })
        }
    }
}

/// A whole number; from ten thousand on with commas.
fn thousands(x: i64) -> String {
    let digits = x.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

/// Which choice a key needs, when it belongs to one.
fn condition(entry: &Entry) -> Option<String> {
    let need = variant::condition(entry.key.path)?;
    if need.chooser == "model" {
        return (entry.key.path == "model.revision").then(|| "Only beside `model.id`.".to_owned());
    }
    let table = if entry.named() { format!("eval.{NAME}.") } else { String::new() };
    let words = need.choices.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ");
    Some(format!("Only with `{table}{}` = {words}.", need.chooser))
}

/// The name of the ranges that may stand for the values of a kind.
pub(super) fn range_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Integer(..) => Some("whole_range"),
        Kind::Number(_) => Some("range"),
        _ => None,
    }
}

/// The definitions of ranges.
pub(super) fn ranges() -> [(String, Value); 2] {
    let count = json!({ "type": "integer", "minimum": 2, "maximum": super::range::MOST });
    let spaced = |text: &str, end: &Value| {
        let items = json!([end, end, count]);
        json!({ "description": text, "type": "array", "minItems": 3, "items": items, "additionalItems": false })
    };
    let end = json!({ "type": "integer" });
    let steps = json!({
        "description": "Start, stop (left out) and perhaps a step: whole numbers, such as `[0, 20]`.",
        "type": "array",
        "minItems": 2,
        "items": [end, end, { "type": "integer", "minimum": 1 }],
        "additionalItems": false,
    });
    let one_of = |text: &str, shapes: Value| {
        json!({
            "description": text,
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": shapes,
            "additionalProperties": false,
        })
    };
    let linear =
        spaced("First, last and count, evenly spaced: `[0.9, 0.99, 10]`.", &json!({ "type": "number" }));
    let above = json!({ "type": "number", "exclusiveMinimum": 0 });
    let log = spaced("First, last and count, evenly spaced in the logarithm: `[1e-7, 1e-2, 11]`.", &above);
    let numbers = json!({ "linspace": linear, "logspace": log, "range": steps });
    [
        ("range".into(), one_of("An axis of numbers: linspace, logspace or range.", numbers)),
        ("whole_range".into(), one_of("An axis of whole numbers.", json!({ "range": steps }))),
    ]
}

/// Texts that name one of these keys.
pub(super) fn key_names<'e>(entries: impl Iterator<Item = &'e Entry>) -> Value {
    let (named, plain): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.named());
    let plain = plain.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>();
    let words = json!({ "enum": plain });
    if named.is_empty() {
        return words;
    }
    let paths = named.iter().filter_map(|entry| entry.path.strip_prefix("eval.NAME."));
    let paths = paths.map(|path| path.replace('.', "\\.")).collect::<Vec<_>>().join("|");
    let pattern = format!("^eval\\.[a-z][a-z0-9_-]{{0,31}}\\.({paths})$");
    json!({ "anyOf": [words, { "type": "string", "pattern": pattern }] })
}
