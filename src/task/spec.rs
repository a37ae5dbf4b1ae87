//! The typed, valid description of a task, as a manifest states it.

/// A task: where prompts come from and how answers are rewarded.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskSpec {
    /// `task.type = "alphabet_sort"`.
    AlphabetSort(AlphabetSortSpec),
    /// `task.type = "gsm8k"`: grade-school mathematics, exact match of the boxed answer. Not built yet.
    Gsm8k(QuestionSpec),
    /// `task.type = "math"`: competition mathematics, equivalence of the boxed answer. Not built yet.
    Math(QuestionSpec),
}

/// Questions with one answer each.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionSpec {
    /// Where the questions come from.
    pub data: DataSpec,
    /// The system message before every question; empty for none of our own.
    pub system_prompt: String,
}

/// Where a task's data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSpec {
    /// A dataset of a hub.
    Hub(HubDataset),
    /// A local JSONL or Parquet file.
    File {
        /// The path as resolved against the manifest that wrote it. Not identity.
        path: std::path::PathBuf,
        /// blake3 of the file's bytes, in hex. Identity.
        digest: String,
    },
}

/// A dataset of a hub: identified by repository and commit, so that planning needs no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubDataset {
    /// The repository, `owner/name`.
    pub id: String,
    /// The commit, 40 hexadecimal digits; without it ids are provisional.
    pub revision: Option<String>,
    /// The configuration of the dataset, when it has several.
    pub subset: Option<String>,
    /// The split.
    pub split: String,
}

/// Alphabet-sort: sort names given over one or several turns.
#[derive(Clone, Debug, PartialEq)]
pub struct AlphabetSortSpec {
    /// Fewest turns of an episode, at least 1.
    pub min_turns: u32,
    /// Most turns of an episode.
    pub max_turns: u32,
    /// Fewest new names in a turn, at least 1.
    pub min_names_per_turn: u32,
    /// Most new names in a turn.
    pub max_names_per_turn: u32,
    /// Which part of a name is the sort key.
    pub sort_by: SortBy,
    /// Exponent on the similarity of answer and truth, at least 1.
    pub similarity_power: u32,
    /// `true`: raise each turn's similarity, then average; `false`: average, then raise.
    pub power_per_turn: bool,
    /// Where the names come from.
    pub names: NamesSpec,
    /// Which names of a row of a user's file an episode takes.
    pub row_names: RowNames,
    /// How episodes are drawn.
    pub episodes: Episodes,
    /// The wording of the prompts.
    pub prompts: PromptTemplates,
}

/// Generators of episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Episodes {
    /// Counter-based: an episode is a function of seed, stream and index.
    Counter,
    /// CPython's `random`, as the original environment draws its training episodes. Not built yet.
    Python {
        /// The seed of the environment.
        seed: u64,
    },
}

/// The part of a CamelCase name that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// Up to the second capital letter.
    First,
    /// From the second capital letter on.
    Last,
    /// Drawn per episode with equal chances (the original environment).
    Either,
}

/// Which names of a row an episode takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowNames {
    /// The first ones, as the original environment does.
    First,
    /// A draw without replacement from the whole row: one long row makes a vocabulary of names.
    Sample,
}

/// Where names come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamesSpec {
    /// The given names and surnames shipped with the program.
    Shipped,
    /// A local JSONL or Parquet file with a column `names` (a list of strings per row).
    File {
        /// The path as resolved against the manifest that wrote it. Not identity.
        path: std::path::PathBuf,
        /// blake3 of the file's bytes, in hex. Identity.
        digest: String,
    },
    /// A dataset of a hub with a column `names`. Not built yet.
    Hub(HubDataset),
}

/// minijinja templates of the user prompts, one per turn position.
///
/// Variables: `names` (list of the turn's new names, shuffled), `key` (`FIRST` or `LAST`), `slots` (list of
/// `{number, new}`, the lines of the format example: 1-based, `new` is never true in turn 1), `turn` (1-based).
/// Unknown variables are errors. As in chat templates, a block tag swallows the line break behind it and the blanks
/// before it; line breaks at the end of a prompt are dropped. Python's string methods work.
///
/// ```text
/// Sort by {{ key }} name: {{ names | join(", ") }}
/// <combined_alphabetical_sorted>
/// {% for slot in slots %}
/// Name{{ slot.number }}{{ " // new name!" if slot.new else "" }}
/// {% endfor %}
/// </combined_alphabetical_sorted>
/// ```
///
/// gives, for three slots of which the last is new:
///
/// ```text
/// Sort by LAST name: EveMoss, AdaBell
/// <combined_alphabetical_sorted>
/// Name1
/// Name2
/// Name3 // new name!
/// </combined_alphabetical_sorted>
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplates {
    /// Turn 1.
    pub first: String,
    /// Turn 2: introduces the combined list and its tag.
    pub second: String,
    /// Turn 3 and later.
    pub later: String,
}
