//! `plan --why RUN`: why a run will be executed, or which earlier result it equals, key by key.
//!
//! A result counts when its id is the run's. So for a run without one the nearest earlier runs are shown with what keeps
//! them from being it; for a run with one, every setting that the two have in common and where it was written.

use serde_json::{Map, Value, json};

use super::survey::{StateView, Survey};
use super::{counted, json as plan_json, put};
use crate::cli::{cell, short};
use crate::exit::Failure;
use crate::plan::{Difference, Plan, RunSpec, differences, settings};
use crate::store::{Store, StoreError};

/// Earlier runs that are shown beside a run that has no result.
const NEIGHBOURS: usize = 3;

/// Settings of an earlier run that are shown at most.
const MOST_DIFFERENCES: usize = 12;

/// An earlier run and what keeps it from being this one.
struct Neighbour<'s> {
    id: &'s str,
    record: &'s Map<String, Value>,
    state: &'static str,
    differences: Vec<Difference>,
    /// The stages that both have.
    same: Vec<&'static str>,
}

/// A setting of a run, and where it was written.
struct Written {
    key: String,
    value: Value,
    /// `None` for a default.
    origin: Option<String>,
}

/// Explains a run.
pub(super) fn explain(
    plan: &Plan,
    run: &RunSpec,
    survey: &Survey,
    store: &Store,
    json: bool,
) -> Result<String, Failure> {
    let index = plan.runs.iter().position(|known| known.id == run.id);
    let state = index.and_then(|index| survey.states.get(index)).cloned().unwrap_or_else(StateView::pending);
    let written = written(plan, run);
    let neighbours = if state.state == "done" { Vec::new() } else { neighbours(run, survey, store)? };
    let points = plan.merges.iter().filter(|(_, equal)| Some(*equal) == index).map(|(block, _)| *block);
    let points = points.collect::<Vec<_>>();
    Ok(if json {
        as_json(run, &state, &written, &neighbours, &points)
    } else {
        told(plan, run, survey, &state, &written, &neighbours, &points)
    })
}

/// Every setting of a run with its origin, under the keys of manifests: a pair is one key, and what is known by its digest
/// is written as a path.
fn written(plan: &Plan, run: &RunSpec) -> Vec<Written> {
    let mut written: Vec<Written> = Vec::new();
    for (key, value) in settings(&run.config) {
        if let (Some(pair), Some(last)) = (key.strip_suffix(".1"), written.last_mut())
            && last.key == pair
        {
            last.value = json!([last.value, value]);
            continue;
        }
        let plain =
            key.strip_suffix(".digest").map(|table| if table == "model" { "model.path" } else { table });
        let plain = plain.unwrap_or(&key);
        let plain = plain.strip_suffix(".0").unwrap_or(plain);
        let origin = plan.manifest.origin(plain, run.block);
        let key = if key.ends_with(".0") { plain.to_owned() } else { key };
        written.push(Written { key, value, origin });
    }
    written
}

/// The earlier runs that differ in the fewest settings, the nearest first.
fn neighbours<'s>(run: &RunSpec, survey: &'s Survey, store: &Store) -> Result<Vec<Neighbour<'s>>, Failure> {
    let ours = settings(&run.config);
    let mut found = Vec::new();
    for (id, record) in survey.records.iter().filter(|(id, _)| *id != run.id.as_str()) {
        let theirs = record["settings"].as_object().cloned().unwrap_or_default();
        let theirs = theirs.into_iter().collect::<Vec<_>>();
        found.push((id, record, differences(&ours, &theirs)));
    }
    found.sort_by_key(|(id, _, differences)| (differences.len(), *id));
    let mut nearest = Vec::new();
    for (id, record, differences) in found.into_iter().take(NEIGHBOURS) {
        let same = run
            .stages
            .named()
            .into_iter()
            .filter(|(name, own)| record["stages"][name].as_str() == Some(*own));
        let same = same.map(|(name, _)| name).collect();
        let state = match store.run_state(id) {
            Err(StoreError::Damaged { .. }) => "damaged",
            state => state?.name(),
        };
        nearest.push(Neighbour { id, record, state, differences, same });
    }
    Ok(nearest)
}

fn told(
    plan: &Plan,
    run: &RunSpec,
    survey: &Survey,
    state: &StateView,
    written: &[Written],
    neighbours: &[Neighbour<'_>],
    points: &[usize],
) -> String {
    let mut out = String::new();
    let say = &mut out;
    put(say, format_args!("{} ({} of {})", run.label, run.id.short(), plan.manifest.name));
    if state.state == "done" {
        let of = survey.records.get(run.id.as_str());
        let of = of.and_then(|record| Some((record["label"].as_str()?, record["manifest"].as_str()?)));
        let made = of.map_or(String::new(), |(label, manifest)| format!(", begun as {label} of {manifest}"));
        put(say, format_args!("will not be executed: the store has its result, {}{made}", run.id));
    } else if state.executed {
        put(say, format_args!("will be executed: no result in the store has this id"));
        put(say, format_args!("state: {}; {}", state.state, state.reason));
    } else {
        put(say, format_args!("will not be executed: it failed, and would fail in the same way again"));
        put(say, format_args!("state: {}; {}", state.state, state.reason));
    }
    for block in points {
        put(say, format_args!("[[grid]] block {block} has a point that equals it"));
    }
    for key in &run.provisional {
        put(say, format_args!("its id is provisional: `{key}` is not set"));
    }
    put(say, format_args!("\nstages:"));
    for (name, id) in run.stages.named() {
        let known = survey.stages.iter().find(|found| found.id == id);
        let state = match known.map(|found| (found.cached, found.wanted)) {
            Some((true, _)) => " cached",
            Some((false, true)) => " to be made",
            Some((false, false)) => " not kept, not needed",
            None => "",
        };
        put(say, format_args!("  {name:<10} {}{state}", short(id)));
    }
    for near in neighbours {
        let text = |key: &str| near.record[key].as_str().unwrap_or("?");
        let count = counted(near.differences.len(), "setting");
        put(
            say,
            format_args!(
                "\nnot {} ({}, {} of {}): {count} {}",
                short(near.id),
                near.state,
                text("label"),
                text("manifest"),
                if near.differences.len() == 1 { "differs" } else { "differ" }
            ),
        );
        for found in near.differences.iter().take(MOST_DIFFERENCES) {
            let shown = |value: &Option<Value>| value.as_ref().map_or("no such setting".to_owned(), cell);
            let key = found.key.trim_end_matches(".0").trim_end_matches(".1");
            let origin = written.iter().find(|own| own.key == key).and_then(|own| own.origin.as_ref());
            let origin = origin.map_or(String::new(), |origin| format!(" ({origin})"));
            put(
                say,
                format_args!(
                    "  {} is {}{origin}, there {}",
                    found.key,
                    shown(&found.left),
                    shown(&found.right)
                ),
            );
        }
        if near.differences.len() > MOST_DIFFERENCES {
            put(say, format_args!("  and {} more", near.differences.len() - MOST_DIFFERENCES));
        }
        let same = if near.same.is_empty() { "none".to_owned() } else { near.same.join(", ") };
        put(say, format_args!("  stages in common: {same}"));
    }
    let heading = if state.state == "done" { "what both are" } else { "what it is" };
    put(say, format_args!("\n{heading}, key by key:"));
    for own in written {
        let value = cell(&own.value).replace('\n', "\\n");
        let origin = own.origin.as_deref().unwrap_or("default");
        put(say, format_args!("  {} = {value}  ({origin})", own.key));
    }
    put(
        say,
        format_args!("\nnot part of what it is: [exec], titles, figures, claims, paths, comments, spelling"),
    );
    out
}

fn as_json(
    run: &RunSpec,
    state: &StateView,
    written: &[Written],
    neighbours: &[Neighbour<'_>],
    points: &[usize],
) -> String {
    let mut object = plan_json::run_json(run, state);
    let side = |found: &Difference| json!({ "key": found.key, "here": found.left, "there": found.right });
    object["equal_blocks"] = points.into();
    object["settings"] = written
        .iter()
        .map(|own| json!({ "key": own.key, "value": own.value, "origin": own.origin }))
        .collect();
    object["nearest"] = neighbours
        .iter()
        .map(|near| {
            json!({
                "id": near.id, "label": near.record["label"], "manifest": near.record["manifest"],
                "state": near.state, "same_stages": near.same,
                "differences": near.differences.iter().map(side).collect::<Vec<_>>(),
            })
        })
        .collect();
    format!("{object:#}\n")
}
