//! The pools that a choice is made in, and the units that are chosen as one.

use super::{Criterion, ModuleKind, Modules, Place, Scope, TensorSize, Unit};

/// The pools of a scope: lists of tensors, in the model's order. Groups within rows have one pool per tensor.
pub(super) fn pools(tensors: &[TensorSize], candidates: &[usize], scope: Scope) -> Vec<Vec<usize>> {
    match scope {
        Scope::Global => vec![candidates.to_vec()],
        Scope::PerTensor | Scope::PerGroup(_) => candidates.iter().map(|i| vec![*i]).collect(),
        Scope::PerLayer => {
            let place = |i: &usize| Place::of(&tensors[*i].name);
            candidates.chunk_by(|a, b| place(a) == place(b)).map(<[usize]>::to_vec).collect()
        }
    }
}

/// The tensors that may be chosen from.
pub(super) fn candidates(tensors: &[TensorSize], modules: Modules, criterion: &Criterion) -> Vec<usize> {
    let file = matches!(criterion, Criterion::File { .. });
    (0..tensors.len()).filter(|i| file || modules.has(ModuleKind::of(&tensors[*i].name))).collect()
}

/// The units of a tensor: so many, of so many entries each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    pub unit: Unit,
    /// How many there are.
    pub count: usize,
    /// Entries of one.
    pub size: usize,
}

impl Units {
    /// The units of this tensor. What has more than two dimensions counts as a matrix of its first and all others.
    pub fn of(tensor: &TensorSize, unit: Unit) -> Self {
        let rows = tensor.shape.first().copied().unwrap_or(1);
        let columns = tensor.shape.get(1..).map_or(1, |rest| rest.iter().product());
        let (count, size) = match unit {
            Unit::Entry => (rows * columns, 1),
            Unit::Row => (rows, columns),
            Unit::Column => (columns, rows),
        };
        Self { unit, count, size }
    }

    /// Which unit an entry belongs to.
    pub fn holder(self, index: usize) -> usize {
        match self.unit {
            Unit::Entry => index,
            Unit::Row => index / self.size.max(1),
            Unit::Column => index % self.count.max(1),
        }
    }

    /// The entries of some units, ascending; `chosen` ascends.
    pub fn entries(self, chosen: &[usize]) -> Vec<u32> {
        let mut entries = Vec::with_capacity(chosen.len() * self.size);
        match self.unit {
            Unit::Entry => entries.extend(chosen.iter().map(|i| *i as u32)),
            Unit::Row => {
                let row = |i: &usize| (i * self.size) as u32..((i + 1) * self.size) as u32;
                entries.extend(chosen.iter().flat_map(row));
            }
            Unit::Column => {
                let count = self.count;
                let row = |row: usize| chosen.iter().map(move |column| (row * count + column) as u32);
                entries.extend((0..self.size).flat_map(row));
            }
        }
        entries
    }
}

/// A set of places as bits.
#[derive(Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// None of so many places.
    pub fn none(places: u64) -> Self {
        Self(vec![0; places.div_ceil(64) as usize])
    }

    /// Puts a place in; whether it was not there.
    pub fn insert(&mut self, place: u64) -> bool {
        let (word, flag) = ((place / 64) as usize, 1u64 << (place % 64));
        let new = self.0[word] & flag == 0;
        self.0[word] |= flag;
        new
    }

    /// Takes all places out.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// The places of a range of places, ascending and counted from its start. The list has no spare room.
    pub fn within(&self, start: u64, length: u64) -> Vec<u32> {
        let mut count = 0;
        self.each_within(start, length, |_| count += 1);
        let mut found = Vec::with_capacity(count);
        self.each_within(start, length, |place| found.push(place));
        found
    }

    /// Visits the places of a range, ascending and counted from its start.
    pub fn each_within(&self, start: u64, length: u64, mut visit: impl FnMut(u32)) {
        let end = start + length;
        for word in start / 64..end.div_ceil(64) {
            let mut bits = self.0[word as usize];
            while bits != 0 {
                let place = word * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if (start..end).contains(&place) {
                    visit((place - start) as u32);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize]) -> TensorSize {
        TensorSize { name: name.into(), shape: shape.to_vec() }
    }

    #[test]
    fn pools_follow_the_model() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.a",
            "model.layers.0.b",
            "model.layers.1.a",
            "model.norm.weight",
        ];
        let tensors: Vec<TensorSize> = names.iter().map(|name| tensor(name, &[2])).collect();
        let all: Vec<usize> = (0..5).collect();
        assert_eq!(pools(&tensors, &all, Scope::PerLayer), [vec![0], vec![1, 2], vec![3], vec![4]]);
        // What lies before the layers and what lies after them stay apart, whatever is chosen from.
        assert_eq!(pools(&tensors, &[0, 4], Scope::PerLayer), [vec![0], vec![4]]);
        assert_eq!(pools(&tensors, &[1, 3], Scope::Global), [vec![1, 3]]);
        assert_eq!(pools(&tensors, &[1, 3], Scope::PerTensor), [vec![1], vec![3]]);
    }

    #[test]
    fn units_cover_a_tensor() {
        let matrix = tensor("m", &[2, 3]);
        let rows = Units::of(&matrix, Unit::Row);
        assert_eq!((rows.count, rows.size, rows.entries(&[1])), (2, 3, vec![3, 4, 5]));
        let columns = Units::of(&matrix, Unit::Column);
        assert_eq!((columns.count, columns.size, columns.entries(&[0, 2])), (3, 2, vec![0, 2, 3, 5]));
        assert_eq!((0..6).map(|i| columns.holder(i)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert_eq!((0..6).map(|i| rows.holder(i)).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
        let vector = tensor("v", &[4]);
        assert_eq!(Units::of(&vector, Unit::Row).entries(&[2]), [2]);
        assert_eq!(Units::of(&vector, Unit::Column).entries(&[0]), [0, 1, 2, 3]);
    }

    #[test]
    fn bits_are_read_by_range() {
        let mut bits = Bits::none(200);
        assert!([3, 63, 64, 130, 199].map(|place| bits.insert(place)).iter().all(|new| *new));
        assert!(!bits.insert(64));
        assert_eq!(bits.within(0, 200), [3, 63, 64, 130, 199]);
        assert_eq!(bits.within(63, 68), [0, 1, 67]);
        assert_eq!(bits.within(64, 0), Vec::<u32>::new());
    }
}
