//! Which keys vary over a plan, and the labels that they make.
//!
//! Labels are readable, unique in the plan and safe as file names; they are not identity.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Key, Kind, Value, short_number};

/// The values that a run has for the keys that blocks declare; keys without a meaning for it are absent.
pub type Values = BTreeMap<&'static str, Value>;

/// The keys, out of those declared, that differ between runs: the mask first, then in the order given.
///
/// Not to have a mask key is a difference (a full run has no sparsity); not to have another key is none of its own.
pub fn varying(declared: &[&'static Key], runs: &[Values]) -> Vec<&'static Key> {
    let varies = |key: &&Key| {
        let mut present = runs.iter().filter_map(|values| values.get(key.path));
        let Some(first) = present.next() else { return false };
        let absent = key.section() == "mask" && runs.iter().any(|values| !values.contains_key(key.path));
        absent || present.any(|value| value != first)
    };
    let mut keys = declared.iter().copied().filter(varies).collect::<Vec<_>>();
    let rank = |key: &&Key| match key.path {
        "mask.type" => 0,
        "mask.sparsity" => 1,
        _ if key.section() == "mask" => 2,
        _ => 3,
    };
    keys.sort_by_key(rank);
    keys
}

/// The keys whose numbers are told apart by three digits: in a label these are enough.
pub fn rounded(keys: &[&'static Key], runs: &[Values]) -> BTreeSet<&'static str> {
    let told_apart = |key: &&&'static Key| {
        let numbers = runs.iter().filter_map(|values| match values.get(key.path) {
            Some(Value::Number(number)) => Some(number.to_bits()),
            _ => None,
        });
        let all = numbers.collect::<BTreeSet<_>>();
        let short = all.iter().map(|bits| three_digits(f64::from_bits(*bits)).to_bits());
        short.collect::<BTreeSet<_>>().len() == all.len()
    };
    keys.iter().filter(told_apart).map(|key| key.path).collect()
}

/// A number with three digits, such as 3.16e-7. One near 1 has all of them: 0.9999 is not 1.
fn three_digits(number: f64) -> f64 {
    if (0.1..1.0).contains(&number.abs()) {
        return number;
    }
    format!("{number:.2e}").parse().unwrap_or(number)
}

/// The label of a run. `rounded` are the keys whose numbers are cut to three digits; `bare` is the label of a plan in which nothing varies.
pub fn label(keys: &[&'static Key], values: &Values, rounded: &BTreeSet<&str>, bare: &str) -> String {
    let parts = keys.iter().filter_map(|key| {
        let value = values.get(key.path)?;
        let value = match value {
            Value::Number(number) if rounded.contains(key.path) => &Value::Number(three_digits(*number)),
            value => value,
        };
        Some(format!("{}{}", prefix(key, keys), spelled(key, value)))
    });
    let label = parts.collect::<Vec<_>>().join("-");
    if label.is_empty() { bare.to_owned() } else { label }
}

/// What stands before a value: the key's short name, or its path when another varying key has the same.
fn prefix(key: &Key, keys: &[&Key]) -> String {
    let twins = keys.iter().filter(|other| other.short == key.short && !key.short.is_empty()).count();
    if twins > 1 { format!("{}.", key.path) } else { key.short.to_owned() }
}

fn spelled(key: &Key, value: &Value) -> String {
    let text = match value {
        Value::Text(text) if matches!(key.kind, Kind::Path) => {
            text.trim_end_matches('/').rsplit('/').next().unwrap_or(text).to_owned()
        }
        Value::Text(text) => text.clone(),
        Value::Integer(value) => value.to_string(),
        Value::Number(value) => short_number(*value),
        Value::Flag(value) => value.to_string(),
        Value::List(values) => values.iter().map(|value| spelled(key, value)).collect::<Vec<_>>().join("_"),
    };
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    text.chars().take(32).map(safe).collect()
}

/// Makes labels unique: those that clash get the first digits of their ids.
pub fn settle(labels: &mut [(String, &str)]) {
    let mut seen = BTreeSet::new();
    let mut clashing = BTreeSet::new();
    for (label, _) in labels.iter() {
        if !seen.insert(label.clone()) {
            clashing.insert(label.clone());
        }
    }
    for (label, id) in labels.iter_mut().filter(|(label, _)| clashing.contains(label)) {
        *label = format!("{label}-{}", &id[..12]);
    }
}
