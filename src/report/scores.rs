//! The scores that masks were chosen by: how they came about, and how far two halves of their data agree.
//!
//! In: what the record of a scores artifact says, and the runs that use it. Out: `scores.csv` and `stability.csv`, and what
//! the page says. Invariant: nothing is computed from the scores themselves, and what a record does not say is said to be
//! unknown, not left out.

use serde_json::{Value, json};

use super::collect::stored;
use super::error::ReportError;
use super::long;
use super::put;
use super::result::{ResultSet, Row, number};
use super::series::{percent, plain, trimmed};
use super::table::TextTable;
use crate::plan::{Plan, settings};
use crate::sparsity::Overlap;
use crate::store::{Stage, Store};

const SCORES: &str = "scores.csv";
const STABILITY: &str = "stability.csv";

/// The column that says whose a row is.
const KEY: &str = "scores";

/// What a record says, in the order of the columns. `halves` is how many episodes each half has.
const FACTS: [&str; 11] = [
    "estimator",
    "measure",
    "formula",
    "episodes",
    "max_tokens",
    "halves",
    "seed",
    "base",
    "dtype",
    "loss",
    "parameters",
];

/// The order of the columns of `stability.csv`.
const OVERLAP: [&str; 6] = ["density", "kept", "intersection", "union", "jaccard", "chance"];

/// What the section is about.
pub const LEAD: &str = "What the entries of the masks were chosen by. Scores are made once and serve every sparsity and run \
                        that asks for the same ones.";

/// What the table of halves shows.
pub const STABILITY_NOTE: &str = "Two disjoint halves of the episodes give two sets of scores; the masks that they choose at \
                                  a density are compared. At chance the choice is noise, at 1 it does not depend on the \
                                  episodes. Entries of equal score are chosen in the order of the tensors, so scores that \
                                  are mostly 0 look stable. z: the common entries' distance from their mean by chance, in standard deviations.";

/// The scores of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoresRecord {
    /// The stage's identity, 64 hex digits.
    pub id: String,
    /// What is known of them: [`FACTS`], and the runs and sparsities that use them. What is not known is absent.
    pub facts: Row,
    /// How the masks of two halves overlap, a row a density: density, kept, intersection, union, jaccard, chance.
    pub stability: Vec<Row>,
}

impl ScoresRecord {
    /// The first 12 digits of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// All rows, to be made normal.
    pub fn rows(&mut self) -> impl Iterator<Item = &mut Row> {
        std::iter::once(&mut self.facts).chain(&mut self.stability)
    }

    fn said(&self, key: &str) -> Option<String> {
        self.facts.get(key).map(plain)
    }

    /// A readable name, for example `batch 51c3ee0e0bb1`.
    pub fn name(&self) -> String {
        let estimator = self.said("estimator").map_or_else(String::new, |word| format!("{word} "));
        format!("{estimator}{}", self.short())
    }

    fn of(id: &str, meta: &Value) -> Self {
        let mut facts = Row::new();
        for key in FACTS.iter().filter(|key| **key != "halves") {
            facts.insert((*key).to_owned(), meta.get(key).cloned().unwrap_or_default());
        }
        let halves = meta.get("halves");
        let of_halves = |key: &str| halves.and_then(|halves| halves.get(key)).cloned().unwrap_or_default();
        facts.insert("halves".to_owned(), of_halves("episodes"));
        let Value::Array(rows) = of_halves("overlaps") else {
            return Self { id: id.to_owned(), facts, stability: Vec::new() };
        };
        let object = |row| if let Value::Object(row) = row { Some(row) } else { None };
        Self { id: id.to_owned(), facts, stability: rows.into_iter().filter_map(object).collect() }
    }
}

/// The distinct scores of the plan that the store has, in plan order.
pub fn collect(plan: &Plan, store: &Store) -> Result<Vec<ScoresRecord>, ReportError> {
    let mut records: Vec<ScoresRecord> = Vec::new();
    for run in &plan.runs {
        let Some(id) = run.stages.scores.as_deref() else { continue };
        if records.iter().any(|record| record.id == id) {
            continue;
        }
        let Some(artifact) = store.artifact(Stage::Scores, id).map_err(stored)? else { continue };
        let mut record = ScoresRecord::of(id, artifact.meta());
        let users = || plan.runs.iter().filter(|run| run.stages.scores.as_deref() == Some(id));
        let mut sparsities: Vec<Value> = Vec::new();
        for user in users() {
            let settings = settings(&user.config);
            let sparsity = settings.into_iter().find(|(key, _)| key == "mask.sparsity");
            sparsities.extend(sparsity.map(|(_, value)| value).filter(|value| !sparsities.contains(value)));
        }
        record.facts.insert("runs".to_owned(), users().count().into());
        record.facts.insert("sparsities".to_owned(), json!(sparsities));
        records.push(record);
    }
    Ok(records)
}

/// The files, where there are scores.
pub fn files(set: &ResultSet) -> Vec<(String, Vec<u8>)> {
    let facts: Vec<(&str, &Row)> =
        set.scores.iter().map(|record| (record.id.as_str(), &record.facts)).collect();
    let overlaps: Vec<(&str, &Row)> = set
        .scores
        .iter()
        .flat_map(|record| record.stability.iter().map(|row| (record.id.as_str(), row)))
        .collect();
    let mut files = Vec::new();
    if !facts.is_empty() {
        let columns = [&FACTS[..], &["runs", "sparsities"]].concat();
        files.push((SCORES.to_owned(), long::write_table(KEY, &columns, &facts)));
        files.push((STABILITY.to_owned(), long::write_table(KEY, &OVERLAP, &overlaps)));
    }
    files
}

/// Reads the files back that [`files`] made of `count` scores.
pub fn read(
    count: u64,
    text: impl Fn(&'static str) -> Result<String, ReportError>,
) -> Result<Vec<ScoresRecord>, ReportError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let malformed = |file, what: String| ReportError::Malformed { file, line: 0, what };
    let mut records: Vec<ScoresRecord> = long::read_table(SCORES, KEY, &text(SCORES)?)?
        .into_iter()
        .map(|(id, facts)| ScoresRecord { id, facts, stability: Vec::new() })
        .collect();
    if records.len() as u64 != count {
        let what = format!("it has {} rows, runs.json counts {count}", records.len());
        return Err(malformed(SCORES, what));
    }
    for (id, row) in long::read_table(STABILITY, KEY, &text(STABILITY)?)? {
        let record = records.iter_mut().find(|record| record.id == id);
        let what = || format!("the scores `{id}` are not in {SCORES}");
        record.ok_or_else(|| malformed(STABILITY, what()))?.stability.push(row);
    }
    Ok(records)
}

/// A row for each of the scores.
pub fn table(set: &ResultSet) -> TextTable {
    let header = ["scores", "estimator", "measure", "episodes", "dtype", "base", "runs", "sparsities"];
    let rows = set.scores.iter().map(|record| {
        let said = |key: &str| record.said(key).unwrap_or_default();
        let sparsities = record.facts.get("sparsities").and_then(Value::as_array);
        let shares = sparsities.into_iter().flatten().filter_map(Value::as_f64).map(percent);
        vec![
            record.short().to_owned(),
            said("estimator"),
            said("measure"),
            said("episodes"),
            said("dtype"),
            said("base").chars().take(12).collect(),
            said("runs"),
            shares.collect::<Vec<_>>().join(", "),
        ]
    });
    TextTable {
        header: header.map(str::to_owned).to_vec(),
        numeric: [false, false, false, true, false, false, true, false].to_vec(),
        rows: rows.collect(),
    }
}

/// What a reader is told of some scores.
pub struct Fact {
    /// The scores, in short.
    pub id: String,
    /// What is told.
    pub text: String,
}

/// How each of the scores came about, and whether their stability is known.
pub fn facts(set: &ResultSet) -> Vec<Fact> {
    let told = set.scores.iter().map(|record| {
        let mut text = match record.said("formula") {
            Some(formula) => format!("{}.", formula.trim_end_matches('.')),
            None => "The formula is not recorded.".to_owned(),
        };
        if let Some(loss) = record.facts.get("loss") {
            let parts = loss
                .as_object()
                .map(|loss| loss.iter().map(|(key, value)| format!("{key} {}", plain(value))));
            let loss = parts.map_or_else(|| plain(loss), |parts| parts.collect::<Vec<_>>().join(", "));
            put(&mut text, format_args!(" Loss: {loss}."));
        }
        for (key, name) in [("max_tokens", "Answers of at most"), ("seed", "Seed")] {
            let unit = if key == "seed" { "" } else { " tokens" };
            if let Some(value) = record.said(key) {
                put(&mut text, format_args!(" {name} {value}{unit}."));
            }
        }
        let halves = record.facts.get("halves").and_then(Value::as_array).map(Vec::as_slice);
        match halves {
            Some([a, b]) if !record.stability.is_empty() => {
                put(&mut text, format_args!(" Stability: halves of {} and {} episodes.", plain(a), plain(b)));
            }
            _ if !record.stability.is_empty() => text.push_str(" Stability: two halves of the episodes."),
            _ if record.facts.contains_key("measure") => {
                text.push_str(" Stability: not known, their data have no two halves.");
            }
            _ => text.push_str(" Stability: not known, they were made before halves were compared."),
        }
        Fact { id: record.short().to_owned(), text }
    });
    told.collect()
}

/// A row for each of the scores and each density.
pub fn stability(set: &ResultSet) -> TextTable {
    let header = ["scores", "density", "entries", "common", "Jaccard", "chance", "× chance", "z"];
    let mut rows = Vec::new();
    for record in &set.scores {
        let total = record.facts.get("parameters").and_then(Value::as_u64);
        for row in &record.stability {
            let count = |key: &str| row.get(key).map(plain).unwrap_or_default();
            let share = |key: &str| number(row, key);
            let whole = |key: &str| row.get(key).and_then(Value::as_u64);
            let overlap = whole("kept").zip(whole("intersection")).zip(total);
            let z =
                overlap.and_then(|((kept, common), total)| Overlap::of_counts(kept, kept, common, total).z());
            let ratio = share("jaccard").zip(share("chance").filter(|chance| *chance > 0.0));
            rows.push(vec![
                record.name(),
                share("density").map(percent).unwrap_or_default(),
                count("kept"),
                count("intersection"),
                share("jaccard").map(|jaccard| format!("{jaccard:.4}")).unwrap_or_default(),
                share("chance").map(|chance| format!("{chance:.6}")).unwrap_or_default(),
                ratio.map(|(jaccard, chance)| trimmed(jaccard / chance, 1)).unwrap_or_default(),
                z.map(|z| format!("{z:+.1}")).unwrap_or_default(),
            ]);
        }
    }
    let numeric = [false, true, true, true, true, true, true, true].to_vec();
    TextTable { header: header.map(str::to_owned).to_vec(), numeric, rows }
}
