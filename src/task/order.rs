//! Which episode is asked when: positions of training and of an evaluation to indices of a fixed list.
//!
//! A task whose episodes are drawn by index has no list, and a position is its index. Where there is a list, training
//! shuffles it anew for every pass, and an evaluation asks a sample without replacement: both functions of the seed, so that
//! runs of two seeds see two orders and the n-th look of a run is the same after a resume.

use std::ops::Range;

use crate::counter::Counter;

/// The order in which training asks the episodes of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Every pass is a permutation of its own, drawn by (seed, pass). The sound choice: nothing is asked twice before all is.
    Shuffled,
    /// Row by row, from the first again after the last.
    Rows,
    /// The study's: the same problems again after every evaluation.
    Recycled {
        /// The seed of the evaluation whose making resets the generator.
        eval_seed: u64,
        /// Problems from one evaluation to the next.
        period: u64,
    },
}

/// Which episodes of a list an evaluation asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalRows {
    /// A sample without replacement, drawn by the evaluation's seed. The sound choice: lists are often sorted.
    Sample,
    /// The first ones, as the study did.
    First,
}

/// The indices of positions of training that are shuffled, in a list of `count`.
pub(super) fn shuffled(seed: u64, positions: Range<u64>, count: u64) -> Vec<u64> {
    let mut pass = None;
    positions
        .map(|position| {
            let number = position / count;
            let known = pass.take().filter(|(known, _)| *known == number);
            let (_, permutation) =
                known.unwrap_or_else(|| (number, permutation(seed, "task/order/train", number, count)));
            let index = permutation[(position % count) as usize];
            pass = Some((number, permutation));
            index
        })
        .collect()
}

/// The indices of an evaluation of `examples` in a list of `count`, which has as many.
pub(super) fn sampled(seed: u64, examples: u64, count: u64) -> Vec<u64> {
    let mut indices = permutation(seed, "task/order/eval", 0, count);
    indices.truncate(examples as usize);
    indices
}

fn permutation(seed: u64, domain: &str, pass: u64, count: u64) -> Vec<u64> {
    let mut indices: Vec<u64> = (0..count).collect();
    Counter::new(seed, domain, &[pass]).shuffle(&mut indices);
    indices
}

/// The index of an episode of another stream: drawn, with replacement.
pub(super) fn drawn(seed: u64, stream: &str, index: u64, count: u64) -> u64 {
    Counter::new(seed, &format!("task/order/{stream}"), &[index]).below(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_has_every_index_once_in_an_order_of_its_own() {
        let passes = shuffled(7, 0..30, 10);
        for pass in passes.chunks(10) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(passes[..10], passes[10..20]);
        assert_ne!(passes[..10], (0..10).collect::<Vec<_>>());
        // A stretch is what it is within the whole.
        assert_eq!(shuffled(7, 8..23, 10), passes[8..23]);
        assert_ne!(shuffled(8, 0..10, 10), passes[..10]);
    }

    #[test]
    fn an_evaluation_asks_nothing_twice() {
        let mut indices = sampled(3, 50, 60);
        assert_eq!(indices[..20], sampled(3, 20, 60));
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), 50);
    }
}
