//! How a run takes steps over from an earlier run of the same trajectory, and notes which.
//!
//! Which steps those are is worked out by [`Reuse`]; here their rows and states are read. A state that is damaged, or a
//! step that this machine does not repeat bit for bit, ends the taking over and nothing else.

use serde_json::{Map, Value, json};

use crate::execute::Reuse;
use crate::plan::RunSpec;
use crate::store::{Attempt, Checkpoint, Row, Store, StoreError};

use super::TorchError;
use super::checkpoint::STATE_FILE;
use super::failure::RunError;
use super::train::Run;

/// Which steps of a run were taken over from an earlier one.
#[derive(Default)]
pub(super) struct TakenOver {
    /// Whether nothing is taken over, because this machine does not repeat the earlier run.
    pub(super) alone: bool,
    /// Objects with `run`, `after` and `to`: the steps after one up to another are those of a run.
    pub(super) steps: Vec<Value>,
}

impl TakenOver {
    /// As the checkpoint that an attempt goes on from says.
    pub(super) fn of(resumed: Option<&Checkpoint>, alone: bool) -> Self {
        let meta = resumed.map_or(&Value::Null, Checkpoint::meta);
        Self {
            alone: alone || meta["alone"].as_bool() == Some(true),
            steps: meta["taken_over"].as_array().cloned().unwrap_or_default(),
        }
    }

    fn note(&mut self, run: &str, after: u32, to: u32) {
        self.steps.push(json!({ "run": run, "after": after, "to": to }));
    }
}

/// What has to be equal for one run to repeat another bit for bit, as it is noted beside every state: the kind of device and
/// processor, the threads, the versions.
fn class_of(meta: &Value) -> Map<String, Value> {
    let keys = ["device", "processor", "threads", "libtorch", "tickets"];
    keys.into_iter().map(|key| (key.to_owned(), meta[key].clone())).collect()
}

/// Compares a computed step with the earlier run's.
///
/// # Errors
/// [`RunError::NotRepeated`] when they differ.
pub(super) fn compare(reuse: Option<&Reuse>, row: &Row, step: u32) -> Result<(), RunError> {
    let Some(reuse) = reuse else { return Ok(()) };
    match reuse.disagreement(row) {
        Some(what) => Err(RunError::NotRepeated { run: reuse.relative.run.clone(), step, what }),
        None => Ok(()),
    }
}

impl Run<'_> {
    /// The earlier run that spares the most steps, among those made in the same way.
    pub(super) fn earlier(
        &self,
        spec: &RunSpec,
        store: &Store,
        step: u32,
    ) -> Result<Option<Reuse>, StoreError> {
        if self.taken.alone {
            return Ok(None);
        }
        let own = class_of(&self.meta());
        Reuse::find(spec, store, step, |meta| class_of(meta) == own)
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
            Err(error @ (StoreError::Damaged { .. } | StoreError::Io { .. })) => {
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
