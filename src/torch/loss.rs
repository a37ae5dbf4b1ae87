//! Gradients of the GRPO objective in micro-batches, and their norms.
//!
//! In: a batch of rollouts. Out: gradients in float32, tensor by tensor, and statistics. Logits are divided by the sampling
//! temperature, as prime-rl and TRL do, and projected for loss tokens only. Sums are taken in an order that the batch and the
//! size of micro-batches decide.

use tch::{Device, Kind, Tensor};

use crate::data::{Kept, TokenBytes};
use crate::grpo::{ACTIVATIONS_MIB, GrpoSpec, token_weight};

use super::attention::Among;
use super::head::{Scored, Targets};
use super::layer::Turned;
use super::model::{Room, Scratch};
use super::objective::{Item, LossStats, objective, pack};
use super::packing::{Feed, Sequences};
use super::products::blocks;
use super::rollout::Rollout;
use super::tape::{Part, Sink, Tape, backward};
use super::{Model, TorchError};

/// Entries of a tensor that are summed at a time.
const PIECE: i64 = 1 << 22;

/// A batch of rollouts with what the loss needs to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The rollouts of one optimizer step.
    pub rollouts: &'a [Rollout],
    /// One advantage per rollout.
    pub advantages: &'a [f64],
    /// Logprobs of the base model, one list per rollout's drawn tokens, when the KL is wanted.
    pub reference: Option<&'a [Vec<f32>]>,
    /// Sampling temperature; greedy rollouts count as temperature 1.
    pub temperature: f64,
}

impl Batch<'_> {
    /// Some of the rollouts.
    #[must_use]
    pub fn part(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            rollouts: &self.rollouts[range.clone()],
            advantages: &self.advantages[range.clone()],
            reference: self.reference.map(|lists| &lists[range]),
            temperature: self.temperature,
        }
    }
}

/// The gradient of the GRPO loss of a batch, handed on tensor by tensor: no two layers' exist at the same time.
///
/// `tape` is how the rollouts came about, all of them and under these very weights: what it has is not computed again. Rollouts
/// that cannot move the weights (advantage 0 and no KL term) are counted in the statistics but not differentiated.
///
/// # Errors
/// When the loss is not finite, or memory runs out, and those of `sink`.
pub fn each_gradient(
    model: &Model,
    batch: Batch<'_>,
    spec: &GrpoSpec,
    tape: Option<Tape>,
    sink: &mut dyn Sink,
) -> Result<LossStats, TorchError> {
    let (rollouts, advantages) = (batch.rollouts, batch.advantages);
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    let item = |i: usize| Item {
        rollout: &rollouts[i],
        advantage: advantages[i],
        weight: token_weight(spec.normaliser, rollouts[i].length(), rollouts.len(), tokens),
        reference: batch.reference.map(|lists| lists[i].as_slice()),
    };
    let idle = |i: &usize| advantages[*i] == 0.0 && spec.kl_coef == 0.0;
    let (still, moving): (Vec<usize>, Vec<usize>) = (0..rollouts.len()).partition(idle);
    let micro_batch = spec.micro_batch as usize;
    let mut stats = LossStats::default();
    let mut add = |part: LossStats| {
        stats.loss += part.loss;
        stats.tokens += part.tokens;
        stats.clipped += part.clipped;
        stats.kl += part.kl;
        if part.loss.is_finite() { Ok(()) } else { Err(TorchError::NonFinite { what: "the loss".into() }) }
    };
    let mut slopes = |list: &[usize], logprob_n: Option<&Tensor>| -> Result<Tensor, TorchError> {
        let packed = pack(&list.iter().map(|&i| item(i)).collect::<Vec<_>>(), model.device())?;
        // What was drawn under these weights has the logprob that it was drawn with.
        let (slope_n, part) = objective(logprob_n.unwrap_or(&packed.behavior_n), &packed, spec)?;
        add(part)?;
        Ok(slope_n)
    };
    let (mut entropies, mut parts) = (Vec::new(), Vec::new());
    if let Some(tape) = tape {
        if !still.is_empty() {
            let of = |i: usize| &rollouts[i];
            let sequences = &tape.feed.sequences;
            let targets = targets_of(sequences, &still, &of, batch.temperature, model.device())?;
            entropies.push(tape.scored(model, &targets)?.entropy);
            let _ = slopes(&still, None)?;
        }
        let tape = if still.is_empty() { tape } else { tape.part(model, &moving)? };
        if !moving.is_empty() {
            let slope_m = slopes(&moving, None)?;
            parts.push(part(model, tape, &moving, rollouts, batch.temperature, slope_m)?);
        }
    } else {
        for list in still.chunks(micro_batch) {
            let chosen: Vec<&Rollout> = list.iter().map(|&i| &rollouts[i]).collect();
            let found = scored(model, &chosen, batch.temperature)?;
            let _ = slopes(list, Some(&found.logprob))?;
            entropies.push(found.entropy);
        }
        let feeds = moving
            .chunks(micro_batch)
            .map(|list| {
                let chosen: Vec<&Rollout> = list.iter().map(|&i| &rollouts[i]).collect();
                Feed::of(&chosen, model.architecture().vocab_size, model.device())
            })
            .collect::<Result<Vec<_>, TorchError>>()?;
        let kept = kept(model, feeds.iter().map(Feed::len).sum(), spec.activations_mib);
        for (list, feed) in moving.chunks(micro_batch).zip(feeds) {
            let tape = Tape::forward(model, feed, kept)?;
            let mut part = part(model, tape, list, rollouts, batch.temperature, Tensor::new())?;
            let found = part.tape.scored(model, &part.targets)?;
            part.slope_m = slopes(list, Some(&found.logprob))?;
            part.scored = Some(found);
            parts.push(part);
        }
    }
    let measured = backward(model, parts, sink)?;
    for entropy_n in entropies.iter().chain(measured.iter().map(|(_, entropy_n)| entropy_n)) {
        stats.entropy += f64::try_from(entropy_n.f_sum(Kind::Double)?)?;
    }
    Ok(stats)
}

/// What a pass over `n` tokens keeps.
fn kept(model: &Model, n: i64, mib: u32) -> Kept {
    Kept::of(&token_bytes(model), n.max(0) as usize, mib)
}

/// Bytes of a token in passes through the model.
pub(super) fn token_bytes(model: &Model) -> TokenBytes {
    TokenBytes::of(model.architecture(), model.kind().elt_size_in_bytes())
}

fn part(
    model: &Model,
    tape: Tape,
    list: &[usize],
    rollouts: &[Rollout],
    temperature: f64,
    slope_m: Tensor,
) -> Result<Part, TorchError> {
    // The tape has the chosen rollouts alone, in their order.
    let places: Vec<usize> = (0..list.len()).collect();
    let of = |at: usize| &rollouts[list[at]];
    let targets = targets_of(&tape.feed.sequences, &places, &of, temperature, model.device())?;
    Ok(Part { tape, targets, slope_m, scored: None })
}

/// The drawn tokens of some rollouts: sequence i is that of `rollout(i)`.
fn targets_of<'r>(
    sequences: &Sequences,
    chosen: &[usize],
    rollout: &dyn Fn(usize) -> &'r Rollout,
    temperature: f64,
    device: Device,
) -> Result<Targets, TorchError> {
    let (mut source, mut target) = (Vec::new(), Vec::new());
    for &sequence in chosen {
        let rollout = rollout(sequence);
        for t in (0..rollout.tokens.len()).filter(|&t| rollout.drawn[t]) {
            let place = t.checked_sub(1).and_then(|before| sequences.place(sequence, before));
            source.push(i64::from(place.ok_or(TorchError::NoContext)?));
            target.push(i64::from(rollout.tokens[t]));
        }
    }
    let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
    Ok(Targets { source_m: whole(&source)?, target_m: whole(&target)?, temperature })
}

/// What the model says of the drawn tokens of some rollouts, in one list, without gradients.
fn scored(model: &Model, rollouts: &[&Rollout], temperature: f64) -> Result<Scored, TorchError> {
    let _guard = tch::no_grad_guard();
    let feed = Feed::of(rollouts, model.architecture().vocab_size, model.device())?;
    let tables = model.rotary.tables(feed.sequences.longest() as i64)?;
    let turned = Turned { positions: &feed.positions_n, tables: (&tables.0, &tables.1) };
    let mut among = Among::new(model, &feed.sequences, feed.len())?;
    let x =
        model.run(&feed.tokens_n, turned, &mut among, Room::Passing(&Scratch::new(model, feed.len())?), 0)?;
    drop(among);
    let places: Vec<usize> = (0..rollouts.len()).collect();
    let targets = targets_of(&feed.sequences, &places, &|i| rollouts[i], temperature, model.device())?;
    Tape { feed, inputs: Vec::new(), every: 1, output: x, saved: Vec::new() }.scored(model, &targets)
}

/// Dense gradients of the GRPO loss of a batch, in float32, and statistics: [`each_gradient`] with all of them held.
///
/// # Errors
/// As [`each_gradient`].
pub fn gradients(
    model: &Model,
    batch: Batch<'_>,
    spec: &GrpoSpec,
) -> Result<(Vec<Tensor>, LossStats), TorchError> {
    let mut all = Collected::new(model);
    let stats = each_gradient(model, batch, spec, None, &mut all)?;
    Ok((all.0, stats))
}

/// Gradients in the order of the tensors.
#[derive(Debug)]
pub(super) struct Collected(pub Vec<Tensor>);

impl Collected {
    pub fn new(model: &Model) -> Self {
        Self(model.weights.tensors.iter().map(|_| Tensor::new()).collect())
    }
}

impl Sink for Collected {
    fn put(&mut self, index: usize, gradient: Tensor) -> Result<(), TorchError> {
        self.0[index] = gradient;
        Ok(())
    }
}

/// Logprobs of every rollout's drawn tokens under the model as it stands, one list per rollout, without gradients.
///
/// # Errors
/// When memory runs out.
pub fn score(
    model: &Model,
    rollouts: &[Rollout],
    temperature: f64,
    micro_batch: usize,
) -> Result<Vec<Vec<f32>>, TorchError> {
    let mut lists = Vec::with_capacity(rollouts.len());
    for part in rollouts.chunks(micro_batch) {
        let found = scored(model, &part.iter().collect::<Vec<_>>(), temperature)?;
        let mut flat = Vec::<f32>::try_from(&found.logprob)?.into_iter();
        lists.extend(part.iter().map(|rollout| flat.by_ref().take(rollout.length()).collect()));
    }
    Ok(lists)
}

/// The negative log-likelihood of conversations, each of whose drawn tokens has weight `weight`, and its gradient, handed to `sink`
/// tensor by tensor.
///
/// # Errors
/// As [`each_gradient`].
pub fn likelihood_gradient(
    model: &Model,
    rollouts: &[Rollout],
    weight: f64,
    sink: &mut dyn Sink,
) -> Result<f64, TorchError> {
    let list: Vec<usize> = (0..rollouts.len()).collect();
    let chosen: Vec<&Rollout> = rollouts.iter().collect();
    let feed = Feed::of(&chosen, model.architecture().vocab_size, model.device())?;
    let kept = kept(model, feed.len(), ACTIVATIONS_MIB);
    let tape = Tape::forward(model, feed, kept)?;
    let drawn: usize = rollouts.iter().map(Rollout::length).sum();
    let slope_m = Tensor::f_full([drawn as i64], -weight, (Kind::Float, model.device()))?;
    let measured = backward(model, vec![part(model, tape, &list, rollouts, 1.0, slope_m)?], sink)?;
    let total = measured.iter().map(|(logprob_n, _)| Ok(f64::try_from(logprob_n.f_sum(Kind::Double)?)?));
    Ok(-weight * total.sum::<Result<f64, TorchError>>()?)
}

/// Euclidean norm of a list of gradients, in float64.
///
/// # Errors
/// When the norm is not finite.
pub fn norm(gradients: &[Tensor]) -> Result<f64, TorchError> {
    let mut squares = Vec::with_capacity(gradients.len());
    for gradient in gradients.iter().filter(|gradient| gradient.numel() > 0) {
        squares.push(square_sum(gradient)?);
    }
    root(&squares)
}

/// Sum of squares of a gradient, float64, where the gradient is.
pub(super) fn square_sum(gradient: &Tensor) -> Result<Tensor, TorchError> {
    summed(gradient, |piece| piece.f_mul(piece))
}

/// Sum of the absolute values of a gradient, float64, where the gradient is.
pub(super) fn absolute_sum(gradient: &Tensor) -> Result<Tensor, TorchError> {
    summed(gradient, Tensor::f_abs)
}

/// Sum of a function of a tensor's entries, float64; of a large one in pieces, so that no second one exists.
fn summed(
    tensor: &Tensor,
    of: impl Fn(&Tensor) -> Result<Tensor, tch::TchError>,
) -> Result<Tensor, TorchError> {
    let flat = tensor.f_reshape([-1])?;
    let parts = blocks(flat.numel() as i64, PIECE).map(|(from, count)| {
        Ok(of(&flat.f_narrow(0, from, count)?.f_to_kind(Kind::Float)?)?.f_sum(Kind::Double)?)
    });
    match parts.collect::<Result<Vec<_>, TorchError>>()?.as_slice() {
        [one] => Ok(one.shallow_clone()),
        [] => Ok(Tensor::f_zeros([], (Kind::Double, tensor.device()))?),
        parts => Ok(Tensor::f_stack(parts, 0)?.f_sum(Kind::Double)?),
    }
}

/// The norm from the sums of squares of its parts.
///
/// # Errors
/// When it is not finite.
pub(super) fn root(squares: &[Tensor]) -> Result<f64, TorchError> {
    let norm = total_of(squares)?.sqrt();
    if norm.is_finite() { Ok(norm) } else { Err(TorchError::NonFinite { what: "the gradient norm".into() }) }
}

/// Sum of scalars that live on a device, with one transfer.
pub(super) fn total_of(scalars: &[Tensor]) -> Result<f64, TorchError> {
    if scalars.is_empty() {
        return Ok(0.0);
    }
    Ok(f64::try_from(Tensor::f_stack(scalars, 0)?.f_sum(Kind::Double)?)?)
}

/// torch's clip coefficient: `min(1, limit / (norm + 1e-6))`; a limit of zero clips nothing.
pub fn clip_scale(norm: f64, limit: f64) -> f64 {
    if limit == 0.0 { 1.0 } else { (limit / (norm + 1e-6)).min(1.0) }
}
