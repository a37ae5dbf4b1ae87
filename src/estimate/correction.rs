//! What finished runs teach about the model's errors: measured over predicted, by phase.

use super::{Estimate, Speed};

/// A run with what was measured of it. One that is under way counts too, with an estimate for the steps it has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// What was predicted of it.
    pub estimate: Estimate,
    /// The nominal speed of the device and threads that it ran on.
    pub speed: Speed,
    /// Sum of its column `rollout_seconds`.
    pub rollout_seconds: f64,
    /// Sum of its column `train_seconds`.
    pub train_seconds: f64,
    /// Sum of its column `eval_seconds`.
    pub eval_seconds: f64,
    /// Largest of its column `peak_memory_bytes`.
    pub peak_memory_bytes: Option<u64>,
}

/// Factors for predictions; 1 is the model as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// On the time of rollouts.
    pub rollout: f64,
    /// On the time of training.
    pub train: f64,
    /// On the time of evaluations.
    pub eval: f64,
    /// On memory.
    pub memory: f64,
    /// Measured runs that the factors rest on.
    pub runs: usize,
}

impl Default for Factors {
    fn default() -> Self {
        Self { rollout: 1.0, train: 1.0, eval: 1.0, memory: 1.0, runs: 0 }
    }
}

/// By how much measured runs differ from the model. What was measured on a CPU says nothing of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Correction {
    /// Of runs on a CPU.
    pub cpu: Factors,
    /// Of runs on a GPU.
    pub cuda: Factors,
}

impl Correction {
    /// The median of measured over predicted, for each phase: one run that was disturbed moves it little. A phase that was
    /// never measured gets the median over the phases that were. What is not above zero is left out.
    pub fn from_measured(measured: &[Measured]) -> Self {
        Self { cpu: factors(measured, false), cuda: factors(measured, true) }
    }

    /// The factors for a device.
    pub fn of(&self, speed: &Speed) -> &Factors {
        if speed.cuda { &self.cuda } else { &self.cpu }
    }
}

fn factors(measured: &[Measured], cuda: bool) -> Factors {
    let (mut rollout, mut train, mut eval, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let runs: Vec<&Measured> = measured.iter().filter(|run| run.speed.cuda == cuda).collect();
    for run in &runs {
        let (work, dtype) = (&run.estimate.work, run.estimate.dtype);
        for (ratios, seconds, cost) in [
            (&mut rollout, run.rollout_seconds, work.rollout),
            (&mut train, run.train_seconds, work.train),
            (&mut eval, run.eval_seconds, work.eval),
        ] {
            ratios.extend(ratio(seconds, run.speed.seconds(cost, dtype)));
        }
        memory.extend(
            run.peak_memory_bytes.and_then(|bytes| ratio(bytes as f64, run.estimate.memory.total() as f64)),
        );
    }
    let all = median(rollout.iter().chain(&train).chain(&eval).copied().collect()).unwrap_or(1.0);
    Factors {
        rollout: median(rollout).unwrap_or(all),
        train: median(train).unwrap_or(all),
        eval: median(eval).unwrap_or(all),
        memory: median(memory).unwrap_or(1.0),
        runs: runs.len(),
    }
}

fn ratio(measured: f64, predicted: f64) -> Option<f64> {
    let ratio = measured / predicted;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// The middle value; of two middle ones the geometric mean, which treats half and double alike.
fn median(mut ratios: Vec<f64>) -> Option<f64> {
    ratios.sort_by(f64::total_cmp);
    let upper = *ratios.get(ratios.len() / 2)?;
    let lower = ratios[(ratios.len() - 1) / 2];
    Some(if upper == lower { upper } else { (lower * upper).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![2.0, 8.0]), Some(4.0));
        assert_eq!(median(vec![900.0, 2.0, 1.0]), Some(2.0));
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 1.0), None);
    }
}
