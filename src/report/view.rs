//! The evaluations of a report, each looked at as if it were the only one.
//!
//! In: a [`ResultSet`] whose rows may have columns `eval/NAME/score` of named evaluations. Out: for each name the same set with
//! that evaluation's columns as `eval/score` and so on, so that tables and charts of one evaluation serve for all. Without named
//! evaluations the set itself is the one view.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::result::{ResultSet, Row};

const EVAL: &str = "eval/";
const SCORE: &str = "/score";

/// One evaluation of a set.
#[derive(Clone, Debug)]
pub struct View<'s> {
    /// Its name; the plain one has none.
    pub name: Option<String>,
    /// The set, its columns under plain names.
    pub set: Cow<'s, ResultSet>,
}

impl View<'_> {
    /// What is put behind the name of a file or an anchor.
    pub fn suffix(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!("_{name}"))
    }

    /// What is put behind a heading.
    pub fn heading(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!(": {name}"))
    }
}

/// The names of the named evaluations that some run made, sorted.
pub fn names(set: &ResultSet) -> Vec<String> {
    let columns = set.runs.iter().flat_map(|run| &run.evals).flat_map(Row::keys);
    let name = |column: &String| Some(column.strip_prefix(EVAL)?.strip_suffix(SCORE)?.to_owned());
    columns.filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Every evaluation: the plain one, or the named ones.
pub fn all(set: &ResultSet) -> Vec<View<'_>> {
    let names = names(set);
    if names.is_empty() {
        return vec![View { name: None, set: Cow::Borrowed(set) }];
    }
    names.into_iter().map(|name| View { set: Cow::Owned(of(set, &name)), name: Some(name) }).collect()
}

fn of(set: &ResultSet, name: &str) -> ResultSet {
    let mut set = set.clone();
    let own = format!("{EVAL}{name}/");
    for row in set.runs.iter_mut().flat_map(|run| &mut run.evals) {
        let renamed = std::mem::take(row).into_iter().filter_map(|(column, value)| {
            match (column.strip_prefix(&own), column.starts_with(EVAL)) {
                (Some(rest), _) => Some((format!("{EVAL}{rest}"), value)),
                (None, true) => None,
                (None, false) => Some((column, value)),
            }
        });
        *row = renamed.collect();
    }
    set
}
