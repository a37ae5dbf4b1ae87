//! What the store and the locks of other manifests say about a plan: the state of every run, the stages that are there.
//!
//! In: a plan and a results folder. Out: views for the table, for JSON and for `--why`. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::costs::Costs;
use crate::cli::short;
use crate::cli::space::missing;
use crate::execute::{FailureClass, Reuse, Segment, segments_after, spared};
use crate::plan::{self, LOCK, Plan, RunSpec};
use crate::store::{RunState, Stage, Store, StoreError};

/// The state of a run, as files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateView {
    /// `pending`, `resumable`, `failed`, `done` or `damaged`.
    pub state: String,
    /// The step that a resumable or failed run got to.
    pub step: Option<u32>,
    /// Why it is in that state, or what `sweep` would do; may be empty.
    pub reason: String,
    /// Whether the next sweep executes it.
    pub executed: bool,
    /// Steps that its own newest checkpoint saves.
    pub saved: u32,
    /// Other manifests that the same run belongs to, sorted: the one that it was begun for, those whose lock has it.
    pub shared_with: Vec<String>,
    /// The earlier run that this one takes steps over from.
    pub reuse: Option<ReuseView>,
}

/// An earlier run of the same trajectory, and what it spares.
#[derive(Clone, Debug, PartialEq)]
pub struct ReuseView {
    /// Its id.
    pub run: String,
    /// Its label in the manifest that it was begun for.
    pub label: String,
    /// That manifest.
    pub manifest: String,
    /// Steps that are taken over.
    pub taken_over: u32,
    /// Steps that are computed.
    pub computed: u32,
}

/// A stage that runs of the plan share.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// Which stage.
    pub stage: Stage,
    /// Its id.
    pub id: String,
    /// Whether the store has it, complete.
    pub cached: bool,
    /// The stage that it stands on.
    pub needs: Option<String>,
    /// Runs of the plan that stand on it.
    pub runs: usize,
    /// Whether some of them is not done.
    pub wanted: bool,
}

/// Everything that is known about a plan before it is run.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The states, in the order of the plan's runs.
    pub states: Vec<StateView>,
    /// The shared stages: bases, scores, masks, each in the order of the runs.
    pub stages: Vec<StageView>,
    /// Time and memory.
    pub costs: Costs,
    /// Finished runs of the plan that a report on the disk has, and where it is.
    pub reported: Option<(usize, PathBuf)>,
    /// What the store knows about its runs, by id.
    pub records: BTreeMap<String, Map<String, Value>>,
}

impl StateView {
    /// Of a run that the store knows nothing about.
    pub fn pending() -> Self {
        Self { state: "pending".into(), reason: "not started".into(), executed: true, ..Self::default() }
    }
}

impl Survey {
    /// Looks at the results folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(plan: &Plan, store: &Store) -> Result<Self, StoreError> {
        let known = store.runs()?.into_iter().collect::<BTreeSet<_>>();
        let records = store.records()?;
        let locks = locks(store, &plan.manifest.name);
        let mut trajectories = BTreeMap::<&str, Vec<&String>>::new();
        for (id, record) in &records {
            if let Some(trajectory) = record["stages"]["trajectory"].as_str() {
                trajectories.entry(trajectory).or_default().push(id);
            }
        }
        let mut states = Vec::with_capacity(plan.runs.len());
        for run in &plan.runs {
            let (id, trajectory) = (run.id.as_str(), run.stages.trajectory.as_str());
            let same = trajectories.get(trajectory).into_iter().flatten();
            let others = same.filter(|other| other.as_str() != id).map(|other| (*other).clone());
            let others = others.collect::<Vec<_>>();
            let nothing = !known.contains(id) && others.is_empty();
            let mut state = if nothing { StateView::pending() } else { state(store, run, others)? };
            let begun_for = records.get(run.id.as_str()).and_then(|record| record["manifest"].as_str());
            let mut shared = locks.get(run.id.as_str()).cloned().unwrap_or_default();
            if let Some(name) = begun_for.filter(|name| *name != plan.manifest.name) {
                state.reason = format!("{}; shared with {name}", state.reason);
                shared.insert(name.to_owned());
            }
            state.shared_with = shared.into_iter().collect();
            states.push(state);
        }
        among_themselves(plan, &mut states);
        let stages = stages(plan, store, &states)?;
        let costs = Costs::of(plan, &states, &stages, store)?;
        let reported =
            if states.iter().all(|state| state.state == "done") { None } else { reported(plan, store) };
        Ok(Self { states, stages, costs, reported, records })
    }
}

/// How many runs of a plan are finished in a report on the disk, such as one that was committed; `None` for none.
fn reported(plan: &Plan, store: &Store) -> Option<(usize, PathBuf)> {
    let path = store.results().join(&plan.manifest.name).join("runs.json");
    let report: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let done = report["runs"].as_array()?.iter().filter(|run| run["state"] == "done");
    let done = done.filter_map(|run| run["id"].as_str()).collect::<BTreeSet<_>>();
    let count = plan.runs.iter().filter(|run| done.contains(run.id.as_str())).count();
    (count > 0).then_some((count, path))
}

/// The manifests whose locks hold a run, by its id. A lock that cannot be read says nothing.
fn locks(store: &Store, own: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut manifests = BTreeMap::<String, BTreeSet<String>>::new();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = walkdir::WalkDir::new(store.results()).max_depth(6).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(visible).filter_map(Result::ok).filter(|entry| entry.file_name() == LOCK) {
        let folder = entry.path().parent().and_then(|folder| folder.strip_prefix(store.results()).ok());
        let Some(folder) = folder else { continue };
        let name = folder.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        for id in plan::read_lock(&text).runs.into_keys().filter(|_| name != own) {
            manifests.entry(id).or_default().insert(name.clone());
        }
    }
    manifests
}

/// The state of a run by its own files, and what an earlier run spares it. What is damaged is so in one row of the table.
fn state(store: &Store, run: &RunSpec, others: Vec<String>) -> Result<StateView, StoreError> {
    let id = run.id.as_str();
    let found = match store.run_state(id) {
        Err(error @ StoreError::Damaged { .. }) => {
            let reason = format!("{error}; the next sweep moves it aside");
            return Ok(StateView { state: "damaged".into(), reason, ..StateView::pending() });
        }
        found => found?,
    };
    let mut view = StateView { state: found.name().to_owned(), step: found.step(), ..StateView::pending() };
    match &found {
        RunState::Done => {
            view.step = Some(run.config.grpo.steps);
            view.reason = "finished".into();
            view.executed = false;
            return Ok(view);
        }
        RunState::Failed { class, message, .. } => {
            let known = FailureClass::from_name(class);
            view.executed = known.is_none_or(FailureClass::retried_by_itself);
            let again =
                if view.executed { "tried again by the next sweep" } else { "tried again with --retry" };
            view.reason = format!("{class}: {message} ({again})");
        }
        RunState::Resumable { step } => view.reason = format!("goes on from step {step}"),
        RunState::Pending => {}
    }
    view.saved = store.saved_step(id)?.unwrap_or(0);
    // On which device it will run is not known here; the trainer takes over what was made on the same.
    let exec = &run.config.exec;
    let fits =
        |meta: &Value| meta["threads"] == exec.threads && meta["build"] == crate::provenance::build_digest();
    let relatives = store.relatives_among(&run.stages.trajectory, others);
    let reuse = Reuse::best(run, relatives, view.saved, fits);
    if let Some(reuse) = reuse {
        let text = |key: &str| reuse.relative.record[key].as_str().unwrap_or_default().to_owned();
        let segments = reuse.segments(view.saved);
        if let Some(first) = segments.first().filter(|first| first.taken && found == RunState::Pending) {
            view.state = "resumable".into();
            view.step = Some(first.to);
        }
        let (id, label, manifest) = (reuse.relative.run.clone(), text("label"), text("manifest"));
        let from = format!("run {} ({label} of {manifest})", short(&id));
        view.reuse(ReuseView { run: id, label, manifest, ..taken(run, view.saved, &segments) }, &from);
    }
    Ok(view)
}

fn taken(run: &RunSpec, saved: u32, segments: &[Segment]) -> ReuseView {
    let taken_over = spared(segments);
    let computed = run.config.grpo.steps - saved - taken_over;
    ReuseView { run: String::new(), label: String::new(), manifest: String::new(), taken_over, computed }
}

impl StateView {
    /// Notes what an earlier run spares.
    fn reuse(&mut self, found: ReuseView, from: &str) {
        let ReuseView { taken_over, computed, .. } = found;
        let how = format!("takes {taken_over} steps over from {from}, computes {computed}");
        let alone = self.reason == "not started";
        self.reason = if alone { how } else { format!("{}, {how}", self.reason) };
        self.reuse = Some(found);
    }
}

/// Runs of one trajectory that are all to be executed: a sweep runs them one after the other, and the later takes the
/// earlier's steps over. Of several earlier ones that which spares the most is named.
fn among_themselves(plan: &Plan, states: &mut [StateView]) {
    let mut lanes = BTreeMap::<&str, Vec<usize>>::new();
    for (index, run) in plan.runs.iter().enumerate().filter(|(index, _)| states[*index].executed) {
        lanes.entry(&run.stages.trajectory).or_default().push(index);
    }
    for lane in lanes.into_values().filter(|lane| lane.len() > 1) {
        for (place, &index) in lane.iter().enumerate().skip(1) {
            let run = &plan.runs[index];
            if states[index].reuse.is_some() || states[index].saved > 0 {
                continue;
            }
            let found = lane[..place]
                .iter()
                .filter_map(|&earlier| Some((earlier, segments_after(run, &plan.runs[earlier])?)));
            // Of equals the first.
            let best =
                found.max_by_key(|(earlier, segments)| (spared(segments), std::cmp::Reverse(*earlier)));
            if let Some((earlier, segments)) = best {
                let earlier = &plan.runs[earlier];
                let reuse = ReuseView {
                    run: earlier.id.to_string(),
                    label: earlier.label.clone(),
                    manifest: plan.manifest.name.clone(),
                    ..taken(run, 0, &segments)
                };
                states[index].reuse(reuse, &format!("{} of this plan", earlier.label));
            }
        }
    }
}

fn stages(plan: &Plan, store: &Store, states: &[StateView]) -> Result<Vec<StageView>, StoreError> {
    let mut found = Vec::new();
    for stage in Stage::ALL {
        let mut order = Vec::<StageView>::new();
        let mut places = BTreeMap::<&str, usize>::new();
        for (run, state) in plan.runs.iter().zip(states) {
            let ids = &run.stages;
            let (id, needs) = match stage {
                Stage::Base => (Some(&ids.base), None),
                Stage::Scores => (ids.scores.as_ref(), Some(&ids.base)),
                Stage::Mask => (ids.mask.as_ref(), ids.scores.as_ref().or(Some(&ids.base))),
            };
            let Some(id) = id else { continue };
            let place = if let Some(place) = places.get(id.as_str()) {
                *place
            } else {
                let (cached, needs) = (!missing(store, stage, id)?, needs.cloned());
                order.push(StageView { stage, id: id.clone(), cached, needs, runs: 0, wanted: false });
                places.insert(id, order.len() - 1);
                order.len() - 1
            };
            order[place].runs += 1;
            order[place].wanted |= state.executed;
        }
        found.extend(order);
    }
    Ok(found)
}

/// The stage as JSON.
pub(super) fn stage_json(stage: &StageView, costs: &Costs) -> Value {
    let StageView { stage, id, cached, needs, runs, wanted } = stage;
    let seconds = costs.stages.get(id);
    json!({ "stage": stage.name(), "id": id, "cached": cached, "needs": needs, "runs": runs,
            "wanted": wanted, "seconds": seconds })
}
