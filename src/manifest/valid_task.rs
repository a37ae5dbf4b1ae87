//! The rules of tasks: bounds, where the data comes from, what a type needs.
//!
//! The task of the training and those of named evaluations go through the same rules; a problem is shown at the
//! evaluation's own key when somebody wrote it, else at the key of `[task]`.

use super::keys;
use super::raw::{Generator, RawTask, TaskType};
use super::valid::{Problem, Rules};
use crate::task::{
    AlphabetSortSpec, DataSpec, Episodes, HubDataset, NamesSpec, PromptTemplates, QuestionSpec, RowNames,
    TaskSpec, shipped_names,
};

/// The split of a dataset when none is said.
const SPLIT: &str = "train";

/// A table of task settings.
#[derive(Clone, Copy)]
struct At<'t>(&'t str);

impl At<'_> {
    /// The key here, and the one of `[task]` that it falls back to.
    fn keys(self, name: &str) -> [&'static str; 2] {
        let plain = keys::find(&format!("task.{name}")).map_or("task.type", |key| key.path);
        [keys::find(&format!("{}.{name}", self.0)).map_or(plain, |key| key.path), plain]
    }
}

/// The task of a table, or its problems.
pub(super) fn task(raw: RawTask, table: &str, rules: &mut Rules<'_>) -> TaskSpec {
    let at = At(table);
    if raw.dataset.is_none() {
        for (name, written) in [
            ("revision", raw.revision.is_some()),
            ("subset", raw.subset.is_some()),
            ("split", raw.split.is_some()),
        ] {
            let text = || format!("`task.{name}` does not apply without `task.dataset`");
            rules.unless(!written, &at.keys(name), text, "set `task.dataset`, or remove the key");
        }
    }
    match raw.r#type {
        None => {
            let help = "write [task] with type = \"alphabet_sort\", \"gsm8k\" or \"math\"";
            rules.broken(&["task.type"], "`task.type` is missing".into(), help);
            alphabet_sort(raw, at, rules)
        }
        Some(TaskType::AlphabetSort) => alphabet_sort(raw, at, rules),
        Some(TaskType::Gsm8k) => TaskSpec::Gsm8k(questions(raw, at, rules)),
        Some(TaskType::Math) => TaskSpec::Math(questions(raw, at, rules)),
    }
}

fn hub(raw: &RawTask) -> Option<HubDataset> {
    let id = raw.dataset.clone()?;
    let (revision, subset) = (raw.revision.clone(), raw.subset.clone());
    Some(HubDataset { id, revision, subset, split: raw.split.clone().unwrap_or_else(|| SPLIT.into()) })
}

/// The digest of a file; one that cannot be had is a problem.
fn digest(path: &str, name: &str, help: &str, at: At<'_>, rules: &mut Rules<'_>) -> String {
    rules.digests.get(path, false).unwrap_or_else(|error| {
        rules.broken(&at.keys(name), format!("`task.{name}` cannot be used: {path}: {error}"), help);
        String::new()
    })
}

fn questions(raw: RawTask, at: At<'_>, rules: &mut Rules<'_>) -> QuestionSpec {
    let data = match (hub(&raw), raw.file) {
        (Some(found), _) => DataSpec::Hub(found),
        (None, Some(path)) => {
            let digest = digest(&path, "file", "it is a JSONL or Parquet file of questions", at, rules);
            DataSpec::File { path: path.into(), digest }
        }
        (None, None) => {
            let keys = [at.keys("type")[0], "task.type"];
            rules.broken(
                &keys,
                "the task has no data".into(),
                "questions come from a hub (`task.dataset`) or a local file (`task.file`)",
            );
            DataSpec::File { path: String::new().into(), digest: String::new() }
        }
    };
    QuestionSpec { data, system_prompt: raw.system_prompt }
}

fn alphabet_sort(raw: RawTask, at: At<'_>, rules: &mut Rules<'_>) -> TaskSpec {
    for ((low_name, low), (high_name, high), what) in [
        (("min_turns", raw.min_turns), ("max_turns", raw.max_turns), "turns"),
        (
            ("min_names_per_turn", raw.min_names_per_turn),
            ("max_names_per_turn", raw.max_names_per_turn),
            "names",
        ),
    ] {
        let text = || format!("`task.{low_name}` = {low} is more than `task.{high_name}` = {high}");
        let [[own_low, plain_low], [own_high, plain_high]] = [at.keys(low_name), at.keys(high_name)];
        let help = format!("the fewest {what} cannot be more than the most");
        rules.unless(low <= high, &[own_low, own_high, plain_low, plain_high], text, &help);
    }
    let dataset = hub(&raw);
    if raw.names.is_none() && dataset.is_none() && raw.row_names != RowNames::First {
        let text = "`task.row_names` does not apply to the shipped names".into();
        let help = "rows are those of a file: set `task.names`, or remove the key";
        rules.broken(&at.keys("row_names"), text, help);
    }
    let names = match (dataset, raw.names) {
        (Some(found), _) => NamesSpec::Hub(found),
        (None, None) => NamesSpec::Shipped,
        (None, Some(path)) => {
            let help = "it is a JSONL or Parquet file with a column `names`";
            let digest = digest(&path, "names", help, at, rules);
            NamesSpec::File { path: path.into(), digest }
        }
    };
    if names == NamesSpec::Shipped {
        let (needed, most) = (u64::from(raw.max_turns) * u64::from(raw.max_names_per_turn), shipped_names());
        let text = || {
            format!(
                "`task.max_turns` * `task.max_names_per_turn` = {needed} is more than the {most} names that are shipped"
            )
        };
        let [[own_names, plain_names], [own_turns, plain_turns]] =
            [at.keys("max_names_per_turn"), at.keys("max_turns")];
        let keys = [own_names, own_turns, plain_names, plain_turns];
        let help = "no name comes twice in an episode: lower one of the two, or give a longer list with `task.names`";
        rules.unless(needed <= most as u64, &keys, text, help);
    }
    let prompts =
        PromptTemplates { first: raw.prompts.first, second: raw.prompts.second, later: raw.prompts.later };
    for problem in rules.digests.check(&prompts) {
        let own =
            problem.keys.iter().filter_map(|key| key.strip_prefix("task.")).flat_map(|name| at.keys(name));
        rules.add(Problem { keys: own.collect(), ..problem });
    }
    TaskSpec::AlphabetSort(AlphabetSortSpec {
        min_turns: raw.min_turns,
        max_turns: raw.max_turns,
        min_names_per_turn: raw.min_names_per_turn,
        max_names_per_turn: raw.max_names_per_turn,
        sort_by: raw.sort_by,
        similarity_power: raw.similarity_power,
        power_per_turn: raw.power_per_turn,
        names,
        row_names: raw.row_names,
        episodes: match raw.episodes {
            Generator::Counter => Episodes::Counter,
            Generator::Python => Episodes::Python { seed: raw.seed },
        },
        prompts,
    })
}
