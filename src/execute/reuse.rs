//! What an earlier run spares a run that shares its trajectory: it differs in its evaluations or in its length alone.
//!
//! In: a run of the plan and the store. Out: which steps are taken over and which are computed. At a constant learning
//! rate a step does not depend on how often the run is evaluated or how many steps follow, so rows of steps, rows of
//! equal evaluations and saved states of one run are those of the other, bit for bit.
//!
//! Invariant: what is taken over is what the run would have written itself. Steps that are computed although the earlier
//! run had them are compared with it ([`Reuse::disagreement`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::plan::RunSpec;
use crate::store::{Relative, Row, SavedState, Store, StoreError, is_measured};

/// The column that is measured only at steps that are evaluated, unless it is part of the loss.
const KL: &str = "kl/base";

/// What a run has to have in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    steps: u32,
    every: u32,
    /// Whether the distance to the base is measured at every step.
    kl_always: bool,
}

/// What an earlier run has, by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Steps with a row; whether the distance to the base is in it.
    rows: BTreeMap<u32, bool>,
    /// Steps with a row of the same evaluation.
    evals: BTreeSet<u32>,
    /// Steps whose state is kept.
    states: BTreeSet<u32>,
}

/// A stretch of steps: those after `from` up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whether the steps are taken over; else they are computed.
    pub taken: bool,
    /// Steps that are complete before.
    pub from: u32,
    /// Steps that are complete after.
    pub to: u32,
}

/// An earlier run that a run can take steps over from.
#[derive(Debug)]
pub struct Reuse {
    /// The earlier run.
    pub relative: Relative,
    needs: Needs,
    known: Known,
}

impl Needs {
    fn of(run: &RunSpec) -> Self {
        let config = &run.config;
        Self { steps: config.grpo.steps, every: config.eval.every, kl_always: config.grpo.kl_coef > 0.0 }
    }

    fn due(self, step: u32) -> bool {
        step == self.steps || step.is_multiple_of(self.every)
    }

    /// The farthest step whose state can be had without computing anything, from a state after `position` steps.
    fn jump(self, known: &Known, position: u32) -> Option<u32> {
        let mut farthest = None;
        for step in position + 1..=self.steps {
            match known.rows.get(&step) {
                Some(measured) if *measured || self.kl_always || !self.due(step) => {}
                _ => break,
            }
            if known.states.contains(&step) {
                farthest = Some(step);
            }
            // An evaluation that is missing needs the state of its step.
            if self.due(step) && !known.evals.contains(&step) {
                break;
            }
        }
        farthest
    }

    fn segments(self, known: &Known, from: u32) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut position = from;
        while position < self.steps {
            let (taken, to) = match self.jump(known, position) {
                Some(step) => (true, step),
                None => (false, position + 1),
            };
            match segments.last_mut() {
                Some(last) if last.taken == taken => last.to = to,
                _ => segments.push(Segment { taken, from: position, to }),
            }
            position = to;
        }
        segments
    }
}

/// Longer runs are not laid out step by step before they are begun.
const MOST_STEPS: u32 = 1_000_000;

/// How a run gets to its end when `earlier`, a run of the same trajectory, is finished before it and keeps all its
/// checkpoints; `None` when they share nothing.
pub fn segments_after(run: &RunSpec, earlier: &RunSpec) -> Option<Vec<Segment>> {
    let longest = run.config.grpo.steps.max(earlier.config.grpo.steps);
    let apart = run.stages.trajectory != earlier.stages.trajectory || !run.config.evals.is_empty();
    if apart || longest > MOST_STEPS {
        return None;
    }
    let (needs, theirs) = (Needs::of(run), Needs::of(earlier));
    let steps = 1..=theirs.steps;
    let saved = earlier.config.exec.checkpoint_every.max(1);
    let known = Known {
        rows: steps.clone().map(|step| (step, theirs.kl_always || theirs.due(step))).collect(),
        evals: (0..=theirs.steps)
            .filter(|step| run.stages.eval == earlier.stages.eval && theirs.due(*step))
            .collect(),
        states: steps.filter(|step| step.is_multiple_of(saved) || *step == theirs.steps).collect(),
    };
    let segments = needs.segments(&known, 0);
    (spared(&segments) > 0).then_some(segments)
}

/// Steps that are taken over.
pub fn spared(segments: &[Segment]) -> u32 {
    segments.iter().filter(|segment| segment.taken).map(|segment| segment.to - segment.from).sum()
}

impl Reuse {
    /// The earlier run that spares the most steps after `position`; `None` when none spares any. `fits` says of what is
    /// noted beside a state whether it was made in the same way: on the same kind of device, by the same build.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(
        run: &RunSpec,
        store: &Store,
        position: u32,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Option<Self>, StoreError> {
        let relatives = store.relatives(&run.stages.trajectory, run.id.as_str())?;
        Ok(Self::best(run, relatives, position, fits))
    }

    /// [`Self::find`] among runs that were found before.
    pub fn best(
        run: &RunSpec,
        relatives: Vec<Relative>,
        position: u32,
        fits: impl Fn(&Value) -> bool,
    ) -> Option<Self> {
        let mut best: Option<(u32, Self)> = None;
        // Several evaluations have paces of their own, and a row holds those that were due: it would have to be put together.
        if !run.config.evals.is_empty() {
            return None;
        }
        for mut relative in relatives {
            if !fits(&relative.meta) {
                continue;
            }
            relative.states.retain(|_, state| fits(state.meta()));
            let found = Self::new(run, relative);
            let spared = spared(&found.segments(position));
            if spared > best.as_ref().map_or(0, |(most, _)| *most) {
                best = Some((spared, found));
            }
        }
        best.map(|(_, found)| found)
    }

    fn new(run: &RunSpec, relative: Relative) -> Self {
        let needs = Needs::of(run);
        let steps = |rows: &[Row]| rows.iter().filter_map(step_of).collect::<BTreeSet<_>>();
        let known = Known {
            rows: relative
                .metrics
                .iter()
                .filter_map(|row| Some((step_of(row)?, row.get(KL).is_some_and(|value| !value.is_null()))))
                .collect(),
            evals: if relative.eval == run.stages.eval { steps(&relative.evals) } else { BTreeSet::new() },
            states: relative.states.keys().copied().collect(),
        };
        Self { relative, needs, known }
    }

    /// Whether the run is evaluated after so many steps.
    pub fn due(&self, step: u32) -> bool {
        self.needs.due(step)
    }

    /// The farthest step that can be gone to at once from `position`.
    pub fn jump(&self, position: u32) -> Option<u32> {
        self.needs.jump(&self.known, position)
    }

    /// How the run gets from `position` to its end.
    pub fn segments(&self, position: u32) -> Vec<Segment> {
        self.needs.segments(&self.known, position)
    }

    /// Steps after `position` that need not be computed.
    pub fn spared(&self, position: u32) -> u32 {
        spared(&self.segments(position))
    }

    /// The state after a step that [`Self::jump`] named.
    pub fn state(&self, step: u32) -> Option<&SavedState> {
        self.relative.states.get(&step)
    }

    /// The row of a step as this run writes it: the distance to the base only where this run measures it.
    pub fn metrics_row(&self, step: u32) -> Option<Row> {
        let mut row = self.relative.metrics.iter().find(|row| step_of(row) == Some(step))?.clone();
        if !self.needs.kl_always && !self.needs.due(step) {
            row.insert(KL.to_owned(), Value::Null);
        }
        Some(row)
    }

    /// The row of an evaluation, when the earlier run made the same one after this step.
    pub fn eval_row(&self, step: u32) -> Option<&Row> {
        let known = self.known.evals.contains(&step);
        self.relative.evals.iter().find(|row| known && step_of(row) == Some(step))
    }

    /// How a computed row differs from the earlier run's of the same step; measured columns and those that one of them
    /// lacks do not count.
    pub fn disagreement(&self, row: &Row) -> Option<String> {
        let earlier = self.relative.metrics.iter().find(|known| step_of(known) == step_of(row))?;
        row.iter().find_map(|(column, now)| {
            let then = earlier.get(column).filter(|value| !value.is_null() && !now.is_null())?;
            (!is_measured(column) && then != now).then(|| format!("{column} was {then} and is {now}"))
        })
    }
}

fn step_of(row: &Row) -> Option<u32> {
    row.get("step")?.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A finished run of `steps` steps, evaluated every `every`, with these states kept beside the last.
    fn finished(steps: u32, every: u32, kept: &[u32]) -> Known {
        let due = |step: &u32| *step == steps || step.is_multiple_of(every);
        Known {
            rows: (1..=steps).map(|step| (step, due(&step))).collect(),
            evals: (0..=steps).filter(due).collect(),
            states: kept.iter().copied().chain([steps]).collect(),
        }
    }

    fn path(steps: u32, every: u32, known: &Known) -> Vec<(bool, u32, u32)> {
        let needs = Needs { steps, every, kl_always: false };
        needs.segments(known, 0).iter().map(|found| (found.taken, found.from, found.to)).collect()
    }

    #[test]
    fn rarer_evaluations_need_no_step() {
        assert_eq!(path(80, 20, &finished(80, 10, &[])), [(true, 0, 80)]);
    }

    #[test]
    fn more_evaluations_replay_the_steps_before_them_from_kept_states() {
        // Every 5 instead of 10, states at 20, 40, 60: the step to 5 is computed, and 15 from 10 again, which no state
        // spares; 25 from 20, and so on.
        let known = finished(80, 10, &[20, 40, 60]);
        let wanted = [
            (false, 0, 15),
            (true, 15, 20),
            (false, 20, 35),
            (true, 35, 40),
            (false, 40, 55),
            (true, 55, 60),
            (false, 60, 75),
            (true, 75, 80),
        ];
        assert_eq!(path(80, 5, &known), wanted);
        // With a state at every tenth step half of them are spared.
        let known = finished(40, 10, &[10, 20, 30]);
        assert_eq!(path(40, 5, &known)[..3], [(false, 0, 5), (true, 5, 10), (false, 10, 15)]);
    }

    #[test]
    fn without_kept_states_only_what_lies_after_the_last_missing_evaluation_is_spared() {
        assert_eq!(path(80, 40, &finished(80, 16, &[])), [(false, 0, 40), (true, 40, 80)]);
        assert_eq!(path(80, 79, &finished(80, 10, &[])), [(false, 0, 79), (true, 79, 80)]);
    }

    #[test]
    fn a_longer_run_goes_on_from_the_end_of_a_shorter_one() {
        assert_eq!(path(120, 10, &finished(80, 10, &[])), [(true, 0, 80), (false, 80, 120)]);
        // Step 85 of the shorter run was evaluated as its last; the longer one is not, and needs it no more.
        assert_eq!(path(120, 10, &finished(85, 10, &[])), [(true, 0, 85), (false, 85, 120)]);
    }

    #[test]
    fn a_shorter_run_stops_at_a_kept_state_or_computes_up_to_its_end() {
        assert_eq!(path(40, 10, &finished(80, 10, &[20, 40])), [(true, 0, 40)]);
        // The 45th step is evaluated as the last: its row lacks the distance to the base.
        assert_eq!(path(45, 10, &finished(80, 10, &[20, 40])), [(true, 0, 40), (false, 40, 45)]);
        assert_eq!(path(45, 10, &finished(80, 10, &[])), [(false, 0, 45)]);
    }

    #[test]
    fn another_evaluation_takes_states_and_makes_its_own_rows() {
        let known = Known { evals: BTreeSet::new(), ..finished(40, 10, &[10, 20, 30]) };
        assert_eq!(path(40, 10, &known), [(true, 0, 40)]);
        assert_eq!(spared(&Needs { steps: 40, every: 10, kl_always: false }.segments(&known, 0)), 40);
        // Where the state of an evaluated step is not kept, the steps up to it are computed.
        let known = Known { evals: BTreeSet::new(), ..finished(40, 10, &[20]) };
        assert_eq!(path(40, 10, &known), [(false, 0, 10), (true, 10, 20), (false, 20, 30), (true, 30, 40)]);
    }

    #[test]
    fn a_loss_with_the_distance_in_it_has_it_in_every_row() {
        let mut known = finished(40, 10, &[20]);
        known.rows.values_mut().for_each(|measured| *measured = true);
        let needs = Needs { steps: 20, every: 7, kl_always: true };
        known.evals = [0, 7, 14, 20].into();
        assert_eq!(needs.jump(&known, 0), Some(20));
    }
}
