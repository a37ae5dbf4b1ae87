//! What can be wrong with a task: its bounds, its templates, its names.

use crate::exit::{Code, Failure};

/// A task that cannot be built or an episode that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task that is not made of settings and names alone.
    #[error("the task `{task}` needs data of its own")]
    NeedsData {
        /// The value of `task.type`.
        task: &'static str,
    },
    /// A setting that is out of its bounds.
    #[error("{key} is {value}, and must be from {low} to {high}")]
    Outside {
        /// The key.
        key: &'static str,
        /// The value.
        value: u32,
        /// The least that is allowed.
        low: u32,
        /// The most.
        high: u32,
    },
    /// An evaluation of more episodes than there are.
    #[error("the evaluation asks {examples} episodes, and the task has {count}")]
    TooFewEpisodes {
        /// How many there are.
        count: u64,
        /// How many are asked.
        examples: u64,
    },
    /// A task without a single episode.
    #[error("the task has no episode")]
    NoEpisodes,
    /// A right answer of a task that cannot say it.
    #[error("the task does not say the right answer of episode `{episode}`")]
    NoAnswer {
        /// The episode.
        episode: String,
    },
    /// The study's order of a task that does not have it.
    #[error("`task.order` = \"recycled\" is that of `task.episodes` = \"python\" alone")]
    NoRecycling,
    /// A reward that is no number or outside of the range that the task declares.
    #[error("the reward of episode `{episode}` is {value}, which is not a number from {low} to {high}")]
    Reward {
        /// The episode.
        episode: String,
        /// The reward, or the part of it that is not finite.
        value: f64,
        /// The least reward.
        low: f64,
        /// The greatest.
        high: f64,
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
    /// What the original environment's way of making episodes cannot do.
    #[error("`task.episodes` = \"python\" {what}")]
    PythonEpisodes {
        /// What is missing or does not fit, as the rest of the sentence.
        what: String,
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
    /// A row of a dataset of questions that is none.
    #[error("{from}, row {row}: {what}")]
    BadQuestion {
        /// The file, or the dataset of a hub.
        from: String,
        /// The row, counted from 1 over all files.
        row: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A program that is the task does not do its part.
    #[error("{message}")]
    Program {
        /// Who did what, asked for what.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// It died or did not answer, so that another attempt may do better.
        transient: bool,
    },
}

impl TaskError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsData { .. }
            | Self::NoEpisodes
            | Self::NoRecycling
            | Self::PythonEpisodes { .. }
            | Self::Bounds { .. }
            | Self::Outside { .. }
            | Self::Zero { .. } => None,
            Self::NoAnswer { .. } => Some(
                "a warm start and the estimator \"sample\" learn from right answers: take another base, or another estimator"
                    .into(),
            ),
            Self::TooFewEpisodes { .. } => Some("lower `examples` of the evaluation".into()),
            Self::Reward { .. } => Some("mend the task, or the range that it declares".into()),
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
            Self::Program { hint, .. } => hint.clone(),
            Self::BadQuestion { .. } => Some(
                "mend the row or remove it, or name the columns by `task.question` and `task.answer`".into(),
            ),
            Self::BadName { .. } => Some("remove the name from the file, or mend it".into()),
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let hint = error.hint();
        let code = match error {
            TaskError::Program { .. } => Code::Environment,
            _ => Code::Manifest,
        };
        Self::new(code, error, hint)
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
