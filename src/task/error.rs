//! What can be wrong with a task: its bounds, its templates, its names.

use crate::exit::{Code, Failure};

/// A task that cannot be built or an episode that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A part of the language that has no implementation yet.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// The key and its value.
        what: &'static str,
    },
    /// Bounds that hold no value.
    #[error("{key} has no value between {low} and {high}")]
    Bounds {
        /// The two keys.
        key: &'static str,
        /// The lower bound.
        low: u32,
        /// The upper bound.
        high: u32,
    },
    /// A value that must be at least one.
    #[error("{key} is 0 and must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A template that does not compile, or fails on an episode.
    #[error("{key} is not a usable template")]
    Template {
        /// The key.
        key: &'static str,
        /// What minijinja says, with the line.
        source: Box<minijinja::Error>,
    },
    /// A template that uses a variable which does not exist.
    #[error("{key} uses `{variable}`, which no prompt has")]
    UnknownVariable {
        /// The key.
        key: &'static str,
        /// The variable.
        variable: String,
    },
    /// A template that leaves the names out.
    #[error("{key} never uses `names`, so that a prompt would not say what to sort")]
    NamesUnused {
        /// The key.
        key: &'static str,
    },
    /// Too few names for the longest episode that the task allows.
    #[error(
        "task.names has at most {largest} distinct names for an episode, and the longest episode needs {needed}"
    )]
    TooFewNames {
        /// The most names that one episode can have.
        largest: usize,
        /// `max_turns * max_names_per_turn`.
        needed: u64,
        /// How many rows were looked at; `None` for the shipped list.
        rows: Option<usize>,
    },
    /// A name that cannot stand on a line of an answer.
    #[error("task.names, row {row}: the name {name:?} {reason}")]
    BadName {
        /// The row, counted from 1.
        row: usize,
        /// The name as the file has it.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl TaskError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotBuilt { .. } | Self::Bounds { .. } | Self::Zero { .. } => None,
            Self::Template { .. } => Some(
                "templates are in minijinja's dialect of Jinja; leave task.prompts out to get the built-in wording".into(),
            ),
            Self::UnknownVariable { .. } => {
                Some("a template has `names`, `key`, `slots` (each with `number` and `new`) and `turn`".into())
            }
            Self::NamesUnused { .. } => Some("write {{ names | join(\", \") }} where they belong".into()),
            Self::TooFewNames { rows: None, .. } => {
                Some("lower task.max_turns or task.max_names_per_turn".into())
            }
            Self::TooFewNames { rows: Some(0), .. } => Some("the file has no rows".into()),
            Self::TooFewNames { rows: Some(rows), .. } => Some(format!(
                "an episode takes its names from one row ({rows} were read): give longer rows, or lower \
                 task.max_turns or task.max_names_per_turn"
            )),
            Self::BadName { .. } => Some("remove the name from the file, or mend it".into()),
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let hint = error.hint();
        Self::new(Code::Manifest, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::alphabet_sort::tests::spec;
    use crate::task::{AlphabetSort, NameSource};

    #[test]
    fn a_failure_names_the_key_the_place_and_the_way_out() {
        let mut spec = spec();
        spec.prompts.later = "{{ names }}\n{{ slots[0].nmuber }}".to_owned();
        let failure = Failure::from(AlphabetSort::new(&spec, NameSource::Shipped).expect_err("misspelt"));
        assert_eq!(failure.code, Code::Manifest);
        assert_eq!(
            failure.to_string(),
            "error: task.prompts.later is not a usable template\n  \
             caused by: undefined value (in task.prompts.later:2)\n  \
             hint: templates are in minijinja's dialect of Jinja; leave task.prompts out to get the built-in wording"
        );
    }
}
