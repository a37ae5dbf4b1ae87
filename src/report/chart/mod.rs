//! The figures of a report.
//!
//! In: a [`ResultSet`]. Out: pictures with captions, in a fixed order. Invariant: a figure without data is left out,
//! never drawn empty; what a caption counts is what was drawn.

pub mod draw;
pub mod font;
pub mod scale;
pub mod theme;

mod changed;
mod curves;
mod jaccard;
mod lr_sweep;
mod png;
mod stability;

use super::classes;
use super::put;
use super::result::{ResultSet, RunResult, State, number};
use super::series;
use super::view;
use curves::Curves;
use draw::Drawing;

/// A picture with its place and its caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The file's name without extension.
    pub name: String,
    /// What is shown and from how many runs.
    pub caption: String,
    /// The picture.
    pub drawing: Drawing,
}

/// Every figure that the results have data for.
pub fn figures(set: &ResultSet) -> Vec<Figure> {
    let families = series::families(set);
    let looks = theme::looks(&families);
    let window = curves::window(set);
    let reference = curves::reference_note(set, &families);
    let encoding = curves::encoding_note(set, &families);
    let smooth = if window > 1 { format!(" Moving average over {window} steps.") } else { String::new() };
    let mut figures = Vec::new();
    for view in view::all(set) {
        of_evaluation(&view, &mut figures);
    }
    let mut add = |name: &str, drawing: Option<Drawing>, caption: String| {
        if let Some(drawing) = drawing {
            figures.push(Figure { name: name.to_owned(), caption, drawing });
        }
    };
    let with = |column: &str| {
        set.runs.iter().filter(|run| run.metrics.iter().any(|row| number(row, column).is_some())).count()
    };
    add(
        "jaccard",
        jaccard::draw(set),
        format!(
            "Jaccard index |A ∩ B| / |A ∪ B| of every pair of distinct masks ({}). {}",
            plural(set.overlaps.len(), "pair"),
            jaccard::subtitle(set)
        ),
    );
    let halved = set.scores.iter().filter(|scores| !scores.stability.is_empty()).count();
    add(
        "stability",
        stability::draw(set),
        format!(
            "How far the masks of two disjoint halves of the episodes agree, by density, for {}. Dashed: chance.",
            if halved == 1 { "one set of scores".to_owned() } else { format!("{halved} sets of scores") }
        ),
    );
    let reward = Curves {
        title: "Training reward",
        y_title: "mean reward",
        subtitle: format!("Mean reward of the rollouts of a step.{smooth}{reference}{encoding}"),
        column: "reward/mean",
        evals: false,
        window,
        base: false,
        dots: false,
    };
    add(
        "training_reward",
        reward.draw(set, &families, &looks),
        format!(
            "Mean reward of the training rollouts by step; {}.{smooth}",
            runs(with("reward/mean"), set.runs.len())
        ),
    );
    let entropy = Curves {
        title: "Entropy of the policy",
        y_title: "nats per token",
        subtitle: format!("Mean entropy of the sampled tokens' distributions.{smooth}{reference}{encoding}"),
        column: "entropy",
        evals: false,
        window,
        base: false,
        dots: false,
    };
    add(
        "update_sparsity",
        changed::draw(set, &families, &looks),
        format!(
            "Share of all entries that differ from the base model, exactly, after rounding both to bfloat16, and by \
             more than 1e-5; {}.",
            runs(with("update/changed_fp32"), set.runs.len())
        ),
    );
    add(
        "entropy",
        entropy.draw(set, &families, &looks),
        format!("Entropy by step; {}.{smooth}", runs(with("entropy"), set.runs.len())),
    );
    let mixed = classes::caption(set);
    for figure in &mut figures {
        let failed =
            set.runs.iter().filter(|run| run.state == State::Failed).map(|run: &RunResult| &run.label);
        let failed: Vec<&str> = failed.map(String::as_str).collect();
        if !failed.is_empty() && !["jaccard", "stability"].contains(&figure.name.as_str()) {
            put(&mut figure.caption, format_args!(" A cross marks a failed run ({}).", failed.join(", ")));
        }
        figure.caption.push_str(&mixed);
    }
    figures
}

/// The figures of one evaluation.
fn of_evaluation(view: &view::View<'_>, figures: &mut Vec<Figure>) {
    let set = view.set.as_ref();
    let (suffix, heading) = (view.suffix(), view.heading());
    let families = series::families(set);
    let looks = theme::looks(&families);
    let base = series::base_score(set);
    let reference = curves::reference_note(set, &families);
    let encoding = curves::encoding_note(set, &families);
    let of = view.name.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
    let episodes = match series::eval_examples(set) {
        Some(count) => format!("{count} held-out episodes{of}"),
        None => format!("the held-out episodes{of}"),
    };
    let dashed = base.map_or_else(
        || " Dashed: the base model.".to_owned(),
        |base| format!(" Dashed: base model, {}.", scale::short(base)),
    );
    let noise = series::eval_stderr(set).map_or_else(String::new, |stderr| {
        format!(" Standard error of one evaluation: {}.", scale::short(stderr))
    });
    let learning = Curves {
        title: &format!("Held-out score during training{heading}"),
        y_title: "mean score",
        subtitle: format!("Mean score on {episodes}.{noise}{dashed}{reference}{encoding}"),
        column: "eval/score",
        evals: true,
        window: 1,
        base: true,
        dots: true,
    };
    let evaluated =
        set.runs.iter().filter(|run| run.evals.iter().any(|row| number(row, "eval/score").is_some()));
    if let Some(drawing) = learning.draw(set, &families, &looks) {
        let caption = format!(
            "Score on {episodes} by training step, one panel per mask; {}.",
            runs(evaluated.count(), set.runs.len())
        );
        figures.push(Figure { name: format!("learning_curves{suffix}"), caption, drawing });
    }
    let scored = set.runs.iter().filter(|run| run.final_score().is_some()).count();
    if let Some(drawing) = lr_sweep::draw(set, &families, &looks, &heading) {
        let caption = format!(
            "Score of the last evaluation{of} against the learning rate, for {}. Unfinished runs have no final score.",
            runs(scored, set.runs.len())
        );
        figures.push(Figure { name: format!("lr_sweep{suffix}"), caption, drawing });
    }
}

fn runs(shown: usize, of: usize) -> String {
    if shown == of { plural(of, "run") } else { format!("{shown} of {}", plural(of, "run")) }
}

/// `1 run`, `2 runs`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
