//! Passes over sequences forward with what the way back needs, and back: gradients of any loss of the logprobs of their tokens.
//!
//! The way back goes layer by layer over all parts of a batch, so that a layer's gradients are complete, can be used and dropped
//! before the next layer's exist. What a part does not keep of a layer is computed again from the layer's input: to the same bits.
//!
//! Shape legend: n tokens of a list, m loss tokens, h hidden, v vocabulary.

use tch::{Kind, Tensor};

use super::attention::Among;
use super::layer::{Saved, Turned, add_product, place};
use super::packing::{Feed, rows};
use super::{Model, TorchError};

/// Bytes of logits that exist at the same time.
const LOGITS: i64 = 64 << 20;

/// Whose logprobs a loss is made of.
#[derive(Debug)]
pub struct Targets {
    /// Place in the list of the token that predicts each target, int64 `[m]`.
    pub source_m: Tensor,
    /// int64 `[m]`.
    pub target_m: Tensor,
    /// Divides the logits.
    pub temperature: f64,
}

/// A list of tokens that went forward through the model.
#[derive(Debug)]
pub struct Tape {
    pub(super) feed: Feed,
    /// The input of every layer and the output of the last, `[n, h]` each.
    pub x: Vec<Tensor>,
    /// What every layer kept; empty when it is computed again.
    pub saved: Vec<Saved>,
}

/// What is kept of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All that the way back needs.
    Everything,
    /// The inputs of the layers: the rest is computed again.
    Inputs,
}

impl Tape {
    /// Passes a list through the model.
    ///
    /// # Errors
    /// When memory runs out, or a sequence is longer than the model's positions.
    pub fn forward(model: &Model, feed: Feed, keep: Keep) -> Result<Self, TorchError> {
        let _guard = tch::no_grad_guard();
        let n = feed.len();
        let layers = model.architecture().layers;
        let h = model.architecture().hidden_size as i64;
        let make = || rows(n, h, model.kind(), model.device());
        let x: Vec<Tensor> = (0..=layers).map(|_| make()).collect::<Result<_, _>>()?;
        let mut saved = Vec::new();
        let tables = model.rotary.tables(feed.sequences.longest() as i64)?;
        let turned = Turned { positions: &feed.positions_n, tables: (&tables.0, &tables.1) };
        let mut among = Among::new(model, &feed.sequences, n)?;
        model.embed(&feed.tokens_n, &x[0])?;
        let mut room = None;
        for layer in 0..layers {
            let of_layer = match room.take() {
                Some(room) => room,
                None => Saved::new(model, n)?,
            };
            model.layer_forward(layer, &x[layer], &of_layer, turned, &mut among, &x[layer + 1])?;
            match keep {
                Keep::Everything => saved.push(of_layer),
                Keep::Inputs => room = Some(of_layer),
            }
        }
        drop(among);
        Ok(Self { feed, x, saved })
    }

    /// Logprobs of targets and entropies of their distributions, `[m]` each, in nats.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn logprobs(&self, model: &Model, targets: &Targets) -> Result<(Tensor, Tensor), TorchError> {
        let _guard = tch::no_grad_guard();
        let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
        for (from, count) in chunks(model, targets) {
            let source = targets.source_m.f_narrow(0, from, count)?;
            let logits = model.logits(&self.last().f_index_select(0, &source)?)?;
            let target = targets.target_m.f_narrow(0, from, count)?;
            let (logprob, entropy, _) = model.ops.targets(logits, targets.temperature, &target, None)?;
            logprobs.push(logprob);
            entropies.push(entropy);
        }
        if logprobs.is_empty() {
            let none = Tensor::f_zeros([0], (Kind::Float, model.device()))?;
            return Ok((none.shallow_clone(), none));
        }
        Ok((Tensor::f_cat(&logprobs, 0)?, Tensor::f_cat(&entropies, 0)?))
    }

    /// The output of the last layer, `[n, h]`.
    fn last(&self) -> &Tensor {
        &self.x[self.x.len() - 1]
    }

    /// The same for some sequences alone, copied; their tokens have places of their own.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn part(&self, model: &Model, sequences: &[usize]) -> Result<Self, TorchError> {
        let (sequences, places) = self.feed.sequences.part(sequences);
        let index = Tensor::f_from_slice(&places)?.f_to_device(model.device())?;
        let pick = |tensor: &Tensor| tensor.f_index_select(0, &index);
        Ok(Self {
            feed: Feed {
                tokens_n: pick(&self.feed.tokens_n)?,
                positions_n: pick(&self.feed.positions_n)?,
                sequences,
            },
            x: self.x.iter().map(pick).collect::<Result<_, _>>()?,
            saved: self.saved.iter().map(|saved| saved.select(&index)).collect::<Result<_, _>>()?,
        })
    }
}

/// Chunks of targets whose logits are [`LOGITS`] bytes at most.
fn chunks(model: &Model, targets: &Targets) -> impl Iterator<Item = (i64, i64)> + use<> {
    let v = model.architecture().vocab_size as i64;
    let (m, step) = (targets.target_m.numel() as i64, (LOGITS / (4 * v)).max(1));
    (0..m).step_by(step as usize).map(move |from| (from, step.min(m - from)))
}

/// A part of a batch on its way back.
#[derive(Debug)]
pub struct Part {
    pub tape: Tape,
    pub targets: Targets,
    /// Derivative of the loss by each target's logprob, float32 `[m]`.
    pub slope_m: Tensor,
}

/// What the way back measured of the targets, `[m]` each, by part.
pub type Measured = Vec<(Tensor, Tensor)>;

/// The gradient of the loss by every parameter, float32, each handed to `sink` once, complete, with the parameter's place among
/// the tensors; the last layer's come first. Returns logprobs and entropies of the targets.
///
/// # Errors
/// When memory runs out, and those of `sink`.
pub fn backward(
    model: &Model,
    mut parts: Vec<Part>,
    sink: &mut dyn FnMut(usize, Tensor) -> Result<(), TorchError>,
) -> Result<Measured, TorchError> {
    let _guard = tch::no_grad_guard();
    let (kind, device) = place(model);
    let zeros = |index: usize| Tensor::f_zeros(model.weights.tensors[index].size(), (Kind::Float, device));
    let mut head = zeros(model.head())?;
    let mut norm = zeros(model.last_norm())?;
    let (mut measured, mut dxs) = (Vec::new(), Vec::new());
    for part in &mut parts {
        let dx = Tensor::f_zeros(part.tape.last().size(), (kind, device))?;
        measured.push(head_back(model, part, &dx, &mut head, &mut norm)?);
        // The last output is not needed again.
        part.tape.x.pop();
        dxs.push(dx);
    }
    if !model.architecture().tied {
        sink(model.head(), std::mem::replace(&mut head, Tensor::new()))?;
    }
    sink(model.last_norm(), norm)?;
    let (feeds, mut stacks): (Vec<Feed>, Vec<_>) =
        parts.into_iter().map(|part| (part.tape.feed, (part.tape.x, part.tape.saved))).unzip();
    let mut ways = feeds
        .iter()
        .map(|feed| {
            let tables = model.rotary.tables(feed.sequences.longest() as i64)?;
            Ok((Among::new(model, &feed.sequences, feed.len())?, tables))
        })
        .collect::<Result<Vec<_>, TorchError>>()?;
    for layer in (0..model.architecture().layers).rev() {
        let mut sums = model.layer_zeros(layer)?;
        for (at, (among, tables)) in ways.iter_mut().enumerate() {
            let (feed, dx, (x, saved)) = (&feeds[at], &dxs[at], &mut stacks[at]);
            let (Some(input), kept) = (x.pop(), saved.pop()) else { continue };
            let turned = Turned { positions: &feed.positions_n, tables: (&tables.0, &tables.1) };
            let kept = if let Some(kept) = kept {
                kept
            } else {
                let again = Saved::new(model, feed.len())?;
                let output = input.f_empty_like()?;
                model.layer_forward(layer, &input, &again, turned, among, &output)?;
                again
            };
            let attend_back = |saved: &Saved, dout: &Tensor| among.back(model, saved, dout);
            model.layer_back(layer, &input, &kept, turned, &attend_back, dx, &mut sums)?;
        }
        for (slot, sum) in sums.into_iter().enumerate() {
            sink(model.index(layer, slot), sum)?;
        }
    }
    let mut embedding = if model.architecture().tied { head } else { zeros(0)? };
    for (feed, dx) in feeds.iter().zip(&dxs) {
        model.ops.add_rows(&mut embedding, &feed.tokens_n, dx)?;
    }
    sink(0, embedding)?;
    Ok(measured)
}

/// From slopes to the gradient by the last layer's output, `dx [n, h]`, in chunks of targets.
fn head_back(
    model: &Model,
    part: &Part,
    dx: &Tensor,
    head: &mut Tensor,
    norm: &mut Tensor,
) -> Result<(Tensor, Tensor), TorchError> {
    let (kind, device) = place(model);
    let (matrix, weight) = (&model.weights.tensors[model.head()], &model.weights.tensors[model.last_norm()]);
    let targets = &part.targets;
    let m = targets.target_m.numel() as i64;
    let options = (Kind::Float, device);
    let (logprobs, entropies) = (Tensor::f_empty([m], options)?, Tensor::f_empty([m], options)?);
    // Several targets may have one source: a group's first tokens. Their gradients are added up in float32.
    let mut wide =
        if kind == Kind::Float { dx.shallow_clone() } else { Tensor::f_zeros(dx.size(), options)? };
    for (from, count) in chunks(model, targets) {
        let cut = |tensor: &Tensor| tensor.f_narrow(0, from, count);
        let source = cut(&targets.source_m)?;
        let x = part.tape.last().f_index_select(0, &source)?;
        let normed = model.last_normed(&x)?;
        let logits = normed.f_mm(&matrix.f_tr()?)?.f_to_kind(Kind::Float)?;
        let (logprob, entropy, dlogits) = model.ops.targets(
            logits,
            targets.temperature,
            &cut(&targets.target_m)?,
            Some(&cut(&part.slope_m)?),
        )?;
        cut(&logprobs)?.f_copy_(&logprob)?;
        cut(&entropies)?.f_copy_(&entropy)?;
        let Some(dlogits) = dlogits else { continue };
        let dlogits = dlogits.f_to_kind(kind)?;
        add_product(head, &dlogits, &normed)?;
        let dnormed = dlogits.f_mm(matrix)?;
        drop(dlogits);
        let dx = x.f_empty_like()?;
        model.ops.norm_back(&dnormed, &x, weight, model.architecture().rms_eps, &dx, false, norm)?;
        model.ops.add_rows(&mut wide, &source, &dx)?;
    }
    if kind != Kind::Float {
        dx.shallow_clone().f_copy_(&wide)?;
    }
    Ok((logprobs, entropies))
}
