//! Learning rates over the steps of a run.
//!
//! Source: the schedules of transformers (`get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup`,
//! `get_cosine_with_min_lr_schedule_with_warmup`, half a wave), which TRL uses; torch's `LinearLR` and `CosineAnnealingLR` give
//! the same rates where there is no warm-up. They count optimizer steps; here a rate belongs to a step of GRPO, and all its
//! optimizer steps use it: the two counts agree where a step is one update, a row has one rate, and cutting a batch differently
//! does not bend the curve.

/// How the learning rate moves over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Steps over which the rate rises linearly from 0; the first of them has rate 0.
    pub warmup_steps: u32,
    /// What it does after the warm-up.
    pub shape: Shape,
}

/// The course of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// It stays.
    Constant,
    /// It falls by the same amount every step.
    Linear {
        /// Share of the peak that it would have after the last step.
        floor: f64,
    },
    /// It falls as half a wave of the cosine.
    Cosine {
        /// Share of the peak that it would have after the last step.
        floor: f64,
    },
}

impl Schedule {
    /// The same rate at every step.
    pub const CONSTANT: Self = Self { warmup_steps: 0, shape: Shape::Constant };

    /// Whether a step's rate depends on how many steps the run has.
    pub fn needs_steps(&self) -> bool {
        self.shape != Shape::Constant
    }

    /// The rate of step `step`, counted from 0, in a run of `steps` steps, as a share of the peak.
    pub fn share(&self, step: u32, steps: u32) -> f64 {
        if step < self.warmup_steps {
            return f64::from(step) / f64::from(self.warmup_steps);
        }
        let falling = f64::from(steps.saturating_sub(self.warmup_steps).max(1));
        let progress = f64::from(step - self.warmup_steps) / falling;
        let (fall, floor) = match self.shape {
            Shape::Constant => return 1.0,
            // What is left is counted from the end, so that it is rounded once.
            Shape::Linear { floor } => (f64::from(steps.saturating_sub(step)) / falling, floor),
            Shape::Cosine { floor } => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos()), floor),
        };
        fall * (1.0 - floor) + floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(schedule: Schedule, steps: u32) -> Vec<f64> {
        (0..steps).map(|step| schedule.share(step, steps)).collect()
    }

    #[test]
    fn rates_are_the_hand_worked_ones() {
        assert_eq!(shares(Schedule::CONSTANT, 3), [1.0; 3]);
        let warm = |shape| Schedule { warmup_steps: 2, shape };
        assert_eq!(shares(warm(Shape::Constant), 4), [0.0, 0.5, 1.0, 1.0]);
        // Four steps fall from 1 to 0, which a fifth would have.
        assert_eq!(shares(warm(Shape::Linear { floor: 0.0 }), 6), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        // The same, between 1 and 0.2: 0.75 * 0.8 + 0.2 = 0.8.
        let linear = shares(warm(Shape::Linear { floor: 0.2 }), 6);
        assert!((linear[3] - 0.8).abs() < 1e-15, "{linear:?}");
        // A third and two thirds of half a wave: cos(60 deg) = 1/2, cos(120 deg) = -1/2.
        let cosine = shares(Schedule { warmup_steps: 0, shape: Shape::Cosine { floor: 0.0 } }, 3);
        assert!((cosine[1] - 0.75).abs() < 1e-15 && (cosine[2] - 0.25).abs() < 1e-15, "{cosine:?}");
        let cosine = shares(Schedule { warmup_steps: 0, shape: Shape::Cosine { floor: 0.1 } }, 3);
        assert!((cosine[1] - (0.75 * 0.9 + 0.1)).abs() < 1e-15, "{cosine:?}");
    }

    #[test]
    fn only_a_constant_rate_is_independent_of_the_number_of_steps() {
        for (shape, needs) in [
            (Shape::Constant, false),
            (Shape::Linear { floor: 0.5 }, true),
            (Shape::Cosine { floor: 0.5 }, true),
        ] {
            let schedule = Schedule { warmup_steps: 1, shape };
            assert_eq!(schedule.needs_steps(), needs);
            assert_eq!(schedule.share(2, 4) != schedule.share(2, 8), needs);
        }
    }
}
