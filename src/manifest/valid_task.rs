//! The rules of tasks: bounds, where the data comes from, what a type needs.
//!
//! The task of the training and those of named evaluations go through the same rules; a problem is shown at the
//! evaluation's own key when somebody wrote it, else at the key of `[task]`.

use super::keys;
use super::raw::{Asked, Generator, RawTask, TaskType};
use super::valid::{Problem, Rules};
use super::value::Value;
use crate::task::{
    AlphabetSortSpec, ArithmeticSpec, CountdownSpec, DataSpec, Episodes, HubDataset, NamesSpec, Order,
    ProgramSpec, PromptTemplates, QuestionSpec, ReverseSpec, RowNames, TaskSpec, shipped_names,
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

/// The task of a table, or its problems; `recycled` is the study's order, should it ask for that.
pub(super) fn task(raw: RawTask, table: &str, recycled: Order, rules: &mut Rules<'_>) -> TaskSpec {
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
    let order = order(&raw, at, recycled, rules);
    match raw.r#type {
        None => {
            let help = "write [task] with a type, such as type = \"alphabet_sort\"";
            rules.broken(&["task.type"], "`task.type` is missing".into(), help);
            alphabet_sort(raw, at, order, rules)
        }
        Some(TaskType::AlphabetSort) => alphabet_sort(raw, at, order, rules),
        Some(TaskType::Gsm8k) => TaskSpec::Gsm8k(questions(raw, at, order, rules)),
        Some(TaskType::Math) => TaskSpec::Math(questions(raw, at, order, rules)),
        Some(TaskType::Arithmetic) => {
            TaskSpec::Arithmetic(ArithmeticSpec { digits: raw.digits, terms: raw.terms })
        }
        Some(TaskType::Reverse) => TaskSpec::Reverse(ReverseSpec { length: raw.length }),
        Some(TaskType::Countdown) => {
            TaskSpec::Countdown(CountdownSpec { numbers: raw.numbers, largest: raw.largest })
        }
        Some(TaskType::Program) => program(raw, at, order, rules),
    }
}

/// The order of training; one that the task does not have is a problem. An evaluation has none.
fn order(raw: &RawTask, at: At<'_>, recycled: Order, rules: &mut Rules<'_>) -> Order {
    if at.0 != "task" {
        return Order::Shuffled;
    }
    let sorts = matches!(raw.r#type, Some(TaskType::AlphabetSort) | None);
    let python = sorts && matches!(raw.episodes, Generator::Python);
    let listed = python || matches!(raw.r#type, Some(TaskType::Gsm8k | TaskType::Math | TaskType::Program));
    match raw.order {
        Asked::Shuffled => Order::Shuffled,
        Asked::Rows => {
            let text = || "`task.order` = \"rows\" needs a task with a fixed list of episodes".to_owned();
            let help = "episodes that are drawn by counter have no rows: remove the key";
            rules.unless(listed, &at.keys("order"), text, help);
            Order::Rows
        }
        Asked::Recycled => {
            let text = || "`task.order` = \"recycled\" needs `task.episodes` = \"python\"".to_owned();
            let help = "it is what the original environment of alphabet-sort does; remove the key";
            rules.unless(python, &at.keys("order"), text, help);
            recycled
        }
    }
}

/// The tasks of a mixture, `arithmetic+reverse`, each with its default settings.
pub(super) fn mixed(mix: &str, rules: &mut Rules<'_>) -> Vec<TaskSpec> {
    let mut tasks: Vec<TaskSpec> = Vec::new();
    for word in mix.split('+').map(str::trim) {
        let whole = |name: &str| match keys::find(&format!("task.{name}")).and_then(keys::Key::preset) {
            Some(Value::Integer(value)) => value as u32,
            _ => 0,
        };
        let task = match word {
            "arithmetic" => {
                TaskSpec::Arithmetic(ArithmeticSpec { digits: whole("digits"), terms: whole("terms") })
            }
            "reverse" => TaskSpec::Reverse(ReverseSpec { length: whole("length") }),
            "countdown" => {
                TaskSpec::Countdown(CountdownSpec { numbers: whole("numbers"), largest: whole("largest") })
            }
            _ => {
                let text = format!("`model.pretrain.mix` names \"{word}\", which cannot be mixed");
                let help = "it joins `arithmetic`, `reverse` and `countdown`, such as \"arithmetic+reverse\"";
                rules.broken(&["model.pretrain.mix"], text, help);
                continue;
            }
        };
        if tasks.contains(&task) {
            let text = format!("`model.pretrain.mix` names \"{word}\" twice");
            rules.broken(&["model.pretrain.mix"], text, "every task has the same share: name it once");
        } else {
            tasks.push(task);
        }
    }
    tasks
}

fn program(raw: RawTask, at: At<'_>, order: Order, rules: &mut Rules<'_>) -> TaskSpec {
    let help = "name the file that speaks the protocol of docs/protocol.md, such as \"my_task.py\"";
    let Some(path) = raw.program else {
        let keys = [at.keys("type")[0], "task.type"];
        rules.broken(&keys, "`task.program` is missing".into(), help);
        return TaskSpec::Reverse(ReverseSpec { length: 1 });
    };
    let digest = digest(&path, "program", help, at, rules);
    let text = || "`task.command` does not start `{program}`".to_owned();
    let help = "`{program}` stands for the path of `task.program`, such as \"python3 {program}\"";
    rules.unless(raw.command.contains("{program}"), &at.keys("command"), text, help);
    TaskSpec::Program(ProgramSpec {
        path: path.into(),
        digest,
        command: raw.command,
        max_turns: raw.max_turns,
        order,
    })
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

fn questions(raw: RawTask, at: At<'_>, order: Order, rules: &mut Rules<'_>) -> QuestionSpec {
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
    QuestionSpec {
        data,
        question: raw.question_column,
        answer: raw.answer_column,
        system_prompt: raw.system_prompt,
        order,
    }
}

fn alphabet_sort(raw: RawTask, at: At<'_>, order: Order, rules: &mut Rules<'_>) -> TaskSpec {
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
    if names != NamesSpec::Shipped && matches!(raw.episodes, Generator::Python) {
        let text = || "`task.row_names` = \"sample\" does not go with `task.episodes` = \"python\"".to_owned();
        let help = "the original environment takes the first names of a row: remove the key";
        rules.unless(raw.row_names == RowNames::First, &at.keys("row_names"), text, help);
    }
    if names == NamesSpec::Shipped && matches!(raw.episodes, Generator::Python) {
        let text = "`task.episodes` = \"python\" needs rows of names".to_owned();
        let help = "the original environment walks the rows of a dataset: set `task.names` or `task.dataset`";
        rules.broken(&at.keys("episodes"), text, help);
    }
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
            Generator::Python => Episodes::Python { seed: raw.seed, order },
        },
        prompts,
    })
}
