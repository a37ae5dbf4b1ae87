//! The decoder of every family: tokens in, hidden states and logits out.
//!
//! Shape legend: b batch, t new tokens, s cached and new tokens, h hidden, n query heads, k key-value heads, d head
//! width, v vocabulary. Sources: technical reports of Qwen2 (arXiv 2407.10671), Qwen3 (2505.09388) and Llama 3
//! (2407.21783); numerics follow transformers' `modeling_qwen2`, `modeling_qwen3` and `modeling_llama` (RMSNorm in
//! float32, rotary halves). What a family has and another does not
//! is in `slots.rs`.

use tch::{Device, Kind, Tensor};

use crate::data::Architecture;

use super::rotary::{Rotary, rotate};
use super::slots::Slots;
use super::{TorchError, Weights};

/// A score that softmax turns into zero, yet finite: a row that is masked throughout stays free of NaN.
const MASKED: f64 = -1e30;

/// A decoder with its weights.
#[derive(Debug)]
pub struct Model {
    /// The numbers.
    pub weights: Weights,
    slots: Slots,
    rotary: Rotary,
}

/// Keys and values of a batch, allocated once: `[b, k, capacity, d]` per layer.
#[derive(Debug)]
pub struct KvCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// Positions filled.
    pub len: i64,
}

impl KvCache {
    /// Copies the first `len` positions of `rows` of this cache into a new one with room for `capacity` positions.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn select(&self, rows: &Tensor, capacity: i64) -> Result<Self, TorchError> {
        let grow = |tensors: &[Tensor]| -> Result<Vec<Tensor>, TorchError> {
            tensors
                .iter()
                .map(|tensor| {
                    let (_, heads, _, width) = tensor.size4()?;
                    let chosen = tensor.f_narrow(2, 0, self.len)?.f_index_select(0, rows)?;
                    // What lies beyond `len` is written before it is read.
                    let shape = [rows.size()[0], heads, capacity, width];
                    let grown = Tensor::f_empty(shape, (tensor.kind(), tensor.device()))?;
                    grown.f_narrow(2, 0, self.len)?.f_copy_(&chosen)?;
                    Ok(grown)
                })
                .collect()
        };
        Ok(Self { keys: grow(&self.keys)?, values: grow(&self.values)?, len: self.len })
    }
}

impl Model {
    /// Wraps weights and prepares the rotary tables.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(weights: Weights) -> Result<Self, TorchError> {
        let (kind, device) = (weights.tensors[0].kind(), weights.tensors[0].device());
        let rotary = Rotary::new(&weights.architecture, kind, device)?;
        Ok(Self { slots: Slots::new(&weights.architecture), weights, rotary })
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

    /// An empty cache for `rows` sequences of at most `capacity` tokens.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn cache(&self, rows: i64, capacity: i64) -> Result<KvCache, TorchError> {
        let shape = self.architecture();
        let (heads, width) = (shape.kv_heads as i64, shape.head_dim as i64);
        let make = || -> Result<Vec<Tensor>, TorchError> {
            (0..shape.layers)
                .map(|_| Ok(Tensor::f_empty([rows, heads, capacity, width], (self.kind(), self.device()))?))
                .collect()
        };
        Ok(KvCache { keys: make()?, values: make()?, len: 0 })
    }

    /// Final hidden states of new tokens.
    ///
    /// # Shapes
    /// `tokens_bt`: int64 `[b, t]`; `positions`: int64 `[b, t]`, or `[1, t]` when all rows have the same. `mask`:
    /// additive, broadcastable to `[b, 1, t, s]`, see [`Model::causal_mask`]. Result: `[b, t, h]`. With a cache, the new
    /// tokens are appended to it.
    ///
    /// # Errors
    /// When a position is beyond the model's, or memory runs out.
    pub fn hidden(
        &self,
        tokens_bt: &Tensor,
        positions: &Tensor,
        mask: &Tensor,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor, TorchError> {
        self.decode(tokens_bt, positions, mask, cache, None)
    }

    /// The hidden states of [`Model::hidden`] at some places only, `[n, h]`: what no later token attends to, the last
    /// layer's MLP, is not computed for the others.
    ///
    /// # Shapes
    /// `places_n`: int64 `[n]`, flat indices into `[b, t]`.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn hidden_at(
        &self,
        tokens_bt: &Tensor,
        positions: &Tensor,
        mask: &Tensor,
        cache: Option<&mut KvCache>,
        places_n: &Tensor,
    ) -> Result<Tensor, TorchError> {
        self.decode(tokens_bt, positions, mask, cache, Some(places_n))
    }

    fn decode(
        &self,
        tokens_bt: &Tensor,
        positions: &Tensor,
        mask: &Tensor,
        mut cache: Option<&mut KvCache>,
        places_n: Option<&Tensor>,
    ) -> Result<Tensor, TorchError> {
        let (_, new) = positions.size2()?;
        let Architecture { hidden_size, layers, .. } = *self.architecture();
        let (cos, sin) = self.rotary.at(positions)?;
        let mut x = Tensor::f_embedding(&self.weights.tensors[0], tokens_bt, -1, false, false)?;
        for layer in 0..layers {
            x = self.attend(layer, &x, (&cos, &sin), mask, cache.as_deref_mut())?;
            if let (Some(places_n), true) = (places_n, layer + 1 == layers) {
                x = x.f_reshape([-1, hidden_size as i64])?.f_index_select(0, places_n)?;
            }
            x = self.mlp(layer, &x)?;
        }
        if let Some(cache) = cache {
            cache.len += new;
        }
        self.rms_norm(&x, &self.weights.tensors[1 + self.slots.count * layers])
    }

    /// Next-token logits in float32: `[.., h]` to `[.., v]`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, TorchError> {
        let head = if self.architecture().tied { 0 } else { self.weights.tensors.len() - 1 };
        let no_bias: Option<&Tensor> = None;
        Ok(hidden.f_linear(&self.weights.tensors[head], no_bias)?.f_to_kind(Kind::Float)?)
    }

    /// The additive mask of `t` new tokens at the end of `s` positions: 0 where attention may look, else a large
    /// negative number. `pad_b` counts the padding at the **left** of each row.
    ///
    /// # Shapes
    /// `[1, 1, t, s]`, or `[b, 1, t, s]` with padding.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn causal_mask(&self, t: i64, s: i64, pad_b: Option<&Tensor>) -> Result<Tensor, TorchError> {
        let device = self.device();
        let key_s = Tensor::f_arange(s, (Kind::Int64, device))?.f_view([1, 1, 1, s])?;
        let query_t = Tensor::f_arange_start(s - t, s, (Kind::Int64, device))?.f_view([1, 1, t, 1])?;
        let mut hidden = key_s.f_gt_tensor(&query_t)?;
        if let Some(pad_b) = pad_b {
            hidden = hidden.f_logical_or(&key_s.f_lt_tensor(&pad_b.f_view([-1, 1, 1, 1])?)?)?;
        }
        Ok(hidden.f_to_kind(Kind::Float)?.f_mul_scalar(MASKED)?.f_to_kind(self.kind())?)
    }

    fn weight(&self, layer: usize, slot: usize) -> &Tensor {
        &self.weights.tensors[1 + self.slots.count * layer + slot]
    }

    /// The attention half of a layer, residual included.
    fn attend(
        &self,
        layer: usize,
        x: &Tensor,
        (cos, sin): (&Tensor, &Tensor),
        mask: &Tensor,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor, TorchError> {
        let weight = |slot: usize| self.weight(layer, slot);
        let (shape, slots) = (self.architecture(), self.slots);
        let (b, t, _) = x.size3()?;
        let width = shape.head_dim as i64;
        let normed = self.rms_norm(x, weight(slots.attention_norm))?;
        let project = |slot: usize, heads: usize, norm: Option<usize>| -> Result<Tensor, TorchError> {
            let bias = shape.attention_bias.then(|| weight(slot + 1));
            let flat = normed.f_linear(weight(slot), bias)?.f_view([b, t, heads as i64, width])?;
            let flat = match norm {
                Some(norm) => self.rms_norm(&flat, weight(norm))?,
                None => flat,
            };
            Ok(flat.f_transpose(1, 2)?)
        };
        let query = rotate(&project(slots.query, shape.heads, slots.head_norms)?, cos, sin)?;
        let key_norm = slots.head_norms.map(|slot| slot + 1);
        let mut key = rotate(&project(slots.key, shape.kv_heads, key_norm)?, cos, sin)?;
        let mut value = project(slots.value, shape.kv_heads, None)?;
        if let Some(cache) = cache {
            let end = cache.len + t;
            for (stored, new) in [(&cache.keys[layer], &key), (&cache.values[layer], &value)] {
                stored.f_narrow(2, cache.len, t)?.f_copy_(new)?;
            }
            key = cache.keys[layer].f_narrow(2, 0, end)?;
            value = cache.values[layer].f_narrow(2, 0, end)?;
        }
        let mixed = attention(&query, &key, &value, mask)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([b, t, shape.heads as i64 * width])?;
        let bias = shape.output_bias().then(|| weight(slots.output + 1));
        Ok(x.f_add(&mixed.f_linear(weight(slots.output), bias)?)?)
    }

    /// The SwiGLU half of a layer, residual included; `x [.., h]`.
    fn mlp(&self, layer: usize, x: &Tensor) -> Result<Tensor, TorchError> {
        let no_bias: Option<&Tensor> = None;
        let slots = self.slots;
        let normed = self.rms_norm(x, self.weight(layer, slots.mlp_norm))?;
        let gate = normed.f_linear(self.weight(layer, slots.gate), no_bias)?.f_silu()?;
        let up = normed.f_linear(self.weight(layer, slots.up), no_bias)?;
        Ok(x.f_add(&gate.f_mul(&up)?.f_linear(self.weight(layer, slots.down), no_bias)?)?)
    }

    /// `x / sqrt(mean(x^2) + eps) * weight`, the quotient in float32.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, TorchError> {
        let wide = x.f_to_kind(Kind::Float)?;
        let dims: &[i64] = &[-1];
        let square = wide.f_mul(&wide)?.f_mean_dim(dims, true, Kind::Float)?;
        let scale = square.f_add_scalar(self.architecture().rms_eps)?.f_rsqrt()?;
        Ok(wide.f_mul(&scale)?.f_to_kind(x.kind())?.f_mul(weight)?)
    }
}

/// Grouped-query attention: `query [b, n, t, d]`, `key`, `value [b, k, s, d]` to `[b, n, t, d]`.
///
/// On CUDA libtorch's fused kernel; on the CPU plain products, where the query heads of a group are folded into
/// the rows so that keys and values are never copied per query head.
fn attention(query: &Tensor, key: &Tensor, value: &Tensor, mask: &Tensor) -> Result<Tensor, TorchError> {
    let (b, n, t, d) = query.size4()?;
    let (_, k, s, _) = key.size4()?;
    if query.device().is_cuda() {
        return Ok(Tensor::f_scaled_dot_product_attention(
            query,
            key,
            value,
            Some(mask),
            0.0,
            false,
            None,
            n != k,
        )?);
    }
    let scale = 1.0 / (d as f64).sqrt();
    let folded = query.f_mul_scalar(scale)?.f_reshape([b, k, n / k * t, d])?;
    let scores = folded.f_matmul(&key.f_transpose(2, 3)?)?.f_view([b, k, n / k, t, s])?;
    let weights = scores.f_add(&mask.f_unsqueeze(2)?)?.f_softmax(-1, Kind::Float)?.f_to_kind(value.kind())?;
    Ok(weights.f_view([b, k, n / k * t, s])?.f_matmul(value)?.f_view([b, n, t, d])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::weights::tests::tiny;

    fn tokens(rows: &[&[i64]]) -> Tensor {
        Tensor::from_slice2(rows)
    }

    fn positions(from: i64, t: i64, b: i64) -> Tensor {
        Tensor::arange_start(from, from + t, (Kind::Int64, Device::Cpu)).expand([b, t], false)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        f64::try_from((a - b).abs().max()).unwrap()
    }

    #[test]
    fn decoding_with_a_cache_equals_the_full_forward() {
        for tied in [true, false] {
            let model = Model::new(Weights::fresh(&tiny(tied), 5).unwrap()).unwrap();
            let ids = tokens(&[&[3, 9, 14, 2, 30], &[1, 1, 7, 39, 0]]);
            let mask = model.causal_mask(5, 5, None).unwrap();
            let full = model.logits(&model.hidden(&ids, &positions(0, 5, 2), &mask, None).unwrap()).unwrap();
            let mut cache = model.cache(2, 8).unwrap();
            let mask = model.causal_mask(3, 3, None).unwrap();
            let _ = model.hidden(&ids.narrow(1, 0, 3), &positions(0, 3, 2), &mask, Some(&mut cache)).unwrap();
            for t in 3..5 {
                let mask = model.causal_mask(1, t + 1, None).unwrap();
                let step =
                    model.hidden(&ids.narrow(1, t, 1), &positions(t, 1, 2), &mask, Some(&mut cache)).unwrap();
                let logits = model.logits(&step).unwrap();
                assert!(distance(&logits.squeeze_dim(1), &full.select(1, t)) < 1e-5);
            }
        }
    }

    #[test]
    fn left_padding_does_not_move_the_logits() {
        let model = Model::new(Weights::fresh(&tiny(true), 6).unwrap()).unwrap();
        let ids = tokens(&[&[5, 6, 7]]);
        let mask = model.causal_mask(3, 3, None).unwrap();
        let plain = model.hidden(&ids, &positions(0, 3, 1), &mask, None).unwrap();
        let padded = tokens(&[&[0, 0, 5, 6, 7]]);
        let pad = Tensor::from_slice(&[2i64]);
        let mask = model.causal_mask(5, 5, Some(&pad)).unwrap();
        let shifted = (positions(0, 5, 1) - 2).clamp_min(0);
        let hidden = model.hidden(&padded, &shifted, &mask, None).unwrap().narrow(1, 2, 3);
        assert!(distance(&hidden, &plain) < 1e-5);
    }

    #[test]
    fn later_tokens_do_not_reach_back() {
        let model = Model::new(Weights::fresh(&tiny(true), 7).unwrap()).unwrap();
        let mask = model.causal_mask(4, 4, None).unwrap();
        let run = |ids: &Tensor| model.hidden(ids, &positions(0, 4, 1), &mask, None).unwrap();
        let (a, b) = (run(&tokens(&[&[1, 2, 3, 4]])), run(&tokens(&[&[1, 2, 3, 39]])));
        assert!(distance(&a.narrow(1, 0, 3), &b.narrow(1, 0, 3)) == 0.0);
        assert!(distance(&a, &b) > 1e-3);
    }
}
