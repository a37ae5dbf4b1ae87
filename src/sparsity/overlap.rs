//! How two masks of a model overlap, and how they would by chance.
//!
//! In: masks of one model. Out: counts, the Jaccard index, and what two accounts of chance expect of it. Both accounts
//! hold the counts of the masks fixed and draw the entries uniformly without replacement, so the intersection is
//! hypergeometric: of `a` and `b` entries among `n`, mean `ab/n`, variance `ab/n (n-a)/n (n-b)/(n-1)`.
//!
//! - *uniform*: the counts of the whole masks are fixed, their entries lie anywhere in the model;
//! - *per tensor*: the counts within every tensor are fixed. Tensors are independent, so means and variances add up.
//!   Masks that crowd into the same tensors overlap beyond the first account without sharing a choice of entries; of
//!   that the second takes no notice.
//!
//! Invariant: nothing depends on the order of the two masks but `count_a` and `count_b`; there is one merge loop, and no
//! list is copied.

use super::{Mask, ModuleKind, Place, SparsityError, same_model};

/// What chance expects of the intersection of two masks, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chance {
    /// The mean.
    pub mean: f64,
    /// The variance; 0 where the counts leave no choice: a mask is empty or full, or there is one entry alone.
    pub variance: f64,
}

impl Chance {
    /// Of `a` and `b` entries drawn among `total`: mean and variance of the hypergeometric distribution.
    pub fn of_counts(a: u64, b: u64, total: u64) -> Self {
        if total == 0 {
            return Self::default();
        }
        let n = total as f64;
        let mean = a as f64 * (b as f64 / n);
        let outside = |count: u64| total.saturating_sub(count) as f64;
        let variance = mean * (outside(a) / n) * (outside(b) / (total.max(2) - 1) as f64);
        Self { mean, variance }
    }

    fn add(&mut self, other: Self) {
        self.mean += other.mean;
        self.variance += other.variance;
    }
}

/// How two masks overlap in a model or in a part of it. Counts are in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Entries of the first mask.
    pub count_a: u64,
    /// Entries of the second mask.
    pub count_b: u64,
    /// Entries of the model, or of the part of it.
    pub total: u64,
    /// Entries in both.
    pub intersection: u64,
    /// Entries in either.
    pub union: u64,
    /// What chance expects with the counts of every tensor fixed; `None` where the tensors' sizes are not known.
    pub per_tensor: Option<Chance>,
}

impl Overlap {
    /// The overlap of masks of which the counts alone are known; `intersection` is at most either count.
    pub fn of_counts(count_a: u64, count_b: u64, intersection: u64, total: u64) -> Self {
        let union = (count_a + count_b).saturating_sub(intersection);
        Self { count_a, count_b, total, intersection, union, per_tensor: None }
    }

    /// `|A and B| / |A or B|`; two empty masks have no Jaccard index.
    pub fn jaccard(&self) -> Option<f64> {
        (self.union > 0).then(|| self.intersection as f64 / self.union as f64)
    }

    /// What chance expects of the intersection of two independent uniform masks of these counts.
    pub fn uniform(&self) -> Chance {
        Chance::of_counts(self.count_a, self.count_b, self.total)
    }

    /// The Jaccard index of two independent uniform masks of these counts: `m / (a + b - m)` with the mean intersection
    /// `m = ab/n`, which is [`chance_jaccard`] of the densities. It is the ratio of two expectations, not the expectation
    /// of the ratio. `None` when both masks are empty.
    pub fn chance(&self) -> Option<f64> {
        self.expected(self.uniform())
    }

    /// How many standard deviations the intersection lies above the mean of two independent uniform masks of these
    /// counts. `None` when the counts leave no choice.
    pub fn z(&self) -> Option<f64> {
        self.deviation(self.uniform())
    }

    /// As [`Self::chance`], with the counts within every tensor fixed.
    pub fn chance_per_tensor(&self) -> Option<f64> {
        self.expected(self.per_tensor?)
    }

    /// As [`Self::z`], with the counts within every tensor fixed.
    pub fn z_per_tensor(&self) -> Option<f64> {
        self.deviation(self.per_tensor?)
    }

    /// The Jaccard index over that of chance. `None` when a mask is empty.
    pub fn ratio(&self) -> Option<f64> {
        self.chance().filter(|chance| *chance > 0.0).and_then(|chance| Some(self.jaccard()? / chance))
    }

    fn expected(&self, Chance { mean, .. }: Chance) -> Option<f64> {
        let counts = self.count_a + self.count_b;
        (counts > 0).then(|| mean / (counts as f64 - mean))
    }

    fn deviation(&self, Chance { mean, variance }: Chance) -> Option<f64> {
        (variance > 0.0).then(|| (self.intersection as f64 - mean) / variance.sqrt())
    }

    /// Takes a further part of the model in.
    fn add(&mut self, part: Self) {
        self.count_a += part.count_a;
        self.count_b += part.count_b;
        self.total += part.total;
        self.intersection += part.intersection;
        self.union += part.union;
        self.per_tensor = self.per_tensor.zip(part.per_tensor).map(|(mut sum, part)| {
            sum.add(part);
            sum
        });
    }
}

/// The Jaccard index expected of two independent uniform masks of densities `p` and `q`: `pq / (p + q - pq)`,
/// which is `p / (2 - p)` for equal densities. It is the ratio of two expectations.
pub fn chance_jaccard(p: f64, q: f64) -> f64 {
    p * q / (p + q - p * q)
}

/// How two masks overlap, in the whole model and part by part. A part is counted as if it were a model of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// In the whole model.
    pub whole: Overlap,
    /// By depth, in the order of [`Place`]; places that the model lacks are left out.
    pub by_layer: Vec<(Place, Overlap)>,
    /// By kind of module, in the order of [`ModuleKind`]; kinds that the model lacks are left out.
    pub by_module: Vec<(ModuleKind, Overlap)>,
}

impl Mask {
    /// How this mask and another overlap in the whole model.
    ///
    /// # Errors
    /// When the masks are of different models.
    pub fn overlap(&self, other: &Self) -> Result<Overlap, SparsityError> {
        Ok(compare(self, other)?.whole)
    }
}

/// Compares two masks.
///
/// # Errors
/// When the masks are of different models.
pub fn compare(a: &Mask, b: &Mask) -> Result<Comparison, SparsityError> {
    same_model(a.tensors(), b.tensors())?;
    let nothing = Overlap { per_tensor: Some(Chance::default()), ..Overlap::default() };
    let mut found = Comparison { whole: nothing, by_layer: Vec::new(), by_module: Vec::new() };
    for ((tensor, a), b) in a.tensors().iter().zip(a.indices()).zip(b.indices()) {
        let counts =
            Overlap::of_counts(a.len() as u64, b.len() as u64, common(a, b), tensor.elements() as u64);
        let here = Overlap { per_tensor: Some(counts.uniform()), ..counts };
        found.whole.add(here);
        part(&mut found.by_layer, Place::of(&tensor.name), nothing).add(here);
        part(&mut found.by_module, ModuleKind::of(&tensor.name), nothing).add(here);
    }
    Ok(found)
}

/// The entry of a key in an ascending list, made where it is missing.
fn part<K: Ord, V>(parts: &mut Vec<(K, V)>, key: K, nothing: V) -> &mut V {
    let at = match parts.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(at) => at,
        Err(at) => {
            parts.insert(at, (key, nothing));
            at
        }
    };
    &mut parts[at].1
}

/// Compares every pair of masks with two threads: the first with the second, with the third and so on, then the second
/// with the third. A pair of masks of different models is an error in its place.
pub fn compare_all(masks: &[&Mask]) -> Vec<Result<Comparison, SparsityError>> {
    let pairs: Vec<(&Mask, &Mask)> = masks
        .iter()
        .enumerate()
        .flat_map(|(at, first)| masks[at + 1..].iter().map(|second| (*first, *second)))
        .collect();
    let each = |pairs: &[(&Mask, &Mask)]| -> Vec<_> { pairs.iter().map(|(a, b)| compare(a, b)).collect() };
    let (here, there) = pairs.split_at(pairs.len().div_ceil(2));
    if there.is_empty() {
        return each(here);
    }
    std::thread::scope(|scope| {
        let there = scope.spawn(|| each(there));
        let mut found = each(here);
        found.extend(there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        found
    })
}

/// How many numbers two strictly ascending lists have in common.
pub fn common(a: &[u32], b: &[u32]) -> u64 {
    if std::ptr::eq(a, b) {
        return a.len() as u64;
    }
    let (mut i, mut j, mut count) = (0, 0, 0);
    // Comparisons are added up instead of branched on: which list is ahead cannot be predicted.
    while i < a.len() && j < b.len() {
        let (left, right) = (a[i], b[j]);
        count += u64::from(left == right);
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
    count
}

#[cfg(test)]
#[path = "overlap_tests.rs"]
mod tests;
