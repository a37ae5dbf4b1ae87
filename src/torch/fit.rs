//! How much of a batch goes through the model at a time after memory ran out: half as much, as often as it takes.
//!
//! It changes float rounding, so it is part of what a run's steps were made in (its class), and a run is made all in one way: it
//! begins anew.

use serde_json::{Value, json};

use crate::grpo::GrpoSpec;
use crate::store::Checkpoint;

/// Where states, and classes, say it.
pub(super) const REDUCED: &str = "reduced";

/// What a run takes at a time instead of what its manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduced {
    micro_batch: u32,
    activations_mib: u32,
}

impl Reduced {
    /// Half of what a run takes now; `None` when it is a rollout, of which nothing is kept.
    pub fn half_of(grpo: &GrpoSpec) -> Option<Self> {
        let now = grpo.micro_batch.min(grpo.rollouts_per_step / grpo.minibatches);
        let least = now <= 1 && grpo.activations_mib == 0;
        // The last try keeps nothing.
        let activations_mib = if now <= 1 { 0 } else { grpo.activations_mib / 2 };
        (!least).then(|| Self { micro_batch: (now / 2).max(1), activations_mib })
    }

    /// As the state that an attempt goes on from says.
    pub fn of(saved: Option<&Checkpoint>) -> Option<Self> {
        let said = &saved?.meta()[REDUCED];
        let number = |key: &str| said[key].as_u64().and_then(|number| u32::try_from(number).ok());
        Some(Self { micro_batch: number("micro_batch")?, activations_mib: number("activations_mib")? })
    }

    /// In the place of what a manifest says.
    pub fn apply(self, grpo: &mut GrpoSpec) {
        (grpo.micro_batch, grpo.activations_mib) = (self.micro_batch, self.activations_mib);
    }

    /// As it is noted.
    pub fn to_value(self) -> Value {
        json!({ "micro_batch": self.micro_batch, "activations_mib": self.activations_mib })
    }
}

impl std::fmt::Display for Reduced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "grpo.micro_batch = {} and grpo.activations_mib = {}",
            self.micro_batch, self.activations_mib
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpo::{Advantage, Level, Normaliser, RatioRule};

    #[test]
    fn halves_end_with_one_rollout_of_which_nothing_is_kept() {
        let mut grpo = GrpoSpec {
            steps: 1,
            rollouts_per_step: 24,
            group_size: 4,
            advantage: Advantage::Mean,
            ratio: RatioRule::Clip { low: 0.2, high: 0.2, delta: None },
            level: Level::Token,
            normaliser: Normaliser::Token,
            kl_coef: 0.0,
            kl_corrected: false,
            minibatches: 2,
            updates_per_batch: 1,
            micro_batch: 128,
            activations_mib: 2048,
        };
        let mut seen = Vec::new();
        while let Some(half) = Reduced::half_of(&grpo) {
            half.apply(&mut grpo);
            seen.push((grpo.micro_batch, grpo.activations_mib));
        }
        // A minibatch has twelve rollouts.
        assert_eq!(seen, [(6, 1024), (3, 512), (1, 256), (1, 0)]);
    }
}
