//! `tickets diff [MANIFEST] A B`: what differs between two runs, and nothing else.
//!
//! In: two runs, by the beginnings of their ids, or by label when a manifest is given. Out: settings, stage ids, final
//! metrics that differ, as text or as one JSON object. Nothing is changed.

use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::args::LookArgs;
use super::{cell, short};
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Difference, Plan, differences};
use crate::store::{Row, Stage, Store, TRANSCRIPTS, is_measured};

/// Arguments of `tickets diff`.
#[derive(Args, Clone, Debug)]
#[command(override_usage = "tickets diff [OPTIONS] [MANIFEST] A B")]
pub struct DiffArgs {
    /// The manifest, when the runs are named by their labels, or are not begun yet
    #[arg(value_names = ["MANIFEST|A", "A|B", "B"], num_args = 2..=3, required = true)]
    pub runs: Vec<String>,
    /// Results, overrides, JSON
    #[command(flatten)]
    pub look: LookArgs,
}

/// One of the two runs.
struct Side {
    id: String,
    record: Map<String, Value>,
    state: &'static str,
    /// The last row of its evaluations and the last one of its steps, without what is measured.
    last: Vec<(String, Value)>,
}

/// The command.
///
/// # Errors
/// When there is no such run, or what it has written cannot be read.
pub fn diff(args: &DiffArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let store = Store::open_read_only(&args.look.results)?;
    let (plan, wanted) = match args.runs.as_slice() {
        [manifest, left, right] => {
            (Some(plan::expand(manifest::load(manifest, &args.look.overrides())?)?), [left, right])
        }
        [left, right] => (None, [left, right]),
        _ => return Err(Failure::new(Code::Usage, "two runs are compared", None)),
    };
    let [left, right] = [side(&store, plan.as_ref(), wanted[0])?, side(&store, plan.as_ref(), wanted[1])?];
    let parts = [
        ("settings", differences(&pairs(&left.record["settings"]), &pairs(&right.record["settings"]))),
        ("stages", differences(&pairs(&left.record["stages"]), &pairs(&right.record["stages"]))),
        ("metrics", differences(&left.last, &right.last)),
    ];
    let text = if args.look.json { as_json(&left, &right, &parts) } else { told(&left, &right, &parts) };
    let _ = out.write_all(text.as_bytes());
    Ok(Code::Ok)
}

/// A run by its label or id in a plan, else by the beginning of its id in the store.
fn side(store: &Store, plan: Option<&Plan>, wanted: &str) -> Result<Side, Failure> {
    let (id, mut record) = match plan.map(|plan| (plan, plan.find(wanted))) {
        Some((plan, Ok(run))) => (run.id.to_string(), plan::record(run, &plan.manifest.name)),
        Some((_, Err(error))) => match store.find_run(wanted) {
            Ok(id) => described(store, id)?,
            Err(_) => return Err(error.into()),
        },
        None => described(store, store.find_run(wanted)?)?,
    };
    let rows = store.run_rows(&id)?;
    let mut last = Vec::new();
    // Of a run under way the two may be of different steps.
    if let Some(row) = rows.evals.last() {
        last.extend(reproducible(row).map(|(key, value)| match key.as_str() {
            "step" => ("eval/step".to_owned(), value),
            _ => (key, value),
        }));
    }
    if let Some(row) = rows.metrics.last() {
        last.extend(reproducible(row));
    }
    let mask = record["stages"]["mask"].as_str();
    if let Some(mask) = mask.map(|id| store.artifact(Stage::Mask, id)).transpose()?.flatten() {
        last.push(("mask/active".into(), mask.meta()["active"].clone()));
    }
    for key in ["settings", "stages"] {
        record.entry(key).or_insert(Value::Null);
    }
    Ok(Side { state: store.run_state(&id)?.name(), id, record, last })
}

fn described(store: &Store, id: String) -> Result<(String, Map<String, Value>), Failure> {
    let Some(record) = store.described(&id)? else {
        let error = format!("the store does not say what run {} is", short(&id));
        let hint = "name its manifest too: tickets diff MANIFEST A B";
        return Err(Failure::new(Code::Plan, error, Some(hint.into())));
    };
    Ok((id, record))
}

fn reproducible(row: &Row) -> impl Iterator<Item = (String, Value)> + '_ {
    row.iter()
        .filter(|(key, _)| !is_measured(key) && *key != TRANSCRIPTS)
        .map(|(key, value)| (key.clone(), value.clone()))
}

fn pairs(object: &Value) -> Vec<(String, Value)> {
    object.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn name(side: &Side) -> String {
    let text = |key: &str| side.record[key].as_str().unwrap_or("?").to_owned();
    format!("{} ({} of {}, {})", short(&side.id), text("label"), text("manifest"), side.state)
}

fn told(left: &Side, right: &Side, parts: &[(&str, Vec<Difference>)]) -> String {
    let mut text = format!("A: {}\nB: {}\n", name(left), name(right));
    if left.id == right.id {
        text.push_str("they are one run: every setting and stage is the same\n");
        return text;
    }
    for (part, found) in parts {
        if found.is_empty() {
            let none = *part == "metrics" && left.last.is_empty() && right.last.is_empty();
            let what = if none { "no metrics yet" } else { "no difference in" };
            let _ = writeln!(text, "\n{what}{}", if none { String::new() } else { format!(" {part}") });
            continue;
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([*part, "A", "B"]);
        for Difference { key, left, right } in found {
            let shown = |value: &Option<Value>| match value {
                None | Some(Value::Null) => "·".to_owned(),
                Some(value) if *part == "stages" => short(&cell(value)).to_owned(),
                Some(value) => cell(value).replace('\n', "\\n"),
            };
            table.add_row([key.clone(), shown(left), shown(right)]);
        }
        let _ = writeln!(text, "\n{table}");
    }
    text
}

fn as_json(left: &Side, right: &Side, parts: &[(&str, Vec<Difference>)]) -> String {
    let side = |side: &Side| {
        json!({ "id": side.id, "label": side.record["label"], "manifest": side.record["manifest"],
                "state": side.state })
    };
    let mut object = json!({ "a": side(left), "b": side(right), "same": left.id == right.id });
    for (part, found) in parts {
        let entry = |found: &Difference| json!({ "key": found.key, "a": found.left, "b": found.right });
        object[*part] = found.iter().map(entry).collect();
    }
    format!("{object:#}\n")
}
