//! Scores of a model's entries, streamed from the files that they are made of.

use super::MasksError;
use super::numbers::Numbers;
use crate::sparsity::{Scores, SparsityError};

/// What scores are made of.
#[derive(Debug)]
pub enum Streamed {
    /// Nothing: the mask needs none.
    None,
    /// A file of scores, as it is.
    Given(Numbers),
    /// Absolute weights.
    Magnitude(Numbers),
    /// Absolute weights times scores (SNIP, of absolute gradients).
    Product(Numbers, Numbers),
    /// The absolute difference of two states of the weights.
    Moved(Numbers, Numbers),
}

impl Scores for Streamed {
    type Error = MasksError;

    fn read(
        &self,
        tensor: usize,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), SparsityError>,
    ) -> Result<(), MasksError> {
        let (first, second, join): (_, _, fn(f32, f32) -> f32) = match self {
            Self::None => return Ok(()),
            Self::Given(numbers) => (numbers, None, |score, _| score),
            Self::Magnitude(weights) => (weights, None, |weight, _| weight.abs()),
            Self::Product(weights, scores) => (weights, Some(scores), |weight, score| weight.abs() * score),
            Self::Moved(before, after) => (before, Some(after), |before, after| (after - before).abs()),
        };
        let mut first = first.tensor(tensor)?;
        let mut second = second.map(|second| second.tensor(tensor)).transpose()?;
        while let Some(values) = first.next()? {
            match &mut second {
                None => values.iter_mut().for_each(|value| *value = join(*value, 0.0)),
                Some(second) => {
                    let others = second.next()?.unwrap_or_default();
                    for (value, other) in values.iter_mut().zip(others) {
                        *value = join(*value, *other);
                    }
                }
            }
            visit(values)?;
        }
        Ok(())
    }
}
