//! What holds of every mask, whatever its size: random draws are distinct, in range and as many as asked for, the kept count
//! is that of exact decimal arithmetic, and a ranking is that of a stable sort.

use proptest::prelude::*;
use tickets::generators::numpy::Generator;
use tickets::sparsity::{
    Choice, Control, Criterion, Keep, MaskRng, Modules, Rounding, Scope, Score, Sparse, TensorSize, Unit,
    choose, kept_count, random,
};

fn settings() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Sizes on both sides of the branch, and a count of any share, a small one as often as a large one.
fn a_draw() -> impl Strategy<Value = (u32, u32)> {
    let elements = prop_oneof![1..100_u32, 9_990..10_010_u32, 10_000..60_000_u32];
    elements.prop_flat_map(|n| (Just(n), prop_oneof![0..=n, 0..=n / 40, Just(n / 50), Just(n)]))
}

/// A share as a text of 1 to 15 decimals: so many survive a double.
fn decimals() -> impl Strategy<Value = (String, u128, u128)> {
    (1..=15_u32).prop_flat_map(|digits| {
        let scale = 10_u128.pow(digits);
        (0..=scale).prop_map(move |part| {
            let text = format!("{}.{:0width$}", part / scale, part % scale, width = digits as usize);
            (text, part, scale)
        })
    })
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn choices_are_distinct_in_range_and_as_many_as_asked((elements, kept) in a_draw(), seed: u64) {
        let drawn = Generator::new(seed).choice(elements, kept).unwrap();
        prop_assert_eq!(drawn.len(), kept as usize);
        prop_assert!(drawn.iter().all(|index| *index < elements));
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), drawn.len());
        prop_assert!(Generator::new(seed).choice(elements, elements + 1).is_err());
    }

    #[test]
    fn choices_of_64_bits_are_distinct_and_in_range(elements in 1_u64 << 32..=u64::MAX, kept in 0..200_u64, seed: u64) {
        let mut drawn = Generator::new(seed).choice_wide(elements, kept).unwrap();
        prop_assert!(drawn.iter().all(|index| *index < elements));
        drawn.sort_unstable();
        drawn.dedup();
        prop_assert_eq!(drawn.len() as u64, kept);
    }

    #[test]
    fn masks_are_the_sorted_draws_of_one_generator(sizes in prop::collection::vec(1..30_000_usize, 1..8), seed: u64) {
        let tensors: Vec<TensorSize> = (0..)
            .zip(&sizes)
            .map(|(at, &elements)| TensorSize { name: format!("t{at}"), shape: vec![elements] })
            .collect();
        for sparsity in [0.5, 0.99] {
            let kept = |elements: usize| kept_count(elements, sparsity, Rounding::Floor).unwrap();
            let mut generator = Generator::new(seed);
            let draw = |&elements: &usize| {
                let mut drawn = generator.choice(elements as u32, kept(elements) as u32).unwrap();
                drawn.sort_unstable();
                drawn
            };
            let expected: Vec<Vec<u32>> = sizes.iter().map(draw).collect();
            match random(&tensors, sparsity, seed, MaskRng::Numpy) {
                Ok(mask) => prop_assert_eq!(mask.indices(), &expected[..]),
                Err(_) => prop_assert!(expected.iter().all(Vec::is_empty)),
            }
        }
    }

    #[test]
    fn kept_counts_are_exact_in_decimal((text, part, scale) in decimals(), elements in 0..5_000_000_000_usize) {
        let sparsity: f64 = text.parse().unwrap();
        let kept = (scale - part) * elements as u128;
        let counted = |rounding| kept_count(elements, sparsity, rounding).unwrap() as u128;
        prop_assert_eq!(counted(Rounding::Floor), kept / scale, "{}", &text);
        prop_assert_eq!(counted(Rounding::Ceil), kept.div_ceil(scale), "{}", &text);
    }
}

fn sizes(elements: &[usize]) -> Vec<TensorSize> {
    let named = |(i, elements): (usize, &usize)| TensorSize { name: format!("t{i}"), shape: vec![*elements] };
    elements.iter().enumerate().map(named).collect()
}

/// Scores with many ties, both zeros, subnormal and huge numbers.
fn score() -> impl Strategy<Value = f32> {
    let few = prop::sample::select(vec![0.0f32, -0.0, 1.0, -1.0, 1e-42, -1e-42, f32::MAX, f32::MIN, 0.5]);
    prop_oneof![few, prop::num::f32::NORMAL, (0u8..4).prop_map(f32::from)]
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_ranking_is_that_of_a_stable_sort(
        scores in prop::collection::vec(prop::collection::vec(score(), 0..40), 1..6),
        permille in 1u32..1000,
        low in any::<bool>(),
    ) {
        let sparsity = f64::from(permille) / 1000.0;
        let tensors = sizes(&scores.iter().map(Vec::len).collect::<Vec<_>>());
        let total = scores.iter().map(Vec::len).sum::<usize>();
        let kept = kept_count(total, sparsity, Rounding::Ceil).unwrap();
        let choice = Choice { sparsity, rounding: Rounding::Ceil, scope: Scope::Global, unit: Unit::Entry };
        let keep = if low { Keep::Low } else { Keep::High };
        let criterion = Criterion::Scored { by: Score::Magnitude, keep, choice };
        let spec = Sparse { criterion, modules: Modules::ALL, control: Control::None };
        let chosen = choose::<[Vec<f32>]>(&tensors, &spec, &scores, &|| Ok(Vec::new()));
        prop_assume!(kept > 0);
        let mut order: Vec<(f32, usize, u32)> = Vec::new();
        for (tensor, values) in scores.iter().enumerate() {
            order.extend(values.iter().enumerate().map(|(index, score)| (*score, tensor, index as u32)));
        }
        // Both zeros are one number.
        let compare = |a: f32, b: f32| a.partial_cmp(&b).expect("finite numbers");
        order.sort_by(|a, b| if low { compare(a.0, b.0) } else { compare(b.0, a.0) });
        let mut expected = vec![Vec::<u32>::new(); scores.len()];
        for (_, tensor, index) in &order[..kept] {
            expected[*tensor].push(*index);
        }
        for list in &mut expected {
            list.sort_unstable();
        }
        prop_assert_eq!(chosen.unwrap().indices().to_vec(), expected);
    }
}
