//! What transformers' Jinja2 does otherwise than minijinja and its `pycompat`, as far as chat templates show it.
//!
//! White space is Python's (the separators U+001C to U+001F count), `tojson` is `json.dumps` without HTML escapes, strings
//! are sequences and none is nothing to iterate over, lines end in `\n` whatever the file has, and `generation` blocks,
//! which mark the answers for training, are rendered.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Adds Python's ways to an environment.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", |text: &str, of: Option<&str>| trimmed(text, of, true, true).to_owned());
    environment.add_filter("tojson", |value: &Value, options: Kwargs| to_json(value, &options));
    environment.add_test("iterable", |value: &Value| sequence(value) || value.kind() == ValueKind::Iterable);
    environment.add_test("sequence", sequence);
}

/// What has a length and items in Python. An undefined value is an empty one there.
fn sequence(value: &Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), String | Seq | Map | Undefined)
}

/// The template as minijinja can read it.
pub(super) fn source(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        let Some(end) = tag.find("%}") else { break };
        let inside = &tag[2..end];
        let name = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        out.push_str(before);
        out.push_str("{%");
        // A block with a scope of its own, as `generation` has.
        out.push_str(&match name {
            "generation" => inside.replacen("generation", "with", 1),
            "endgeneration" => inside.replacen("endgeneration", "endwith", 1),
            _ => inside.to_owned(),
        });
        rest = &tag[end..];
    }
    out + rest
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let sides = match name {
        "strip" => (true, true),
        "lstrip" => (true, false),
        "rstrip" => (false, true),
        _ => return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    };
    let Some(text) = value.as_str() else { return Err(Error::from(ErrorKind::UnknownMethod)) };
    let (of,): (Option<&str>,) = minijinja::value::from_args(args)?;
    Ok(Value::from(trimmed(text, of, sides.0, sides.1)))
}

fn trimmed<'a>(text: &'a str, of: Option<&str>, start: bool, end: bool) -> &'a str {
    let out = |c: char| match of {
        Some(of) => of.contains(c),
        None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
    };
    let text = if start { text.trim_start_matches(out) } else { text };
    if end { text.trim_end_matches(out) } else { text }
}

fn to_json(value: &Value, options: &Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // The only other one that does not change what is written here.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = String::new();
    write_json(value, indent, 0, &mut out)?;
    Ok(out)
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) -> Result<(), Error> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (open, close) = match value.kind() {
        ValueKind::String => {
            out.push_str(&quoted(value.as_str().unwrap_or_default()));
            return Ok(());
        }
        ValueKind::None => {
            out.push_str("null");
            return Ok(());
        }
        // Printed as in Python otherwise: True.
        ValueKind::Bool => {
            out.push_str(if value.is_true() { "true" } else { "false" });
            return Ok(());
        }
        ValueKind::Number => {
            out.push_str(&value.to_string());
            return Ok(());
        }
        ValueKind::Map => ('{', '}'),
        ValueKind::Seq | ValueKind::Iterable => ('[', ']'),
        other => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson of {other} is not possible"),
            ));
        }
    };
    let line =
        |depth: usize| indent.map(|width| format!("\n{}", " ".repeat(width * depth))).unwrap_or_default();
    out.push(open);
    let mut some = false;
    for item in value.try_iter()? {
        if some {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        some = true;
        out.push_str(&line(depth + 1));
        if open == '{' {
            out.push_str(&quoted(&item.to_string()));
            out.push_str(": ");
            write_json(&value.get_item(&item)?, indent, depth + 1, out)?;
        } else {
            write_json(&item, indent, depth + 1, out)?;
        }
    }
    if some {
        out.push_str(&line(depth));
    }
    out.push(close);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        let mut environment = Environment::new();
        add(&mut environment);
        environment
            .render_str(&source(template), minijinja::context! { text => "\u{1c} it's <b>\u{1f}\n" })
            .unwrap()
    }

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(rendered("[{{ text | trim }}][{{ text.strip() }}]"), "[it's <b>][it's <b>]");
        assert_eq!(
            rendered("[{{ text.lstrip() }}][{{ text.rstrip() }}]"),
            "[it's <b>\u{1f}\n][\u{1c} it's <b>]"
        );
        assert_eq!(rendered("{{ 'xaxbx'.strip('x') }}"), "axb");
    }

    #[test]
    fn tests_of_kinds_are_pythons() {
        for (value, iterable, sequence) in [
            ("none", false, false),
            ("1", false, false),
            ("missing", true, true),
            ("'a'", true, true),
            ("[]", true, true),
            ("{}", true, true),
        ] {
            let both = rendered(&format!("{{{{ {value} is iterable }}}} {{{{ {value} is sequence }}}}"));
            let python = |flag: bool| if flag { "True" } else { "False" };
            assert_eq!(both, format!("{} {}", python(iterable), python(sequence)), "{value}");
        }
    }

    #[test]
    fn json_is_as_json_dumps_writes_it() {
        assert_eq!(rendered("{{ text | trim | tojson }}"), r#""it's <b>""#);
        let value = "{'b': [1, 2.5, true, none], 'a': {}, 'é': []}";
        assert_eq!(
            rendered(&format!("{{{{ {value} | tojson }}}}")),
            r#"{"b": [1, 2.5, true, null], "a": {}, "é": []}"#
        );
        assert_eq!(
            rendered(&format!("{{{{ {value} | tojson(indent=2) }}}}")),
            "{\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"a\": {},\n  \"é\": []\n}"
        );
    }

    #[test]
    fn generation_blocks_are_rendered_in_their_own_scope() {
        let template =
            "{% set a = 1 %}{%- generation -%} {{ a }}{% set a = 2 %}{{ a }} {% endgeneration %}{{ a }}";
        assert_eq!(rendered(template), "12 1");
        assert_eq!(source("a {%+ generation%}b\r\nc{% open"), "a {%+ with%}b\nc{% open");
    }
}
