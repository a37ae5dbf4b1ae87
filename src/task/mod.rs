//! Tasks: prompts, expected answers and rewards. Pure: text in, numbers out.

mod spec;

pub use spec::{AlphabetSortSpec, NamesSpec, PromptTemplates, SortBy, TaskSpec};
