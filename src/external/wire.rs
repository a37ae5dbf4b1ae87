//! Requests to lines, lines to JSON.

use std::fmt::Write as _;

use serde_json::Value;

use super::error::Trouble;
use super::lines::excerpt;

/// Stands before a number that JSON does not have, where a line has one. It stands nowhere else: a line that parses as it is
/// is not looked through for such numbers.
const BARE: char = '\u{10fffe}';

/// A request as one line, with its end. All of it is ASCII, so that it is read right whatever a program takes its input's
/// encoding for.
pub(super) fn line(request: &Value) -> String {
    let text = request.to_string();
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            line.push(c);
        } else {
            // Such a character can only be within a string.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push('\n');
    line
}

/// A line as a JSON object. NaN and the infinities, which Python writes and JSON does not have, become values that [`bare`]
/// knows, so that a message can name the reward that is one.
pub(super) fn parse(line: &[u8]) -> Result<Value, Trouble> {
    let Ok(text) = std::str::from_utf8(line) else { return Err(Trouble::NotUtf8(excerpt(line))) };
    let not_json = |why: String| Trouble::NotJson { line: excerpt(line), why };
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(error) => serde_json::from_str(&without_bare(text)).map_err(|_| not_json(error.to_string()))?,
    };
    if value.is_object() { Ok(value) } else { Err(not_json(format!("it is {}", kind(&value)))) }
}

/// The number that JSON does not have, if this stands for one.
pub(super) fn bare(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(BARE)
}

/// The first such number within a value.
pub(super) fn bare_within(value: &Value) -> Option<&str> {
    match value {
        Value::Array(items) => items.iter().find_map(bare_within),
        Value::Object(items) => items.values().find_map(bare_within),
        other => bare(other),
    }
}

/// What a value is, for a message.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => match bare(value) {
            Some(number) => number.to_owned(),
            None => format!("the text \"{}\"", excerpt(text.as_bytes())),
        },
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The text with its bare words `NaN`, `Infinity` and `-Infinity` made strings.
fn without_bare(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 32);
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word =
            ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            result.extend(['"', BARE]);
            result.push_str(word);
            result.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        result.push(c);
        rest = &rest[c.len_utf8()..];
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_one_line_of_ascii_and_means_the_same() {
        let request = json!({"text": "a\nb\u{85}\u{2028}\u{e9}\u{1f600}\u{7f}\"\\\u{0}", "\u{fc}": 1.5});
        let line = line(&request);
        assert!(line.is_ascii());
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), request);
    }

    #[test]
    fn numbers_that_json_lacks_are_found_and_text_is_left_alone() {
        let value =
            parse(br#"{"a": [1, NaN], "b": "NaN \" -Infinity", "c": -Infinity, "d": "\\"}"#).expect("parsed");
        assert_eq!(bare(&value["a"][1]), Some("NaN"));
        assert_eq!(value["b"], "NaN \" -Infinity");
        assert_eq!(bare(&value["c"]), Some("-Infinity"));
        assert_eq!(value["d"], "\\");
        assert_eq!(bare_within(&value), Some("NaN"));
        assert_eq!(kind(&value["a"][1]), "NaN");
        assert_eq!(bare_within(&json!({"a": ["NaN"]})), None);
    }

    #[test]
    fn what_is_not_an_object_is_said() {
        let why = |line: &[u8]| match parse(line).expect_err("no object") {
            Trouble::NotJson { why, .. } => why,
            Trouble::NotUtf8(line) => format!("not UTF-8: {line}"),
            other => format!("{other:?}"),
        };
        assert_eq!(why(b"[1]"), "it is a list");
        assert_eq!(why(b"hello"), "expected value at line 1 column 1");
        assert_eq!(why(b"{\"a\": 1e999}"), "number out of range at line 1 column 11");
        assert_eq!(why(b"{\"a\": \"\xff\"}"), "not UTF-8: {\"a\": \"\u{fffd}\"}");
    }
}
