//! All layers of a decoder over a cache in one call, and the vocabulary's logits: see decoder.cpp.
//!
//! Shape legend: n tokens, h hidden, i inner, d head width, q and k their heads times d, v vocabulary.

use tch::{Device, Kind, Tensor};

use super::super::TorchError;
use super::{CachedRows, Heads, floats, whole};

/// Tokens that stand side by side in decoder.cpp.
const TILE: i64 = 16;

/// The sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub heads: Heads,
    pub h: i64,
    pub i: i64,
    pub eps: f64,
}

/// Weights of a layer; `None` where the family has none.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights<'a> {
    pub attention_norm: &'a Tensor,
    /// Matrix and bias each.
    pub query: (&'a Tensor, Option<&'a Tensor>),
    pub key: (&'a Tensor, Option<&'a Tensor>),
    pub value: (&'a Tensor, Option<&'a Tensor>),
    /// Of the heads' queries and keys.
    pub head_norms: Option<(&'a Tensor, &'a Tensor)>,
    pub output: (&'a Tensor, Option<&'a Tensor>),
    pub mlp_norm: &'a Tensor,
    pub gate: &'a Tensor,
    pub up: &'a Tensor,
    pub down: &'a Tensor,
}

/// Where rows of what a layer computes go: tensors of rows, of which those from some place on are written. `None` where it is not
/// kept.
#[derive(Clone, Copy, Debug)]
pub struct LayerPlaces<'a> {
    /// Queries and keys before the norms of their heads.
    pub raw: Option<(&'a Tensor, &'a Tensor)>,
    pub q: &'a Tensor,
    pub k: &'a Tensor,
    pub v: &'a Tensor,
    pub attended: &'a Tensor,
    pub lse: &'a Tensor,
    pub middle: Option<&'a Tensor>,
    pub gate: Option<&'a Tensor>,
    pub up: Option<&'a Tensor>,
    pub out: Option<&'a Tensor>,
}

/// A layer: weights, keys and values of its cache, places.
pub type Layer<'a> = (LayerWeights<'a>, (&'a Tensor, &'a Tensor), LayerPlaces<'a>);

#[repr(C)]
struct RawDecoder {
    sizes: [i64; 7],
    eps: f32,
    scale: f32,
}

#[repr(C)]
struct RawLayer {
    weights: [*const f32; 15],
    cache: [*mut f32; 2],
    places: [*mut f32; 11],
}

#[repr(C)]
struct RawRows {
    count: i64,
    slot: *const i64,
    before: *const i64,
    start: *const i64,
}

#[rustfmt::skip]
unsafe extern "C" {
    fn tickets_decode(shape: *const RawDecoder, layers: *const RawLayer, rows: *const RawRows, cos: *const f32, sin: *const f32, position: *const i64, x: *const f32, room: *mut f32);
    fn tickets_logits(n: i64, h: i64, v: i64, eps: f32, x: *const f32, norm: *const f32, head: *const f32, logits: *mut f32, room: *mut f32);
    fn tickets_decode_room(shape: *const RawDecoder) -> i64;
    fn tickets_logits_room(h: i64) -> i64;
}

/// Whether so many tokens of so many rows are worth it: enough for a tile and a row of every thread. With fewer, products that share a
/// matrix between threads are faster.
pub fn suits(rows: usize, tokens: i64) -> bool {
    let threads = tch::get_num_threads();
    rows as i64 >= i64::from(threads) && tokens >= TILE * i64::from(threads)
}

/// Room for so many numbers of every thread.
fn room(size: i64) -> Result<Tensor, TorchError> {
    Ok(Tensor::f_empty([size * i64::from(tch::get_num_threads())], (Kind::Float, Device::Cpu))?)
}

/// Passes new tokens through all layers: `x [n, h]`, embedded, is in the rows from `first` on of its tensor, and what is computed goes
/// to the same rows of the layers' places. `tables [positions, d]` have a row for every position: the caller sees to that.
///
/// # Errors
/// When a tensor is not of the type, place and size that it must have.
pub fn decode(
    sizes: Sizes,
    layers: &[Layer<'_>],
    rows: CachedRows<'_>,
    (positions, tables): (&Tensor, (&Tensor, &Tensor)),
    x: &Tensor,
    first: i64,
) -> Result<(), TorchError> {
    let Sizes { heads, h, i, eps } = sizes;
    let (d, n) = (heads.d, rows.tokens());
    let (q, k) = (heads.q * d, heads.k * d);
    let Some((_, (_, values), _)) = layers.first() else { return Ok(()) };
    let (slots, _, capacity, _) = values.size4()?;
    rows.fit(slots, capacity)?;
    let place = |tensor: &Tensor, width: i64| -> Result<*mut f32, TorchError> {
        let held = tensor.numel() as i64;
        if first < 0 || held < (first + n) * width {
            return Err(TorchError::Op { message: format!("no room for {n} rows of {width} from {first}") });
        }
        let begin = floats(tensor, held)?;
        // SAFETY: the tensor has more than that, as was just seen.
        Ok(unsafe { begin.add((first * width) as usize) })
    };
    let maybe = |tensor: Option<&Tensor>, width| {
        tensor.map_or(Ok(std::ptr::null_mut()), |tensor| place(tensor, width))
    };
    let fixed = |tensor: &Tensor, count| floats(tensor, count).map(<*mut f32>::cast_const);
    let bias =
        |tensor: Option<&Tensor>, count| tensor.map_or(Ok(std::ptr::null()), |tensor| fixed(tensor, count));
    let raw_layer = |(weights, (keys, values), places): &Layer<'_>| -> Result<RawLayer, TorchError> {
        let size = slots * k * capacity;
        let (query_norm, key_norm) = weights.head_norms.unzip();
        let (raw_q, raw_k) = places.raw.unzip();
        Ok(RawLayer {
            weights: [
                fixed(weights.attention_norm, h)?,
                fixed(weights.query.0, q * h)?,
                bias(weights.query.1, q)?,
                fixed(weights.key.0, k * h)?,
                bias(weights.key.1, k)?,
                fixed(weights.value.0, k * h)?,
                bias(weights.value.1, k)?,
                bias(query_norm, d)?,
                bias(key_norm, d)?,
                fixed(weights.output.0, h * q)?,
                bias(weights.output.1, h)?,
                fixed(weights.mlp_norm, h)?,
                fixed(weights.gate, i * h)?,
                fixed(weights.up, i * h)?,
                fixed(weights.down, h * i)?,
            ],
            cache: [floats(keys, size)?, floats(values, size)?],
            places: [
                maybe(raw_q, q)?,
                maybe(raw_k, k)?,
                place(places.q, q)?,
                place(places.k, k)?,
                place(places.v, k)?,
                place(places.attended, q)?,
                place(places.lse, heads.q)?,
                maybe(places.middle, h)?,
                maybe(places.gate, i)?,
                maybe(places.up, i)?,
                maybe(places.out, h)?,
            ],
        })
    };
    let raw_layers: Vec<RawLayer> = layers.iter().map(raw_layer).collect::<Result<_, _>>()?;
    let decoder = RawDecoder {
        sizes: [layers.len() as i64, h, i, heads.q, heads.k, d, capacity],
        eps: eps as f32,
        scale: heads.scale(),
    };
    let raw_rows = RawRows {
        count: rows.slot.len() as i64,
        slot: rows.slot.as_ptr(),
        before: rows.before.as_ptr(),
        start: rows.start.as_ptr(),
    };
    // SAFETY: reads the sizes alone.
    let room = room(unsafe { tickets_decode_room(&raw const decoder) })?;
    let held = tables.0.size()[0];
    let (cos, sin) = (floats(tables.0, held * d)?, floats(tables.1, held * d)?);
    let (positions, x) = (whole(positions, n)?, place(x, h)?);
    // SAFETY: every pointer is to a tensor of the size that decoder.cpp reads or writes, or null where it asks for null; rows are in
    // the cache, and their slots are distinct, so that no two threads write the same place.
    unsafe {
        tickets_decode(
            &raw const decoder,
            raw_layers.as_ptr(),
            &raw const raw_rows,
            cos,
            sin,
            positions,
            x,
            room.data_ptr().cast(),
        );
    };
    Ok(())
}

/// Logits `[n, v]` of the last layer's output `x [n, h]`: its norm, then the matrix of the vocabulary `head [v, h]`.
///
/// # Errors
/// As [`decode`].
pub fn logits(x: &Tensor, norm: &Tensor, head: &Tensor, eps: f64, logits: &Tensor) -> Result<(), TorchError> {
    let ((n, h), (v, _)) = (x.size2()?, head.size2()?);
    let (x, norm, head) = (floats(x, n * h)?, floats(norm, h)?, floats(head, v * h)?);
    let logits = floats(logits, n * v)?;
    // SAFETY: takes no pointer.
    let room = room(unsafe { tickets_logits_room(h) })?;
    // SAFETY: all are checked to hold what is read or written.
    unsafe { tickets_logits(n, h, v, eps as f32, x, norm, head, logits, room.data_ptr().cast()) };
    Ok(())
}
