//! A decoder layer over a list of tokens: forward with what the way back needs (`layer_back.rs`), without autograd.
//!
//! Products of matrices see the tokens of all sequences as one list, so nothing is padding. What is kept of a token is written
//! once, where [`Saved`] has its place.
//!
//! Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width.

use tch::{Device, Kind, Tensor};

use super::kernels::Qkv;
use super::packing::rows;
use super::{Model, TorchError};

/// What a layer keeps of its tokens, `[n, ...]` each; its input is kept by whoever has it.
#[derive(Debug)]
pub struct Saved {
    /// Queries and keys as they are compared, values: `[n, q]`, `[n, k]` twice.
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    /// Queries and keys before the norms of their heads, in families that have such.
    pub raw: Option<(Tensor, Tensor)>,
    /// What attention gave, and the logs of its sums, float32 `[n, heads]`.
    pub attended: Tensor,
    pub lse: Tensor,
    /// Between attention and MLP, `[n, h]`.
    pub middle: Tensor,
    /// `[n, i]` each.
    pub gate: Tensor,
    pub up: Tensor,
}

impl Saved {
    /// Room for `n` tokens; what is in it is not defined.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(model: &Model, n: i64) -> Result<Self, TorchError> {
        let shape = model.architecture();
        let d = shape.head_dim as i64;
        let (q, k, i) = (shape.heads as i64 * d, shape.kv_heads as i64 * d, shape.intermediate_size as i64);
        let make = |width| rows(n, width, model.kind(), model.device());
        let raw = shape.head_norms().then(|| Ok::<_, TorchError>((make(q)?, make(k)?))).transpose()?;
        Ok(Self {
            q: make(q)?,
            k: make(k)?,
            v: make(k)?,
            raw,
            attended: make(q)?,
            lse: rows(n, shape.heads as i64, Kind::Float, model.device())?,
            middle: make(shape.hidden_size as i64)?,
            gate: make(i)?,
            up: make(i)?,
        })
    }

    fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor, tch::TchError>) -> Result<Self, TorchError> {
        let raw = match &self.raw {
            Some((q, k)) => Some((change(q)?, change(k)?)),
            None => None,
        };
        Ok(Self {
            q: change(&self.q)?,
            k: change(&self.k)?,
            v: change(&self.v)?,
            raw,
            attended: change(&self.attended)?,
            lse: change(&self.lse)?,
            middle: change(&self.middle)?,
            gate: change(&self.gate)?,
            up: change(&self.up)?,
        })
    }

    /// The places of `count` tokens, shared with this.
    pub fn part(&self, from: i64, count: i64) -> Result<Self, TorchError> {
        self.map(|tensor| tensor.f_narrow(0, from, count))
    }

    /// A copy of some tokens' rows.
    pub fn select(&self, index: &Tensor) -> Result<Self, TorchError> {
        self.map(|tensor| tensor.f_index_select(0, index))
    }

    fn qkv(&self) -> Qkv<'_> {
        Qkv { q: &self.q, k: &self.k, v: &self.v }
    }
}

/// How the queries of a list find their keys: over a cache, or among the list's own sequences.
pub trait Attend {
    /// Fills `out [n, q]` and, where it is wanted, `lse [n, heads]`.
    fn attend(
        &mut self,
        model: &Model,
        layer: usize,
        new: Qkv<'_>,
        result: (&Tensor, &Tensor),
    ) -> Result<(), TorchError>;
}

/// Positions of a list's tokens and the tables for them.
#[derive(Clone, Copy, Debug)]
pub struct Turned<'a> {
    pub positions: &'a Tensor,
    pub tables: (&'a Tensor, &'a Tensor),
}

impl Model {
    /// `x [n, h]` to `out [n, h]`; without it no more than what is kept.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn layer_forward(
        &self,
        layer: usize,
        x: &Tensor,
        saved: &Saved,
        turned: Turned<'_>,
        attend: &mut dyn Attend,
        out: Option<&Tensor>,
    ) -> Result<(), TorchError> {
        let (shape, slots, ops) = (self.architecture(), self.slots, self.ops);
        let (eps, d) = (shape.rms_eps, shape.head_dim as i64);
        let weight = |slot: usize| self.weight(layer, slot);
        let normed = Tensor::f_empty_like(x)?;
        ops.norm(x, weight(slots.attention_norm), eps, &normed)?;
        let products = ops.products;
        let project = |slot: usize, biased: bool, out: &Tensor| {
            let bias = biased.then(|| weight(slot + 1));
            products.forward(&normed, weight(slot), bias, out)
        };
        let (q, k) = saved.raw.as_ref().map_or((&saved.q, &saved.k), |(q, k)| (q, k));
        project(slots.query, shape.attention_bias, q)?;
        project(slots.key, shape.attention_bias, k)?;
        project(slots.value, shape.attention_bias, &saved.v)?;
        if let (Some(norms), Some((q, k))) = (slots.head_norms, &saved.raw) {
            ops.norm(&by_head(q, d)?, weight(norms), eps, &by_head(&saved.q, d)?)?;
            ops.norm(&by_head(k, d)?, weight(norms + 1), eps, &by_head(&saved.k, d)?)?;
        }
        ops.rotate(&saved.q, d, turned.positions, turned.tables, 1.0)?;
        ops.rotate(&saved.k, d, turned.positions, turned.tables, 1.0)?;
        attend.attend(self, layer, saved.qkv(), (&saved.attended, &saved.lse))?;
        products.forward(&saved.attended, weight(slots.output), Some(x), &saved.middle)?;
        if shape.output_bias() {
            let _ = saved.middle.shallow_clone().f_add_(weight(slots.output + 1))?;
        }
        ops.norm(&saved.middle, weight(slots.mlp_norm), eps, &normed)?;
        products.forward(&normed, weight(slots.gate), None, &saved.gate)?;
        products.forward(&normed, weight(slots.up), None, &saved.up)?;
        let Some(out) = out else { return Ok(()) };
        let inner = Tensor::f_empty_like(&saved.gate)?;
        ops.swiglu(&saved.gate, &saved.up, &inner)?;
        products.forward(&inner, weight(slots.down), Some(&saved.middle), out)
    }
}

/// Heads as rows: `[n, heads * d]` to `[n * heads, d]`, the same numbers.
pub(super) fn by_head(x: &Tensor, d: i64) -> Result<Tensor, TorchError> {
    Ok(x.f_view([-1, d])?)
}

/// Where a model's tensors are, in short.
pub(super) fn place(model: &Model) -> (Kind, Device) {
    (model.kind(), model.device())
}
