//! The way back from targets to the last layer's output, and through a layer but for attention: see head.cpp and back.cpp.
//!
//! Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width, v vocabulary.

use tch::{Kind, Tensor};

use crate::data::{BACK_TOKENS, SMALL_VOCABULARY};

use super::super::TorchError;
use super::{floats, whole};

/// Features and tokens that stand together in back.cpp.
const TILE: i64 = 16;
/// Tokens that a thread takes together, at most.
const TOGETHER: i64 = 64;

// So sums do not depend on it, and every block begins with a tile.
const _: () = assert!(BACK_TOKENS.is_multiple_of(256));

/// From behind a layer to what attention gave.
#[derive(Debug)]
pub struct MlpBack<'a> {
    pub eps: f64,
    /// Kept of the layer: `[n, h]`, `[n, i]` twice, `[n, q]`.
    pub middle: &'a Tensor,
    pub gate: &'a Tensor,
    pub up: &'a Tensor,
    pub attended: &'a Tensor,
    /// Weights: the norm `[h]`, transposes of matrices `[h, i]` twice, `[i, h]`, `[q, h]`.
    pub norm: &'a Tensor,
    pub gate_t: &'a Tensor,
    pub up_t: &'a Tensor,
    pub down_t: &'a Tensor,
    pub output_t: &'a Tensor,
    /// The gradient by the layer's output, which becomes that by `middle`; in tiles of n tokens, see [`to_tiles`].
    pub dx: &'a Tensor,
    /// Written: `[n, q]`.
    pub dattended: &'a Tensor,
    /// Added to, in the order of norm, gate, up, down, output.
    pub sums: [&'a Tensor; 5],
}

/// From queries, keys and values to a layer's input.
#[derive(Debug)]
pub struct InputBack<'a> {
    pub eps: f64,
    /// The layer's input `[n, h]`; gradients by queries, keys and values as the matrices gave them.
    pub x: &'a Tensor,
    pub dq: &'a Tensor,
    pub dk: &'a Tensor,
    pub dv: &'a Tensor,
    /// Weights: the norm `[h]`, transposes of matrices `[h, q]`, `[h, k]` twice.
    pub norm: &'a Tensor,
    pub query_t: &'a Tensor,
    pub key_t: &'a Tensor,
    pub value_t: &'a Tensor,
    /// The gradient by what follows attention, which becomes that by `x`; in tiles.
    pub dx: &'a Tensor,
    /// Added to, in the order of norm, query, key, value.
    pub sums: [&'a Tensor; 4],
}

/// From the slopes of targets' logprobs to the last layer's output.
#[derive(Debug)]
pub struct HeadBack<'a> {
    pub eps: f64,
    pub temperature: f64,
    /// The last layer's output at every target, `[n, h]`; targets and slopes, `[n]`.
    pub x: &'a Tensor,
    pub targets: &'a Tensor,
    pub slopes: &'a Tensor,
    /// Weights: the last norm `[h]`, the matrix of the vocabulary `[v, h]` and its transpose.
    pub norm: &'a Tensor,
    pub head: &'a Tensor,
    pub head_t: &'a Tensor,
    /// Written: gradients by `x`, logprobs and entropies.
    pub dx: &'a Tensor,
    pub logprobs: &'a Tensor,
    pub entropies: &'a Tensor,
    /// Added to, of norm and matrix.
    pub sums: [&'a Tensor; 2],
}

#[repr(C)]
struct RawHeadBack {
    sizes: [i64; 3],
    eps: f32,
    inverse: f32,
    x: *const f32,
    targets: *const i64,
    slopes: *const f32,
    weights: [*const f32; 3],
    written: [*mut f32; 3],
    sums: [*mut f32; 2],
    room: *mut f32,
}

#[repr(C)]
struct RawMlpBack {
    sizes: [i64; 5],
    eps: f32,
    kept: [*const f32; 4],
    weights: [*const f32; 5],
    written: [*mut f32; 2],
    sums: [*mut f32; 5],
    room: *mut f32,
}

#[repr(C)]
struct RawInputBack {
    sizes: [i64; 5],
    eps: f32,
    given: [*const f32; 4],
    weights: [*const f32; 4],
    dx: *mut f32,
    sums: [*mut f32; 4],
    room: *mut f32,
}

unsafe extern "C" {
    fn tickets_head_back(all: *const RawHeadBack);
    fn tickets_mlp_back(all: *const RawMlpBack);
    fn tickets_input_back(all: *const RawInputBack);
    fn tickets_to_tiles(n: i64, h: i64, rows: *const f32, tiles: *mut f32);
    fn tickets_to_rows(n: i64, h: i64, tiles: *const f32, rows: *mut f32);
}

/// `rows [n, h]` in tiles, feature by feature, 16 tokens side by side: `[n / 16, h, 16]`, filled up with zeros.
///
/// # Errors
/// When `rows` is not of float32 on the CPU in one piece, or memory runs out.
pub fn to_tiles(rows: &Tensor) -> Result<Tensor, TorchError> {
    let (n, h) = rows.size2()?;
    let tiles = rows.f_new_empty([(n + TILE - 1) / TILE, h, TILE], (rows.kind(), rows.device()))?;
    let (from, to) = (floats(rows, n * h)?, floats(&tiles, filled(n) * h)?);
    // SAFETY: both hold what is read or written.
    unsafe { tickets_to_tiles(n, h, from, to) };
    Ok(tiles)
}

/// The rows `[n, h]` of n tokens in tiles.
///
/// # Errors
/// As [`to_tiles`].
pub fn to_rows(tiles: &Tensor, n: i64) -> Result<Tensor, TorchError> {
    let (_, h, _) = tiles.size3()?;
    let rows = tiles.f_new_empty([n, h], (tiles.kind(), tiles.device()))?;
    let (from, to) = (floats(tiles, filled(n) * h)?, floats(&rows, n * h)?);
    // SAFETY: both hold what is read or written.
    unsafe { tickets_to_rows(n, h, from, to) };
    Ok(rows)
}

/// Up to a whole tile.
fn filled(count: i64) -> i64 {
    (count + TILE - 1) / TILE * TILE
}

/// Room for these features of `n` tokens, for `sums` of every tile, and for tiles of `own` features of every thread.
fn room(n: i64, features: &[i64], sums: i64, own: i64) -> Result<Tensor, TorchError> {
    let wide: i64 = features.iter().map(|&count| filled(count)).sum::<i64>() + filled(sums) / TILE;
    let size = filled(n) * wide + i64::from(tch::get_num_threads()) * TOGETHER * own;
    Ok(Tensor::f_empty([size], (Kind::Float, tch::Device::Cpu))?)
}

fn fixed(tensor: &Tensor, count: i64) -> Result<*const f32, TorchError> {
    floats(tensor, count).map(<*mut f32>::cast_const)
}

impl HeadBack<'_> {
    /// Whether a vocabulary is small enough.
    pub fn suits(v: i64) -> bool {
        v <= SMALL_VOCABULARY as i64
    }

    /// Does it. Targets are tokens of the vocabulary, which packing checks.
    ///
    /// # Errors
    /// When a tensor is not of the type, place and size that it must have, or memory runs out.
    pub fn run(&self) -> Result<(), TorchError> {
        let ((n, h), (v, _)) = (self.x.size2()?, self.head.size2()?);
        let room = room(n, &[v, h], h, 4 * h + v + (v + TILE - 1) / TILE)?;
        let raw = RawHeadBack {
            sizes: [n, h, v],
            eps: self.eps as f32,
            inverse: (1.0 / self.temperature) as f32,
            x: fixed(self.x, n * h)?,
            targets: whole(self.targets, n)?,
            slopes: fixed(self.slopes, n)?,
            weights: [fixed(self.norm, h)?, fixed(self.head, v * h)?, fixed(self.head_t, h * v)?],
            written: [floats(self.dx, n * h)?, floats(self.logprobs, n)?, floats(self.entropies, n)?],
            sums: [floats(self.sums[0], h)?, floats(self.sums[1], v * h)?],
            room: room.data_ptr().cast(),
        };
        // SAFETY: every pointer is to as many numbers as head.cpp reads or writes, and targets are below v.
        unsafe { tickets_head_back(&raw const raw) };
        Ok(())
    }
}

impl MlpBack<'_> {
    /// Does it.
    ///
    /// # Errors
    /// When a tensor is not of the type, place and size that it must have, or memory runs out.
    pub fn run(&self) -> Result<(), TorchError> {
        let ((n, h), (_, i), (_, q)) = (self.middle.size2()?, self.gate.size2()?, self.attended.size2()?);
        let block = BACK_TOKENS as i64;
        let room = room(n.min(block), &[h, h, i, i, i, q], h, 3 * h + i + q)?;
        let [norm, gate, up, down, output] = self.sums;
        let raw = RawMlpBack {
            sizes: [n, block, h, i, q],
            eps: self.eps as f32,
            kept: [
                fixed(self.middle, n * h)?,
                fixed(self.gate, n * i)?,
                fixed(self.up, n * i)?,
                fixed(self.attended, n * q)?,
            ],
            weights: [
                fixed(self.norm, h)?,
                fixed(self.gate_t, h * i)?,
                fixed(self.up_t, h * i)?,
                fixed(self.down_t, i * h)?,
                fixed(self.output_t, q * h)?,
            ],
            written: [floats(self.dx, filled(n) * h)?, floats(self.dattended, n * q)?],
            sums: [
                floats(norm, h)?,
                floats(gate, i * h)?,
                floats(up, i * h)?,
                floats(down, h * i)?,
                floats(output, h * q)?,
            ],
            room: room.data_ptr().cast(),
        };
        // SAFETY: every pointer is to as many numbers as back.cpp reads or writes.
        unsafe { tickets_mlp_back(&raw const raw) };
        Ok(())
    }
}

impl InputBack<'_> {
    /// Does it.
    ///
    /// # Errors
    /// As [`MlpBack::run`].
    pub fn run(&self) -> Result<(), TorchError> {
        let ((n, h), (_, q), (_, k)) = (self.x.size2()?, self.dq.size2()?, self.dk.size2()?);
        let block = BACK_TOKENS as i64;
        let room = room(n.min(block), &[h, q, k, k], h, 3 * h)?;
        let [norm, query, key, value] = self.sums;
        let raw = RawInputBack {
            sizes: [n, block, h, q, k],
            eps: self.eps as f32,
            given: [
                fixed(self.x, n * h)?,
                fixed(self.dq, n * q)?,
                fixed(self.dk, n * k)?,
                fixed(self.dv, n * k)?,
            ],
            weights: [
                fixed(self.norm, h)?,
                fixed(self.query_t, h * q)?,
                fixed(self.key_t, h * k)?,
                fixed(self.value_t, h * k)?,
            ],
            dx: floats(self.dx, filled(n) * h)?,
            sums: [floats(norm, h)?, floats(query, q * h)?, floats(key, k * h)?, floats(value, k * h)?],
            room: room.data_ptr().cast(),
        };
        // SAFETY: every pointer is to as many numbers as back.cpp reads or writes.
        unsafe { tickets_input_back(&raw const raw) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted numbers of mixed signs.
    fn numbers(size: [i64; 2]) -> Tensor {
        (Tensor::arange(size[0] * size[1], (Kind::Float, tch::Device::Cpu)) * 0.37).sin().view(size)
    }

    #[test]
    fn no_bit_depends_on_the_number_of_threads() {
        // Widths that fill no tile, tokens that fill no part.
        let (n, h, i, q, k) = (333, 37, 50, 48, 16);
        let before = tch::get_num_threads();
        let results = [1, 2, 3].map(|threads| {
            tch::set_num_threads(threads);
            let (dx, dattended) =
                (to_tiles(&numbers([n, h])).unwrap(), Tensor::zeros([n, q], (Kind::Float, tch::Device::Cpu)));
            let sums = [[1, h], [i, h], [i, h], [h, i], [h, q]].map(numbers);
            MlpBack {
                eps: 1e-6,
                middle: &numbers([n, h]),
                gate: &numbers([n, i]),
                up: &numbers([n, i]),
                attended: &numbers([n, q]),
                norm: &numbers([1, h]),
                gate_t: &numbers([h, i]),
                up_t: &numbers([h, i]),
                down_t: &numbers([i, h]),
                output_t: &numbers([q, h]),
                dx: &dx,
                dattended: &dattended,
                sums: sums.each_ref(),
            }
            .run()
            .unwrap();
            let of_input = [[1, h], [q, h], [k, h], [k, h]].map(numbers);
            InputBack {
                eps: 1e-6,
                x: &numbers([n, h]),
                dq: &dattended,
                dk: &numbers([n, k]),
                dv: &numbers([n, k]),
                norm: &numbers([1, h]),
                query_t: &numbers([h, q]),
                key_t: &numbers([h, k]),
                value_t: &numbers([h, k]),
                dx: &dx,
                sums: of_input.each_ref(),
            }
            .run()
            .unwrap();
            let (of_head, found) = ([[1, h], [q, h]].map(numbers), [[n, h], [1, n], [1, n]].map(numbers));
            HeadBack {
                eps: 1e-6,
                temperature: 0.7,
                x: &numbers([n, h]),
                targets: &Tensor::arange(n, (Kind::Int64, tch::Device::Cpu)).remainder(q),
                slopes: &numbers([1, n]),
                norm: &numbers([1, h]),
                head: &numbers([q, h]),
                head_t: &numbers([h, q]),
                dx: &found[0],
                logprobs: &found[1],
                entropies: &found[2],
                sums: of_head.each_ref(),
            }
            .run()
            .unwrap();
            (dx, dattended, sums, of_input, of_head, found)
        });
        tch::set_num_threads(before);
        assert!(results[0].0.isfinite().all().int64_value(&[]) == 1);
        assert!(results[1] == results[0] && results[2] == results[0]);
    }

    #[test]
    fn rows_go_to_tiles_and_back() {
        let rows = numbers([37, 5]);
        let tiles = to_tiles(&rows).unwrap();
        assert_eq!(tiles.size(), [3, 5, 16]);
        assert_eq!(tiles.double_value(&[1, 3, 2]), rows.double_value(&[18, 3]));
        assert_eq!(tiles.narrow(0, 2, 1).narrow(2, 5, 11).abs().max().double_value(&[]), 0.0);
        assert_eq!(to_rows(&tiles, 37).unwrap(), rows);
    }

    #[test]
    fn tensors_of_other_sizes_are_refused() {
        let (n, h) = (3, 4);
        let small = numbers([n, h]);
        let result = InputBack {
            eps: 1e-6,
            x: &small,
            dq: &small,
            dk: &small,
            dv: &small,
            norm: &numbers([1, h]),
            query_t: &numbers([h, h]),
            key_t: &numbers([h, h]),
            value_t: &numbers([h, h + 1]),
            dx: &to_tiles(&small).unwrap(),
            sums: [&small; 4],
        }
        .run();
        assert!(result.is_err());
    }
}
