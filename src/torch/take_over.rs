//! How a run takes steps over from an earlier run of the same trajectory, and notes which.
//!
//! Which steps those are is worked out by [`Reuse`]; here their rows and states are read. A state that is damaged, or a
//! step that this machine does not repeat bit for bit, ends the taking over and nothing else.

use serde_json::{Map, Value, json};

use crate::execute::{Event, Reuse};
use crate::manifest::RunConfig;
use crate::plan::RunSpec;
use crate::provenance;
use crate::store::{Attempt, CLASS_FIELDS, Checkpoint, Row, Stage, Store, StoreError, canonical, digest};

use super::TorchError;
use super::checkpoint::STATE_FILE;
use super::device;
use super::failure::RunError;
use super::setup;
use super::train::Run;

/// Which steps of a run were taken over from an earlier one.
#[derive(Default)]
pub(super) struct TakenOver {
    /// Whether nothing is taken over, because this machine does not repeat the earlier run.
    pub(super) alone: bool,
    /// Objects with `run`, `after` and `to`: the steps after one up to another are those of a run.
    pub(super) steps: Vec<Value>,
    /// Whether rows of evaluations were taken over.
    pub(super) copied: bool,
    /// Every class that the run's steps were made in, those of its earlier attempts included.
    pub(super) classes: Vec<Value>,
}

impl TakenOver {
    /// As the checkpoint that an attempt goes on from says.
    pub(super) fn of(resumed: Option<&Checkpoint>, alone: bool) -> Self {
        let meta = resumed.map_or(&Value::Null, Checkpoint::meta);
        Self {
            alone: alone || meta["alone"].as_bool() == Some(true),
            steps: meta["taken_over"].as_array().cloned().unwrap_or_default(),
            copied: meta["copied_evals"].as_bool() == Some(true),
            classes: meta["classes"].as_array().cloned().unwrap_or_default(),
        }
    }

    fn note(&mut self, run: &str, after: u32, to: u32) {
        self.steps.push(json!({ "run": run, "after": after, "to": to }));
    }
}

/// What has to be equal for one run to repeat another bit for bit, as it is noted beside every state: the kind of device and
/// processor, the threads, the versions, the very program, and the bits of base and mask, which a state says nothing of.
fn class_of(meta: &Value) -> Value {
    let keys = CLASS_FIELDS.into_iter().chain([INPUTS]);
    Value::Object(keys.map(|key| (key.to_owned(), meta[key].clone())).collect())
}

/// The digests of base and mask.
const INPUTS: &str = "inputs";

/// How a process computes otherwise than one that saved a state, as in "threads: 1 -> 2"; `None` when it does not.
fn otherwise(then: &Value, now: &Value) -> Option<String> {
    let shown = |value: &Value| match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.get(..24).filter(|_| text.len() == 64).unwrap_or(text).to_owned(),
        other => other.to_string(),
    };
    let differ = CLASS_FIELDS.into_iter().filter(|key| then[*key] != now[*key]);
    let parts = differ.map(|key| format!("{key}: {} -> {}", shown(&then[key]), shown(&now[key])));
    let parts = parts.collect::<Vec<_>>();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Which of base and mask have other bits than those that a saved state was made from; `None` when that is not said.
fn other_inputs(then: &Value, now: &Value) -> Option<String> {
    let (then, now) = (then[INPUTS].as_object()?, now[INPUTS].as_object()?);
    let names = [Stage::Base.name(), Stage::Mask.name()];
    let differ = names.into_iter().filter(|name| then.get(*name) != now.get(*name)).collect::<Vec<_>>();
    (!differ.is_empty()).then(|| differ.join(" and "))
}

/// Digests of the artifacts that a run's active values belong to.
pub(super) fn inputs(spec: &RunSpec, store: &Store) -> Result<Value, StoreError> {
    let mut digests = Map::new();
    let ids = [(Stage::Base, Some(&spec.stages.base)), (Stage::Mask, spec.stages.mask.as_ref())];
    for (stage, id) in ids {
        if let Some(found) = id.map(|id| store.artifact(stage, id)).transpose()?.flatten() {
            let files = found.files().iter().map(|(name, file)| (name.clone(), file.to_value()));
            let text = canonical(&Value::Object(files.collect()));
            digests.insert(stage.name().to_owned(), digest(text.as_bytes()).into());
        }
    }
    Ok(Value::Object(digests))
}

/// What computes, as far as libtorch chooses its kernels by it.
pub(super) fn processor(device: tch::Device) -> String {
    match device {
        tch::Device::Cuda(index) => {
            device::cuda_device(index).map_or_else(|| "unknown GPU".to_owned(), |found| format!("{found:?}"))
        }
        _ => format!("{}, {}", device::processor(), device::libtorch().cpu_capability),
    }
}

/// Notes what an attempt is made with. A device that is not to be had is not its matter: the first step says so.
pub(super) fn note_provenance(attempt: &Attempt, config: &RunConfig) -> Result<(), StoreError> {
    let device = setup::device(config).ok();
    let libtorch = device::libtorch();
    let further = [
        ("device", device.map(|device| format!("{device:?}").to_lowercase().into()).unwrap_or_default()),
        ("processor", device.map(|device| processor(device).into()).unwrap_or_default()),
        ("threads", config.exec.threads.into()),
        ("libtorch", libtorch.version.into()),
        ("cpu_capability", libtorch.cpu_capability.into()),
    ];
    attempt.describe(provenance::record(
        further.map(|(key, value)| (key.to_owned(), value)).into_iter().collect(),
    ))
}

impl Run<'_> {
    /// Notes the class of the steps to come. That another one made those before, which a checkpoint saves, is said.
    ///
    /// # Errors
    /// [`RunError::OtherInputs`] when the saved values do not belong to the base or the mask that are there now.
    pub(super) fn note_class(
        &mut self,
        saved: Option<&Checkpoint>,
        events: &dyn Fn(Event),
    ) -> Result<(), RunError> {
        let now = self.meta();
        if let Some((step, then)) = saved.map(|saved| (saved.step(), saved.meta())) {
            if let Some(what) = other_inputs(then, &now) {
                return Err(RunError::OtherInputs { step, what });
            }
            if let Some(what) = otherwise(then, &now) {
                events(Event::Note(format!(
                    "goes on from step {step} with another {what}: from here the promise of equal bits does not hold"
                )));
            }
        }
        let own = class_of(&now);
        if !self.taken.classes.contains(&own) {
            self.taken.classes.push(own);
        }
        Ok(())
    }

    /// Compares a computed step with the earlier run's. A run that has taken nothing over goes on by itself where they differ.
    ///
    /// # Errors
    /// [`RunError::NotRepeated`] when they differ and the run has taken something over.
    pub(super) fn compare(
        &mut self,
        reuse: &mut Option<Reuse>,
        row: &Row,
        step: u32,
        attempt: &mut Attempt,
    ) -> Result<(), RunError> {
        let found =
            reuse.as_ref().and_then(|reuse| Some((reuse.relative.run.clone(), reuse.disagreement(row)?)));
        let Some((run, what)) = found else { return Ok(()) };
        if self.taken.copied || !self.taken.steps.is_empty() {
            return Err(RunError::NotRepeated { run, step, what });
        }
        attempt.log(&format!("takes nothing over from run {run}: at step {step} {what}"))?;
        *reuse = None;
        self.taken.alone = true;
        Ok(())
    }

    /// The earlier run that spares the most steps, among those all of whose steps were made as this run's are. One whose rows
    /// differ from those that this run has already is none.
    pub(super) fn earlier(
        &self,
        spec: &RunSpec,
        store: &Store,
        step: u32,
        attempt: &Attempt,
    ) -> Result<Option<Reuse>, StoreError> {
        let own = [class_of(&self.meta())];
        if self.taken.alone || self.taken.classes != own {
            return Ok(None);
        }
        let made_alike = |meta: &Value| meta["classes"].as_array().is_some_and(|classes| *classes == own);
        let found = Reuse::find(spec, store, step, made_alike)?;
        let differs =
            |reuse: &Reuse| attempt.metrics_rows().iter().any(|row| reuse.disagreement(row).is_some());
        Ok(found.filter(|reuse| !differs(reuse)))
    }

    /// Goes from `step` to `target` with the rows and the state of an earlier run; the row of the last step. A state that
    /// cannot be used ends the taking over: `None`, and nothing has changed.
    pub(super) fn take_over(
        &mut self,
        reuse: &mut Option<Reuse>,
        step: u32,
        target: u32,
        attempt: &mut Attempt,
    ) -> Result<Option<Row>, RunError> {
        let Some(earlier) = reuse.as_ref() else { return Ok(None) };
        let run = earlier.relative.run.clone();
        let missing =
            |step| TorchError::Restore { what: format!("run {run} has no state or row of step {step}") };
        let state = earlier.state(target).ok_or_else(|| missing(target))?;
        let bytes = match state.read(STATE_FILE) {
            Ok(bytes) => bytes,
            Err(
                error @ (StoreError::Damaged { .. } | StoreError::Io { .. } | StoreError::NoSuchFile { .. }),
            ) => {
                attempt.log(&format!("takes nothing over from run {run}: {error}"))?;
                *reuse = None;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.restore(&bytes, state.meta())?;
        for passed in step + 1..target {
            attempt.metrics(&earlier.metrics_row(passed).ok_or_else(|| missing(passed))?)?;
            if let Some(row) = earlier.eval_row(passed).filter(|_| earlier.due(passed)) {
                attempt.eval(row)?;
            }
        }
        attempt.log(&format!("steps {} to {target} are those of run {run}", step + 1))?;
        self.taken.note(&run, step, target);
        Ok(Some(earlier.metrics_row(target).ok_or_else(|| missing(target))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Value {
        json!({ "device": "cpu", "processor": "p", "threads": 1, "libtorch": "2.11.0", "tickets": "0.1.0",
                "build": "a".repeat(64), "inputs": { "base": "b", "mask": "m" }, "optimizer_steps": 3 })
    }

    #[test]
    fn what_is_computed_otherwise_is_named() {
        assert_eq!(otherwise(&meta(), &meta()), None);
        let mut now = meta();
        now["threads"] = 2.into();
        now["build"] = "c".repeat(64).into();
        now["optimizer_steps"] = 4.into();
        let (a, c) = ("a".repeat(24), "c".repeat(24));
        assert_eq!(otherwise(&meta(), &now), Some(format!("threads: 1 -> 2, build: {a} -> {c}")));
        let mut then = meta();
        then.as_object_mut().unwrap().remove("build");
        assert_eq!(otherwise(&then, &meta()), Some(format!("build: unknown -> {a}")));
    }

    #[test]
    fn other_bits_of_base_or_mask_are_named_and_unknown_ones_are_not() {
        assert_eq!(other_inputs(&meta(), &meta()), None);
        let mut then = meta();
        then["inputs"]["base"] = "x".into();
        assert_eq!(other_inputs(&then, &meta()).as_deref(), Some("base"));
        then["inputs"]["mask"] = Value::Null;
        assert_eq!(other_inputs(&then, &meta()).as_deref(), Some("base and mask"));
        then["inputs"] = Value::Null;
        assert_eq!(other_inputs(&then, &meta()), None);
    }
}
