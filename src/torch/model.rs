//! A decoder of any family with its weights: what every pass over it needs.
//!
//! Shape legend: n tokens, h hidden, v vocabulary. Sources: technical reports of Qwen2 (arXiv 2407.10671), Qwen3 (2505.09388) and
//! Llama 3 (2407.21783); numerics follow transformers' `modeling_qwen2`, `modeling_qwen3` and `modeling_llama` (RMSNorm in
//! float32, rotary halves). What a family has and another does not is in `slots.rs`, the layers in `layer.rs`.

use tch::{Device, Kind, Tensor};

use crate::data::Architecture;

use super::kernels::{Heads, decoder};
use super::layer::{Attend, Saved, Turned};
use super::ops::Ops;
use super::packing::rows;
use super::rotary::Rotary;
use super::slots::Slots;
use super::{TorchError, Weights};

/// A decoder with its weights.
#[derive(Debug)]
pub struct Model {
    /// The numbers.
    pub weights: Weights,
    pub(super) slots: Slots,
    pub(super) ops: Ops,
    /// Whether a GPU's decoding steps are recorded once and replayed.
    pub(super) graphs: bool,
    pub(super) rotary: Rotary,
}

impl Model {
    /// Wraps weights and prepares the rotary tables.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(weights: Weights) -> Result<Self, TorchError> {
        let (kind, device) = (weights.tensors[0].kind(), weights.tensors[0].device());
        let rotary = Rotary::new(&weights.architecture, kind, device)?;
        let ops = Ops::of(kind, device);
        Ok(Self { slots: Slots::new(&weights.architecture), weights, ops, graphs: false, rotary })
    }

    /// Leaves `kernels` out, as on a GPU: for comparing the two ways.
    #[must_use]
    pub fn unfused(mut self) -> Self {
        self.ops = Ops::plain();
        self
    }

    /// The decoder's shape.
    pub fn architecture(&self) -> &Architecture {
        &self.weights.architecture
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.weights.tensors[0].device()
    }

    /// Type of the weights.
    pub fn kind(&self) -> Kind {
        self.weights.tensors[0].kind()
    }

    pub(super) fn heads(&self) -> Heads {
        let shape = self.architecture();
        Heads { q: shape.heads as i64, k: shape.kv_heads as i64, d: shape.head_dim as i64 }
    }

    /// Where a layer's parameter stands among all tensors.
    pub(super) fn index(&self, layer: usize, slot: usize) -> usize {
        1 + self.slots.count * layer + slot
    }

    pub(super) fn weight(&self, layer: usize, slot: usize) -> &Tensor {
        &self.weights.tensors[self.index(layer, slot)]
    }

    /// Where the last norm's weight stands.
    pub(super) fn last_norm(&self) -> usize {
        self.index(self.architecture().layers, 0)
    }

    /// Where the matrix of the vocabulary stands: the embedding where it is tied.
    pub(super) fn head(&self) -> usize {
        if self.architecture().tied { 0 } else { self.weights.tensors.len() - 1 }
    }

    /// Embeds `tokens [n]` into `x [n, h]`.
    pub(super) fn embed(&self, tokens: &Tensor, x: &Tensor) -> Result<(), TorchError> {
        let _ = self.weights.tensors[0].f_index_select_out(x, 0, tokens)?;
        Ok(())
    }

    /// Next-token logits in float32 of `x [n, h]`, the last layer's output: `[n, v]`.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn logits(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        if self.ops.fused && decoder::suits(x.size()[0] as usize, x.size()[0]) {
            return self.decode_logits(x);
        }
        let normed = self.last_normed(x)?;
        self.ops.products.forward_wide(&normed, &self.weights.tensors[self.head()])
    }

    pub(super) fn last_normed(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let normed = x.f_empty_like()?;
        self.ops.norm(x, &self.weights.tensors[self.last_norm()], self.architecture().rms_eps, &normed)?;
        Ok(normed)
    }

    /// The last layer's output for a list of tokens, `[n, h]`: they have the rows from `from` on of the room.
    pub(super) fn run(
        &self,
        tokens: &Tensor,
        turned: Turned<'_>,
        attend: &mut dyn Attend,
        room: Room<'_>,
        from: i64,
    ) -> Result<Tensor, TorchError> {
        let n = tokens.size()[0];
        let input = |layer: usize| room.input(layer).f_narrow(0, from, n);
        let mut x = input(0)?;
        self.embed(tokens, &x)?;
        for layer in 0..self.architecture().layers {
            let out = input(layer + 1)?;
            let saved = room.saved(layer).part(from, n)?;
            self.layer_forward(layer, &x, &saved, turned, attend, Some(&out))?;
            x = out;
        }
        Ok(x)
    }
}

/// Where a pass puts what it computes.
#[derive(Clone, Copy, Debug)]
pub enum Room<'a> {
    /// Inputs of all layers, and what each keeps.
    Kept(&'a [Tensor], &'a [Saved]),
    /// For a while.
    Passing(&'a Scratch),
}

impl<'a> Room<'a> {
    /// All rows of the input of a layer; behind the last layer, of its output.
    pub(super) fn input(self, layer: usize) -> &'a Tensor {
        match self {
            Self::Kept(x, _) => &x[layer],
            Self::Passing(scratch) => &scratch.x[layer % 2],
        }
    }

    /// All rows of what a layer computes.
    pub(super) fn saved(self, layer: usize) -> &'a Saved {
        match self {
            Self::Kept(_, saved) => &saved[layer],
            Self::Passing(scratch) => &scratch.saved,
        }
    }

    pub(super) fn is_kept(self) -> bool {
        matches!(self, Self::Kept(..))
    }
}

/// Room for passes of which nothing is kept.
#[derive(Debug)]
pub struct Scratch {
    x: [Tensor; 2],
    saved: Saved,
}

impl Scratch {
    /// For `n` tokens at a time.
    pub fn new(model: &Model, n: i64) -> Result<Self, TorchError> {
        let h = model.architecture().hidden_size as i64;
        let make = || rows(n, h, model.kind(), model.device());
        Ok(Self { x: [make()?, make()?], saved: Saved::new(model, n)? })
    }

    /// Tokens that there is room for.
    pub fn len(&self) -> i64 {
        self.x[0].size()[0]
    }
}
