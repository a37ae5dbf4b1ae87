//! The typed, valid description of a task, as a manifest states it.

use super::order::Order;

/// A task: where prompts come from and how answers are rewarded.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskSpec {
    /// `task.type = "alphabet_sort"`.
    AlphabetSort(AlphabetSortSpec),
    /// `task.type = "gsm8k"`: grade-school mathematics, exact match of the boxed answer.
    Gsm8k(QuestionSpec),
    /// `task.type = "math"`: competition mathematics, equivalence of the boxed answer.
    Math(QuestionSpec),
    /// `task.type = "arithmetic"`: sums and differences of whole numbers.
    Arithmetic(ArithmeticSpec),
    /// `task.type = "reverse"`: a text backwards.
    Reverse(ReverseSpec),
    /// `task.type = "countdown"`: an expression of given numbers that makes a target.
    Countdown(CountdownSpec),
    /// `task.type = "program"`: an outside program.
    Program(ProgramSpec),
}

impl TaskSpec {
    /// The value of `task.type`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::AlphabetSort(_) => "alphabet_sort",
            Self::Gsm8k(_) => "gsm8k",
            Self::Math(_) => "math",
            Self::Arithmetic(_) => "arithmetic",
            Self::Reverse(_) => "reverse",
            Self::Countdown(_) => "countdown",
            Self::Program(_) => "program",
        }
    }

    /// The most turns of an episode.
    pub fn turns(&self) -> u32 {
        match self {
            Self::AlphabetSort(sort) => sort.max_turns,
            Self::Program(program) => program.max_turns,
            Self::Gsm8k(_) | Self::Math(_) | Self::Arithmetic(_) | Self::Reverse(_) | Self::Countdown(_) => 1,
        }
    }

    /// The dataset of a hub that it reads.
    pub fn dataset(&self) -> Option<&HubDataset> {
        match self {
            Self::AlphabetSort(AlphabetSortSpec { names: NamesSpec::Hub(dataset), .. })
            | Self::Gsm8k(QuestionSpec { data: DataSpec::Hub(dataset), .. })
            | Self::Math(QuestionSpec { data: DataSpec::Hub(dataset), .. }) => Some(dataset),
            _ => None,
        }
    }

    /// The file that it reads, with the key that names it.
    pub fn file(&self) -> Option<(&'static str, &std::path::Path)> {
        match self {
            Self::AlphabetSort(AlphabetSortSpec { names: NamesSpec::File { path, .. }, .. }) => {
                Some(("task.names", path))
            }
            Self::Gsm8k(QuestionSpec { data: DataSpec::File { path, .. }, .. })
            | Self::Math(QuestionSpec { data: DataSpec::File { path, .. }, .. }) => Some(("task.file", path)),
            Self::Program(program) => Some(("task.program", &program.path)),
            _ => None,
        }
    }
}

/// Questions with one answer each.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionSpec {
    /// Where the questions come from.
    pub data: DataSpec,
    /// The column of the questions; `None`: `question` or `problem`, whichever there is.
    pub question: Option<String>,
    /// The column of the answers; `None`: `answer` or `solution`, whichever there is.
    pub answer: Option<String>,
    /// The system message before every question; empty for none of our own.
    pub system_prompt: String,
    /// The order in which training asks.
    pub order: Order,
}

/// Sums and differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArithmeticSpec {
    /// Most digits of a number, 1 to 9.
    pub digits: u32,
    /// Numbers of a task, at least 2.
    pub terms: u32,
}

/// A text backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseSpec {
    /// Most letters of a text; it has half of them at least.
    pub length: u32,
}

/// An expression of given numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountdownSpec {
    /// Numbers of a task, at least 2.
    pub numbers: u32,
    /// The largest of them.
    pub largest: u32,
}

/// An outside program that speaks the protocol of docs/protocol.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramSpec {
    /// The program, as resolved against the manifest that wrote it. Not identity.
    pub path: std::path::PathBuf,
    /// blake3 of the program's bytes, in hex. Identity.
    pub digest: String,
    /// How it is started, for a shell; `{program}` stands for its path. Identity.
    pub command: String,
    /// Most turns of an episode. Identity.
    pub max_turns: u32,
    /// The order in which training asks, where the program has a list of episodes.
    pub order: Order,
}

/// How an outside program is served. Never identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Processes at the same time.
    pub workers: u32,
    /// Seconds that a request may take.
    pub timeout_seconds: u32,
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
    /// CPython's `random`, as the original environment draws its episodes: a list, made row by row.
    Python {
        /// The seed of the environment that training asks; an evaluation's is its own.
        seed: u64,
        /// The order in which training asks the list.
        order: Order,
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
    /// A dataset of a hub with a column `names`.
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
