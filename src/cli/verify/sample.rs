//! `tickets verify sample 5% [MANIFEST]`: do some of the finished runs come out the same once more?
//!
//! In: a share or a number, a seed, a manifest or none: then all manifests that the store's runs were begun for. Out: for
//! each chosen run whether it is equal, or the first difference. A stored run that another build or device made cannot be
//! judged when it differs. Runs that no manifest holds any more cannot be executed again, and are listed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::str::FromStr;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Program, details, say, told, word};
use crate::cli::args::LookArgs;
use crate::cli::{cell, short};
use crate::execute::{Again, ExecuteError, Judged, Requests, Verdict, chosen};
use crate::exit::{Code, Failure};
use crate::manifest;
use crate::plan::{self, Plan};
use crate::store::{RunState, Store, StoreError};

/// Arguments of `tickets verify sample`.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// How many of the finished runs: a share such as 5%, rounded up, or a number
    #[arg(value_name = "SHARE")]
    pub share: Share,
    /// The manifest whose runs are meant; without one those of all manifests
    #[arg(value_name = "MANIFEST")]
    pub manifest: Option<String>,
    /// Another seed chooses other runs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Results, overrides, JSON
    #[command(flatten)]
    pub look: LookArgs,
}

/// How many of the finished runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many in a hundred, rounded up.
    Percent(f64),
    /// So many, or all when there are fewer.
    Count(usize),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a share above 0% and up to 100%, such as 5%, or a number above 0".to_owned();
        let share = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(percent.trim().parse().map_err(|_| wrong())?),
            None => Self::Count(text.parse().map_err(|_| wrong())?),
        };
        match share {
            Self::Percent(percent) if percent > 0.0 && percent <= 100.0 => Ok(share),
            Self::Count(count) if count > 0 => Ok(share),
            _ => Err(wrong()),
        }
    }
}

impl Share {
    /// How many of `all` that is.
    fn of(self, all: usize) -> usize {
        match self {
            // A product that is whole in decimals may lie above it in binary.
            Self::Percent(percent) => (percent * all as f64 / 100.0 - 1e-9).ceil() as usize,
            Self::Count(count) => count.min(all),
        }
    }
}

/// Runs that are finished and can be executed again, and those that cannot.
#[derive(Default)]
struct Found {
    plans: Vec<Plan>,
    /// By id the places of plan and run.
    runs: BTreeMap<String, (usize, usize)>,
    lost: Vec<Lost>,
}

/// A finished run that cannot be executed again.
struct Lost {
    run: String,
    label: Value,
    manifest: Value,
    reason: String,
}

/// The command.
///
/// # Errors
/// When the manifest or the results folder cannot be used, or no worker can be started.
pub fn sample(args: &SampleArgs, program: &Program, out: &mut dyn Write) -> Result<Code, Failure> {
    let store = Store::open_read_only(&args.look.results)?.expect_some()?;
    let found = match &args.manifest {
        Some(name) => of_manifest(&store, plan::expand(manifest::load(name, &args.look.overrides())?)?)?,
        None => of_store(&store, args)?,
    };
    let count = args.share.of(found.runs.len());
    let drawn = chosen(found.runs.keys().map(String::as_str), count, args.seed);
    let requests = Requests::from_signals(false).map_err(ExecuteError::Signals)?;
    let mut judged = Vec::new();
    if !drawn.is_empty() {
        let scratch = store.scratch()?;
        for (number, id) in drawn.iter().enumerate() {
            let (plan, run) = found.runs[*id];
            let plan = &found.plans[plan];
            let options = program.options(plan, (&args.look.set, args.look.no_env), &requests);
            let again = Again { plan, run, options: &options, say: &say };
            let label = &again.spec().label;
            eprintln!(
                "executing {label} of {} again ({} of {})",
                plan.manifest.name,
                number + 1,
                drawn.len()
            );
            let Some(verdict) = again.against(&store, &scratch)? else { return Ok(Code::Interrupted) };
            judged.push((plan, run, verdict));
        }
    }
    let equal = judged.iter().filter(|(.., judged)| judged.counts()).all(|(.., judged)| is_equal(judged));
    let text = if args.look.json { as_json(args, &found, &judged, equal) } else { as_text(&found, &judged) };
    let _ = out.write_all(text.as_bytes());
    Ok(if equal { Code::Ok } else { Code::RunsFailed })
}

fn is_equal(judged: &Judged) -> bool {
    judged.verdict == Verdict::Equal
}

/// The finished runs of a plan.
fn of_manifest(store: &Store, plan: Plan) -> Result<Found, Failure> {
    let mut found = Found::default();
    for (index, run) in plan.runs.iter().enumerate() {
        match store.run_state(run.id.as_str()) {
            Ok(RunState::Done) => {
                found.runs.insert(run.id.to_string(), (0, index));
            }
            Ok(_) => {}
            Err(error @ StoreError::Damaged { .. }) => found.lost.push(Lost {
                run: run.id.to_string(),
                label: run.label.as_str().into(),
                manifest: plan.manifest.name.as_str().into(),
                reason: error.to_string(),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    found.plans.push(plan);
    Ok(found)
}

/// The finished runs of the store, by the manifests that they were begun for.
fn of_store(store: &Store, args: &SampleArgs) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut plans = BTreeMap::<String, Result<usize, String>>::new();
    for id in store.runs()? {
        let record = store.described(&id)?.unwrap_or_default();
        let text = |key: &str| record.get(key).cloned().unwrap_or_default();
        let mut lost = |reason: String| {
            let (label, manifest) = (text("label"), text("manifest"));
            found.lost.push(Lost { run: id.clone(), label, manifest, reason });
        };
        match store.run_state(&id) {
            Ok(RunState::Done) => {}
            Ok(_) => continue,
            Err(error @ StoreError::Damaged { .. }) => {
                lost(error.to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let name = text("manifest");
        let Some(name) = name.as_str() else {
            lost("the store does not say which manifest it is of".to_owned());
            continue;
        };
        let plan = plans.entry(name.to_owned()).or_insert_with(|| {
            let loaded = manifest::load(name, &args.look.overrides()).map_err(Failure::from);
            let plan = loaded.and_then(|loaded| plan::expand(loaded).map_err(Failure::from));
            let plan = plan.map_err(|failure| failure.error.to_string())?;
            found.plans.push(plan);
            Ok(found.plans.len() - 1)
        });
        let place = plan.clone().and_then(|plan| {
            let run = found.plans[plan].runs.iter().position(|run| run.id.as_str() == id);
            Ok((plan, run.ok_or_else(|| format!("{name} no longer holds it, or held it with --set"))?))
        });
        match place {
            Ok(place) => {
                found.runs.insert(id, place);
            }
            Err(reason) => found.lost.push(Lost {
                run: id.clone(),
                label: text("label"),
                manifest: text("manifest"),
                reason,
            }),
        }
    }
    Ok(found)
}

/// What another class of a stored run is, as in "threads: 1 -> 2".
fn class(judged: &Judged) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) if text.len() == 64 => short(text).to_owned(),
        Value::Array(classes) => format!("{} kinds", classes.len()),
        other => cell(other),
    };
    let part =
        |(field, then, now): &(String, Value, Value)| format!("{field}: {} -> {}", shown(then), shown(now));
    judged.class.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn as_text(found: &Found, judged: &[(&Plan, usize, Judged)]) -> String {
    let mut text = format!("{} of {} finished runs executed again\n", judged.len(), found.runs.len());
    if !judged.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["run", "label", "manifest", "compared with the store"]);
        for (plan, run, judged) in judged {
            let spec = &plan.runs[*run];
            let mut result = told(&judged.verdict);
            if !judged.class.is_empty() {
                let mark = if judged.counts() { "another class" } else { "another class: cannot be judged" };
                let _ = write!(result, "\n{mark} ({})", class(judged));
            }
            table.add_row([short(spec.id.as_str()), &spec.label, &plan.manifest.name, &result]);
        }
        let _ = writeln!(text, "\n{table}");
    }
    if !found.lost.is_empty() {
        let _ = writeln!(text, "\nnot re-executable: {}", found.lost.len());
    }
    for Lost { run, label, manifest, reason } in &found.lost {
        let known = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let _ = writeln!(text, "  {} ({} of {}): {reason}", short(run), known(label), known(manifest));
    }
    text
}

fn as_json(args: &SampleArgs, found: &Found, judged: &[(&Plan, usize, Judged)], equal: bool) -> String {
    let entry = |(plan, run, judged): &(&Plan, usize, Judged)| {
        let spec = &plan.runs[*run];
        let (difference, failure) = details(&judged.verdict);
        let field = |(field, then, now): &(String, Value, Value)| json!({ "field": field, "stored": then, "now": now });
        let class = judged.class.iter().map(field).collect::<Vec<_>>();
        let result = if judged.counts() { word(&judged.verdict) } else { "another-class" };
        json!({ "run": spec.id.as_str(), "label": spec.label, "manifest": plan.manifest.name, "result": result,
                "class": class, "difference": difference, "failure": failure })
    };
    let lost = |lost: &Lost| json!({ "run": lost.run, "label": lost.label, "manifest": lost.manifest, "reason": lost.reason });
    let object = json!({
        "seed": args.seed,
        "finished": found.runs.len(),
        "chosen": judged.len(),
        "equal": equal,
        "runs": judged.iter().map(entry).collect::<Vec<_>>(),
        "not_reexecutable": found.lost.iter().map(lost).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_and_a_number_is_at_most_all() {
        let of = |text: &str, all| text.parse::<Share>().unwrap().of(all);
        assert_eq!((of("5%", 20), of("5%", 21), of("5%", 1), of("5%", 0)), (1, 2, 1, 0));
        assert_eq!((of("7%", 100), of("0.1%", 3000), of("100%", 7)), (7, 3, 7));
        assert_eq!((of("3", 10), of("3", 2)), (3, 2));
        for wrong in ["0%", "101%", "-1%", "0", "x", "", "%", "NaN%", "1.5"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
