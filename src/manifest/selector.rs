//! Selectors: partial points such as `{ mask.type = "random", mask.sparsity = 0.99 }`, of `exclude`, figures and claims.

use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::document::Walk;
use super::keys::{Key, Kind};
use super::source::{Issue, Source, Span};
use super::value::{self, Value};

/// A partial point: what a run must have.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Where it stands.
    pub span: Span,
    /// The text that it stands in.
    pub source: Arc<Source>,
    /// Keys and their values, in the order of the text.
    pub wanted: Vec<(&'static Key, Value, Span)>,
}

/// As it is written in TOML.
impl std::fmt::Display for Selector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.wanted.iter().map(|(key, value, _)| format!("{} = {value}", key.path));
        write!(out, "{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// Reads a selector; everything that is wrong with it goes to `issues`.
pub(super) fn read(
    item: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
    wrong: impl FnOnce() -> Issue,
) -> Option<Selector> {
    let Some(table) = item.get_ref().as_table().filter(|table| !table.is_empty()) else {
        issues.push(wrong());
        return None;
    };
    let before = issues.len();
    let mut walk = Walk::new(source, &[], issues);
    walk.table(table, "", &mut |_, _, _| ());
    let found = walk.found;
    let mut wanted = Vec::new();
    for (key, name, value) in found {
        if matches!(key.kind, Kind::Path) || key.section() == "exec" {
            let text = format!("`{}` cannot select runs", key.path);
            let help = "runs are selected by settings: not by paths, which differ from machine to machine, nor by [exec]";
            issues.push(Issue::new(source, &name, text).help(help));
            continue;
        }
        match value::read(key, value.get_ref(), &value.span(), source) {
            Ok(checked) => wanted.push((key, checked, value.span())),
            Err(issue) => issues.push(issue),
        }
    }
    (issues.len() == before).then(|| Selector { span: item.span(), source: Arc::clone(source), wanted })
}
