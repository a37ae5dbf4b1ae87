//! Passes over sequences forward with what the way back needs, and back: gradients of any loss of the logprobs of their tokens.
//!
//! The way back goes layer by layer over all parts of a batch, so that a layer's gradients are complete, can be used and dropped
//! before the next layer's exist. What a part does not keep of a layer is computed again from the last layer's input that is kept: to
//! the same bits.
//!
//! Shape legend: n tokens of a list, m loss tokens, h hidden.

use tch::{Kind, Tensor};

use crate::data::Kept;

use super::attention::Among;
use super::head::{Scored, Targets, head_back};
use super::layer::{Saved, Turned, place};
use super::packing::{Feed, rows};
use super::{Model, TorchError};

/// Where gradients go, each once, in float32, complete, with the parameter's place among the tensors. Last layers come first.
pub trait Sink {
    /// A tensor's whole gradient.
    ///
    /// # Errors
    /// The sink's own.
    fn put(&mut self, index: usize, gradient: Tensor) -> Result<(), TorchError>;

    /// Whether a matrix of the vocabulary of so many entries shall come in rows, by the two below, which add up. Where the head is
    /// the embedding, rows of embedded tokens come as zeros first and are listed at the end.
    fn takes_rows(&self, entries: usize) -> bool {
        let _ = entries;
        false
    }

    /// The rows from `from` on.
    ///
    /// # Errors
    /// The sink's own.
    fn put_rows(&mut self, index: usize, from: i64, rows: &Tensor) -> Result<(), TorchError> {
        let _ = (index, from, rows);
        Err(TorchError::Op { message: "gradients in rows are not taken here".into() })
    }

    /// The rows that `ids`, int64 and rising, name.
    ///
    /// # Errors
    /// The sink's own.
    fn put_listed(&mut self, index: usize, ids: &Tensor, rows: &Tensor) -> Result<(), TorchError> {
        let _ = (index, ids, rows);
        Err(TorchError::Op { message: "gradients in rows are not taken here".into() })
    }
}

impl<F: FnMut(usize, Tensor) -> Result<(), TorchError>> Sink for F {
    fn put(&mut self, index: usize, gradient: Tensor) -> Result<(), TorchError> {
        self(index, gradient)
    }
}

/// A list of tokens that went forward through the model.
#[derive(Debug)]
pub struct Tape {
    pub(super) feed: Feed,
    /// The input of every `every`-th layer from the first on, `[n, h]` each.
    pub inputs: Vec<Tensor>,
    /// How many layers lie between two of them.
    pub every: usize,
    /// The output of the last layer, `[n, h]`.
    pub output: Tensor,
    /// What every layer kept; empty when it is computed again.
    pub saved: Vec<Saved>,
}

impl Tape {
    /// Passes a list through the model.
    ///
    /// # Errors
    /// When memory runs out, or a sequence is longer than the model's positions.
    pub fn forward(model: &Model, feed: Feed, kept: Kept) -> Result<Self, TorchError> {
        let _guard = tch::no_grad_guard();
        let n = feed.len();
        let h = model.architecture().hidden_size as i64;
        let make = || rows(n, h, model.kind(), model.device());
        let (mut inputs, mut saved) = (Vec::new(), Vec::new());
        let every = if let Kept::Inputs(every) = kept { every } else { 1 };
        let tables = model.rotary.tables(feed.sequences.longest() as i64)?;
        let turned = Turned { positions: &feed.positions_n, tables: (&tables.0, &tables.1) };
        let mut among = Among::new(model, &feed.sequences, n)?;
        let mut x = make()?;
        model.embed(&feed.tokens_n, &x)?;
        let mut room = None;
        for layer in 0..model.architecture().layers {
            let of_layer = match room.take() {
                Some(room) => room,
                None => Saved::new(model, n)?,
            };
            let out = make()?;
            model.layer_forward(layer, &x, &of_layer, turned, &mut among, Some(&out))?;
            let input = std::mem::replace(&mut x, out);
            if layer % every == 0 {
                inputs.push(input);
            }
            match kept {
                Kept::Everything => saved.push(of_layer),
                Kept::Inputs(_) => room = Some(of_layer),
            }
        }
        drop(among);
        Ok(Self { feed, inputs, every, output: x, saved })
    }

    /// The same for some sequences alone; their tokens have places of their own. Each tensor goes when its part was copied.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn part(self, model: &Model, sequences: &[usize]) -> Result<Self, TorchError> {
        let (sequences, places) = self.feed.sequences.part(sequences);
        let index = Tensor::f_from_slice(&places)?.f_to_device(model.device())?;
        let pick = |tensor: Tensor| tensor.f_index_select(0, &index);
        Ok(Self {
            feed: Feed {
                tokens_n: pick(self.feed.tokens_n)?,
                positions_n: pick(self.feed.positions_n)?,
                sequences,
            },
            inputs: self.inputs.into_iter().map(pick).collect::<Result<_, _>>()?,
            every: self.every,
            output: pick(self.output)?,
            saved: self.saved.into_iter().map(|saved| saved.select(&index)).collect::<Result<_, _>>()?,
        })
    }
}

/// A part of a batch on its way back.
#[derive(Debug)]
pub struct Part {
    pub tape: Tape,
    pub targets: Targets,
    /// Derivative of the loss by each target's logprob, float32 `[m]`.
    pub slope_m: Tensor,
    /// What is known of the targets already.
    pub scored: Option<Scored>,
}

/// What the way back measured of the targets: logprobs and entropies, `[m]` each, by part.
pub type Measured = Vec<(Tensor, Tensor)>;

/// The gradient of the loss by every parameter, handed to `sink`. Returns logprobs and entropies of the targets.
///
/// # Errors
/// When memory runs out, and those of `sink`.
pub fn backward(model: &Model, parts: Vec<Part>, sink: &mut dyn Sink) -> Result<Measured, TorchError> {
    let _guard = tch::no_grad_guard();
    let (_, device) = place(model);
    let mut norm = Tensor::f_zeros(model.weights.tensors[model.last_norm()].size(), (Kind::Float, device))?;
    let (measured, dxs, vocabulary) = head_back(model, &parts, &mut norm, sink)?;
    sink.put(model.last_norm(), norm)?;
    let dxs: Vec<Tensor> = dxs.into_iter().map(|dx| model.dx_of(dx)).collect::<Result<_, _>>()?;
    // The last outputs are not needed again.
    let (feeds, mut stacks): (Vec<Feed>, Vec<Stack>) = parts
        .into_iter()
        .map(|Part { tape, .. }| {
            (tape.feed, Stack { inputs: tape.inputs, every: tape.every, saved: tape.saved })
        })
        .unzip();
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
            let (feed, dx) = (&feeds[at], &dxs[at]);
            let turned = Turned { positions: &feed.positions_n, tables: (&tables.0, &tables.1) };
            let Some((input, kept)) = stacks[at].layer(model, layer, turned, among)? else { continue };
            let attend_back = |saved: &Saved, dout: &Tensor| among.back(model, saved, dout);
            model.layer_back(layer, &input, &kept, turned, &attend_back, dx, &mut sums)?;
        }
        for (slot, sum) in sums.into_iter().enumerate() {
            sink.put(model.index(layer, slot), sum)?;
        }
    }
    let dxs: Vec<Tensor> = dxs
        .into_iter()
        .zip(&feeds)
        .map(|(dx, feed)| model.rows_of(dx, feed.len()))
        .collect::<Result<_, _>>()?;
    let tokens: Vec<&Tensor> = feeds.iter().map(|feed| &feed.tokens_n).collect();
    vocabulary.finish(model, &tokens, &dxs, sink)?;
    Ok(measured)
}

/// What a part has of the layers that the way back has not passed yet.
struct Stack {
    inputs: Vec<Tensor>,
    every: usize,
    saved: Vec<Saved>,
}

impl Stack {
    /// A layer's input and what it keeps, taken off or computed again; `None` when there is nothing left.
    fn layer(
        &mut self,
        model: &Model,
        layer: usize,
        turned: Turned<'_>,
        among: &mut Among<'_>,
    ) -> Result<Option<(Tensor, Saved)>, TorchError> {
        let Some(mut input) = self.inputs.last().map(Tensor::shallow_clone) else { return Ok(None) };
        let first = layer - layer % self.every;
        if first == layer {
            self.inputs.pop();
        }
        if let Some(saved) = self.saved.pop() {
            return Ok(Some((input, saved)));
        }
        let again = Saved::new(model, input.size()[0])?;
        for before in first..layer {
            let out = input.f_empty_like()?;
            model.layer_forward(before, &input, &again, turned, among, Some(&out))?;
            input = out;
        }
        model.layer_forward(layer, &input, &again, turned, among, None)?;
        Ok(Some((input, again)))
    }
}
