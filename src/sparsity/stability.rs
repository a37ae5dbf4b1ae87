//! How far two lists of scores choose the same entries: the overlap of their global top-k masks, for several k at once.
//!
//! In: both lists, tensor by tensor and piece by piece, three times over. Out: exact counts. Nothing is sorted and no list is
//! copied: the thresholds are found by counting, first the upper and then the lower 16 bits of the scores, taken as integers of
//! the same order. So besides one piece of either list at most 2 * 8 * 65,536 counters are held.
//!
//! Invariant: the masks are those of [`super::top_k`]: score descending, then tensor order, then flat index ascending. They are
//! nested, so that an entry is described by how many of them it is in.

use std::ops::Range;

use super::rank::place;
use super::{Keep, Overlap, SparsityError, TensorSize, chance_jaccard};

/// The densities at which the stability of scores is stated: one entry in so many is kept.
pub const ONE_IN: [u64; 8] = [2, 10, 20, 100, 200, 1000, 2000, 10_000];

/// Entries of a piece.
const PIECE: usize = 1 << 20;
/// Values of 16 bits.
const VALUES: usize = 1 << 16;

/// How two top-k masks of the same size overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopOverlap {
    /// One entry in so many is kept, rounded down.
    pub one_in: u64,
    /// Entries of each mask.
    pub kept: u64,
    /// All entries.
    pub total: u64,
    /// Common and united entries.
    pub overlap: Overlap,
}

impl TopOverlap {
    /// The density asked for.
    pub fn density(&self) -> f64 {
        1.0 / self.one_in as f64
    }

    /// The Jaccard index that two independent masks of this size would have.
    pub fn chance(&self) -> f64 {
        let density = self.kept as f64 / self.total as f64;
        chance_jaccard(density, density)
    }
}

/// The overlaps of the top-k masks of two lists of scores for the same tensors, by falling k; what keeps no entry is left out.
/// `read(tensor, range)` gives both lists' scores of the flat indices `range` of a tensor.
///
/// # Errors
/// When a score is not finite or one is missing, and those of `read`.
pub fn top_overlaps<E: From<SparsityError>>(
    tensors: &[TensorSize],
    one_in: &[u64],
    read: &mut dyn FnMut(usize, Range<usize>) -> Result<[Vec<f32>; 2], E>,
) -> Result<Vec<TopOverlap>, E> {
    let total = tensors.iter().map(|tensor| tensor.elements() as u64).sum::<u64>();
    let mut one_in = one_in.iter().copied().filter(|&n| n > 0 && total / n > 0).collect::<Vec<_>>();
    one_in.sort_unstable();
    one_in.dedup();
    if one_in.is_empty() {
        return Ok(Vec::new());
    }
    let kept = one_in.iter().map(|n| total / n).collect::<Vec<_>>();

    let mut upper = [(); 2].map(|()| vec![0u64; VALUES]);
    each_piece(tensors, read, &mut |sides| {
        for (counts, scores) in upper.iter_mut().zip(sides) {
            for &score in scores {
                counts[usize::from(halves(score).0)] += 1;
            }
        }
    })?;
    let mut searches = upper.map(|counts| Search::new(&counts, &kept));
    each_piece(tensors, read, &mut |sides| {
        for (search, scores) in searches.iter_mut().zip(sides) {
            for &score in scores {
                search.count(score);
            }
        }
    })?;
    let mut cuts = searches.map(Search::cuts);
    // How many entries both lists keep in so many of the masks.
    let mut common = vec![0u64; kept.len() + 1];
    each_piece(tensors, read, &mut |[left, right]| {
        for (&left, &right) in left.iter().zip(right) {
            let [ours, theirs] = &mut cuts;
            common[level(ours, left).min(level(theirs, right))] += 1;
        }
    })?;
    let of = |(mask, (&one_in, &kept)): (usize, (&u64, &u64))| {
        let intersection = common[mask + 1..].iter().sum();
        TopOverlap { one_in, kept, total, overlap: Overlap::of_counts(kept, kept, intersection, total) }
    };
    Ok(one_in.iter().zip(&kept).enumerate().map(of).collect())
}

/// Shows all scores once, in the order of the entries.
fn each_piece<E: From<SparsityError>>(
    tensors: &[TensorSize],
    read: &mut dyn FnMut(usize, Range<usize>) -> Result<[Vec<f32>; 2], E>,
    visit: &mut dyn FnMut([&[f32]; 2]),
) -> Result<(), E> {
    for (index, tensor) in tensors.iter().enumerate() {
        let elements = tensor.elements();
        for start in (0..elements).step_by(PIECE) {
            let range = start..elements.min(start + PIECE);
            let sides = read(index, range.clone())?;
            for scores in &sides {
                if scores.len() != range.len() {
                    let (expected, got) = (elements, start + scores.len());
                    return Err(
                        SparsityError::ScoreCount { tensor: tensor.name.clone(), expected, got }.into()
                    );
                }
                if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
                    let (tensor, index) = (tensor.name.clone(), start + at);
                    return Err(SparsityError::NonFiniteScore { tensor, index }.into());
                }
            }
            visit([&sides[0], &sides[1]]);
        }
    }
    Ok(())
}

/// Upper and lower 16 bits of that integer.
fn halves(score: f32) -> (u16, u16) {
    let key = place(score, Keep::High);
    ((key >> 16) as u16, key as u16)
}

/// The value at which `wanted` entries, counted from the largest value down, are reached, and how many of its entries are
/// needed for that.
fn reach(counts: &[u64], wanted: u64) -> (usize, u64) {
    let mut missing = wanted;
    for (value, &count) in counts.iter().enumerate().rev() {
        if count >= missing {
            return (value, missing);
        }
        missing -= count;
    }
    // Not reached: no more is asked for than there is.
    (0, missing)
}

/// One list's thresholds, their upper halves known.
struct Search {
    /// For each k: the upper half, and how many of its entries are needed.
    wanted: Vec<(u16, u64)>,
    /// For each upper half that is wanted, how often each lower one occurs.
    lower: Vec<(u16, Vec<u64>)>,
    /// Where in `lower` an upper half is.
    place: Vec<u8>,
}

/// No place.
const NOWHERE: u8 = u8::MAX;

impl Search {
    fn new(upper: &[u64], kept: &[u64]) -> Self {
        let mut search = Self { wanted: Vec::new(), lower: Vec::new(), place: vec![NOWHERE; VALUES] };
        for &kept in kept {
            let (value, missing) = reach(upper, kept);
            search.wanted.push((value as u16, missing));
            if search.place[value] == NOWHERE {
                search.place[value] = search.lower.len() as u8;
                search.lower.push((value as u16, vec![0; VALUES]));
            }
        }
        search
    }

    fn count(&mut self, score: f32) {
        let (upper, lower) = halves(score);
        let place = self.place[usize::from(upper)];
        if place != NOWHERE {
            self.lower[usize::from(place)].1[usize::from(lower)] += 1;
        }
    }

    fn cuts(self) -> Vec<Cut> {
        let cut = |&(upper, missing): &(u16, u64)| {
            let (_, counts) = &self.lower[usize::from(self.place[usize::from(upper)])];
            let (lower, ties) = reach(counts, missing);
            Cut { key: u32::from(upper) << 16 | lower as u32, ties }
        };
        self.wanted.iter().map(cut).collect()
    }
}

/// Where a mask ends: all entries above are in it, and the first `ties` of those that are equal.
struct Cut {
    key: u32,
    ties: u64,
}

/// In how many of the nested masks the next entry is.
fn level(cuts: &mut [Cut], score: f32) -> usize {
    let key = place(score, Keep::High);
    let mut level = 0;
    for cut in cuts {
        if key < cut.key || (key == cut.key && cut.ties == 0) {
            break;
        }
        cut.ties -= u64::from(key == cut.key);
        level += 1;
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes(lists: &[Vec<f32>]) -> Vec<TensorSize> {
        let size =
            |(i, list): (usize, &Vec<f32>)| TensorSize { name: format!("t{i}"), shape: vec![list.len()] };
        lists.iter().enumerate().map(size).collect()
    }

    fn overlaps(
        left: &[Vec<f32>],
        right: &[Vec<f32>],
        one_in: &[u64],
    ) -> Result<Vec<TopOverlap>, SparsityError> {
        top_overlaps(&sizes(left), one_in, &mut |tensor, range| {
            Ok([left[tensor][range.clone()].to_vec(), right[tensor][range].to_vec()])
        })
    }

    /// `(kept, intersection)` by sorting.
    fn sorted(left: &[Vec<f32>], right: &[Vec<f32>], one_in: u64) -> (u64, u64) {
        let top = |lists: &[Vec<f32>]| {
            let mut all = lists.concat().into_iter().enumerate().collect::<Vec<_>>();
            // Stable: equals stay in the order of tensors and indices.
            all.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap());
            all.truncate(all.len() / one_in as usize);
            all.into_iter().map(|(at, _)| at).collect::<std::collections::BTreeSet<_>>()
        };
        let (left, right) = (top(left), top(right));
        (left.len() as u64, left.intersection(&right).count() as u64)
    }

    fn counts(found: &[TopOverlap]) -> Vec<(u64, u64, u64, u64)> {
        found.iter().map(|o| (o.one_in, o.kept, o.overlap.intersection, o.overlap.union)).collect()
    }

    #[test]
    fn overlaps_by_hand() {
        let left = [vec![1.0, 9.0, 3.0, 0.0], vec![8.0, 2.0]];
        let right = [vec![7.0, 6.0, 0.0, 0.5], vec![5.0, 0.25]];
        // Half: left t0[1] t1[0] t0[2]; right t0[0] t0[1] t1[0]. A third: left t0[1] t1[0]; right t0[0] t0[1].
        // A sixth: left t0[1]; right t0[0]. A seventh of six keeps nothing.
        let found = overlaps(&left, &right, &[6, 2, 3, 7]).unwrap();
        assert_eq!(counts(&found), [(2, 3, 2, 4), (3, 2, 1, 3), (6, 1, 0, 2)]);
        assert_eq!(found[0].overlap.jaccard(), Some(0.5));
        // Three of six: 0.25 / 0.75.
        assert!((found[0].chance() - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(found[1].density(), 1.0 / 3.0);
    }

    #[test]
    fn ties_are_taken_in_order_and_all_equal_scores_keep_the_same_prefix() {
        let equal = [vec![0.5; 5], vec![0.5; 5]];
        let found = overlaps(&equal, &equal, &[2, 5, 10]).unwrap();
        assert_eq!(counts(&found), [(2, 5, 5, 5), (5, 2, 2, 2), (10, 1, 1, 1)]);
        // Right: 9 first, then the first ties. Half: all of t0 against t1[4] and t0[0..4]. A fifth: t0[0..2], t1[4] t0[0].
        let mut right = equal.clone();
        right[1][4] = 9.0;
        let found = overlaps(&equal, &right, &[2, 5, 10]).unwrap();
        assert_eq!(counts(&found), [(2, 5, 4, 6), (5, 2, 1, 3), (10, 1, 0, 2)]);
    }

    #[test]
    fn bits_and_numbers_order_alike() {
        let values = [f32::MIN, -1.0, -1e-45, 0.0, 1e-45, 1e-38, 0.1, 1.0, f32::MAX];
        assert!(values.windows(2).all(|pair| place(pair[0], Keep::High) < place(pair[1], Keep::High)));
        assert_eq!(place(-0.0, Keep::High), place(0.0, Keep::High));
    }

    #[test]
    fn pieces_do_not_show() {
        let long: Vec<f32> = (0..PIECE + 3).map(|i| (i * 7919 % 1_000_003) as f32).collect();
        let (left, right) = ([long.clone()], [long.iter().rev().copied().collect()]);
        for one_in in ONE_IN {
            let found = overlaps(&left, &right, &[one_in]).unwrap();
            let kept = (PIECE as u64 + 3) / one_in;
            assert_eq!((found[0].kept, found[0].overlap.intersection), sorted(&left, &right, one_in));
            assert_eq!(found[0].kept, kept);
        }
    }

    #[test]
    fn what_cannot_be_ranked_is_named() {
        let (good, mut bad) = (vec![vec![0.0f32; 3]; 2], vec![vec![0.0; 3]; 2]);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            bad[1][2] = value;
            for (left, right) in [(&good, &bad), (&bad, &good)] {
                let error = overlaps(left, right, &ONE_IN).unwrap_err();
                assert_eq!(error, SparsityError::NonFiniteScore { tensor: "t1".into(), index: 2 });
            }
        }
        let short = top_overlaps(&sizes(&good), &ONE_IN, &mut |_, _| Ok([vec![0.0; 3], vec![0.0; 2]]));
        let error: SparsityError = short.unwrap_err();
        assert_eq!(error, SparsityError::ScoreCount { tensor: "t0".into(), expected: 3, got: 2 });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counting_agrees_with_sorting(
            // Few values give many ties; bits of any kind give neighbours that differ in one of the halves only.
            scores in prop::collection::vec((0u8..6, any::<u32>(), 0u8..6, any::<u32>(), any::<bool>()), 1..200),
            cut in 0usize..200,
        ) {
            let number = |few: u8, bits: u32, any: bool| {
                let value = f32::from_bits(bits & 0x80ff_0003);
                if any && value.is_finite() { value } else { f32::from(few) - 2.0 }
            };
            let list = |side: bool| {
                let of = |&(a, x, b, y, any): &(u8, u32, u8, u32, bool)| {
                    if side { number(a, x, any) } else { number(b, y, any) }
                };
                let mut first: Vec<f32> = scores.iter().map(of).collect();
                let second = first.split_off(cut.min(first.len()));
                vec![first, second]
            };
            let (left, right) = (list(true), list(false));
            let one_in = [1, 2, 3, 10, 20, 100];
            for found in overlaps(&left, &right, &one_in).unwrap() {
                let (kept, intersection) = sorted(&left, &right, found.one_in);
                prop_assert_eq!((found.kept, found.overlap.intersection), (kept, intersection));
                prop_assert_eq!(found.overlap.union, 2 * kept - intersection);
            }
        }
    }
}
