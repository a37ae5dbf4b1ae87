//! Whole conversations as text, for people: what was asked, answered, expected and earned.

use std::fmt::Write as _;

use serde_json::Value;

/// Conversations below each other.
pub fn text(transcripts: &[Value]) -> String {
    let mut text = String::new();
    for transcript in transcripts {
        one(&mut text, transcript);
    }
    text
}

/// Conversations as JSON, one a line.
pub fn lines(transcripts: &[Value]) -> String {
    transcripts.iter().flat_map(|transcript| [transcript.to_string(), "\n".to_owned()]).collect()
}

fn one(text: &mut String, transcript: &Value) {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let eval = transcript["eval"].as_str().map(|name| format!("{name}, ")).unwrap_or_default();
    let _ = writeln!(
        text,
        "── {eval}{}: reward {} ──",
        plain(&transcript["episode"]),
        super::cell(&transcript["reward"])
    );
    let mut turn = 0;
    for message in transcript["messages"].as_array().into_iter().flatten() {
        let role = plain(&message["role"]);
        let _ = writeln!(text, "[{role}]\n{}", plain(&message["content"]));
        if role != "assistant" {
            continue;
        }
        let lines = transcript["expected"][turn].as_array().into_iter().flatten();
        let expected = lines.map(plain).collect::<Vec<_>>().join("\n");
        if !expected.is_empty() {
            let _ = writeln!(text, "[expected]\n{expected}");
        }
        if let Some(score) = transcript["turns"].get(turn) {
            let _ = writeln!(text, "[score {}]", super::cell(score));
        }
        turn += 1;
    }
    for (name, value) in transcript["parts"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "[{name} {}]", super::cell(value));
    }
    if transcript["truncated"].as_u64().is_some_and(|turns| turns > 0) {
        let _ = writeln!(text, "[cut at the token limit: {} of {turn} answers]", transcript["truncated"]);
    }
    text.push('\n');
}
