//! Choosing by chance.

use crate::counter::Counter;
use crate::generators::numpy::Generator;

use super::pools::{Bits, Units, pools};
use super::{Choice, Mask, MaskRng, Scope, SparsityError, TensorSize, Unit, kept_count};

/// A uniform draw without replacement of every pool's kept share.
///
/// `rng = "chacha"`: one stream per pool, a tensor's by its **name**, so that its draw does not depend on the others.
/// Source of the draw: Floyd's sampling algorithm (Bentley and Floyd, CACM 1987). `rng = "numpy"`: one generator for all
/// pools in their order, as the study drew its masks; it draws single entries of pools that are no groups.
///
/// # Errors
/// When a tensor is too large for 32-bit indices, the generator cannot draw such units, or nothing at all is kept.
pub(super) fn draw(
    tensors: &[TensorSize],
    candidates: &[usize],
    choice: &Choice,
    seed: u64,
    rng: MaskRng,
) -> Result<Mask, SparsityError> {
    let mut indices = vec![Vec::new(); tensors.len()];
    let mut numpy = Generator::new(seed);
    for pool in pools(tensors, candidates, choice.scope) {
        let Some(&first) = pool.first() else { continue };
        let name = &tensors[first].name;
        let label = match choice.scope {
            Scope::Global => "global".to_owned(),
            Scope::PerTensor => name.clone(),
            Scope::PerLayer => format!("layer/{name}"),
            Scope::PerGroup(size) => format!("group/{size}/{name}"),
        };
        match (choice.unit, choice.scope) {
            (Unit::Entry, Scope::PerGroup(group)) => {
                let mut counter = Counter::new(seed, &format!("mask/{label}"), &[]);
                indices[first] = grouped(&tensors[first], group, choice, &mut counter)?;
            }
            (Unit::Entry, _) => {
                let elements: u64 = pool.iter().map(|i| tensors[*i].elements() as u64).sum();
                let kept = kept_count(elements as usize, choice.sparsity, choice.rounding)? as u64;
                let places = match rng {
                    MaskRng::Chacha => {
                        floyd(elements, kept, &mut Counter::new(seed, &format!("mask/{label}"), &[]))
                    }
                    MaskRng::Numpy => chosen(&mut numpy, elements, kept)?,
                };
                let mut start = 0;
                for &i in &pool {
                    let length = tensors[i].elements() as u64;
                    indices[i] = places.within(start, length);
                    start += length;
                }
            }
            (unit, scope) => {
                let mut counter = Counter::new(seed, &format!("mask/{}/{label}", unit.word()), &[]);
                draw_units(tensors, &pool, choice, scope, &mut counter, &mut indices)?;
            }
        }
    }
    Mask::new(tensors.to_vec(), indices)
}

/// As many entries of every tensor as a mask has, at random places.
pub(super) fn permuted(mask: &Mask, seed: u64) -> Result<Mask, SparsityError> {
    let places = mask.tensors().iter().zip(mask.indices()).map(|(tensor, indices)| {
        let mut counter = Counter::new(seed, &format!("mask/permuted/{}", tensor.name), &[]);
        let elements = tensor.elements() as u64;
        floyd(elements, indices.len() as u64, &mut counter).within(0, elements)
    });
    Mask::new(mask.tensors().to_vec(), places.collect())
}

/// NumPy's `choice`, as a set.
fn chosen(numpy: &mut Generator, places: u64, kept: u64) -> Result<Bits, SparsityError> {
    let mut taken = Bits::none(places);
    match (u32::try_from(places), u32::try_from(kept)) {
        (Ok(places), Ok(kept)) => {
            for place in numpy.choice(places, kept)? {
                taken.insert(u64::from(place));
            }
        }
        _ => {
            for place in numpy.choice_wide(places, kept)? {
                taken.insert(place);
            }
        }
    }
    Ok(taken)
}

/// Floyd's algorithm over a bitmap: `kept` distinct places below `places`.
fn floyd(places: u64, kept: u64, counter: &mut Counter) -> Bits {
    let mut taken = Bits::none(places);
    floyd_in(&mut taken, places, kept, counter);
    taken
}

/// The same into an empty bitmap.
fn floyd_in(taken: &mut Bits, places: u64, kept: u64, counter: &mut Counter) {
    for top in places - kept..places {
        let draw = counter.below(top + 1);
        if !taken.insert(draw) {
            taken.insert(top);
        }
    }
}

/// The kept share of every group of consecutive entries of a row.
fn grouped(
    tensor: &TensorSize,
    group: u32,
    choice: &Choice,
    counter: &mut Counter,
) -> Result<Vec<u32>, SparsityError> {
    let kept = GroupCounts::new(tensor, group, choice)?;
    let mut chosen = Vec::with_capacity(kept.total());
    let mut taken = Bits::none(u64::from(group));
    for (start, length) in groups(tensor, group) {
        taken.clear();
        floyd_in(&mut taken, length as u64, kept.of(length) as u64, counter);
        taken.each_within(0, length as u64, |place| chosen.push(start as u32 + place));
    }
    Ok(chosen)
}

/// How many entries groups of a tensor keep: the whole ones, and the shorter last ones of rows.
pub(super) struct GroupCounts {
    group: usize,
    whole: usize,
    rest: usize,
    /// Of all groups together.
    total: usize,
}

impl GroupCounts {
    pub fn new(tensor: &TensorSize, group: u32, choice: &Choice) -> Result<Self, SparsityError> {
        let group = (group as usize).max(1);
        let kept = |of| kept_count(of, choice.sparsity, choice.rounding);
        let row = tensor.shape.last().copied().unwrap_or(1).max(1);
        let (whole, rest) = (kept(group)?, kept(row % group)?);
        let total = tensor.elements() / row * (row / group * whole + rest);
        Ok(Self { group, whole, rest, total })
    }

    /// Of a group of this length.
    pub fn of(&self, length: usize) -> usize {
        if length == self.group { self.whole } else { self.rest }
    }

    /// Of all groups together.
    pub fn total(&self) -> usize {
        self.total
    }
}

/// The groups of a tensor: first entry and length.
pub(super) fn groups(tensor: &TensorSize, group: u32) -> impl Iterator<Item = (usize, usize)> {
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    let group = (group as usize).max(1);
    let rows = tensor.elements() / row;
    (0..rows).flat_map(move |r| {
        (0..row).step_by(group).map(move |start| (r * row + start, group.min(row - start)))
    })
}

/// Whole rows or columns: the kept share of each tensor's, or out of several tensors' until the entries are enough.
fn draw_units(
    tensors: &[TensorSize],
    pool: &[usize],
    choice: &Choice,
    scope: Scope,
    counter: &mut Counter,
    indices: &mut [Vec<u32>],
) -> Result<(), SparsityError> {
    let units = |i: usize| Units::of(&tensors[i], choice.unit);
    if let (Scope::PerTensor, &[only]) = (scope, pool) {
        let all = units(only);
        let kept = kept_count(all.count, choice.sparsity, choice.rounding)?;
        let places = floyd(all.count as u64, kept as u64, counter).within(0, all.count as u64);
        indices[only] = all.entries(&places.iter().map(|i| *i as usize).collect::<Vec<_>>());
        return Ok(());
    }
    let mut order: Vec<(usize, usize)> =
        pool.iter().flat_map(|&i| (0..units(i).count).map(move |unit| (i, unit))).collect();
    counter.shuffle(&mut order);
    fill(tensors, pool, choice, &order, indices)
}

/// Takes units in order until the next would be too many.
pub(super) fn fill(
    tensors: &[TensorSize],
    pool: &[usize],
    choice: &Choice,
    order: &[(usize, usize)],
    indices: &mut [Vec<u32>],
) -> Result<(), SparsityError> {
    let elements = pool.iter().map(|i| tensors[*i].elements()).sum();
    let mut room = kept_count(elements, choice.sparsity, choice.rounding)?;
    let mut taken = vec![Vec::new(); tensors.len()];
    for &(tensor, unit) in order {
        let Some(left) = room.checked_sub(Units::of(&tensors[tensor], choice.unit).size) else { break };
        room = left;
        taken[tensor].push(unit);
    }
    for &i in pool {
        taken[i].sort_unstable();
        indices[i] = Units::of(&tensors[i], choice.unit).entries(&taken[i]);
    }
    Ok(())
}
