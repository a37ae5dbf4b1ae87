//! Safe calls to the C++ beside this: operators of a decoder on the CPU in float32, one by one here, all layers at once in `decoder.rs`.
//!
//! Every function checks type, place, contiguity and size of what it is given before it hands pointers on; indices that the C side
//! follows are checked too, but for tokens and places of lists, which come from [`super::packing`], and that slots differ.
//!
//! Shape legend: n tokens, h hidden, q query heads, k key heads, d head width, v vocabulary.
#![expect(unsafe_code, reason = "hands pointers of checked tensors to the C functions beside this")]

pub mod back;
pub mod decoder;

use std::ffi::c_void;

use tch::Tensor;

use super::TorchError;

#[rustfmt::skip]
unsafe extern "C" {
    fn tickets_numbers(tensor: *const c_void, kind: i32, count: i64, data: *mut *mut c_void) -> bool;
    fn tickets_rms_norm(n: i64, h: i64, eps: f32, x: *const f32, weight: *const f32, y: *mut f32);
    fn tickets_rms_norm_back(n: i64, h: i64, eps: f32, dy: *const f32, x: *const f32, weight: *const f32, dx: *mut f32, add: i32, dweight: *mut f32);
    fn tickets_swiglu(count: i64, gate: *const f32, up: *const f32, out: *mut f32);
    fn tickets_rotate(n: i64, heads: i64, d: i64, position: *const i64, cos: *const f32, sin: *const f32, sign: f32, x: *mut f32);
    fn tickets_attend_cached(rows: i64, heads: i64, kv_heads: i64, d: i64, capacity: i64, scale: f32, slot: *const i64, before: *const i64, start: *const i64, q: *const f32, k: *const f32, v: *const f32, keys: *mut f32, values: *mut f32, out: *mut f32, lse: *mut f32);
    fn tickets_attend(groups: i64, heads: i64, kv_heads: i64, d: i64, scale: f32, shared: *const i32, shared_start: *const i32, sequence_start: *const i32, own: *const i32, own_start: *const i32, q: *const f32, k: *const f32, v: *const f32, out: *mut f32, lse: *mut f32);
    fn tickets_attend_back(groups: i64, heads: i64, kv_heads: i64, d: i64, scale: f32, shared: *const i32, shared_start: *const i32, sequence_start: *const i32, own: *const i32, own_start: *const i32, q: *const f32, k: *const f32, v: *const f32, out: *const f32, lse: *const f32, dout: *const f32, dq: *mut f32, dk: *mut f32, dv: *mut f32);
    fn tickets_draw(rows: i64, v: i64, inverse: f32, logits: *const f32, uniforms: *const f64, tokens: *mut i64, logprobs: *mut f32);
    fn tickets_targets(rows: i64, v: i64, inverse: f32, logits: *mut f32, targets: *const i64, gradient: *const f32, logprobs: *mut f32, entropies: *mut f32);
    fn tickets_embedding_back(n: i64, h: i64, ids: *const i64, rows: *const f32, sums: *mut f32);
}

/// The types of numbers that kernels take, see tensors.cpp.
#[derive(Clone, Copy, Debug)]
enum Type {
    Float,
    Whole,
    Double,
}

/// The numbers of a tensor, when they are of a type, on the CPU, in one piece and as many as expected.
fn numbers<T>(tensor: &Tensor, kind: Type, count: i64) -> Result<*mut T, TorchError> {
    let mut data = std::ptr::null_mut();
    // SAFETY: `as_ptr` is a pointer to the tensor, which lives as long as the reference.
    if unsafe { tickets_numbers(tensor.as_ptr().cast(), kind as i32, count, &raw mut data) } {
        return Ok(data.cast());
    }
    let (found, size) = (tensor.kind(), tensor.size());
    Err(TorchError::Op {
        message: format!("a kernel takes {count} contiguous {kind:?}, got {found:?} {size:?}"),
    })
}

fn floats(tensor: &Tensor, count: i64) -> Result<*mut f32, TorchError> {
    numbers(tensor, Type::Float, count)
}

fn whole(tensor: &Tensor, count: i64) -> Result<*mut i64, TorchError> {
    numbers(tensor, Type::Whole, count)
}

/// `y = x / sqrt(mean(x^2) + eps) * weight`; `x`, `y` `[n, h]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, y: &Tensor) -> Result<(), TorchError> {
    let h = weight.numel() as i64;
    let n = x.numel() as i64 / h;
    let (x, weight, y) = (floats(x, n * h)?, floats(weight, h)?, floats(y, n * h)?);
    // SAFETY: all three are checked to hold what is read or written.
    unsafe { tickets_rms_norm(n, h, eps as f32, x, weight, y) };
    Ok(())
}

/// Gradients of [`rms_norm`]: `dx` is written, or added to; `dweight` is added to.
pub fn rms_norm_back(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    dx: &Tensor,
    add: bool,
    dweight: &Tensor,
) -> Result<(), TorchError> {
    let h = weight.numel() as i64;
    let n = x.numel() as i64 / h;
    let (dy, x, dx) = (floats(dy, n * h)?, floats(x, n * h)?, floats(dx, n * h)?);
    let (weight, dweight) = (floats(weight, h)?, floats(dweight, h)?);
    // SAFETY: all are checked to hold what is read or written.
    unsafe { tickets_rms_norm_back(n, h, eps as f32, dy, x, weight, dx, i32::from(add), dweight) };
    Ok(())
}

/// `out = silu(gate) * up`.
pub fn swiglu(gate: &Tensor, up: &Tensor, out: &Tensor) -> Result<(), TorchError> {
    let count = gate.numel() as i64;
    let (gate, up, out) = (floats(gate, count)?, floats(up, count)?, floats(out, count)?);
    // SAFETY: all are checked to hold what is read or written.
    unsafe { tickets_swiglu(count, gate, up, out) };
    Ok(())
}

/// Turns the heads of `x [n, heads * d]` in place by their positions, backwards for `sign` -1. The tables have a row for
/// every position: the caller sees to that.
pub fn rotate(
    x: &Tensor,
    d: i64,
    positions: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    sign: f32,
) -> Result<(), TorchError> {
    let n = positions.numel() as i64;
    let heads = x.numel() as i64 / (n * d).max(1);
    let rows = cos.size()[0];
    let (x, positions) = (floats(x, n * heads * d)?, whole(positions, n)?);
    let (cos, sin) = (floats(cos, rows * d)?, floats(sin, rows * d)?);
    // SAFETY: all are checked to hold what is read or written; positions have rows.
    unsafe { tickets_rotate(n, heads, d, positions, cos, sin, sign, x) };
    Ok(())
}

/// Heads of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub q: i64,
    pub k: i64,
    pub d: i64,
}

impl Heads {
    fn scale(self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }
}

/// Queries, keys and values of new tokens: `[n, q * d]`, `[n, k * d]` twice.
#[derive(Clone, Copy, Debug)]
pub struct Qkv<'a> {
    pub q: &'a Tensor,
    pub k: &'a Tensor,
    pub v: &'a Tensor,
}

/// Rows of a cache that get new tokens.
#[derive(Clone, Copy, Debug)]
pub struct CachedRows<'a> {
    /// The row's place in the cache.
    pub slot: &'a [i64],
    /// Tokens that it has there.
    pub before: &'a [i64],
    /// Its first new token; one more than rows.
    pub start: &'a [i64],
}

impl CachedRows<'_> {
    /// New tokens.
    fn tokens(&self) -> i64 {
        self.start.last().copied().unwrap_or(0)
    }

    /// Tokens of the longest row, the new ones counted.
    pub fn longest(&self) -> i64 {
        let lengths =
            (0..self.slot.len()).map(|row| self.before[row] + self.start[row + 1] - self.start[row]);
        lengths.max().unwrap_or(0)
    }

    /// Refuses rows that are not in a cache of so many slots, or outgrow it.
    fn fit(&self, slots: i64, capacity: i64) -> Result<(), TorchError> {
        let count = self.slot.len();
        let fits = self.before.len() == count
            && self.start.len() == count + 1
            && capacity % 16 == 0
            && (0..count).all(|row| {
                (0..slots).contains(&self.slot[row])
                    && self.start[row] >= 0
                    && self.start[row + 1] >= self.start[row]
                    && self.before[row] >= 0
                    && self.before[row] + self.start[row + 1] - self.start[row] <= capacity
            });
        if fits { Ok(()) } else { Err(TorchError::Op { message: "rows do not fit their cache".into() }) }
    }
}

/// New tokens attend to their rows, to which they are added first. `keys [slots, k, capacity / 16, d * 16]`, `values [slots, k,
/// capacity, d]`; result `out [n, q * d]` and the logs of the softmax's sums `lse [n, q]`.
pub fn attend_cached(
    heads: Heads,
    rows: CachedRows<'_>,
    new: Qkv<'_>,
    (keys, values): (&Tensor, &Tensor),
    (out, lse): (&Tensor, &Tensor),
) -> Result<(), TorchError> {
    let (slots, _, capacity, _) = values.size4()?;
    let (count, n) = (rows.slot.len(), rows.tokens());
    rows.fit(slots, capacity)?;
    let size = slots * heads.k * heads.d * capacity;
    let (keys, values) = (floats(keys, size)?, floats(values, size)?);
    let (q, k, v) = (
        floats(new.q, n * heads.q * heads.d)?,
        floats(new.k, n * heads.k * heads.d)?,
        floats(new.v, n * heads.k * heads.d)?,
    );
    let (out, lse) = (floats(out, n * heads.q * heads.d)?, floats(lse, n * heads.q)?);
    let (slot, before, start) = (rows.slot.as_ptr(), rows.before.as_ptr(), rows.start.as_ptr());
    // SAFETY: tensors hold what the rows name, as checked; slots are distinct, so that no two threads write the same place.
    unsafe {
        tickets_attend_cached(
            count as i64,
            heads.q,
            heads.k,
            heads.d,
            capacity,
            heads.scale(),
            slot,
            before,
            start,
            q,
            k,
            v,
            keys,
            values,
            out,
            lse,
        );
    }
    Ok(())
}

/// Packed sequences, see [`super::packing::Sequences`].
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    pub shared: &'a [i32],
    pub shared_start: &'a [i32],
    pub sequence_start: &'a [i32],
    pub own: &'a [i32],
    pub own_start: &'a [i32],
}

impl Lists<'_> {
    /// The number of groups, when every index is below `n` and every list is inside the one that it points into.
    fn groups(&self, n: i64) -> Result<i64, TorchError> {
        let rising = |starts: &[i32], end: usize| {
            starts.first() == Some(&0)
                && starts.windows(2).all(|pair| pair[0] <= pair[1])
                && starts.last().is_some_and(|&last| last as usize == end)
        };
        let inside = |list: &[i32]| list.iter().all(|&token| (0..n).contains(&i64::from(token)));
        let sound = self.shared_start.len() == self.sequence_start.len()
            && rising(self.shared_start, self.shared.len())
            && rising(self.sequence_start, self.own_start.len().saturating_sub(1))
            && rising(self.own_start, self.own.len())
            && inside(self.shared)
            && inside(self.own);
        if sound {
            Ok(self.shared_start.len() as i64 - 1)
        } else {
            Err(TorchError::Op { message: "packed sequences do not fit their tokens".into() })
        }
    }
}

/// Every token attends to those of its sequence up to itself. Tokens that no list names are left as they are.
pub fn attend(
    heads: Heads,
    lists: Lists<'_>,
    new: Qkv<'_>,
    (out, lse): (&Tensor, &Tensor),
) -> Result<(), TorchError> {
    let n = new.q.size()[0];
    let groups = lists.groups(n)?;
    let (wide, narrow) = (n * heads.q * heads.d, n * heads.k * heads.d);
    let (q, k, v) = (floats(new.q, wide)?, floats(new.k, narrow)?, floats(new.v, narrow)?);
    let (out, lse) = (floats(out, wide)?, floats(lse, n * heads.q)?);
    // SAFETY: tensors have a row for every index of the lists, as checked.
    unsafe {
        tickets_attend(
            groups,
            heads.q,
            heads.k,
            heads.d,
            heads.scale(),
            lists.shared.as_ptr(),
            lists.shared_start.as_ptr(),
            lists.sequence_start.as_ptr(),
            lists.own.as_ptr(),
            lists.own_start.as_ptr(),
            q,
            k,
            v,
            out,
            lse,
        );
    }
    Ok(())
}

/// Gradients of [`attend`]: those of queries are written, those of keys and values added.
pub fn attend_back(
    heads: Heads,
    lists: Lists<'_>,
    new: Qkv<'_>,
    (out, lse): (&Tensor, &Tensor),
    dout: &Tensor,
    grads: Qkv<'_>,
) -> Result<(), TorchError> {
    let n = new.q.size()[0];
    let groups = lists.groups(n)?;
    let (wide, narrow) = (n * heads.q * heads.d, n * heads.k * heads.d);
    let (q, k, v) = (floats(new.q, wide)?, floats(new.k, narrow)?, floats(new.v, narrow)?);
    let (out, lse, dout) = (floats(out, wide)?, floats(lse, n * heads.q)?, floats(dout, wide)?);
    let (dq, dk, dv) = (floats(grads.q, wide)?, floats(grads.k, narrow)?, floats(grads.v, narrow)?);
    // SAFETY: tensors have a row for every index of the lists, as checked.
    unsafe {
        tickets_attend_back(
            groups,
            heads.q,
            heads.k,
            heads.d,
            heads.scale(),
            lists.shared.as_ptr(),
            lists.shared_start.as_ptr(),
            lists.sequence_start.as_ptr(),
            lists.own.as_ptr(),
            lists.own_start.as_ptr(),
            q,
            k,
            v,
            out,
            lse,
            dout,
            dq,
            dk,
            dv,
        );
    }
    Ok(())
}

/// One token per row of `logits [rows, v]`, divided by the temperature, by the inverse of the cumulative distribution at
/// `uniforms`, float64 `[rows]`;
/// tokens int64 and their logprobs float32, `[rows]` each.
pub fn draw(
    logits: &Tensor,
    temperature: f64,
    uniforms: &Tensor,
    tokens: &Tensor,
    logprobs: &Tensor,
) -> Result<(), TorchError> {
    let (rows, v) = logits.size2()?;
    let (logits, tokens, logprobs) =
        (floats(logits, rows * v)?, whole(tokens, rows)?, floats(logprobs, rows)?);
    let uniforms: *mut f64 = numbers(uniforms, Type::Double, rows)?;
    // SAFETY: all are checked to hold what is read or written.
    unsafe {
        tickets_draw(rows, v, (1.0 / temperature) as f32, logits, uniforms, tokens, logprobs);
    }
    Ok(())
}

/// Logprobs of `targets [rows]` and entropies under `logits [rows, v]`. With `gradient [rows]` the logits become the gradient of
/// the sum of gradient times logprob.
pub fn targets(
    logits: &Tensor,
    temperature: f64,
    targets: &Tensor,
    gradient: Option<&Tensor>,
    (logprobs, entropies): (&Tensor, &Tensor),
) -> Result<(), TorchError> {
    let (rows, v) = logits.size2()?;
    let (logits, targets) = (floats(logits, rows * v)?, whole(targets, rows)?);
    let gradient = gradient.map_or(Ok(std::ptr::null_mut()), |gradient| floats(gradient, rows))?;
    let (logprobs, entropies) = (floats(logprobs, rows)?, floats(entropies, rows)?);
    // SAFETY: all are checked to hold what is read or written; targets are tokens of the vocabulary, which packing checks.
    unsafe {
        tickets_targets(rows, v, (1.0 / temperature) as f32, logits, targets, gradient, logprobs, entropies);
    }
    Ok(())
}

/// `sums[ids[n]] += rows[n]`, in order; `sums [v, h]`. The caller sees to ids below v.
pub fn add_rows(sums: &Tensor, ids: &Tensor, rows: &Tensor) -> Result<(), TorchError> {
    let (v, h) = sums.size2()?;
    let n = ids.numel() as i64;
    let (sums, ids, rows) = (floats(sums, v * h)?, whole(ids, n)?, floats(rows, n * h)?);
    // SAFETY: all are checked to hold what is read or written.
    unsafe { tickets_embedding_back(n, h, ids, rows, sums) };
    Ok(())
}
