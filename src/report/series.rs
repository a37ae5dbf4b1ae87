//! Runs grouped the way that tables and charts show them: families of masks, learning rates within a family.
//!
//! In: a [`ResultSet`]. Out: indices into its runs, names, summaries. Invariant: plan order throughout, and every run
//! is in exactly one family, and no family has finished runs of two classes unless they are to be mixed.

use serde_json::Value;

use super::classes;
use super::put;
use super::result::{ResultSet, RunResult, number};
use crate::stats;

/// Keys that do not make a family of their own: they are shown within one, or averaged over.
const WITHIN: [&str; 6] = ["mask.type", "mask.sparsity", "mask.seed", "seed", "eval.seed", "optimizer.lr"];

/// Runs of one mask type and sparsity (and of one value of every other setting that varies), and of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// For example `random 99 %`.
    pub name: String,
    /// The mask type.
    pub kind: String,
    /// What the name says of its class, such as ` [class 3fa91c02]`; empty where classes are not told apart.
    pub class: String,
    /// Indices into the runs.
    pub runs: Vec<usize>,
}

/// The runs of a family at one learning rate: replicates that differ by seeds alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The learning rate, where the results state one.
    pub lr: Option<f64>,
    /// Indices into the runs.
    pub runs: Vec<usize>,
}

/// The learning rate of a family with the highest mean final score.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The learning rate.
    pub lr: Option<f64>,
    /// Mean final score of the finished runs there.
    pub score: f64,
    /// Its standard error: over the runs when there are several, else that of the evaluation.
    pub stderr: Option<f64>,
    /// How many runs the mean is of.
    pub runs: usize,
    /// The learning rates of the family with at least one finished run.
    pub tried: usize,
}

/// All families, in plan order.
pub fn families(set: &ResultSet) -> Vec<Family> {
    let stem = |run: &RunResult| -> (String, String) {
        let kind = run.axis("mask.type").map_or_else(|| "all runs".to_owned(), plain);
        let name = match run.axis("mask.sparsity").and_then(Value::as_f64) {
            Some(sparsity) => format!("{kind} {}", percent(sparsity)),
            None => kind.clone(),
        };
        (kind, name)
    };
    // A further setting is part of the name where it varies among runs of the same mask type and sparsity.
    let stems: Vec<(String, String)> = set.runs.iter().map(stem).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in set.runs.iter().flat_map(|run| &run.axes) {
        if !WITHIN.contains(&key.as_str()) && !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let varies = |key: &str, name: &str| {
        let mut values =
            set.runs.iter().zip(&stems).filter(|(_, (_, other))| other == name).map(|(run, _)| run.axis(key));
        let first = values.next().flatten();
        values.any(|value| value != first)
    };
    let classes = classes::suffixes(set);
    let mut families: Vec<Family> = Vec::new();
    for (index, (run, (kind, stem))) in set.runs.iter().zip(&stems).enumerate() {
        let mut name = stem.clone();
        for key in keys.iter().filter(|key| varies(key, stem)) {
            let short = key.rsplit('.').next().unwrap_or(key);
            put(&mut name, format_args!(", {short} {}", run.axis(key).map_or_else(|| "-".to_owned(), plain)));
        }
        let class = &classes[index];
        name.push_str(class);
        if let Some(family) = families.iter_mut().find(|family| family.name == name) {
            family.runs.push(index);
        } else {
            let (kind, class) = (kind.clone(), class.clone());
            families.push(Family { name, kind, class, runs: vec![index] });
        }
    }
    families
}

impl Family {
    /// Whether its runs may be averaged over. Where classes are told apart, those of unfinished runs are not known.
    pub fn is_averaged(&self) -> bool {
        self.class != classes::UNFINISHED
    }

    /// The score of the family's base model.
    pub fn base(&self, set: &ResultSet) -> Option<f64> {
        let runs = self.runs.iter().map(|&index| &set.runs[index]);
        if self.is_averaged() { mean_base(runs) } else { common_base(runs) }
    }

    /// The learning rates, ascending, with their runs.
    pub fn cells(&self, set: &ResultSet) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for &index in &self.runs {
            let lr = set.runs[index].lr();
            match cells.iter_mut().find(|cell| cell.lr == lr) {
                Some(cell) => cell.runs.push(index),
                None => cells.push(Cell { lr, runs: vec![index] }),
            }
        }
        cells.sort_by(|a, b| a.lr.unwrap_or(f64::NEG_INFINITY).total_cmp(&b.lr.unwrap_or(f64::NEG_INFINITY)));
        cells
    }

    /// The best learning rate among finished runs; the lower one of equals.
    pub fn best(&self, set: &ResultSet) -> Option<Best> {
        let scored: Vec<(Cell, Vec<f64>)> = self
            .cells(set)
            .into_iter()
            .map(|cell| {
                let scores = cell.runs.iter().filter_map(|&index| set.runs[index].final_score()).collect();
                (cell, scores)
            })
            .filter(|(_, scores): &(Cell, Vec<f64>)| !scores.is_empty())
            .collect();
        let tried = scored.len();
        let mut best: Option<Best> = None;
        for (cell, scores) in scored {
            let score = stats::mean(&scores)?;
            if best.as_ref().is_some_and(|best| best.score >= score) {
                continue;
            }
            let single = || cell.runs.iter().find_map(|&index| set.runs[index].final_stderr());
            let stderr = stats::standard_error(&scores).or_else(single);
            best = Some(Best { lr: cell.lr, score, stderr, runs: scores.len(), tried });
        }
        best
    }
}

/// The base model's score, when all runs start from the same base and are evaluated alike: the mean over the runs that
/// evaluated it (their values differ by what the device does to the last bits, if at all). Over several classes there is
/// one only where all of them found the same.
pub fn base_score(set: &ResultSet) -> Option<f64> {
    let first = base_settings(set.runs.first()?);
    if set.runs.iter().any(|run| base_settings(run) != first) {
        return None;
    }
    if set.several_classes() && set.mixed_classes().is_none() {
        return common_base(set.runs.iter());
    }
    mean_base(set.runs.iter())
}

/// What decides the score of a base model.
fn base_settings(run: &RunResult) -> Vec<&(String, Value)> {
    let tables = ["model.", "task.", "eval."];
    run.config.iter().filter(|(key, _)| tables.iter().any(|table| key.starts_with(table))).collect()
}

fn mean_base<'r>(runs: impl Iterator<Item = &'r RunResult>) -> Option<f64> {
    let scores: Vec<f64> = runs.filter_map(RunResult::base_score).collect();
    // The mean of equal numbers can differ from them in the last bit.
    common(&scores).or_else(|| stats::mean(&scores))
}

/// The score that all runs found.
fn common_base<'r>(runs: impl Iterator<Item = &'r RunResult>) -> Option<f64> {
    common(&runs.filter_map(RunResult::base_score).collect::<Vec<_>>())
}

fn common(scores: &[f64]) -> Option<f64> {
    let first = *scores.first()?;
    scores.iter().all(|score| score.to_bits() == first.to_bits()).then_some(first)
}

/// The number of held-out episodes, when all evaluations agree on it.
pub fn eval_examples(set: &ResultSet) -> Option<u64> {
    let rows = set.runs.iter().flat_map(|run| &run.evals);
    let mut counts = rows.filter_map(|row| number(row, "eval/examples")).map(|count| count as u64);
    let first = counts.next()?;
    counts.all(|count| count == first).then_some(first)
}

/// The typical standard error of an evaluation: the median over all of them.
pub fn eval_stderr(set: &ResultSet) -> Option<f64> {
    let rows = set.runs.iter().flat_map(|run| &run.evals);
    let mut errors: Vec<f64> = rows.filter_map(|row| number(row, "eval/stderr")).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied()
}

/// A setting's value as text: strings without quotes.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `0.99` as `99 %`, `0.9995` as `99.95 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", trimmed(share * 100.0, 6))
}

/// A number at most `digits` behind the point, without trailing zeros.
pub fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A learning rate: `1e-4`, `3e-2`, `0.25`, `1`; at most four significant digits.
pub fn rate(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return trimmed(value, 1);
    }
    if (0.1..10_000.0).contains(&value.abs()) {
        return trimmed(value, 4);
    }
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_people_write_them() {
        let written: Vec<String> =
            [1e-4, 3e-3, 5e-7, 0.01, 0.25, 1.0, 12_345.0, 0.0, 1.5e-4].map(rate).into();
        assert_eq!(written, ["1e-4", "3e-3", "5e-7", "1e-2", "0.25", "1", "1.234e4", "0", "1.5e-4"]);
    }

    #[test]
    fn shares_are_written_as_percentages() {
        assert_eq!(
            [0.99, 0.999, 0.9995, 0.5, 0.9].map(percent),
            ["99 %", "99.9 %", "99.95 %", "50 %", "90 %"]
        );
    }
}
