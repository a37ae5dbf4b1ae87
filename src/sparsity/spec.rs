//! The typed, valid description of a mask.

/// Which parameters are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskSpec {
    /// All of them.
    Full,
    /// A uniform draw without replacement in every tensor, `floor` of the kept share each.
    Random {
        /// Share of entries that stay untouched, in (0, 1).
        sparsity: f64,
        /// Seed of the draw.
        seed: u64,
        /// Which generator.
        rng: MaskRng,
    },
    /// The entries with the largest Fisher score, over all tensors together.
    Fisher {
        /// Share of entries that stay untouched, in (0, 1).
        sparsity: f64,
        /// How the kept count is rounded.
        rounding: Rounding,
        /// How the scores are estimated.
        fisher: FisherSpec,
    },
    /// Whole decoder layers at one end of the model, and nothing else. Not built yet.
    Layers {
        /// Which end.
        side: Side,
        /// How many layers.
        count: u32,
    },
    /// The entries of largest magnitude in the base model, over all tensors together.
    Magnitude {
        /// Share of entries that stay untouched, in (0, 1).
        sparsity: f64,
        /// How the kept count is rounded.
        rounding: Rounding,
    },
}

/// An end of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The layers next to the embedding.
    First,
    /// The layers next to the output.
    Last,
}

/// Generators of random masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRng {
    /// Counter-based `ChaCha`, one stream per tensor name.
    Chacha,
    /// NumPy's `default_rng(seed).choice`, as the study drew its masks.
    Numpy,
}

/// Rounding of the kept count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards zero.
    Floor,
    /// Away from zero.
    Ceil,
}

/// How Fisher scores are estimated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FisherSpec {
    /// Which estimator.
    pub estimator: FisherEstimator,
    /// Rollouts (batch), demonstrations (sample) or prompts (model) that the estimate uses.
    pub episodes: u32,
    /// Seed of the episodes and draws.
    pub seed: u64,
}

/// Estimators of the Fisher diagonal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FisherEstimator {
    /// The square of one GRPO batch gradient, clipped as in training (what the study did).
    Batch,
    /// The mean of per-demonstration squares of the log-likelihood gradient (the empirical Fisher diagonal).
    Sample,
    /// The same of conversations that the model itself draws (the true Fisher diagonal).
    Model,
}

impl FisherEstimator {
    /// Its name in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Sample => "sample",
            Self::Model => "model",
        }
    }
}

/// What of a gradient makes a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Its square, as in a Fisher diagonal.
    Square,
    /// Its absolute value, as in pruning by gradient magnitude.
    Absolute,
}

impl Measure {
    /// Its name in recipes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Square => "square",
            Self::Absolute => "absolute",
        }
    }
}
