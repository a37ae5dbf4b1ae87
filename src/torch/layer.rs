//! A decoder layer over a list of tokens: forward with what the way back needs, and back, without autograd.
//!
//! Products of matrices see the tokens of all sequences as one list, so nothing is padding. What is kept of a token is written
//! once, where [`Saved`] has its place.
//!
//! Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width.

use tch::{Device, Kind, Tensor};

use super::kernels::Qkv;
use super::packing::rows;
use super::products::blocks;
use super::{Model, TorchError};

/// Tokens of a backward pass whose inner vectors exist at the same time.
const BLOCK: i64 = 2048;

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

/// Gradients by queries, keys and values from that by what attention gave.
pub type AttendBack<'a> = &'a dyn Fn(&Saved, &Tensor) -> Result<[Tensor; 3], TorchError>;

/// Gradients of a layer's parameters, float32, in the order of its slots.
pub type Gradients = Vec<Tensor>;

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

    /// Zeros for the gradients of a layer's parameters.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn layer_zeros(&self, layer: usize) -> Result<Gradients, TorchError> {
        let zeros = |slot| Tensor::f_zeros(self.weight(layer, slot).size(), (Kind::Float, self.device()));
        Ok((0..self.slots.count).map(zeros).collect::<Result<_, _>>()?)
    }

    /// `dx [n, h]`, the gradient by the layer's output, becomes that by its input; those by its parameters are added to `sums`.
    ///
    /// # Errors
    /// When memory runs out.
    #[expect(clippy::too_many_arguments, reason = "what went in, what was kept, what comes back")]
    pub(super) fn layer_back(
        &self,
        layer: usize,
        x: &Tensor,
        saved: &Saved,
        turned: Turned<'_>,
        attend_back: AttendBack<'_>,
        dx: &Tensor,
        sums: &mut Gradients,
    ) -> Result<(), TorchError> {
        let (shape, slots, ops, products) = (self.architecture(), self.slots, self.ops, self.ops.products);
        let (eps, d) = (shape.rms_eps, shape.head_dim as i64);
        let weight = |slot: usize| self.weight(layer, slot);
        let n = x.size()[0];
        let dattended = Tensor::f_empty_like(&saved.attended)?;
        for (from, count) in blocks(n, BLOCK) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let (dx, middle) = (part(dx)?, part(&saved.middle)?);
            let (gate, up) = (part(&saved.gate)?, part(&saved.up)?);
            let dinner = gate.f_empty_like()?;
            products.back(&dx, weight(slots.down), false, &dinner)?;
            let (inner, dgate, dup) = (gate.f_empty_like()?, gate.f_empty_like()?, gate.f_empty_like()?);
            ops.swiglu_back(&dinner, (&gate, &up), &inner, (&dgate, &dup))?;
            products.add_outer(&mut sums[slots.down], &dx, &inner)?;
            let normed = Tensor::f_empty_like(&middle)?;
            ops.norm(&middle, weight(slots.mlp_norm), eps, &normed)?;
            products.add_outer(&mut sums[slots.gate], &dgate, &normed)?;
            products.add_outer(&mut sums[slots.up], &dup, &normed)?;
            let dnormed = normed;
            products.back(&dgate, weight(slots.gate), false, &dnormed)?;
            products.back(&dup, weight(slots.up), true, &dnormed)?;
            ops.norm_back(
                &dnormed,
                &middle,
                weight(slots.mlp_norm),
                eps,
                &dx,
                true,
                &mut sums[slots.mlp_norm],
            )?;
            let attended = part(&saved.attended)?;
            products.add_outer(&mut sums[slots.output], &dx, &attended)?;
            if shape.output_bias() {
                add_columns(&mut sums[slots.output + 1], &dx)?;
            }
            products.back(&dx, weight(slots.output), false, &part(&dattended)?)?;
        }
        let [dq, dk, dv] = attend_back(saved, &dattended)?;
        drop(dattended);
        ops.rotate(&dq, d, turned.positions, turned.tables, -1.0)?;
        ops.rotate(&dk, d, turned.positions, turned.tables, -1.0)?;
        if let (Some(norms), Some((q, k))) = (slots.head_norms, &saved.raw) {
            for (slot, raw, gradient) in [(norms, q, &dq), (norms + 1, k, &dk)] {
                let gradient = by_head(gradient, d)?;
                let kept = gradient.f_detach_copy()?;
                let (raw, sum) = (by_head(raw, d)?, &mut sums[slot]);
                ops.norm_back(&kept, &raw, weight(slot), eps, &gradient, false, sum)?;
            }
        }
        for (from, count) in blocks(n, BLOCK) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let (dx, x) = (part(dx)?, part(x)?);
            let normed = Tensor::f_empty_like(&x)?;
            ops.norm(&x, weight(slots.attention_norm), eps, &normed)?;
            let (dnormed, mut add) = (Tensor::f_empty_like(&x)?, false);
            for (slot, gradient) in [(slots.query, &dq), (slots.key, &dk), (slots.value, &dv)] {
                let gradient = part(gradient)?;
                products.add_outer(&mut sums[slot], &gradient, &normed)?;
                if shape.attention_bias {
                    add_columns(&mut sums[slot + 1], &gradient)?;
                }
                products.back(&gradient, weight(slot), add, &dnormed)?;
                add = true;
            }
            let sum = &mut sums[slots.attention_norm];
            ops.norm_back(&dnormed, &x, weight(slots.attention_norm), eps, &dx, true, sum)?;
        }
        Ok(())
    }
}

/// Heads as rows: `[n, heads * d]` to `[n * heads, d]`, the same numbers.
fn by_head(x: &Tensor, d: i64) -> Result<Tensor, TorchError> {
    Ok(x.f_view([-1, d])?)
}

fn add_columns(sum: &mut Tensor, rows: &Tensor) -> Result<(), TorchError> {
    let _ = sum.f_add_(&rows.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?)?;
    Ok(())
}

/// Where a model's tensors are, in short.
pub(super) fn place(model: &Model) -> (Kind, Device) {
    (model.kind(), model.device())
}
