//! From work to seconds, from runs to totals.

use super::{Correction, Estimate, Speed};

/// What a run or a stage will take on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Seconds of rollouts.
    pub rollout_seconds: f64,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds of evaluations.
    pub eval_seconds: f64,
    /// Seconds of the rest: start, disk, what is measured of the update. Not corrected.
    pub other_seconds: f64,
    /// Peak memory: of the device that holds the tensors.
    pub memory_bytes: u64,
}

impl Prediction {
    /// All phases together.
    pub fn seconds(&self) -> f64 {
        self.rollout_seconds + self.train_seconds + self.eval_seconds + self.other_seconds
    }
}

/// Seconds and bytes of a run, or of a stage, on a machine: the estimate at the device's speed, times the factors that
/// measured runs gave.
pub fn predict(estimate: &Estimate, speed: &Speed, correction: &Correction) -> Prediction {
    let factors = correction.of(speed);
    let work = &estimate.work;
    let seconds = |cost| speed.seconds(cost, estimate.dtype);
    Prediction {
        rollout_seconds: seconds(work.rollout) * factors.rollout,
        train_seconds: seconds(work.train) * factors.train,
        eval_seconds: seconds(work.eval) * factors.eval,
        other_seconds: speed.startup + work.disk_bytes / speed.disk + seconds(work.other),
        memory_bytes: (estimate.memory.total() as f64 * factors.memory) as u64,
    }
}

/// What a whole plan will take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Seconds of all workers together.
    pub worker_seconds: f64,
    /// Seconds from begin to end with workers side by side.
    pub seconds: f64,
    /// Most memory at one time, of workers side by side.
    pub memory_bytes: u64,
}

impl Totals {
    /// Totals of a plan, from the predictions of its tasks by stage: bases, scores, runs, each **once** however many runs
    /// share it. A stage ends before the next begins, which is at most what happens. A stage takes its longest task, or
    /// all of them divided by `jobs`, whichever is more; memory is that of the `jobs` largest tasks of a stage.
    pub fn of(stages: &[Vec<Prediction>], jobs: usize) -> Self {
        let jobs = jobs.max(1);
        let mut totals = Self::default();
        for stage in stages {
            let sum: f64 = stage.iter().map(Prediction::seconds).sum();
            let longest = stage.iter().map(Prediction::seconds).fold(0.0, f64::max);
            let mut bytes: Vec<u64> = stage.iter().map(|task| task.memory_bytes).collect();
            bytes.sort_unstable_by(|a, b| b.cmp(a));
            totals.worker_seconds += sum;
            totals.seconds += longest.max(sum / jobs as f64);
            totals.memory_bytes = totals.memory_bytes.max(bytes.iter().take(jobs).sum());
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_workers_side_by_side() {
        let task = |seconds, memory_bytes| Prediction {
            train_seconds: seconds,
            memory_bytes,
            ..Prediction::default()
        };
        let stages =
            [vec![task(10.0, 5)], vec![], vec![task(4.0, 1), task(4.0, 3), task(4.0, 4), task(2.0, 2)]];
        let totals = Totals::of(&stages, 2);
        // 10, then 14 seconds of work in two lanes; the two largest runs need more than the base.
        assert_eq!(totals, Totals { worker_seconds: 24.0, seconds: 17.0, memory_bytes: 7 });
        // With many lanes the longest task counts; with none given there is one.
        assert_eq!(Totals::of(&stages, 9).seconds, 14.0);
        assert_eq!(Totals::of(&stages, 0), Totals { worker_seconds: 24.0, seconds: 24.0, memory_bytes: 5 });
        assert_eq!(Totals::of(&[], 1), Totals::default());
    }
}
