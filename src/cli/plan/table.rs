//! The plan for a reader: a table of the runs, the stages they share, what is worth knowing before a sweep.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{ContentArrangement, Table, presets};

use super::costs::{Cost, duration};
use super::survey::{StateView, Survey};
use super::{counted, put};
use crate::cli::{cell, short};
use crate::plan::{self, Plan};
use crate::store::Stage;

/// Stages of a kind that are listed; more are counted.
const LISTED: usize = 8;

pub(super) fn print(plan: &Plan, survey: &Survey, origins: bool) -> String {
    let mut out = String::new();
    let manifest = &plan.manifest;
    put(&mut out, format_args!("{}", manifest.title));
    if !manifest.question.is_empty() {
        put(&mut out, format_args!("{}", manifest.question));
    }
    put(&mut out, format_args!("{}\n", manifest.path.display()));
    put(&mut out, format_args!("{}\n", runs(plan, survey)));
    stages(&mut out, survey);
    totals(&mut out, plan, survey);
    others(&mut out, plan, survey);
    cautions(&mut out, plan);
    if origins {
        sources(&mut out, plan);
    }
    out
}

/// A table without lines that wrap.
fn framed(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn runs(plan: &Plan, survey: &Survey) -> Table {
    let mut header = vec!["run".to_owned()];
    header.extend(plan.axes.iter().cloned());
    let steps = survey.states.iter().any(|state| state.step.is_some());
    header.extend(["id", "state"].map(str::to_owned));
    header.extend(steps.then(|| "step".to_owned()));
    header.extend(["time", "memory", "reason"].map(str::to_owned));
    let mut table = framed(header);
    let pending = StateView::pending();
    for (index, run) in plan.runs.iter().enumerate() {
        let state = survey.states.get(index).unwrap_or(&pending);
        let mut row = vec![run.label.clone()];
        row.extend(plan.axes.iter().map(|key| {
            let value = run.axes.iter().find(|(axis, _)| axis == key);
            value.map_or_else(|| "·".to_owned(), |(_, value)| cell(value))
        }));
        let mark = if run.provisional.is_empty() { "" } else { "?" };
        row.extend([format!("{}{mark}", run.id.short()), state.state.clone()]);
        row.extend(steps.then(|| state.step.map_or_else(String::new, |step| step.to_string())));
        row.extend(survey.costs.runs.get(index).map(Cost::cells).unwrap_or_default());
        row.push(state.reason.clone());
        table.add_row(row);
    }
    table
}

/// The shared stages: what is there, what the sweep makes, what stands on what.
fn stages(out: &mut String, survey: &Survey) {
    for stage in Stage::ALL {
        let of = survey.stages.iter().filter(|found| found.stage == stage).collect::<Vec<_>>();
        for found in of.iter().take(LISTED) {
            let state = match (found.cached, found.wanted) {
                (true, _) => "cached",
                (false, true) => "to be made",
                (false, false) => "not kept, not needed",
            };
            let time = survey.costs.stages.get(&found.id).filter(|_| !found.cached);
            let time = time.map_or(String::new(), |seconds| format!(" in ~{}", duration(*seconds)));
            let needs =
                found.needs.as_ref().map_or(String::new(), |needs| format!(", from {}", short(needs)));
            let runs = counted(found.runs, "run");
            put(
                out,
                format_args!("{:<6} {} {state}{time}, for {runs}{needs}", stage.name(), short(&found.id)),
            );
        }
        if of.len() > LISTED {
            let rest = &of[LISTED..];
            let cached = rest.iter().filter(|found| found.cached).count();
            put(out, format_args!("{:<6} and {} more, {cached} of them cached", stage.name(), rest.len()));
        }
    }
    if !survey.stages.is_empty() {
        out.push('\n');
    }
}

fn totals(out: &mut String, plan: &Plan, survey: &Survey) {
    let mut counts = BTreeMap::<&str, usize>::new();
    for index in 0..plan.runs.len() {
        let state = survey.states.get(index).map_or("pending", |state| state.state.as_str());
        *counts.entry(state).or_default() += 1;
    }
    let states =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    let merged = match plan.merged {
        0 => String::new(),
        1 => "; 1 point of the grid equals another and was merged".to_owned(),
        n => format!("; {n} points of the grid equal others and were merged"),
    };
    put(out, format_args!("{}: {states}{merged}", counted(plan.runs.len(), "run")));
    for left in [survey.costs.told(), survey.costs.space.told()] {
        if !left.is_empty() {
            put(out, format_args!("{left}"));
        }
    }
    let mut blocks = BTreeMap::<usize, Vec<&str>>::new();
    for (block, run) in &plan.merges {
        blocks.entry(*block).or_default().push(&plan.runs[*run].label);
    }
    for (block, labels) in blocks {
        let more = labels.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = labels.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
        put(out, format_args!("merged: [[grid]] block {block} repeats {shown}{more}"));
    }
}

/// The other manifests that runs belong to.
fn others(out: &mut String, plan: &Plan, survey: &Survey) {
    let mut shared = BTreeMap::<&str, usize>::new();
    for name in survey.states.iter().flat_map(|state| &state.shared_with) {
        *shared.entry(name).or_default() += 1;
    }
    let all = plan.runs.len();
    let shown = shared.iter().map(|(name, count)| {
        if *count == all { (*name).to_owned() } else { format!("{name} ({count} of {all} runs)") }
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if !shown.is_empty() {
        put(out, format_args!("shared with {shown}"));
    }
    if let Some((done, path)) = &survey.reported {
        put(out, format_args!("reported: {done} of {} in {}", counted(all, "run"), path.display()));
    }
}

/// What a reader should know before believing the ids or starting the sweep.
fn cautions(out: &mut String, plan: &Plan) {
    let open = plan.runs.iter().flat_map(|run| &run.provisional).collect::<BTreeSet<_>>();
    if !open.is_empty() {
        let keys = open.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        put(out, format_args!("provisional ids (marked ?): set {keys} to pin what they stand for"));
    }
    for (key, path) in plan::outside(plan) {
        put(out, format_args!("outside the project: {} ({key})", path.display()));
    }
    for found in plan.manifest.overridden() {
        put(out, format_args!("override: {} = {} ({})", found.key, found.value, found.origin));
    }
    if let Some(first) = plan.undecided.first() {
        let many = counted(plan.undecided.len(), "question");
        put(out, format_args!("the overrides leave {many} of figures and claims open, the first: {first}"));
    }
}

fn sources(out: &mut String, plan: &Plan) {
    let mut table = framed(["key", "value", "from", "hides"].map(str::to_owned).to_vec());
    for found in plan.manifest.origins() {
        let block = found.block.map_or(String::new(), |block| format!("[[grid]] block {block}, "));
        let hides = found.hides.iter().map(|(value, place)| format!("{} ({place})", shortened(value)));
        let hides = hides.collect::<Vec<_>>().join(", ");
        let dropped = if plan.uses(found.key) { "" } else { " (dropped: no run has a use for it)" };
        let from = format!("{block}{}{dropped}", found.place);
        table.add_row([found.key.to_owned(), shortened(&found.value), from, hides]);
    }
    put(out, format_args!("\nvalues that are not defaults:\n{table}"));
}

/// A value on one line; the whole of a long one stands where it comes from.
fn shortened(value: &str) -> String {
    let mut line = value.replace('\n', " ");
    if let Some((end, _)) = line.char_indices().nth(60) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}
