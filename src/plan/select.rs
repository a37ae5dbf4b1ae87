//! Which runs a selector means, and whether the figures and claims of a manifest can be had from its runs.

use serde_json::Value;

use super::identity::settings;
use super::run_spec::RunSpec;
use super::testable;
use crate::manifest::{
    Claim, FigureKind, Issue, Manifest, Measure, Selector, Source, Span, counted, grouped, short_number,
};

/// Whether a run's settings, as [`settings`] lists them, have everything that a selector wants.
pub fn matches(selector: &Selector, settings: &[(String, Value)]) -> bool {
    selector.wanted.iter().all(|(key, wanted, _)| match wanted.json() {
        // A list is one setting an item.
        Value::Array(items) => items
            .iter()
            .enumerate()
            .all(|(index, item)| has(settings, &format!("{}.{index}", key.path), item)),
        wanted => has(settings, key.path, &wanted),
    })
}

fn has(settings: &[(String, Value)], key: &str, wanted: &Value) -> bool {
    settings.iter().any(|(known, value)| {
        known == key
            && match (value.as_f64(), wanted.as_f64()) {
                // Seeds are larger than a float is exact.
                _ if value.is_u64() && wanted.is_u64() => value == wanted,
                (Some(left), Some(right)) => left == right,
                _ => value == wanted,
            }
    })
}

/// Whether a selector means a run.
pub fn selects(selector: &Selector, run: &RunSpec) -> bool {
    matches(selector, &settings(&run.config))
}

/// What is wrong with the figures and claims of a manifest, given its runs: selectors that mean no run, steps at which
/// nothing is evaluated.
pub(super) fn check(manifest: &Manifest, runs: &[RunSpec]) -> Vec<Issue> {
    if manifest.figures.is_empty() && manifest.claims.is_empty() {
        return Vec::new();
    }
    let selectors = manifest.figures.iter().flat_map(|figure| &figure.runs);
    let selectors = selectors.chain(manifest.claims.iter().flat_map(|claim| claim.test.selectors()));
    if let Some(first) =
        selectors.clone().next().filter(|_| selectors.clone().count() * runs.len() > MOST_PAIRS)
    {
        let (selectors, runs) = (selectors.count() as u128, runs.len() as u128);
        let text = format!("{} stand against {}", counted(selectors, "selector"), counted(runs, "run"));
        let help = format!("together they make at most {} pairs: use fewer", grouped(MOST_PAIRS as u128));
        return vec![Issue::new(&first.source, &first.span, text).help(help)];
    }
    // Of many runs, what no selector asks for would fill the memory.
    let asked = selectors.flat_map(|selector| &selector.wanted).map(|(key, _, _)| key.path);
    let asked = asked.collect::<std::collections::BTreeSet<_>>();
    let is_asked = |path: &str| {
        asked.contains(path) || path.rsplit_once('.').is_some_and(|(list, _)| asked.contains(list))
    };
    let of_run = |run: &RunSpec| {
        settings(&run.config).into_iter().filter(|(path, _)| is_asked(path)).collect::<Vec<_>>()
    };
    let known = runs.iter().map(of_run).collect::<Vec<_>>();
    let mut issues = Vec::new();
    let mut chosen = |selectors: &[&Selector]| -> Vec<usize> {
        let mut all = Vec::new();
        for selector in selectors {
            let before = all.len();
            all.extend((0..runs.len()).filter(|&run| matches(selector, &known[run])));
            if all.len() == before {
                let text = format!("the selector {selector} matches no run");
                let help = reasons(selector, &known);
                issues.push(Issue::new(&selector.source, &selector.span, text).help(help));
            }
        }
        all
    };
    let (mut measured, mut undecided) = (Vec::new(), Vec::new());
    for figure in &manifest.figures {
        let selectors = figure.runs.iter().collect::<Vec<_>>();
        let of = if selectors.is_empty() { (0..runs.len()).collect() } else { chosen(&selectors) };
        let shown = of.iter().map(|run: &usize| &runs[*run]).collect::<Vec<_>>();
        if !shown.is_empty() {
            undecided.extend(testable::figure(figure, &shown));
        }
        if figure.kind != FigureKind::Jaccard {
            measured.push((&figure.measure, of, &figure.source, &figure.span));
        }
    }
    for claim in &manifest.claims {
        let Claim { test, text, span, .. } = claim;
        let of = chosen(&test.selectors());
        let meant = |selector: &Selector| {
            (0..runs.len()).filter(|&run| matches(selector, &known[run])).collect::<Vec<_>>()
        };
        // A selector that means nothing is said already.
        if test.selectors().iter().all(|selector| !meant(selector).is_empty()) {
            undecided.extend(testable::claim(claim, meant, runs));
        }
        if let Some(measure) = test.measure() {
            measured.push((measure, of, text, span));
        }
    }
    issues.extend(undecided);
    issues.extend(measured.iter().filter_map(|(measure, of, source, span)| {
        let run = of.iter().map(|&run| &runs[run]).find(|run| !is_measured(measure, run))?;
        Some(unmeasured(measure, run, source, span))
    }));
    issues
}

/// The most pairs of a selector and a run that are looked at.
const MOST_PAIRS: usize = 10_000_000;

/// Why a selector means nothing: the first of its keys that no run has, or that has other values.
fn reasons(selector: &Selector, known: &[Vec<(String, Value)>]) -> String {
    let mut reasons = Vec::new();
    for (key, wanted, _) in &selector.wanted {
        let one = |known: &Vec<(String, Value)>| {
            let alone = Selector { wanted: vec![(*key, wanted.clone(), 0..0)], ..selector.clone() };
            matches(&alone, known)
        };
        if known.iter().any(one) {
            continue;
        }
        // As in every other message: 1e-3, not 0.001.
        let spelled = |value: &Value| match value.as_f64().filter(|_| value.is_f64()) {
            Some(number) => short_number(number),
            None => value.to_string(),
        };
        let mut values =
            known.iter().flatten().filter(|(path, _)| path == key.path).map(|(_, value)| spelled(value));
        let mut seen: Vec<String> = Vec::new();
        while let Some(value) = values.next().filter(|_| seen.len() < 20) {
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        reasons.push(match seen.as_slice() {
            [] => format!("no run has `{}`", key.path),
            seen => format!("`{}` is {}", key.path, seen.join(", ")),
        });
    }
    if reasons.is_empty() { "no run has all of these values at once".into() } else { reasons.join("; ") }
}

/// Whether a run has a row for a measure: a step of its training, or one at which it is evaluated.
fn is_measured(measure: &Measure, run: &RunSpec) -> bool {
    let steps = run.config.grpo.steps;
    if !measure.metric.starts_with(EVAL) {
        return measure.at_step.is_none_or(|step| (1..=steps).contains(&step));
    }
    let Some(every) = pace(measure, run) else { return false };
    measure.at_step.is_none_or(|step| step == steps || (step < steps && step.is_multiple_of(every)))
}

/// What the columns of evaluations begin with: `eval/score`, and `eval/NAME/score` of named ones.
const EVAL: &str = "eval/";

/// How often the evaluation of a metric is made; `None` when the run has no such evaluation.
fn pace(measure: &Measure, run: &RunSpec) -> Option<u32> {
    let column = measure.metric.strip_prefix(EVAL)?;
    if run.config.evals.is_empty() {
        let plain = !column.contains('/') || column.starts_with("rewards/");
        return plain.then_some(run.config.eval.every);
    }
    let (name, _) = column.split_once('/')?;
    run.config.evals.iter().find(|named| named.name == name).map(|named| named.eval.every)
}

/// The issue of a figure or claim at `span` that wants what a run does not measure.
fn unmeasured(measure: &Measure, run: &RunSpec, source: &std::sync::Arc<Source>, span: &Span) -> Issue {
    let (steps, metric, label) = (run.config.grpo.steps, &measure.metric, &run.label);
    let evals = &run.config.evals;
    let pace = pace(measure, run);
    if pace.is_none() && metric.starts_with(EVAL) {
        let names = evals.iter().map(|named| format!("eval/{}/score", named.name)).collect::<Vec<_>>();
        let known = if names.is_empty() { "eval/score".to_owned() } else { names.join(", ") };
        let text = format!("no evaluation of run {label} gives `metric` = \"{metric}\"");
        let at = measure.metric_span.as_ref().unwrap_or(span);
        return Issue::new(source, at, text).help(format!("it has {known}"));
    }
    let step = measure.at_step.unwrap_or_default();
    let text = format!("`at_step` = {step}, but run {label} has no `{metric}` at that step");
    let help = match pace {
        Some(every) => {
            let below = if step >= steps { steps } else { step - step % every };
            let above = below.saturating_add(every).min(steps);
            let near = if below == above { below.to_string() } else { format!("{below} or {above}") };
            format!(
                "it has {steps} steps and is evaluated every {every}, at step 0 and at the last: nearest is {near}"
            )
        }
        None => format!("its steps are 1 to {steps}"),
    };
    Issue::new(source, measure.step_span.as_ref().unwrap_or(span), text).help(help)
}
