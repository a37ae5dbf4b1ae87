//! Passes over a cache on the CPU in float32: all layers in one call of decoder.cpp, when there are rows enough for all threads.
//!
//! It gives what [`Model::run`] gives, within rounding; of a token of it not even the last bit depends on what else is passed.

use tch::Tensor;

use super::attention::{Cache, OverCache};
use super::kernels::CachedRows;
use super::kernels::decoder::{self, Layer, LayerPlaces, LayerWeights, Sizes};
use super::layer::Turned;
use super::model::Room;
use super::{Model, TorchError};

impl Model {
    /// Embedded tokens are in the rows from `from` on of the room's first input. What is computed goes to the same rows of the room:
    /// of a room that is kept, all of it.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn decode(
        &self,
        cache: &Cache,
        rows: CachedRows<'_>,
        turned: Turned<'_>,
        room: Room<'_>,
        from: i64,
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
        decoder::decode(sizes, &layers, rows, (turned.positions, turned.tables), room.input(0), from)
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

impl OverCache<'_> {
    /// Passes the rows' new tokens through the model, see [`Model::run`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn run(
        &mut self,
        model: &Model,
        tokens: &Tensor,
        turned: Turned<'_>,
        room: Room<'_>,
        from: i64,
    ) -> Result<Tensor, TorchError> {
        let n = tokens.size()[0];
        if !self.cache.fused || !decoder::suits(self.rows().slot.len(), n) {
            return model.run(tokens, turned, self, room, from);
        }
        model.embed(tokens, &room.input(0).f_narrow(0, from, n)?)?;
        model.decode(self.cache, self.rows(), turned, room, from)?;
        Ok(room.input(model.architecture().layers).f_narrow(0, from, n)?)
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
