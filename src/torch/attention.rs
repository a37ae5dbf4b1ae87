//! Attention of a list of tokens: over a cache while rollouts are played, among its own sequences in training.
//!
//! On the CPU in float32 by attention.cpp, among sequences in other types too, which are widened for it; elsewhere by libtorch's
//! scaled dot product, over rows of equal length.
//!
//! Shape legend: n tokens of a list, r rows of a cache, t new tokens of a row, s positions, q and k heads, d head width.

use tch::{Device, Kind, Tensor};

use super::kernels::{self, CachedRows, Heads, Qkv};
use super::layer::{Attend, Saved};
use super::packing::{Padded, Sequences};
use super::{Model, TorchError};

/// A score that softmax turns into zero, yet finite: a row that is masked throughout stays free of NaN.
const MASKED: f64 = -1e30;
/// Positions of a cache come in such steps, which attention.cpp wants.
const STEP: i64 = 16;

// --- Over a cache --------------------------------------------------------------------------------------------------

/// Keys and values of conversations, allocated once: `[slots, k, capacity, d]` per layer. With attention.cpp keys lie in tiles of 16
/// positions, `[slots, k, capacity / 16, d * 16]`.
#[derive(Debug)]
pub struct Cache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// Tokens that a conversation may have.
    pub capacity: i64,
    pub(super) fused: bool,
}

impl Cache {
    /// Room for `slots` conversations of `capacity` tokens.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(model: &Model, slots: i64, capacity: i64) -> Result<Self, TorchError> {
        let shape = model.architecture();
        let capacity = (capacity + STEP - 1) / STEP * STEP;
        let (k, d) = (shape.kv_heads as i64, shape.head_dim as i64);
        let fused = model.ops.fused;
        let make = |last: [i64; 2]| -> Result<Vec<Tensor>, TorchError> {
            let size = [slots, k, last[0], last[1]];
            let options = (model.kind(), model.device());
            // libtorch's attention multiplies what is beyond a row's end by 0, which must then be a number.
            let one = |_| if fused { Tensor::f_empty(size, options) } else { Tensor::f_zeros(size, options) };
            Ok((0..shape.layers).map(one).collect::<Result<_, _>>()?)
        };
        let keys = make(if fused { [capacity / STEP, d * STEP] } else { [capacity, d] })?;
        Ok(Self { keys, values: make([capacity, d])?, capacity, fused })
    }

    /// Keys and values of a layer.
    pub fn of(&self, layer: usize) -> (&Tensor, &Tensor) {
        (&self.keys[layer], &self.values[layer])
    }

    /// Every tensor, and the rows of its third dimension that so many tokens take.
    fn all(&mut self, tokens: i64) -> impl Iterator<Item = (&mut Tensor, i64)> {
        let keys = if self.fused { (tokens + STEP - 1) / STEP } else { tokens };
        let values = self.values.iter_mut().map(move |tensor| (tensor, tokens));
        self.keys.iter_mut().map(move |tensor| (tensor, keys)).chain(values)
    }

    /// More room for every conversation.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn grow(&mut self, model: &Model, capacity: i64) -> Result<(), TorchError> {
        let owners: Vec<i64> = (0..self.values[0].size()[0]).collect();
        *self = self.expand(model, &owners, self.capacity, capacity)?;
        Ok(())
    }

    /// A cache of more room whose slot i begins with the first `count` tokens of slot `owners[i]` of this one.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn expand(
        &self,
        model: &Model,
        owners: &[i64],
        count: i64,
        capacity: i64,
    ) -> Result<Self, TorchError> {
        let mut wide = Self::new(model, owners.len() as i64, capacity)?;
        let index = Tensor::f_from_slice(owners)?.f_to_device(model.device())?;
        let sources = self.keys.iter().chain(&self.values);
        for ((to, rows), from) in wide.all(count).zip(sources) {
            let chosen = from.f_narrow(2, 0, rows)?.f_index_select(0, &index)?;
            to.f_narrow(2, 0, rows)?.f_copy_(&chosen)?;
        }
        Ok(wide)
    }

    /// Whether rows may have any slot; else row r has slot r, and those that are done are moved away by [`Cache::compact`].
    pub fn any_slot(&self) -> bool {
        self.fused
    }

    /// Moves the slots `kept`, rising, to the front.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn compact(&mut self, kept: &[i64]) -> Result<(), TorchError> {
        for (tensor, _) in self.all(0) {
            let index = Tensor::f_from_slice(kept)?.f_to_device(tensor.device())?;
            let moved = tensor.f_index_select(0, &index)?;
            tensor.f_narrow(0, 0, kept.len() as i64)?.f_copy_(&moved)?;
        }
        Ok(())
    }
}

/// New tokens of some rows of a cache.
#[derive(Debug)]
pub struct OverCache<'a> {
    pub(super) cache: &'a mut Cache,
    slot: Vec<i64>,
    before: Vec<i64>,
    start: Vec<i64>,
    ragged: Option<Ragged>,
}

/// Maps between a list and rows of equal length, for libtorch's attention over a cache.
#[derive(Debug)]
struct Ragged {
    /// Where each new token's heads go in the cache, as rows of width d: `[n * k]`.
    write: Tensor,
    /// The token at each place of `[r, t]`, and the place of each token; `None` when rows have one token each.
    maps: Option<(Tensor, Tensor)>,
    /// The last position that each query sees, `[r, 1, t, 1]`.
    seen: Tensor,
    /// Additive, `[r, 1, t, s]`.
    mask: Tensor,
    longest: i64,
}

impl<'a> OverCache<'a> {
    /// Row r has `slot[r]`, `before[r]` tokens there, and the new ones `start[r]..start[r + 1]` of the list. With `ahead`, rows of
    /// one token may be followed by so many more, see [`OverCache::advance`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(
        model: &Model,
        cache: &'a mut Cache,
        slot: Vec<i64>,
        before: Vec<i64>,
        start: Vec<i64>,
        ahead: i64,
    ) -> Result<Self, TorchError> {
        let ragged = if cache.fused {
            None
        } else {
            Some(Ragged::new(model, cache.capacity, (&slot, &before, &start), ahead)?)
        };
        Ok(Self { cache, slot, before, start, ragged })
    }

    /// Where the new tokens go.
    pub(super) fn rows(&self) -> CachedRows<'_> {
        CachedRows { slot: &self.slot, before: &self.before, start: &self.start }
    }

    /// Goes on to the next token of every row; nothing is asked of the device.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn advance(&mut self) -> Result<(), TorchError> {
        self.before.iter_mut().for_each(|before| *before += 1);
        if let Some(ragged) = &mut self.ragged {
            let _ = ragged.write.f_add_scalar_(1)?;
            let _ = ragged.seen.f_add_scalar_(1)?;
            ragged.mask = later(&ragged.seen, ragged.longest, ragged.mask.kind())?;
        }
        Ok(())
    }
}

impl Ragged {
    fn new(
        model: &Model,
        capacity: i64,
        (slot, before, start): (&[i64], &[i64], &[i64]),
        ahead: i64,
    ) -> Result<Self, TorchError> {
        let (k, device) = (model.architecture().kv_heads as i64, model.device());
        let rows = slot.len();
        let count = |row: usize| start[row + 1] - start[row];
        let most = (0..rows).map(count).max().unwrap_or(0);
        let longest = (0..rows).map(|row| before[row] + count(row)).max().unwrap_or(0) + ahead;
        let (mut write, mut from, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for row in 0..rows {
            for t in 0..most {
                let inside = t < count(row);
                from.push(if inside { start[row] + t } else { 0 });
                seen.push(before[row] + t.min(count(row) - 1));
                if inside {
                    back.push(row as i64 * most + t);
                    write.extend((0..k).map(|head| (slot[row] * k + head) * capacity + before[row] + t));
                }
            }
        }
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let seen = whole(&seen)?.f_view([rows as i64, 1, most, 1])?;
        let mask = later(&seen, longest, model.kind())?;
        let maps = if most == 1 { None } else { Some((whole(&from)?, whole(&back)?)) };
        Ok(Self { write: whole(&write)?, maps, seen, mask, longest })
    }
}

/// Hides what comes after the last position that a query sees.
fn later(seen: &Tensor, longest: i64, kind: Kind) -> Result<Tensor, TorchError> {
    let key = Tensor::f_arange(longest, (Kind::Int64, seen.device()))?.f_view([1, 1, 1, longest])?;
    additive(&key.f_gt_tensor(seen)?, kind)
}

impl Attend for OverCache<'_> {
    fn attend(
        &mut self,
        model: &Model,
        layer: usize,
        new: Qkv<'_>,
        (out, lse): (&Tensor, &Tensor),
    ) -> Result<(), TorchError> {
        let heads = model.heads();
        let Some(ragged) = &self.ragged else {
            return kernels::attend_cached(heads, self.rows(), new, self.cache.of(layer), (out, lse));
        };
        let rows = self.slot.len() as i64;
        let read = |cached: &Tensor, new: &Tensor| -> Result<Tensor, TorchError> {
            let _ =
                cached.f_view([-1, heads.d])?.f_index_copy_(0, &ragged.write, &new.f_view([-1, heads.d])?)?;
            Ok(cached.f_narrow(0, 0, rows)?.f_narrow(2, 0, ragged.longest)?)
        };
        let (keys, values) = (read(&self.cache.keys[layer], new.k)?, read(&self.cache.values[layer], new.v)?);
        let query = match &ragged.maps {
            Some((from, _)) => new.q.f_index_select(0, from)?,
            None => new.q.shallow_clone(),
        };
        let query = query.f_view([rows, -1, heads.q, heads.d])?.f_transpose(1, 2)?;
        let mixed = scaled_dot_product(&query, &keys, &values, Some(&ragged.mask))?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([-1, heads.q * heads.d])?;
        match &ragged.maps {
            Some((_, back)) => drop(mixed.f_index_select_out(out, 0, back)?),
            None => out.shallow_clone().f_copy_(&mixed)?,
        }
        Ok(())
    }
}

// --- Among sequences -----------------------------------------------------------------------------------------------

/// The sequences of a list.
#[derive(Debug)]
pub struct Among<'a> {
    sequences: &'a Sequences,
    padded: Option<Padded>,
}

impl<'a> Among<'a> {
    /// Of a list of `n` tokens.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(model: &Model, sequences: &'a Sequences, n: i64) -> Result<Self, TorchError> {
        let padded = if model.ops.cpu { None } else { Some(sequences.padded(n, model.device())?) };
        Ok(Self { sequences, padded })
    }

    /// Gradients by queries, keys and values from that by what attention gave, `dout [n, q * d]`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn back(&self, model: &Model, saved: &Saved, dout: &Tensor) -> Result<[Tensor; 3], TorchError> {
        let heads = model.heads();
        let new = Qkv { q: &saved.q, k: &saved.k, v: &saved.v };
        let Some(padded) = &self.padded else {
            let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
            let (q, k, v, dout) = (wide(new.q)?, wide(new.k)?, wide(new.v)?, wide(dout)?);
            let [dq, dk, dv] =
                [Tensor::f_zeros_like(&q)?, Tensor::f_zeros_like(&k)?, Tensor::f_zeros_like(&v)?];
            let (new, grads) = (Qkv { q: &q, k: &k, v: &v }, Qkv { q: &dq, k: &dk, v: &dv });
            if model.ops.fused {
                let result = (&saved.attended, &saved.lse);
                kernels::attend_back(heads, self.sequences.lists(), new, result, &dout, grads)?;
                return Ok([dq, dk, dv]);
            }
            // Over a cache of another type nothing but the result was kept.
            let (out, lse) = (q.f_empty_like()?, saved.lse.f_empty_like()?);
            kernels::attend(heads, self.sequences.lists(), new, (&out, &lse))?;
            kernels::attend_back(heads, self.sequences.lists(), new, (&out, &lse), &dout, grads)?;
            let narrow = |tensor: &Tensor| tensor.f_to_kind(model.kind());
            return Ok([narrow(&dq)?, narrow(&dk)?, narrow(&dv)?]);
        };
        let leaf = |list: &Tensor, asked| -> Result<Tensor, TorchError> {
            Ok(padded.spread(list, asked)?.f_detach()?.set_requires_grad(true))
        };
        let [query, key, value] = [leaf(new.q, true)?, leaf(new.k, false)?, leaf(new.v, false)?];
        let dout = padded.spread(dout, true)?;
        let gradients = tch::with_grad(|| -> Result<Vec<Tensor>, TorchError> {
            let mixed = rows_attend(heads, [&query, &key, &value])?;
            let total = mixed.f_mul(&dout)?.f_sum(Kind::Float)?;
            Ok(Tensor::f_run_backward(&[total], &[&query, &key, &value], false, false)?)
        })?;
        Ok([
            padded.gather(&gradients[0], false)?,
            padded.gather(&gradients[1], true)?,
            padded.gather(&gradients[2], true)?,
        ])
    }
}

impl Attend for Among<'_> {
    fn attend(
        &mut self,
        model: &Model,
        _: usize,
        new: Qkv<'_>,
        (out, lse): (&Tensor, &Tensor),
    ) -> Result<(), TorchError> {
        let heads = model.heads();
        let Some(padded) = &self.padded else {
            if model.ops.fused {
                return kernels::attend(heads, self.sequences.lists(), new, (out, lse));
            }
            let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
            let (q, k, v) = (wide(new.q)?, wide(new.k)?, wide(new.v)?);
            let wide = q.f_empty_like()?;
            kernels::attend(heads, self.sequences.lists(), Qkv { q: &q, k: &k, v: &v }, (&wide, lse))?;
            out.shallow_clone().f_copy_(&wide)?;
            return Ok(());
        };
        let [query, key, value] =
            [padded.spread(new.q, true)?, padded.spread(new.k, false)?, padded.spread(new.v, false)?];
        let mixed = padded.gather(&rows_attend(heads, [&query, &key, &value])?, false)?;
        out.shallow_clone().f_copy_(&mixed)?;
        Ok(())
    }
}

/// Causal attention of rows of equal length, `[r, s, heads * d]` each, to `[r, s, q * d]`.
fn rows_attend(heads: Heads, [query, key, value]: [&Tensor; 3]) -> Result<Tensor, TorchError> {
    let (rows, s, _) = query.size3()?;
    let split = |list: &Tensor, count| list.f_view([rows, s, count, heads.d])?.f_transpose(1, 2);
    let (query, key, value) = (split(query, heads.q)?, split(key, heads.k)?, split(value, heads.k)?);
    let mixed = scaled_dot_product(&query, &key, &value, None)?;
    Ok(mixed.f_transpose(1, 2)?.f_reshape([rows, s, heads.q * heads.d])?)
}

/// Grouped-query attention: `query [b, q, t, d]`, `key`, `value [b, k, s, d]` to `[b, q, t, d]`. Without a mask it is causal,
/// and t is s.
///
/// On CUDA libtorch's fused kernels; on the CPU plain products, where the query heads of a group are folded into
/// the rows so that keys and values are never copied per query head.
pub(super) fn scaled_dot_product(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor, TorchError> {
    let (b, n, t, d) = query.size4()?;
    let (_, k, s, _) = key.size4()?;
    if query.device().is_cuda() {
        return Ok(Tensor::f_scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            0.0,
            mask.is_none(),
            None,
            n != k,
        )?);
    }
    let causal = if mask.is_none() { Some(causal_mask(t, s, query.kind(), query.device())?) } else { None };
    let mask = mask.or(causal.as_ref()).unwrap_or(query);
    let scale = 1.0 / (d as f64).sqrt();
    let folded = query.f_mul_scalar(scale)?.f_reshape([b, k, n / k * t, d])?;
    let scores = folded.f_matmul(&key.f_transpose(2, 3)?)?.f_view([b, k, n / k, t, s])?;
    let weights = scores.f_add(&mask.f_unsqueeze(2)?)?.f_softmax(-1, Kind::Float)?.f_to_kind(value.kind())?;
    Ok(weights.f_view([b, k, n / k * t, s])?.f_matmul(value)?.f_view([b, n, t, d])?)
}

/// The additive mask of `t` new tokens at the end of `s` positions, `[1, 1, t, s]`.
pub(super) fn causal_mask(t: i64, s: i64, kind: Kind, device: Device) -> Result<Tensor, TorchError> {
    let key = Tensor::f_arange(s, (Kind::Int64, device))?.f_view([1, 1, 1, s])?;
    let query = Tensor::f_arange_start(s - t, s, (Kind::Int64, device))?.f_view([1, 1, t, 1])?;
    additive(&key.f_gt_tensor(&query)?, kind)
}

/// 0 where attention may look, else a large negative number.
fn additive(hidden: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
    let zeros = Tensor::f_zeros(hidden.size(), (kind, hidden.device()))?;
    Ok(zeros.f_masked_fill(hidden, MASKED)?)
}
