//! All layers of a decoder over a cache in one call, and the vocabulary's logits: see decoder.cpp.
//!
//! Shape legend: n tokens, h hidden, i inner, d head width, q and k their heads times d, v vocabulary.

use tch::{Device, Kind, Tensor};

use super::super::TorchError;
use super::{CachedRows, Heads, floats};

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

/// New tokens of rows of a cache, and the matrix that embeds them, `[v, h]`.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    pub rows: CachedRows<'a>,
    pub tokens: &'a [i64],
    pub embedding: &'a Tensor,
}

/// What follows the last layer, after the last token of each of b rows.
#[derive(Debug)]
pub struct Head<'a> {
    /// `[h]` and `[v, h]`.
    pub norm: &'a Tensor,
    pub matrix: &'a Tensor,
    /// Written: `[b, v]`.
    pub logits: &'a Tensor,
    pub draw: Draw<'a>,
}

/// Tokens that are drawn from logits at uniforms, with their logprobs.
#[derive(Debug)]
pub struct Draw<'a> {
    pub temperature: f64,
    /// One for each row.
    pub uniforms: &'a [f64],
    /// Written, for each row.
    pub tokens: &'a mut [i64],
    pub logprobs: &'a mut [f32],
}

/// Room for threads that is used again.
#[derive(Debug, Default)]
pub struct Space(Option<Tensor>);

impl Space {
    /// So many numbers of every thread.
    fn of(&mut self, size: i64) -> Result<*mut f32, TorchError> {
        let size = size * i64::from(tch::get_num_threads());
        let tensor = match self.0.take().filter(|tensor| tensor.numel() as i64 >= size) {
            Some(tensor) => tensor,
            None => Tensor::f_empty([size], (Kind::Float, Device::Cpu))?,
        };
        Ok(self.0.insert(tensor).data_ptr().cast())
    }
}

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
    tokens: *const i64,
}

#[repr(C)]
struct RawHead {
    v: i64,
    inverse: f32,
    weights: [*const f32; 2],
    logits: *mut f32,
    uniforms: *const f64,
    tokens: *mut i64,
    logprobs: *mut f32,
}

#[rustfmt::skip]
unsafe extern "C" {
    fn tickets_decode(shape: *const RawDecoder, layers: *const RawLayer, head: *const RawHead, rows: *const RawRows, cos: *const f32, sin: *const f32, embedding: *const f32, x: *mut f32, room: *mut f32);
    fn tickets_logits(n: i64, h: i64, v: i64, eps: f32, x: *const f32, norm: *const f32, head: *const f32, logits: *mut f32, room: *mut f32);
    fn tickets_decode_room(shape: *const RawDecoder, head: *const RawHead) -> i64;
    fn tickets_logits_room(h: i64) -> i64;
}

/// Whether so many tokens of so many rows are worth it: enough for a tile and a row of every thread. With fewer, products that share a
/// matrix between threads are faster.
pub fn suits(rows: usize, tokens: i64) -> bool {
    let threads = tch::get_num_threads();
    rows as i64 >= i64::from(threads) && tokens >= TILE * i64::from(threads)
}

/// Passes new tokens through all layers: they are embedded to the rows from `first` on of `x`, and what is computed goes to the same
/// rows of the layers' places. `tables [positions, d]`. With a head, its logits and draws follow: then every row has a new token, and the
/// last layer's output a place.
///
/// # Errors
/// When a tensor is not of the type, place and size that it must have, a token or position is not in its table, or memory runs out.
pub fn decode(
    sizes: Sizes,
    layers: &[Layer<'_>],
    head: Option<Head<'_>>,
    new: New<'_>,
    tables: (&Tensor, &Tensor),
    (x, first): (&Tensor, i64),
    space: &mut Space,
) -> Result<(), TorchError> {
    let (Sizes { heads, h, i, eps }, rows) = (sizes, new.rows);
    let (d, n, count) = (heads.d, rows.tokens(), rows.slot.len());
    let (q, k) = (heads.q * d, heads.k * d);
    let Some((_, (_, values), last)) = layers.last() else { return Ok(()) };
    let (slots, _, capacity, _) = values.size4()?;
    rows.fit(slots, capacity)?;
    let refuse = |message: &str| TorchError::Op { message: message.into() };
    let (vocabulary, held) = (new.embedding.size()[0], tables.0.size()[0]);
    let is_token = |token: &i64| (0..vocabulary).contains(token);
    if new.tokens.len() as i64 != n || !new.tokens.iter().all(is_token) {
        return Err(refuse("tokens are not as many as the rows have, or not all in the vocabulary"));
    }
    if (0..count).any(|row| rows.before[row] + rows.start[row + 1] - rows.start[row] > held) {
        return Err(refuse("a position is beyond the tables"));
    }
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
        tokens: new.tokens.as_ptr(),
    };
    let raw_head = head.map(|head| {
        let complete = (0..count).all(|row| rows.start[row + 1] > rows.start[row]) && last.out.is_some();
        if complete { raw_head(head, count, h) } else { Err(refuse("a row has no logits")) }
    });
    let raw_head = raw_head.transpose()?;
    let raw_head = raw_head.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: reads the sizes alone.
    let room = space.of(unsafe { tickets_decode_room(&raw const decoder, raw_head) })?;
    let (cos, sin) = (floats(tables.0, held * d)?, floats(tables.1, held * d)?);
    let (embedding, x) = (floats(new.embedding, vocabulary * h)?, place(x, h)?);
    // SAFETY: every pointer is to as many numbers as decoder.cpp reads or writes, or null where it asks for null; rows are in the
    // cache, and their slots are distinct, so that no two threads write the same place; tokens and positions are in their tables.
    unsafe {
        tickets_decode(
            &raw const decoder,
            raw_layers.as_ptr(),
            raw_head,
            &raw const raw_rows,
            cos,
            sin,
            embedding,
            x,
            room,
        );
    };
    Ok(())
}

fn raw_head(
    Head { norm, matrix, logits, draw }: Head<'_>,
    rows: usize,
    h: i64,
) -> Result<RawHead, TorchError> {
    let (v, _) = matrix.size2()?;
    if [draw.uniforms.len(), draw.tokens.len(), draw.logprobs.len()] != [rows; 3] {
        return Err(TorchError::Op { message: "not as many draws as rows".into() });
    }
    Ok(RawHead {
        v,
        inverse: (1.0 / draw.temperature) as f32,
        weights: [floats(norm, h)?, floats(matrix, v * h)?],
        logits: floats(logits, rows as i64 * v)?,
        uniforms: draw.uniforms.as_ptr(),
        tokens: draw.tokens.as_mut_ptr(),
        logprobs: draw.logprobs.as_mut_ptr(),
    })
}

/// Logits `[n, v]` of the last layer's output `x [n, h]`: its norm, then the matrix of the vocabulary `head [v, h]`.
///
/// # Errors
/// As [`decode`].
pub fn logits(x: &Tensor, norm: &Tensor, head: &Tensor, eps: f64, logits: &Tensor) -> Result<(), TorchError> {
    let ((n, h), (v, _)) = (x.size2()?, head.size2()?);
    let (x, norm, head) = (floats(x, n * h)?, floats(norm, h)?, floats(head, v * h)?);
    let logits = floats(logits, n * v)?;
    let mut space = Space::default();
    // SAFETY: takes no pointer.
    let room = space.of(unsafe { tickets_logits_room(h) })?;
    // SAFETY: all are checked to hold what is read or written.
    unsafe { tickets_logits(n, h, v, eps as f32, x, norm, head, logits, room) };
    Ok(())
}
