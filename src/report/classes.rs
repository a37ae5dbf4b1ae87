//! Runs that other builds or other kinds of machines finished, kept apart or knowingly mixed.
//!
//! In: a [`ResultSet`]. Out: the classes of its finished runs, and how tables, charts and pages speak of them. Invariants:
//! when the finished runs are of one known or unknown class, nothing is said and nothing is split; otherwise no curve,
//! mean, best rate or row is over runs of two classes, unless [`ResultSet::mix_classes`] asks for it, which every figure
//! then says. A run whose own steps crossed classes is a class of its own, and so are results that do not say.

use super::chart::plural;
use super::result::{ResultSet, RunResult, State, UNKNOWN_CLASS};
use super::table::TextTable;
use crate::store::{Class, classes_of, differing};

/// What is added to the names of unfinished runs, where classes are told apart.
pub const UNFINISHED: &str = " [unfinished]";

/// Finished runs of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// As [`RunResult::class`].
    pub id: String,
    /// What it consists of: one class as a rule, several where the runs crossed classes, none where nothing is known.
    pub classes: Vec<Class>,
    /// How many finished runs it has.
    pub runs: usize,
}

impl Group {
    /// What its runs were made with, in one line.
    pub fn description(&self) -> String {
        match &self.classes[..] {
            [] => "its results do not say what they were made with".to_owned(),
            [class] => class.description(),
            several => {
                let ids: Vec<String> = several.iter().map(Class::id).collect();
                format!("its steps were made in {}", ids.join(", then in "))
            }
        }
    }

    /// The value of a field, of each of its classes in turn.
    fn field(&self, key: &str) -> String {
        let known = |class: &Class| class.field(key).unwrap_or_else(|| "unknown".to_owned());
        self.classes.iter().map(known).collect::<Vec<_>>().join(", then ")
    }
}

/// The classes of the finished runs, in plan order.
pub fn groups(set: &ResultSet) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for run in &set.runs {
        let Some(id) = run.class() else { continue };
        if let Some(group) = groups.iter_mut().find(|group| group.id == id) {
            group.runs += 1;
        } else {
            let classes = run.done.as_ref().map(classes_of).unwrap_or_default();
            groups.push(Group { id, classes, runs: 1 });
        }
    }
    groups
}

/// The classes as a section lists them: those of [`groups`], and each that occurs only within runs that crossed classes.
pub fn listed(set: &ResultSet) -> Vec<Group> {
    let mut listed = groups(set);
    for class in atoms(&listed) {
        let id = class.id();
        if !listed.iter().any(|group| group.id == id) {
            listed.push(Group { id, classes: vec![class], runs: 0 });
        }
    }
    listed
}

fn atoms(groups: &[Group]) -> Vec<Class> {
    let mut atoms: Vec<Class> = Vec::new();
    for class in groups.iter().flat_map(|group| &group.classes) {
        if !atoms.contains(class) {
            atoms.push(class.clone());
        }
    }
    atoms
}

/// The fields in which the classes of the finished runs differ.
pub fn differences(set: &ResultSet) -> Vec<&'static str> {
    differing(&atoms(&groups(set)))
}

impl ResultSet {
    /// The same results, with runs of several classes mixed or not.
    #[must_use]
    pub fn with_mix_classes(mut self, mix: bool) -> Self {
        self.mix_classes = mix && groups(&self).len() > 1;
        self
    }

    /// Whether there is something to say about classes: the finished runs are of several, or some crossed them.
    pub fn several_classes(&self) -> bool {
        let groups = groups(self);
        groups.len() > 1 || groups.iter().any(|group| group.classes.len() > 1)
    }

    /// How many classes are mixed.
    pub fn mixed_classes(&self) -> Option<usize> {
        let count = groups(self).len();
        (self.mix_classes && count > 1).then_some(count)
    }

    /// What a picture says beside its title: that runs are missing, that classes are mixed.
    pub fn mark(&self) -> Option<String> {
        let mixed = self.mixed_classes().map(|count| format!("{count} CLASSES MIXED"));
        let marks: Vec<String> = [self.partial(), mixed].into_iter().flatten().collect();
        (!marks.is_empty()).then(|| marks.join(", "))
    }
}

/// What is added to the name of each run's family, so that no family is of two classes; empty where nothing is split.
pub fn suffixes(set: &ResultSet) -> Vec<String> {
    if !set.several_classes() || set.mixed_classes().is_some() {
        return vec![String::new(); set.runs.len()];
    }
    set.runs.iter().map(suffix).collect()
}

fn suffix(run: &RunResult) -> String {
    match run.class() {
        Some(id) if id == UNKNOWN_CLASS => " [class unknown]".to_owned(),
        Some(id) => format!(" [class {id}]"),
        // Where a run that is not finished was made is known at its end.
        None => UNFINISHED.to_owned(),
    }
}

/// What a caption says when classes are mixed, with a space before it.
pub fn caption(set: &ResultSet) -> String {
    set.mixed_classes().map_or_else(String::new, |count| format!(" Runs of {count} classes are mixed."))
}

/// One sentence about the classes, where there is something to say.
pub fn sentence(set: &ResultSet) -> Option<String> {
    if !set.several_classes() {
        return None;
    }
    let groups = groups(set);
    let differences = differences(set);
    let which = if differences.is_empty() {
        String::new()
    } else {
        format!(", which differ in {}", differences.join(", "))
    };
    Some(match (set.mixed_classes(), groups.len()) {
        (Some(count), _) => {
            format!(
                "Runs of {count} classes are mixed{which}: curves, means and best rates are over all of them."
            )
        }
        (None, 1) => format!(
            "The steps of {} were made in several classes{which}.",
            plural(groups[0].runs, "finished run")
        ),
        (None, count) => format!(
            "The finished runs are of {count} classes{which}: no curve, mean or best rate is over runs of two of them."
        ),
    })
}

/// The classes as a table: id, runs, a column for each field that differs, the description.
pub fn table(set: &ResultSet) -> TextTable {
    let differences = differences(set);
    let mut header = vec!["class", "finished runs"];
    header.extend(&differences);
    header.push("made with");
    let listed = listed(set);
    let rows = listed.iter().map(|group| {
        let mut row = vec![group.id.clone(), group.runs.to_string()];
        row.extend(differences.iter().map(|key| group.field(key)));
        row.push(group.description());
        row
    });
    let mut numeric = vec![false; header.len()];
    numeric[1] = true;
    TextTable { rows: rows.collect(), header: header.into_iter().map(str::to_owned).collect(), numeric }
}

/// What is said below the table.
pub fn note(set: &ResultSet) -> &'static str {
    let unfinished = set
        .runs
        .iter()
        .any(|run| run.state != State::Done && !(run.metrics.is_empty() && run.evals.is_empty()));
    match (set.mixed_classes(), unfinished) {
        (None, true) => {
            "Numbers are repeated bit for bit within a class alone. The class of a run that is not finished is not known, \
             so it is kept apart too."
        }
        _ => "Numbers are repeated bit for bit within a class alone.",
    }
}
