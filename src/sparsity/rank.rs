//! Choosing by score, in bounded memory: scores are read block by block, as often as needed, and never sorted.
//!
//! The k-th score is found by its bits: a float's bits, turned so that they order as the numbers do, are counted by their
//! upper half (65,536 counters), then by the lower half within the upper half that holds the k-th. The last pass takes
//! what is above, and of the ties the first ones. Three passes over the scores, and no copy of them.
//!
//! Order of choice: score (descending, or ascending for the lowest), then tensor order, then flat index ascending.

use super::draw::{GroupCounts, fill, groups};
use super::pools::{Units, pools};
use super::{Choice, Keep, Mask, Scope, SparsityError, TensorSize, Unit, kept_count};

/// The rule between equal scores, as masks record it.
pub const TIES: &str = "score descending, tensor order, flat index ascending";
/// The same for the lowest scores.
pub const TIES_LOW: &str = "score ascending, tensor order, flat index ascending";

/// Scores of a model's entries, one finite number each.
pub trait Scores {
    /// What keeps them from being read.
    type Error: From<SparsityError>;

    /// Calls `visit` with the scores of a tensor, a block at a time, by ascending flat index.
    ///
    /// # Errors
    /// When they cannot be read, or `visit` fails.
    fn read(
        &self,
        tensor: usize,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), SparsityError>,
    ) -> Result<(), Self::Error>;
}

/// Scores that are in memory, a list per tensor.
impl Scores for [Vec<f32>] {
    type Error = SparsityError;

    fn read(
        &self,
        tensor: usize,
        visit: &mut dyn FnMut(&[f32]) -> Result<(), SparsityError>,
    ) -> Result<(), SparsityError> {
        visit(&self[tensor])
    }
}

/// The entries of highest or lowest score, every pool's kept share.
///
/// # Errors
/// When a score is not finite, there are too few or too many, or they cannot be read.
pub(super) fn rank<S: Scores + ?Sized>(
    tensors: &[TensorSize],
    candidates: &[usize],
    choice: &Choice,
    keep: Keep,
    scores: &S,
) -> Result<Mask, S::Error> {
    let ranking = Ranking { tensors, scores, keep };
    let mut indices = vec![Vec::new(); tensors.len()];
    for pool in pools(tensors, candidates, choice.scope) {
        match (choice.unit, choice.scope) {
            (Unit::Entry, Scope::PerGroup(group)) => {
                for &i in &pool {
                    indices[i] = ranking.grouped(i, group, choice)?;
                }
            }
            (Unit::Entry, _) => ranking.entries(&pool, choice, &mut indices)?,
            (_, scope) => ranking.units(&pool, choice, scope, &mut indices)?,
        }
    }
    Ok(Mask::new(tensors.to_vec(), indices)?)
}

/// What a visit of a block ends with.
type Checked = Result<(), SparsityError>;

struct Ranking<'a, S: ?Sized> {
    tensors: &'a [TensorSize],
    scores: &'a S,
    keep: Keep,
}

/// Bits that order as the numbers do, the first to be chosen highest. Both zeros are one number.
pub(super) fn place(score: f32, keep: Keep) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits };
    match keep {
        Keep::High => ascending,
        Keep::Low => !ascending,
    }
}

impl<S: Scores + ?Sized> Ranking<'_, S> {
    /// Reads a tensor's scores, and checks that they are finite and as many as its entries. `visit` gets the flat index
    /// of each block's first.
    fn read(&self, tensor: usize, visit: &mut dyn FnMut(usize, &[f32]) -> Checked) -> Result<(), S::Error> {
        let mut at = 0;
        let size = &self.tensors[tensor];
        self.scores.read(tensor, &mut |block| {
            // Looked through without an early end, which is several times as fast; mostly there is nothing to find.
            if block.iter().fold(false, |found, score| found | !score.is_finite())
                && let Some(bad) = block.iter().position(|score| !score.is_finite())
            {
                let index = at + bad;
                return Err(SparsityError::NonFiniteScore { tensor: size.name.clone(), index });
            }
            visit(at, block)?;
            at += block.len();
            Ok(())
        })?;
        let expected = size.elements();
        if at != expected {
            return Err(SparsityError::ScoreCount { tensor: size.name.clone(), expected, got: at }.into());
        }
        Ok(())
    }

    /// Single entries of a pool.
    fn entries(&self, pool: &[usize], choice: &Choice, indices: &mut [Vec<u32>]) -> Result<(), S::Error> {
        let elements = pool.iter().map(|i| self.tensors[*i].elements()).sum();
        let kept = kept_count(elements, choice.sparsity, choice.rounding)? as u64;
        let (upper, above) = self.holds(pool, kept, |place| Some((place >> 16) as u16))?;
        if kept == 0 {
            return Ok(());
        }
        let within = |place: u32| (place >> 16 == u32::from(upper)).then_some(place as u16);
        let (lower, above) =
            self.holds(pool, kept - above, within).map(|(lower, more)| (lower, above + more))?;
        let last = u32::from(upper) << 16 | u32::from(lower);
        let mut ties = kept - above;
        for &i in pool {
            let mut chosen = Vec::new();
            self.read(i, &mut |start, block| {
                for (offset, score) in block.iter().enumerate() {
                    let place = place(*score, self.keep);
                    if place > last || (place == last && ties > 0) {
                        ties -= u64::from(place == last);
                        chosen.push((start + offset) as u32);
                    }
                }
                Ok(())
            })?;
            indices[i] = chosen;
        }
        Ok(())
    }

    /// The highest digit at and above which there are at least `kept` scores, and how many are above it.
    fn holds(
        &self,
        pool: &[usize],
        kept: u64,
        digit: impl Fn(u32) -> Option<u16>,
    ) -> Result<(u16, u64), S::Error> {
        let mut counts = vec![0u64; 1 << 16];
        for &i in pool {
            self.read(i, &mut |_, block| {
                for score in block {
                    if let Some(digit) = digit(place(*score, self.keep)) {
                        counts[usize::from(digit)] += 1;
                    }
                }
                Ok(())
            })?;
        }
        let mut above = 0;
        for (digit, count) in counts.iter().enumerate().rev() {
            if above + count >= kept {
                return Ok((digit as u16, above));
            }
            above += count;
        }
        Ok((0, above))
    }

    /// Entries of every group of a tensor's rows.
    fn grouped(&self, tensor: usize, group: u32, choice: &Choice) -> Result<Vec<u32>, S::Error> {
        let counts = GroupCounts::new(&self.tensors[tensor], group, choice)?;
        let mut chosen = Vec::with_capacity(counts.total());
        let mut spans = groups(&self.tensors[tensor], group);
        let mut open: Vec<(u32, u32)> = Vec::new();
        let mut span = spans.next();
        self.read(tensor, &mut |start, block| {
            for (offset, score) in block.iter().enumerate() {
                let Some((_, length)) = span else { break };
                open.push((place(*score, self.keep), (start + offset) as u32));
                if open.len() == length {
                    open.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
                    open.truncate(counts.of(length));
                    open.sort_unstable_by_key(|(_, index)| *index);
                    chosen.extend(open.drain(..).map(|(_, index)| index));
                    span = spans.next();
                }
            }
            Ok(())
        })?;
        Ok(chosen)
    }

    /// Whole rows or columns, by the mean score of their entries (summed in double precision, by ascending index).
    fn units(
        &self,
        pool: &[usize],
        choice: &Choice,
        scope: Scope,
        indices: &mut [Vec<u32>],
    ) -> Result<(), S::Error> {
        let mut ranked: Vec<(f64, (usize, usize))> = Vec::new();
        for &i in pool {
            let units = Units::of(&self.tensors[i], choice.unit);
            let mut sums = vec![0.0f64; units.count];
            self.read(i, &mut |start, block| {
                for (offset, score) in block.iter().enumerate() {
                    sums[units.holder(start + offset)] += f64::from(*score);
                }
                Ok(())
            })?;
            ranked.extend(
                sums.iter().enumerate().map(|(unit, sum)| (sum / units.size.max(1) as f64, (i, unit))),
            );
        }
        ranked.sort_by(|a, b| {
            let order = match self.keep {
                Keep::High => b.0.total_cmp(&a.0),
                Keep::Low => a.0.total_cmp(&b.0),
            };
            order.then(a.1.cmp(&b.1))
        });
        if let (Scope::PerTensor, &[only]) = (scope, pool) {
            let units = Units::of(&self.tensors[only], choice.unit);
            let kept = kept_count(units.count, choice.sparsity, choice.rounding)?;
            let mut chosen: Vec<usize> = ranked[..kept].iter().map(|(_, (_, unit))| *unit).collect();
            chosen.sort_unstable();
            indices[only] = units.entries(&chosen);
            return Ok(());
        }
        let order: Vec<(usize, usize)> = ranked.into_iter().map(|(_, unit)| unit).collect();
        Ok(fill(self.tensors, pool, choice, &order, indices)?)
    }
}
