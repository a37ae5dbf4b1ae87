//! Passes over a cache on the CPU in float32: tokens through all layers, and on to draws where these are plain, in one call of
//! decoder.cpp, when there are rows enough for all threads.
//!
//! It gives what [`Model::run`] gives, within rounding; of a token of it not even the last bit depends on what else is passed.

use tch::Tensor;

use super::attention::Cache;
use super::kernels::CachedRows;
use super::kernels::decoder::{self, Draw, Head, Layer, LayerPlaces, LayerWeights, New, Sizes, Space};
use super::model::Room;
use super::{Model, TorchError};

impl Model {
    /// New tokens of rows of a cache. What is computed goes to the rows from `from` on of the room: of a room that is kept, all of it.
    /// With `draw`, what follows the last token of each row: logits `[b, v]` and draws from them.
    ///
    /// # Errors
    /// When a token or a position is not in its table, or memory runs out.
    pub(super) fn decode(
        &self,
        cache: &Cache,
        (rows, tokens): (CachedRows<'_>, &[i64]),
        (room, from): (Room<'_>, i64),
        draw: Option<(&Tensor, Draw<'_>)>,
        space: &mut Space,
    ) -> Result<(), TorchError> {
        let count = self.architecture().layers;
        let layers: Vec<Layer<'_>> = (0..count)
            .map(|layer| {
                let last = layer + 1 == count;
                (self.layer_weights(layer), cache.of(layer), places(room, layer, last))
            })
            .collect();
        let sizes = Sizes {
            heads: self.heads(),
            h: self.architecture().hidden_size as i64,
            i: self.architecture().intermediate_size as i64,
            eps: self.architecture().rms_eps,
        };
        let tensors = &self.weights.tensors;
        let (norm, matrix) = (&tensors[self.last_norm()], &tensors[self.head()]);
        let head = draw.map(|(logits, draw)| Head { norm, matrix, logits, draw });
        let new = New { rows, tokens, embedding: &tensors[0] };
        let tables = self.rotary.tables(rows.longest())?;
        decoder::decode(sizes, &layers, head, new, (&tables.0, &tables.1), (room.input(0), from), space)
    }

    fn layer_weights(&self, layer: usize) -> LayerWeights<'_> {
        let (shape, slots) = (self.architecture(), self.slots);
        let weight = |slot: usize| self.weight(layer, slot);
        let with_bias = |slot: usize, biased: bool| (weight(slot), biased.then(|| weight(slot + 1)));
        LayerWeights {
            attention_norm: weight(slots.attention_norm),
            query: with_bias(slots.query, shape.attention_bias),
            key: with_bias(slots.key, shape.attention_bias),
            value: with_bias(slots.value, shape.attention_bias),
            head_norms: slots.head_norms.map(|slot| (weight(slot), weight(slot + 1))),
            output: with_bias(slots.output, shape.output_bias()),
            mlp_norm: weight(slots.mlp_norm),
            gate: weight(slots.gate),
            up: weight(slots.up),
            down: weight(slots.down),
        }
    }

    /// [`Model::logits`] in one call.
    pub(super) fn decode_logits(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let head = &self.weights.tensors[self.head()];
        let norm = &self.weights.tensors[self.last_norm()];
        let logits = x.f_new_empty([x.size()[0], head.size()[0]], (x.kind(), x.device()))?;
        decoder::logits(x, norm, head, self.architecture().rms_eps, &logits)?;
        Ok(logits)
    }
}

fn places(room: Room<'_>, layer: usize, last: bool) -> LayerPlaces<'_> {
    let (saved, kept) = (room.saved(layer), room.is_kept());
    let wanted = |tensor| kept.then_some(tensor);
    LayerPlaces {
        raw: saved.raw.as_ref().filter(|_| kept).map(|(q, k)| (q, k)),
        q: &saved.q,
        k: &saved.k,
        v: &saved.v,
        attended: &saved.attended,
        lse: &saved.lse,
        middle: wanted(&saved.middle),
        gate: wanted(&saved.gate),
        up: wanted(&saved.up),
        out: (kept || last).then(|| room.input(layer + 1)),
    }
}
