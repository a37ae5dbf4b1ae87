//! Overlaps worked by hand, against sets, and against what draws give.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::sparsity::{MaskRng, TensorSize, random};

fn close(got: Option<f64>, expected: f64) -> bool {
    got.is_some_and(|got| (got - expected).abs() <= 1e-12 * expected.abs().max(1.0))
}

fn tensors(sizes: &[(&str, usize)]) -> Vec<TensorSize> {
    sizes.iter().map(|(name, size)| TensorSize { name: (*name).to_owned(), shape: vec![*size] }).collect()
}

fn mask(sizes: &[(&str, usize)], indices: &[&[u32]]) -> Mask {
    Mask::new(tensors(sizes), indices.iter().map(|list| list.to_vec()).collect()).unwrap()
}

#[test]
fn a_merge_counts_common_numbers() {
    assert_eq!(common(&[1, 3, 5, 9], &[0, 3, 4, 9, 12]), 2);
    assert_eq!(common(&[], &[1]), 0);
    assert_eq!(common(&[7], &[7]), 1);
    assert_eq!(common(&[1, 2], &[3, 4]), 0);
    assert_eq!(common(&[u32::MAX - 1, u32::MAX], &[0, u32::MAX]), 1);
}

#[test]
fn a_pair_is_counted_by_hand() {
    let sizes = [("w", 6), ("x", 4)];
    let (a, b) = (mask(&sizes, &[&[0, 2, 5], &[1]]), mask(&sizes, &[&[2, 3, 5], &[0, 2]]));
    let found = a.overlap(&b).unwrap();
    // Common: w2, w5. United: w0 w2 w3 w5, x0 x1 x2.
    assert_eq!((found.count_a, found.count_b, found.total), (4, 5, 10));
    assert_eq!((found.intersection, found.union), (2, 7));
    assert!(close(found.jaccard(), 2.0 / 7.0));
    // Uniform: mean 4·5/10 = 2, so chance is 2/(9-2); variance 2 · 6/10 · 5/9 = 2/3.
    assert!(close(found.chance(), 2.0 / 7.0) && close(found.ratio(), 1.0));
    assert!(close(Some(found.uniform().variance), 2.0 / 3.0) && close(found.z(), 0.0));
    // Per tensor: w has mean 3·3/6 = 1.5 and variance 1.5 · 3/6 · 3/5 = 0.45; x 1·2/4 = 0.5 and 0.5 · 3/4 · 2/3 = 0.25.
    assert!(close(found.chance_per_tensor(), 2.0 / 7.0));
    assert!(close(found.per_tensor.map(|chance| chance.variance), 0.7) && close(found.z_per_tensor(), 0.0));
    // The other way round all is the same but which count is whose.
    let back = b.overlap(&a).unwrap();
    assert_eq!(back, Overlap { count_a: 5, count_b: 4, ..found });
}

#[test]
fn masks_that_crowd_into_a_tensor_exceed_the_first_chance_alone() {
    // Both masks have half of w and nothing of x: 50 and 50 of 100, 25 common.
    let sizes = [("w", 100), ("x", 900)];
    let (low, odd): (Vec<u32>, Vec<u32>) = ((0..50).collect(), (0..50).map(|i| 2 * i + 1).collect());
    let found = mask(&sizes, &[&low, &[]]).overlap(&mask(&sizes, &[&odd, &[]])).unwrap();
    assert_eq!((found.intersection, found.union), (25, 75));
    // Uniform: mean 2.5, variance 2.5 · 0.95 · 950/999 = 2.2585..., so z = 22.5/1.5028 = 14.97.
    assert!(close(found.chance(), 2.5 / 97.5) && found.z().is_some_and(|z| (z - 14.97).abs() < 0.01));
    // Within w the mean is 25: no entry more than chance.
    assert!(close(found.chance_per_tensor(), 25.0 / 75.0) && close(found.z_per_tensor(), 0.0));
}

#[test]
fn masks_that_leave_no_choice_have_no_z() {
    let sizes = [("w", 3), ("x", 2)];
    let empty = mask(&sizes, &[&[], &[]]);
    let full = mask(&sizes, &[&[0, 1, 2], &[0, 1]]);
    let whole_w = mask(&sizes, &[&[0, 1, 2], &[]]);
    let none = empty.overlap(&empty).unwrap();
    assert_eq!((none.jaccard(), none.chance(), none.chance_per_tensor()), (None, None, None));
    assert_eq!((none.z(), none.z_per_tensor(), none.ratio()), (None, None, None));
    let all = full.overlap(&full).unwrap();
    assert_eq!(
        (all.jaccard(), all.chance(), all.z(), all.z_per_tensor()),
        (Some(1.0), Some(1.0), None, None)
    );
    let half = empty.overlap(&full).unwrap();
    assert_eq!((half.jaccard(), half.chance(), half.ratio(), half.z()), (Some(0.0), Some(0.0), None, None));
    // Whole tensors: the second account leaves no choice where the first does.
    let layers = whole_w.overlap(&whole_w).unwrap();
    assert_eq!((layers.chance_per_tensor(), layers.z_per_tensor()), (Some(1.0), None));
    // Mean 9/5, variance 9/5 · 2/5 · 2/4 = 9/25: z = (3 - 1.8)/0.6.
    assert!(close(layers.z(), 2.0));
    let single = mask(&[("w", 1)], &[&[0]]);
    assert_eq!(single.overlap(&single).unwrap().z(), None);
    let nothing = mask(&[], &[]);
    assert_eq!(nothing.overlap(&nothing).unwrap().chance(), None);
}

#[test]
fn sizes_that_are_not_known_leave_the_first_account() {
    let found = Overlap::of_counts(5, 5, 2, 10);
    assert_eq!((found.union, found.chance_per_tensor(), found.z_per_tensor()), (8, None, None));
    // Mean 2.5, chance 2.5/7.5; variance 2.5 · 0.5 · 5/9.
    assert!(close(found.chance(), 1.0 / 3.0) && close(found.z(), -0.5 / (6.25f64 / 9.0).sqrt()));
}

#[test]
fn chance_is_the_closed_form() {
    assert!((chance_jaccard(0.01, 0.01) - 0.01 / 1.99).abs() < 1e-15);
    // 1 % against 0.1 %: 1e-5 / (0.011 - 1e-5) = 0.00090992.
    assert!((chance_jaccard(0.01, 0.001) - 1e-5 / 0.010_99).abs() < 1e-15);
    let found = Overlap::of_counts(1000, 100, 0, 100_000);
    assert!(close(found.chance(), chance_jaccard(0.01, 0.001)));
}

#[test]
fn parts_are_models_of_their_own_and_add_up() {
    let sizes = [
        ("model.embed_tokens.weight", 8),
        ("model.layers.0.self_attn.q_proj.weight", 4),
        ("model.layers.0.self_attn.q_proj.bias", 2),
        ("model.layers.1.mlp.up_proj.weight", 4),
        ("model.norm.weight", 2),
        ("lm_head.weight", 8),
    ];
    let a = mask(&sizes, &[&[0, 1], &[0, 1], &[], &[2], &[0], &[7]]);
    let b = mask(&sizes, &[&[1, 2], &[1, 3], &[0], &[2], &[1], &[]]);
    let found = compare(&a, &b).unwrap();
    let counts = |part: &Overlap| (part.count_a, part.count_b, part.intersection, part.union, part.total);
    assert_eq!(counts(&found.whole), (7, 7, 3, 11, 28));
    let layers: Vec<_> = found.by_layer.iter().map(|(place, part)| (*place, counts(part))).collect();
    assert_eq!(
        layers,
        [
            (Place::Embedding, (2, 2, 1, 3, 8)),
            (Place::Layer(0), (2, 3, 1, 4, 6)),
            (Place::Layer(1), (1, 1, 1, 1, 4)),
            (Place::Outside, (2, 1, 0, 3, 10)),
        ]
    );
    let kinds: Vec<_> = found.by_module.iter().map(|(kind, part)| (*kind, counts(part))).collect();
    assert_eq!(
        kinds,
        [
            (ModuleKind::Attention, (2, 2, 1, 3, 4)),
            (ModuleKind::Mlp, (1, 1, 1, 1, 4)),
            (ModuleKind::Norms, (1, 1, 0, 2, 2)),
            (ModuleKind::Biases, (0, 1, 0, 1, 2)),
            (ModuleKind::Embeddings, (3, 2, 1, 4, 16)),
        ]
    );
    // Layer 0 as a model of its own: mean 2·3/6 = 1, chance 1/(5-1); per tensor 2·2/4 + 0 = 1.
    let layer = &found.by_layer[1].1;
    assert!(close(layer.chance(), 0.25) && close(layer.chance_per_tensor(), 0.25));
}

#[test]
fn masks_of_other_models_are_refused_with_the_first_difference() {
    let told = |other: &[(&str, usize)]| {
        let lists: Vec<&[u32]> = vec![&[]; other.len()];
        let error = mask(&[("w", 3), ("x", 2)], &[&[], &[]]).overlap(&mask(other, &lists)).unwrap_err();
        error.to_string().rsplit_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(told(&[("w", 3), ("x", 4)]), "x has the shape [2] in the first and [4] in the second");
    assert_eq!(told(&[("v", 3), ("x", 2)]), "tensor 1 is w in the first and v in the second");
    assert_eq!(told(&[("w", 3)]), "only the first has x");
}

#[test]
fn independent_masks_are_a_standard_deviation_from_chance() {
    // 60 masks of 5 % of a tensor of 20,000 entries and of 1 % elsewhere: 1770 pairs, few of them dependent.
    let sizes = tensors(&[("w", 20_000), ("x", 50_000)]);
    let masks: Vec<Mask> = (0..60)
        .map(|seed| {
            let dense = random(&sizes[..1], 0.95, seed, MaskRng::Chacha).unwrap();
            let thin = random(&sizes[1..], 0.99, seed, MaskRng::Chacha).unwrap();
            Mask::new(sizes.clone(), vec![dense.indices()[0].clone(), thin.indices()[0].clone()]).unwrap()
        })
        .collect();
    let masks: Vec<&Mask> = masks.iter().collect();
    let pairs: Vec<Comparison> = compare_all(&masks).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(pairs.len(), 60 * 59 / 2);
    let mean = |z: &dyn Fn(&Overlap) -> Option<f64>| {
        let sum: f64 = pairs.iter().map(|pair| z(&pair.whole).unwrap()).sum();
        sum / pairs.len() as f64
    };
    let within = mean(&Overlap::z_per_tensor);
    let square = mean(&|pair| pair.z_per_tensor().map(|z| z * z));
    // The mean of 1770 z has a deviation of about 1/42, that of their squares of about sqrt(2)/42.
    assert!(within.abs() < 0.12 && (square - 1.0).abs() < 0.17, "{within} {square}");
    // The shared counts make the first account expect less: means of 32.1 (1500²/70000) and 55 (50 + 5) entries.
    let uniform = mean(&Overlap::z);
    assert!((uniform - (55.0 - 32.14) / 5.55).abs() < 0.15, "{uniform}");
    // Every pair stands where it should.
    let expected = compare(masks[1], masks[2]).unwrap();
    assert_eq!(pairs[59], expected);
    assert_eq!(*pairs.last().unwrap(), compare(masks[58], masks[59]).unwrap());
}

#[test]
fn few_masks_have_few_pairs_and_those_of_other_models_none() {
    let (one, other) = (mask(&[("w", 3)], &[&[0]]), mask(&[("v", 3)], &[&[0]]));
    assert_eq!(compare_all(&[]), []);
    assert_eq!(compare_all(&[&one]), []);
    assert_eq!(compare_all(&[&one, &one]).len(), 1);
    let fit: Vec<bool> = compare_all(&[&one, &other, &one]).iter().map(Result::is_ok).collect();
    assert_eq!(fit, [false, true, false]);
}

/// Elements of a tensor, and two masks of it, with indices that it may not have.
type Part = (usize, BTreeSet<u32>, BTreeSet<u32>);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn overlaps_are_those_of_sets(
        parts in prop::collection::vec((1usize..40, prop::collection::btree_set(0u32..40, 0..40),
                                        prop::collection::btree_set(0u32..40, 0..40)), 0..6)
    ) {
        // Names of some parts of a model, in no order of parts.
        let names = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.layers.0.mlp.up_proj.bias",
                     "model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "lm_head.weight"];
        let sizes: Vec<TensorSize> = names.iter().zip(&parts)
            .map(|(name, (size, _, _))| TensorSize { name: (*name).to_owned(), shape: vec![*size] }).collect();
        let lists = |pick: fn(&Part) -> &BTreeSet<u32>| -> Vec<Vec<u32>> {
            parts.iter().map(|part| pick(part).iter().copied().filter(|i| (*i as usize) < part.0).collect()).collect()
        };
        let set = |lists: &[Vec<u32>], keep: &dyn Fn(&str) -> bool| -> BTreeSet<(usize, u32)> {
            lists.iter().enumerate().filter(|(at, _)| keep(names[*at]))
                .flat_map(|(at, list)| list.iter().map(move |i| (at, *i))).collect()
        };
        let (a, b) = (lists(|part| &part.1), lists(|part| &part.2));
        let found = compare(&Mask::new(sizes.clone(), a.clone()).unwrap(), &Mask::new(sizes.clone(), b.clone()).unwrap()).unwrap();
        let check = |part: &Overlap, keep: &dyn Fn(&str) -> bool| {
            let (a, b) = (set(&a, keep), set(&b, keep));
            let total: usize = sizes.iter().filter(|size| keep(&size.name)).map(TensorSize::elements).sum();
            assert_eq!((part.count_a, part.count_b), (a.len() as u64, b.len() as u64));
            assert_eq!((part.intersection, part.union), (a.intersection(&b).count() as u64, a.union(&b).count() as u64));
            assert_eq!(part.total, total as u64);
            let jaccard = part.jaccard();
            assert!(jaccard.is_none_or(|j| (0.0..=1.0).contains(&j)) && jaccard.is_none() == part.chance().is_none());
            assert!(part.chance().is_none_or(|c| (0.0..=1.0).contains(&c)));
            assert!(part.z().is_none_or(f64::is_finite) && part.z_per_tensor().is_none_or(f64::is_finite));
        };
        check(&found.whole, &|_| true);
        for (place, part) in &found.by_layer {
            check(part, &|name| Place::of(name) == *place);
        }
        for (kind, part) in &found.by_module {
            check(part, &|name| ModuleKind::of(name) == *kind);
        }
        prop_assert!(found.by_layer.is_sorted_by(|x, y| x.0 < y.0) && found.by_module.is_sorted_by(|x, y| x.0 < y.0));
    }
}
