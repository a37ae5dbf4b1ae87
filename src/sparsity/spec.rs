//! The typed, valid description of a mask.
//!
//! One mechanism: a criterion (chance, a score, a part of the model, a file) chooses entries of the tensors whose module
//! kind is asked for; a choice says how many, in pools of which scope and in which units; a control turns the result.

use std::path::PathBuf;

use super::Modules;

/// Which parameters are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskSpec {
    /// All of them.
    Full,
    /// Some of them.
    Sparse(Sparse),
}

/// How some of the parameters are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// What decides.
    pub criterion: Criterion,
    /// Module kinds that may be chosen from. A file is taken as it is, whatever this says.
    pub modules: Modules,
    /// What is made of the choice.
    pub control: Control,
}

/// What decides which entries are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Criterion {
    /// A uniform draw without replacement.
    Random {
        /// Seed of the draw.
        seed: u64,
        /// Which generator.
        rng: MaskRng,
        /// How many, in which pools.
        choice: Choice,
    },
    /// The entries with the largest (or smallest) score.
    Scored {
        /// Which score.
        by: Score,
        /// Which end of the ranking.
        keep: Keep,
        /// How many, in which pools.
        choice: Choice,
    },
    /// Whole decoder layers at one end of the model, and nothing else.
    Layers {
        /// Which end.
        side: Side,
        /// How many layers.
        count: u32,
    },
    /// Everything of the chosen module kinds.
    Modules,
    /// A mask that is there, or two of them together.
    File {
        /// The mask.
        file: MaskSource,
        /// What it is joined with, and how.
        with: Option<(Join, MaskSource)>,
    },
}

/// A score of every entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Score {
    /// Squared gradients: the Fisher diagonal, as `FisherSpec` estimates it.
    Fisher(FisherSpec),
    /// Absolute gradients, estimated over the same data.
    Gradient(FisherSpec),
    /// Absolute weight times absolute gradient (SNIP, Lee et al. 2019).
    Snip(FisherSpec),
    /// Absolute weight.
    Magnitude,
    /// Absolute change of the weight in a finished full run: the oracle subnetwork.
    Moved {
        /// Id of the run, 64 hexadecimal digits.
        run: String,
    },
}

/// How many entries are chosen, out of which pools, in which units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Share of entries that stay untouched, in (0, 1); of those that may be chosen from.
    pub sparsity: f64,
    /// How the kept count of a pool is rounded.
    pub rounding: Rounding,
    /// The pools.
    pub scope: Scope,
    /// What is chosen as one.
    pub unit: Unit,
}

/// The pools that a choice is made in: each keeps its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All entries are one pool.
    Global,
    /// Every tensor is one.
    PerTensor,
    /// Every decoder layer is one; what lies before the layers is one, and what lies after them.
    PerLayer,
    /// So many consecutive entries of a row are one (N:M sparsity); the last of a row may be shorter.
    PerGroup(u32),
}

/// What is chosen as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Single entries.
    Entry,
    /// Rows of matrices: all that makes an output. An entry of a vector is a row.
    Row,
    /// Columns of matrices: all that an input reaches. A vector is one column.
    Column,
}

/// An end of a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The highest scores.
    High,
    /// The lowest.
    Low,
}

/// What is made of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It is taken as it is.
    None,
    /// All other entries that could have been chosen.
    Complement,
    /// As many entries of every tensor, at random places.
    Permuted {
        /// Seed of the places.
        seed: u64,
    },
}

/// How two masks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Entries of either.
    Union,
    /// Entries of both.
    Intersection,
}

/// A mask file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskSource {
    /// Where it lies.
    pub path: PathBuf,
    /// blake3 of its bytes, in hex.
    pub digest: String,
    /// Entries that it trains.
    pub active: u64,
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

/// How scores are estimated from gradients.
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

impl MaskSpec {
    /// The word of `mask.type`.
    pub fn word(&self) -> &'static str {
        let Self::Sparse(Sparse { criterion, .. }) = self else { return "full" };
        match criterion {
            Criterion::Random { .. } => "random",
            Criterion::Scored { by, .. } => by.word(),
            Criterion::Layers { .. } => "layers",
            Criterion::Modules => "modules",
            Criterion::File { with: None, .. } => "file",
            Criterion::File { with: Some((Join::Union, _)), .. } => "union",
            Criterion::File { with: Some((Join::Intersection, _)), .. } => "intersection",
        }
    }

    /// A criterion's own choice, of every module kind.
    pub fn plain(criterion: Criterion) -> Self {
        Self::Sparse(Sparse { criterion, modules: Modules::ALL, control: Control::None })
    }

    /// The study's random mask: the floor of the kept share of every tensor.
    pub fn random(sparsity: f64, seed: u64, rng: MaskRng) -> Self {
        let choice =
            Choice { sparsity, rounding: Rounding::Floor, scope: Scope::PerTensor, unit: Unit::Entry };
        Self::plain(Criterion::Random { seed, rng, choice })
    }

    /// The entries of highest score over all tensors together.
    pub fn scored(by: Score, sparsity: f64, rounding: Rounding) -> Self {
        let choice = Choice { sparsity, rounding, scope: Scope::Global, unit: Unit::Entry };
        Self::plain(Criterion::Scored { by, keep: Keep::High, choice })
    }

    /// How many entries are chosen; `None` where that follows from the criterion.
    pub fn choice(&self) -> Option<&Choice> {
        match self {
            Self::Sparse(Sparse { criterion, .. }) => match criterion {
                Criterion::Random { choice, .. } | Criterion::Scored { choice, .. } => Some(choice),
                Criterion::Layers { .. } | Criterion::Modules | Criterion::File { .. } => None,
            },
            Self::Full => None,
        }
    }

    /// The same, to be changed.
    pub fn choice_mut(&mut self) -> Option<&mut Choice> {
        match self {
            Self::Sparse(Sparse { criterion, .. }) => match criterion {
                Criterion::Random { choice, .. } | Criterion::Scored { choice, .. } => Some(choice),
                Criterion::Layers { .. } | Criterion::Modules | Criterion::File { .. } => None,
            },
            Self::Full => None,
        }
    }

    /// The score that decides.
    pub fn score(&self) -> Option<&Score> {
        match self {
            Self::Sparse(Sparse { criterion: Criterion::Scored { by, .. }, .. }) => Some(by),
            _ => None,
        }
    }

    /// How the scores are estimated that it needs from gradients.
    pub fn gradients(&self) -> Option<&FisherSpec> {
        match self.score()? {
            Score::Fisher(spec) | Score::Gradient(spec) | Score::Snip(spec) => Some(spec),
            Score::Magnitude | Score::Moved { .. } => None,
        }
    }

    /// What its scores of gradients are sums of.
    pub fn measure(&self) -> Measure {
        match self.score() {
            Some(Score::Gradient(_) | Score::Snip(_)) => Measure::Absolute,
            _ => Measure::Square,
        }
    }

    /// The id of the run whose changes it ranks by.
    pub fn moved_by(&self) -> Option<&str> {
        match self.score()? {
            Score::Moved { run } => Some(run),
            Score::Fisher(_) | Score::Gradient(_) | Score::Snip(_) | Score::Magnitude => None,
        }
    }

    /// The same without its seeds, which take neither time nor space.
    #[must_use]
    pub fn without_seeds(mut self) -> Self {
        if let Self::Sparse(sparse) = &mut self {
            if let Criterion::Random { seed, .. } = &mut sparse.criterion {
                *seed = 0;
            }
            if let Control::Permuted { seed } = &mut sparse.control {
                *seed = 0;
            }
        }
        self
    }
}
