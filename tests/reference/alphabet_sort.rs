//! The fixture of tests/oracles/alphabet_sort_cases.py, and tasks as it describes them.

use serde::Deserialize;
use tickets::task::{
    AlphabetSortSpec, Episode, Episodes, NameSource, NamesSpec, Order, PromptTemplates, RowNames, SortBy,
    Task, TaskSpec,
};

/// Fewest and most turns, fewest and most names of a turn.
pub type Settings = [u32; 4];

/// A turn: the names shown, the lines of the example, the line above which they are new, and the right order.
pub type Asked = (Vec<usize>, usize, usize, Vec<usize>);

/// Row, word of the key, turns.
pub type Listed = (usize, String, Vec<Asked>);

#[derive(Deserialize)]
pub struct Fixture {
    pub pythons: Vec<String>,
    pub parts: Parts,
    pub rows: Vec<Vec<String>>,
    pub episodes: Vec<EpisodesCase>,
    pub lines: Vec<Vec<Vec<String>>>,
    pub recycled: Vec<(Settings, u64, u64, Vec<u64>)>,
    pub rewards: Vec<RewardsCase>,
    pub powers: Vec<(String, u32, String)>,
    pub counts: Counts,
}

/// What completions are made of.
#[derive(Deserialize)]
pub struct Parts {
    pub wraps: Vec<String>,
    pub between: Vec<String>,
    pub around: Vec<String>,
    pub talk: Vec<String>,
    pub noise: Vec<char>,
}

#[derive(Deserialize)]
pub struct EpisodesCase {
    pub settings: Settings,
    pub seed: u64,
    pub list: Vec<Listed>,
}

#[derive(Deserialize)]
pub struct RewardsCase {
    pub settings: Settings,
    pub seed: u64,
    pub lines: Vec<String>,
}

#[derive(Deserialize)]
pub struct Counts {
    pub transcripts: usize,
    pub turns: usize,
    pub zero: usize,
    pub one: usize,
    pub between: usize,
    pub long: usize,
    pub autojunk: usize,
    pub unicode: usize,
    pub better: usize,
    pub nested: usize,
    pub unanswered: usize,
    pub sum: usize,
}

pub fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../oracles/alphabet_sort_cases.json")).unwrap()
}

impl Fixture {
    pub fn against(&self, what: &str) -> String {
        format!("{what} of CPython {}", self.pythons.join(", "))
    }

    /// The task on the fixture's rows. Its prompts are the key, the names and the lines of the example, which are `n` for new
    /// ones and `o` for others.
    pub fn task(&self, settings: Settings, seed: u64, order: Order) -> Task {
        let [min_turns, max_turns, min_names_per_turn, max_names_per_turn] = settings;
        let template = "{{ key }}|{{ names | join('|') }}|{% for slot in slots %}{{ 'n' if slot.new else 'o' }}{% endfor %}";
        let spec = AlphabetSortSpec {
            min_turns,
            max_turns,
            min_names_per_turn,
            max_names_per_turn,
            sort_by: SortBy::Either,
            similarity_power: 4,
            power_per_turn: true,
            names: NamesSpec::Shipped,
            row_names: RowNames::First,
            episodes: Episodes::Python { seed, order },
            prompts: PromptTemplates {
                first: template.into(),
                second: template.into(),
                later: template.into(),
            },
        };
        Task::new(&TaskSpec::AlphabetSort(spec), NameSource::Rows(self.rows.clone())).unwrap()
    }

    /// All training episodes in the order of the rows.
    pub fn list(&self, settings: Settings, seed: u64) -> Vec<Episode> {
        let task = self.task(settings, seed, Order::Rows);
        let count = task.count(0, "train").unwrap().unwrap();
        task.train(0, 0..count).unwrap()
    }
}
