//! The plan as one JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::costs::{Cost, disk_json};
use super::survey::{StateView, Survey, stage_json};
use crate::plan::{self, Plan, RunSpec};

/// Raised when a key changes its meaning or goes away.
const FORMAT: u32 = 1;

pub(super) fn print(plan: &Plan, survey: &Survey) -> String {
    let manifest = &plan.manifest;
    let pending = StateView::pending();
    let runs = plan.runs.iter().enumerate().map(|(index, run)| {
        let mut object = run_json(run, survey.states.get(index).unwrap_or(&pending));
        object["cost"] = survey.costs.runs.get(index).map(Cost::json).unwrap_or_default();
        object["disk"] = survey.costs.space.runs.get(index).copied().flatten().map(disk_json).into();
        object
    });
    let overrides = manifest
        .overridden()
        .into_iter()
        .map(|found| json!({ "key": found.key, "value": found.value, "origin": found.origin }));
    let origins = manifest.origins().into_iter().map(|found| {
        let hides = found.hides.iter().map(|(value, place)| json!({ "value": value, "place": place }));
        json!({ "key": found.key, "value": found.value, "place": found.place, "block": found.block, "used": plan.uses(found.key),
                "hides": hides.collect::<Vec<_>>() })
    });
    let merges = plan.merges.iter().map(|(block, run)| {
        json!({ "block": block, "run": plan.runs[*run].id.as_str(), "label": plan.runs[*run].label })
    });
    let outside = plan::outside(plan)
        .into_iter()
        .map(|(key, path)| json!({ "key": key, "path": path.display().to_string() }));
    let mut counts = BTreeMap::<&str, usize>::new();
    for index in 0..plan.runs.len() {
        *counts.entry(&survey.states.get(index).unwrap_or(&pending).state).or_default() += 1;
    }
    let object = json!({
        "format": FORMAT,
        "title": manifest.title,
        "question": manifest.question,
        "manifest": manifest.name,
        "path": manifest.path.display().to_string(),
        "axes": plan.axes,
        "merged": plan.merged,
        "merges": merges.collect::<Vec<_>>(),
        "overrides": overrides.collect::<Vec<_>>(),
        "undecided": plan.undecided,
        "origins": origins.collect::<Vec<_>>(),
        "outside": outside.collect::<Vec<_>>(),
        "counts": counts,
        "estimate": survey.costs.json(),
        "stages": survey.stages.iter().map(|stage| stage_json(stage, &survey.costs)).collect::<Vec<_>>(),
        "runs": [],
    });
    // Runs are many: each is written before the next is made.
    let head = format!("{object:#}");
    let mut text = head.strip_suffix("[]\n}").unwrap_or(&head).to_owned();
    text.push('[');
    for (index, run) in runs.enumerate() {
        text.push_str(if index == 0 { "\n    " } else { ",\n    " });
        text.push_str(&format!("{run:#}").replace('\n', "\n    "));
    }
    text.push_str("\n  ]\n}\n");
    text
}

/// One run, as `plan` and `plan --why` tell it.
pub(super) fn run_json(run: &RunSpec, state: &StateView) -> Value {
    let StateView { state, step, reason, executed, saved, shared_with, reuse } = state;
    let reuse = reuse.as_ref().map(|found| {
        json!({ "run": found.run, "label": found.label, "manifest": found.manifest,
                "taken_over": found.taken_over, "computed": found.computed })
    });
    let mut stages = Map::new();
    for name in ["base", "scores", "mask", "trajectory", "train", "eval"] {
        let id = run.stages.named().into_iter().find(|(known, _)| *known == name).map(|(_, id)| id);
        stages.insert(name.to_owned(), id.into());
    }
    json!({
        "id": run.id.as_str(),
        "label": run.label,
        "axes": run.axes.iter().cloned().collect::<Map<_, _>>(),
        "block": (run.block > 0).then_some(run.block),
        "state": state,
        "step": step,
        "reason": reason,
        "executed": executed,
        "saved_step": saved,
        "shared_with": shared_with,
        "reuse": reuse,
        "stages": stages,
        "provisional": run.provisional,
        // Nothing is planned any more that cannot be executed; the key stays for those who read it.
        "not_built": [],
    })
}
