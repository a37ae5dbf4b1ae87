//! The value of a key: what TOML, the environment and the command line all become.

use std::sync::Arc;

use toml::de::DeValue;

use super::aliases;
use super::keys::{Key, Kind};
use super::range;
use super::source::{Issue, Source, Span, counted, grouped};

/// A checked value. Numbers are finite and have no negative zero, so equality is plain.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text, a path or a word.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number; whole numbers of number keys are here too.
    Number(f64),
    /// `true` or `false`.
    Flag(bool),
    /// Several values.
    List(Vec<Value>),
}

impl Value {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Flag(value) => (*value).into(),
            Self::List(values) => values.iter().map(Self::json).collect(),
        }
    }

    /// As a value of figment's.
    pub fn figment(&self) -> figment::value::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Flag(value) => (*value).into(),
            Self::List(values) => values.iter().map(Self::figment).collect::<Vec<_>>().into(),
        }
    }
}

/// As it is written in TOML, floats in their shortest spelling.
impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(out, "{text:?}"),
            Self::Integer(value) => write!(out, "{value}"),
            Self::Number(value) => out.write_str(&short_number(*value)),
            Self::Flag(value) => write!(out, "{value}"),
            Self::List(values) => {
                let inner = values.iter().map(Self::to_string).collect::<Vec<_>>();
                write!(out, "[{}]", inner.join(", "))
            }
        }
    }
}

/// The shorter of the plain and the exponent spelling that reads back to the same number.
///
/// On a tie small numbers have the exponent, so that learning rates look alike: `1e-2` beside `3e-3`.
pub fn short_number(x: f64) -> String {
    let (plain, exponent) = (format!("{x}"), format!("{x:e}"));
    let longest = plain.len() - usize::from(x.abs() >= 0.1 || x == 0.0);
    if exponent.len() <= longest { exponent } else { plain }
}

/// Reads the TOML value of a key and checks kind and range.
pub fn read(
    key: &'static Key,
    value: &DeValue<'_>,
    span: &Span,
    source: &Arc<Source>,
) -> Result<Value, Issue> {
    checked(key, value, span, source).map_err(|issue| issue.about(&[key.path]))
}

fn checked(key: &Key, value: &DeValue<'_>, span: &Span, source: &Arc<Source>) -> Result<Value, Issue> {
    let allowed = || format!("it must be {}", key.kind.allowed());
    let wrong = |what: String| Issue::new(source, span, what).help(allowed());
    let written = source.excerpt(span);
    let mismatch = || {
        let what = match value {
            // A dotted key below this one: there are no braces to show.
            DeValue::Table(_) if !written.starts_with('{') => article(value).to_owned(),
            _ => format!("{written}, {}", article(value)),
        };
        let issue = wrong(format!("`{}` cannot be {what}", key.path));
        let axis = match value {
            DeValue::Array(_) if !matches!(key.kind, Kind::Pair(_)) => "lists",
            DeValue::Table(table) if table.iter().any(|(name, _)| range::is_shape(name.get_ref())) => {
                "ranges"
            }
            _ => return issue,
        };
        issue.help(format!("{}; {axis} are axes, and axes belong in a [[grid]] block", allowed()))
    };
    let outside = || {
        let issue = wrong(format!("`{}` = {written} is out of range", key.path));
        match key.kind {
            // What is beyond the upper bound is told of it, however large it is.
            Kind::Integer(low, high)
                if !written.starts_with('-') && integer(value).is_none_or(|x| x > high) =>
            {
                let high = grouped(high.unsigned_abs().into());
                issue.help(format!("it must be a whole number from {low} to {high}"))
            }
            _ => issue,
        }
    };
    match (key.kind, value) {
        (Kind::Text, DeValue::String(text)) => Ok(Value::Text(text.to_string())),
        (Kind::Path, DeValue::String(text)) => {
            if text.trim().is_empty() || text.contains('\0') {
                return Err(wrong(format!("`{}` is not a path", key.path)));
            }
            Ok(Value::Text(text.to_string()))
        }
        (Kind::Repository, DeValue::String(text)) => {
            let part = |part: &str| {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                !part.is_empty() && part.chars().all(plain) && !part.starts_with('.')
            };
            match text.split_once('/') {
                Some((owner, name)) if part(owner) && part(name) => Ok(Value::Text(text.to_string())),
                _ => Err(wrong(format!("`{}` = {written} is not a repository", key.path))),
            }
        }
        (Kind::Commit, DeValue::String(text)) => {
            if text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Ok(Value::Text(text.to_string()));
            }
            Err(wrong(format!("`{}` = {written} is not a commit hash", key.path)))
        }
        (Kind::Choice(words), DeValue::String(text)) => {
            if words.contains(&text.as_ref()) {
                return Ok(Value::Text(text.to_string()));
            }
            let meant =
                aliases::word(text, words).or_else(|| super::source::nearest(text, words.iter().copied()));
            let meant = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
            Err(Issue::new(source, span, format!("`{}` cannot be {written}", key.path))
                .help(format!("{}{meant}", allowed())))
        }
        (Kind::Integer(low, high), DeValue::Integer(_)) => match integer(value) {
            Some(x) if (low..=high).contains(&x) => Ok(Value::Integer(x)),
            _ => Err(outside()),
        },
        (Kind::Number(range), DeValue::Integer(_) | DeValue::Float(_)) => match number(value) {
            Some(x) if range.contains(x) => Ok(Value::Number(x)),
            _ => Err(outside()),
        },
        (Kind::Pair(range), DeValue::Array(items)) => {
            if items.len() != 2 {
                let values = counted(items.len() as u128, "value");
                return Err(wrong(format!("`{}` = {written} has {values}", key.path)));
            }
            let mut pair = Vec::new();
            for item in items {
                match number(item.get_ref()) {
                    Some(x) if range.contains(x) => pair.push(Value::Number(x)),
                    _ => {
                        let (inner, text) = (item.span(), source.excerpt(&item.span()));
                        let what = match item.get_ref() {
                            DeValue::Integer(_) | DeValue::Float(_) => "which is out of range",
                            other => article(other),
                        };
                        let text = format!("`{}` holds {text}, {what}", key.path);
                        return Err(Issue::new(source, &inner, text).help(allowed()));
                    }
                }
            }
            Ok(Value::List(pair))
        }
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        _ => Err(mismatch()),
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let value = value.as_integer()?;
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// A finite number without negative zero.
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    let x = match value {
        DeValue::Integer(_) => integer(value)? as f64,
        DeValue::Float(float) => float.as_str().parse::<f64>().ok()?,
        _ => return None,
    };
    x.is_finite().then_some(x + 0.0)
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a flag",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_short_as_they_read_back() {
        for (x, text) in [
            (1e-4, "1e-4"),
            (0.99, "0.99"),
            (0.999, "0.999"),
            (5e-5, "5e-5"),
            (0.01, "1e-2"),
            (0.001, "1e-3"),
            (3e-7, "3e-7"),
            (1.0, "1"),
            (100.0, "100"),
            (1e6, "1e6"),
            (0.0, "0"),
        ] {
            assert_eq!(short_number(x), text);
            assert_eq!(text.parse::<f64>().expect("a number").to_bits(), x.to_bits());
        }
    }
}
