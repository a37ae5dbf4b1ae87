//! Tasks: prompts, expected answers and rewards. Pure: text in, numbers out.

mod spec;

pub use spec::{AlphabetSortSpec, NamesSpec, PromptTemplates, SortBy, TaskSpec};

/// The wording of the prompts when a manifest gives none.
pub fn default_prompts() -> PromptTemplates {
    PromptTemplates { first: "first".into(), second: "second".into(), later: "later".into() }
}
