//! Time, memory and disk of a plan: what finished runs took, what the others are predicted to take.
//!
//! In: a plan, the states of its runs, the store. Out: one entry a run, and totals over what is left to do. Predictions are
//! those of the room `estimate`, corrected by the runs of this plan that were measured.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::survey::{StageView, StateView};
use crate::cli::space::{Space, size};
use crate::estimate::{
    Correction, Disk, Estimate, Measured, Prediction, Speed, Totals, estimate, of_pretrain, of_scores,
    predict,
};
use crate::execute::jobs;
use crate::manifest::{DeviceChoice, ModelSource, RunConfig};
use crate::plan::{Plan, RunSpec};
use crate::store::{Row, Stage, Store, StoreError};

/// What a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cost {
    /// It is finished, and took this.
    Measured {
        /// Of its rollouts, training and evaluations.
        seconds: f64,
        /// The largest of its process.
        memory_bytes: Option<u64>,
    },
    /// It is to be executed, or what is left of it.
    Predicted(Prediction),
    /// The shape of its base is not known.
    Unknown,
}

/// What a plan takes.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// Of every run, in the order of the plan.
    pub runs: Vec<Cost>,
    /// Of what is left to do.
    pub totals: Totals,
    /// Bases, scores and runs that are left to do.
    pub tasks: usize,
    /// Those whose cost is not known.
    pub unknown: usize,
    /// Measured runs that the prediction was corrected by.
    pub measured: usize,
    /// Whether it is made for a GPU.
    pub cuda: bool,
    /// Workers at the same time.
    pub jobs: usize,
    /// Threads of a run.
    pub threads: u32,
    /// Seconds of the bases and scores that are to be made, by their ids.
    pub stages: BTreeMap<String, f64>,
    /// Disk space of every run and of what is left to do.
    pub space: Space,
    /// Memory of this machine, where it is a CPU that computes.
    pub machine_bytes: Option<u64>,
}

impl Costs {
    /// Predicts a plan.
    ///
    /// # Errors
    /// When the rows of a finished run cannot be read.
    pub fn of(
        plan: &Plan,
        states: &[StateView],
        stages: &[StageView],
        store: &Store,
    ) -> Result<Self, StoreError> {
        let Some(first) = plan.runs.first() else { return Ok(Self::default()) };
        let mut runs = Vec::with_capacity(plan.runs.len());
        let mut measured = Vec::new();
        for (run, _) in plan.runs.iter().zip(states).filter(|(_, state)| state.state == "done") {
            let (cost, known) = taken(run, store)?;
            runs.push((run.id.as_str(), cost));
            measured.extend(known);
        }
        let exec = &first.config.exec;
        let on_gpu = measured.iter().any(|run| run.speed.cuda);
        let cuda = match exec.device {
            DeviceChoice::Cpu => false,
            DeviceChoice::Cuda => true,
            DeviceChoice::Auto => on_gpu || Path::new("/dev/nvidia0").exists(),
        };
        // More workers or threads than cores do not make anything faster.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if cuda { exec.threads } else { exec.threads.min(cores as u32) };
        let asked = jobs(plan, 0, usize::from(cuda));
        let lanes = if cuda { asked } else { asked.min((cores / threads.max(1) as usize).max(1)) };
        let speed = Speed::nominal(cuda, threads);
        let correction = Correction::from_measured(&measured);
        let mut costs = Self {
            measured: correction.of(&speed).runs,
            cuda,
            jobs: asked,
            threads: exec.threads,
            machine_bytes: if cuda { None } else { machine_bytes() },
            ..Self::default()
        };
        let mut tasks = [Vec::new(), Vec::new(), Vec::new()];
        let mut seconds = BTreeMap::new();
        let mut count = |estimate: Option<Estimate>, lane: usize| {
            costs.tasks += 1;
            costs.unknown += usize::from(estimate.is_none());
            let prediction = estimate.map(|estimate| predict(&estimate, &speed, &correction));
            tasks[lane].extend(prediction);
            prediction.map_or(Cost::Unknown, Cost::Predicted)
        };
        for stage in stages.iter().filter(|stage| stage.wanted && !stage.cached) {
            let (of, lane): (fn(&RunConfig) -> Option<Estimate>, _) = match stage.stage {
                Stage::Base => (of_pretrain, 0),
                Stage::Scores => (of_scores, 1),
                // A mask is made by the first run that needs it.
                Stage::Mask => continue,
            };
            let ids =
                |run: &&RunSpec| run.stages.base == stage.id || run.stages.scores.as_ref() == Some(&stage.id);
            let run = plan.runs.iter().find(ids);
            let made =
                |run: &&RunSpec| lane == 1 || matches!(run.config.model.source, ModelSource::Pretrain(_));
            if let Some(run) = run.filter(made)
                && let Cost::Predicted(found) = count(of(&run.config), lane)
            {
                seconds.insert(stage.id.clone(), found.seconds());
            }
        }
        let mut known = runs.into_iter().peekable();
        let mut last: Option<(RunConfig, Option<Estimate>)> = None;
        for (run, state) in plan.runs.iter().zip(states) {
            if let Some((_, cost)) = known.next_if(|(id, _)| *id == run.id.as_str()) {
                costs.runs.push(cost);
                continue;
            }
            let config = remaining(run, state);
            let estimate = match &last {
                Some((like, found)) if *like == config => *found,
                _ => {
                    let found = estimate(&config);
                    last = Some((config, found));
                    found
                }
            };
            // What a sweep leaves alone is no part of what is left to do.
            let alone = |found: Estimate| Cost::Predicted(predict(&found, &speed, &correction));
            let cost =
                if state.executed { count(estimate, 2) } else { estimate.map_or(Cost::Unknown, alone) };
            costs.runs.push(cost);
        }
        let executed = states.iter().map(|state| state.executed).collect::<Vec<_>>();
        let missing = |stage, id: &str| {
            Ok(stages.iter().any(|found| found.stage == stage && found.id == id && !found.cached))
        };
        costs.space = Space::of(plan, &executed, &missing, store, asked, &|_| {})?;
        costs.stages = seconds;
        costs.totals = Totals::of(&tasks, lanes);
        // Workers that are asked for are all there at once, however many cores there are.
        costs.totals.memory_bytes = Totals::of(&tasks, asked).memory_bytes;
        Ok(costs)
    }

    /// For a reader: what is left to do, on one line; empty when nothing is.
    pub fn told(&self) -> String {
        if self.tasks == self.unknown {
            return match self.unknown {
                0 => String::new(),
                _ => "time and memory are not known: the shape of the base is not".to_owned(),
            };
        }
        let device = match (self.cuda, self.threads) {
            (true, _) => "on a GPU".to_owned(),
            (false, 1) => "on a CPU, 1 thread each".to_owned(),
            (false, threads) => format!("on a CPU, {threads} threads each"),
        };
        let basis = match self.measured {
            0 => "from a model of the computation, nothing measured yet".to_owned(),
            1 => "corrected by 1 measured run".to_owned(),
            runs => format!("corrected by {runs} measured runs"),
        };
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!(", {unknown} not known"),
        };
        let machine = match self.machine_bytes {
            Some(bytes) if bytes < self.totals.memory_bytes => {
                format!(", MORE than the {} of this machine", size(bytes))
            }
            _ => String::new(),
        };
        format!(
            "what is left takes about {} with {} at once {device}, {} at most{machine} ({basis}{unknown})",
            duration(self.totals.seconds),
            super::counted(self.jobs, "worker"),
            size(self.totals.memory_bytes),
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "seconds": self.totals.seconds, "worker_seconds": self.totals.worker_seconds,
            "memory_bytes": self.totals.memory_bytes, "tasks": self.tasks, "unknown": self.unknown,
            "measured_runs": self.measured, "device": if self.cuda { "cuda" } else { "cpu" },
            "jobs": self.jobs, "threads": self.threads, "disk": disk_json(self.space.left),
        })
    }
}

/// Disk space as JSON.
pub(super) fn disk_json(disk: Disk) -> Value {
    json!({ "peak_bytes": disk.peak_bytes, "kept_bytes": disk.kept_bytes })
}

impl Cost {
    /// For the table: time and memory; what is predicted has a tilde.
    pub(super) fn cells(&self) -> [String; 2] {
        match self {
            Self::Measured { seconds, memory_bytes } => {
                [duration(*seconds), memory_bytes.map_or_else(String::new, size)]
            }
            Self::Predicted(found) => {
                [format!("~{}", duration(found.seconds())), format!("~{}", size(found.memory_bytes))]
            }
            Self::Unknown => ["?".to_owned(), "?".to_owned()],
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Measured { seconds, memory_bytes } => {
                json!({ "measured": true, "seconds": seconds, "memory_bytes": memory_bytes })
            }
            Self::Predicted(found) => json!({
                "measured": false, "seconds": found.seconds(), "memory_bytes": found.memory_bytes,
                "rollout_seconds": found.rollout_seconds, "train_seconds": found.train_seconds,
                "eval_seconds": found.eval_seconds, "other_seconds": found.other_seconds,
            }),
            Self::Unknown => Value::Null,
        }
    }
}

/// What a finished run took, and what that teaches.
fn taken(run: &RunSpec, store: &Store) -> Result<(Cost, Option<Measured>), StoreError> {
    let rows = match store.run_rows(run.id.as_str()) {
        // The state says what is damaged; here it is only not known what it took.
        Err(StoreError::Damaged { .. }) => return Ok((Cost::Unknown, None)),
        rows => rows?,
    };
    let sum =
        |rows: &[Row], column: &str| rows.iter().filter_map(|row| row.get(column)?.as_f64()).sum::<f64>();
    let rollout_seconds = sum(&rows.metrics, "rollout_seconds");
    let train_seconds = sum(&rows.metrics, "train_seconds");
    let eval_seconds = sum(&rows.evals, "eval_seconds");
    let peaks = rows.metrics.iter().filter_map(|row| row.get("peak_memory_bytes")?.as_u64());
    let peak_memory_bytes = peaks.max();
    let done = rows.done.unwrap_or_default();
    let cuda = done["device"].as_str().is_some_and(|device| device.starts_with("cuda"));
    let threads = done["threads"].as_u64().and_then(|threads| threads.try_into().ok()).unwrap_or(1);
    let speed = Speed::nominal(cuda, threads);
    let timed = rollout_seconds + train_seconds + eval_seconds > 0.0;
    let measured = estimate(&run.config).filter(|_| timed).map(|estimate| Measured {
        estimate,
        speed,
        rollout_seconds,
        train_seconds,
        eval_seconds,
        peak_memory_bytes,
    });
    let seconds = rollout_seconds + train_seconds + eval_seconds;
    Ok((Cost::Measured { seconds, memory_bytes: peak_memory_bytes }, measured))
}

/// A run as far as its cost goes: the steps that are left, and no seed or rate, which cost nothing.
fn remaining(run: &RunSpec, state: &StateView) -> RunConfig {
    let mut config = run.config.clone();
    let left = match &state.reuse {
        Some(reuse) => reuse.computed,
        None => config.grpo.steps.saturating_sub(state.saved),
    };
    config.grpo.steps = left.max(1);
    config.seed = 0;
    config.optimizer.lr = 1.0;
    config.eval.seed = 1;
    config.mask = config.mask.without_seeds();
    config
}

/// All memory of this machine; `None` where it does not say.
fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..=99 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..=99 => format!("{whole} s"),
        100..=5_999 => format!("{} min {:02} s", whole / 60, whole % 60),
        6_000..=359_999 => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_at_a_glance() {
        let said = [0.04, 9.96, 61.4, 150.0, 7_200.0, 1e6].map(duration);
        assert_eq!(said, ["0.0 s", "10 s", "61 s", "2 min 30 s", "2 h 00 min", "11.6 days"]);
    }
}
