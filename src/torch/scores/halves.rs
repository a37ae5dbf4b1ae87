//! How far the scores of two disjoint halves of the data agree: tensors in, overlaps of top-k masks out.

use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::sparsity::{ONE_IN, TopOverlap, top_overlaps};

use super::super::{Model, TorchError};

/// The agreement of two halves.
#[derive(Clone, Debug, PartialEq)]
pub struct Halves {
    /// Episodes of the first and of the second half.
    pub episodes: [u32; 2],
    /// Overlaps of their masks, by falling density.
    pub overlaps: Vec<TopOverlap>,
}

impl Halves {
    /// `pair(tensor, start, length)` gives the scores of both halves, float32, one-dimensional; up to a factor of each half.
    pub(super) fn of(
        model: &Model,
        episodes: [u32; 2],
        pair: &dyn Fn(usize, i64, i64) -> Result<[Tensor; 2], TorchError>,
    ) -> Result<Self, TorchError> {
        let _guard = tch::no_grad_guard();
        let overlaps = top_overlaps(&model.weights.sizes(), &ONE_IN, &mut |tensor, range| {
            let [left, right] = pair(tensor, range.start as i64, range.len() as i64)?;
            let host = |piece: Tensor| -> Result<Vec<f32>, TorchError> {
                Ok(Vec::try_from(&piece.f_to_device(Device::Cpu)?)?)
            };
            Ok::<_, TorchError>([host(left)?, host(right)?])
        })?;
        Ok(Self { episodes, overlaps })
    }

    /// As the scores' record has it.
    pub(super) fn to_value(&self) -> Value {
        let of = |found: &TopOverlap| {
            json!({
                "density": found.density(),
                "kept": found.kept,
                "intersection": found.overlap.intersection,
                "union": found.overlap.union,
                "jaccard": found.overlap.jaccard(),
                "chance": found.chance(),
            })
        };
        json!({ "episodes": self.episodes, "overlaps": self.overlaps.iter().map(of).collect::<Vec<_>>() })
    }
}
