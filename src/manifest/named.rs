//! Keys of named evaluations: `eval.NAME.examples` is what `eval.examples` is, for the evaluation NAME alone.
//!
//! Such keys are made when a text first names them and live as long as the program: names are few, and there is a limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::keys::{KEYS, Key, Preset};

/// The most keys that are ever made. A program reads one manifest; tests read many.
const MOST: usize = 100_000;

static MADE: Mutex<BTreeMap<String, &'static Key>> = Mutex::new(BTreeMap::new());

/// The name of the evaluation and the rest of the path: `eval.NAME.REST`.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let below = path.strip_prefix("eval.")?;
    let (name, rest) = below.split_once('.').unwrap_or((below, ""));
    let own = KEYS.iter().filter_map(|key| key.path.strip_prefix("eval."));
    let taken = own.map(|rest| rest.split('.').next().unwrap_or(rest)).any(|member| member == name);
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    let good = name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_lowercase()) && letters;
    (good && !taken && name != "task").then_some((name, rest))
}

/// The key that a named evaluation's key follows: `task.*` for its task, else `eval.*`.
pub fn model(rest: &str) -> String {
    if rest == "task" || rest.starts_with("task.") { rest.to_owned() } else { format!("eval.{rest}") }
}

/// Where a key's value lies in the merged configuration: named evaluations stand apart from the plain one.
pub fn place(path: &str) -> Cow<'_, str> {
    match split(path) {
        Some(_) => Cow::Owned(path.replacen("eval.", "evals.", 1)),
        None => Cow::Borrowed(path),
    }
}

/// The key of a named evaluation.
pub fn find(path: &str) -> Option<&'static Key> {
    let (_, rest) = split(path)?;
    let model = model(rest);
    let model = KEYS.iter().find(|key| key.path == model)?;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(key) = made.get(path) {
        return Some(key);
    }
    if made.len() >= MOST {
        return None;
    }
    let text: &'static str = Box::leak(path.to_owned().into_boxed_str());
    let short: &'static str = Box::leak(format!("{}-", &text["eval.".len()..]).into_boxed_str());
    let key: &'static Key = Box::leak(Box::new(Key {
        path: text,
        kind: model.kind,
        default: Preset::Absent,
        short,
        doc: model.doc,
    }));
    made.insert(path.to_owned(), key);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Kind;

    #[test]
    fn named_keys_follow_the_plain_ones() {
        let key = find("eval.math500.task.split").expect("a key");
        assert_eq!((key.path, key.kind), ("eval.math500.task.split", Kind::Text));
        assert_eq!(place(key.path), "evals.math500.task.split");
        assert_eq!(place("eval.seed"), "eval.seed");
        assert!(std::ptr::eq(key, find("eval.math500.task.split").expect("a key")), "made once");
        assert!(find("eval.a.sampling.top_p").is_some() && find("eval.a.examples").is_some());
        for bad in [
            "eval.task.split",
            "eval.sampling.top_p.x",
            "eval.A.examples",
            "eval.a.optimizer.lr",
            "eval.a",
            "eval.1a.seed",
        ] {
            assert!(find(bad).is_none(), "{bad}");
        }
    }
}
