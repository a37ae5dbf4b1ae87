//! The typed, valid settings of GRPO. Every choice that implementations disagree on is spelled here.

use super::Schedule;

/// Settings of the GRPO loop.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoSpec {
    /// Rollout-and-update steps of a run.
    pub steps: u32,
    /// Rollouts of one step; a multiple of `group_size`.
    pub rollouts_per_step: u32,
    /// Rollouts that share a prompt.
    pub group_size: u32,
    /// How rewards become advantages.
    pub advantage: Advantage,
    /// What happens to importance ratios far from one.
    pub ratio: RatioRule,
    /// Whose ratio that is.
    pub level: Level,
    /// What a batch's summed token losses are divided by.
    pub normaliser: Normaliser,
    /// Weight of the KL penalty to the base model (k3 estimator); 0 turns it off.
    pub kl_coef: f64,
    /// Whether the penalty is multiplied by the importance ratio, and differentiated through it.
    pub kl_corrected: bool,
    /// Optimizer steps into which one pass over a batch is cut; divides the number of groups.
    pub minibatches: u32,
    /// Passes over a batch of rollouts.
    pub updates_per_batch: u32,
    /// Rollouts per backward pass; changes float rounding only.
    pub micro_batch: u32,
    /// MiB of activations that are kept for the way back; what is beyond is computed again. Changes float rounding only.
    pub activations_mib: u32,
}

/// The `activations_mib` of a manifest that does not say.
pub const ACTIVATIONS_MIB: u32 = 2048;

/// Rewards to advantages, within a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advantage {
    /// `r - mean(r)` (prime-rl, Dr. GRPO).
    Mean,
    /// `(r - mean(r)) / (std(r) + eps)`, sample standard deviation (n - 1), eps 1e-4 (TRL, `DeepSeekMath`).
    MeanStd,
}

/// What has an importance ratio of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every token: `exp(logprob - behavior_logprob)`.
    Token,
    /// Every rollout: the geometric mean of the ratios of its drawn tokens, of all turns (GSPO).
    Sequence,
}

/// Treatment of importance ratios, of tokens or of rollouts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RatioRule {
    /// PPO's pessimistic clip to `[1 - low, 1 + high]`.
    Clip {
        /// Lower margin.
        low: f64,
        /// Upper margin.
        high: f64,
        /// Largest ratio that still moves a token with a negative advantage (TRL's `delta`); more than `1 + high`.
        delta: Option<f64>,
    },
    /// prime-rl's two-sided masking: a token outside `[low, high]` has no loss.
    Mask {
        /// Smallest ratio kept.
        low: f64,
        /// Largest ratio kept.
        high: f64,
        /// A rollout with a token's ratio below this has no loss; 0 turns it off.
        sequence_low: f64,
    },
    /// CISPO: the policy gradient weighted by `min(ratio, high)`, which is not differentiated.
    Cispo {
        /// Largest weight.
        high: f64,
    },
}

/// The denominator of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normaliser {
    /// All completion tokens of the (mini)batch, dropped ones included (prime-rl, DAPO).
    Token,
    /// Mean over each rollout's tokens, then over rollouts (original GRPO).
    Sequence,
    /// The rollouts of the (mini)batch times a number of tokens that is the same for all (Dr. GRPO).
    Constant {
        /// The most tokens that a rollout can draw: `sampling.max_tokens` in each of the task's most turns.
        tokens: u32,
    },
}

/// Settings of the optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerSpec {
    /// Learning rate; the largest of the schedule.
    pub lr: f64,
    /// How it moves over the steps.
    pub schedule: Schedule,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment, outside the root.
    pub eps: f64,
    /// Weight decay, on active entries only.
    pub weight_decay: f64,
    /// What the decay is multiplied by.
    pub decay: Decay,
    /// Largest gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// Which gradient's norm is clipped.
    pub clip_domain: ClipDomain,
}

impl OptimizerSpec {
    /// The learning rate of step `step`, counted from 0, in a run of `steps` steps.
    pub fn rate(&self, step: u32, steps: u32) -> f64 {
        self.lr * self.schedule.share(step, steps)
    }
}

/// The size of a step of weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// `lr * weight_decay`: AdamW's.
    Decoupled,
    /// `lr / (1 - beta1^t) * weight_decay`: the bias-corrected step size of the study's optimizer, ten times as much at the first
    /// step (`beta1 = 0.9`) and soon the same.
    Study,
}

/// The entries whose gradient norm is compared with `clip_norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipDomain {
    /// The active entries alone.
    Masked,
    /// All parameters, as a dense trainer sees them (the study's later runs).
    Dense,
}

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingSpec {
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens with at least this probability; 1 is off.
    pub top_p: f64,
    /// The k most probable tokens; 0 is off.
    pub top_k: u32,
    /// Tokens with at least this share of the largest probability; 0 is off.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of tokens already in the context; 1 is off.
    pub repetition_penalty: f64,
    /// Most new tokens in a turn.
    pub max_tokens: u32,
}

impl SamplingSpec {
    /// From the model's own distribution: temperature 1, and no filter.
    pub fn plain(max_tokens: u32) -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition_penalty: 1.0, max_tokens }
    }

    /// The temperature of the policy whose logprobs are recorded and differentiated: greedy draws count as 1.
    pub fn policy_temperature(&self) -> f64 {
        if self.temperature == 0.0 { 1.0 } else { self.temperature }
    }
}
