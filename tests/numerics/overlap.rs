//! Overlaps of masks against every mask that there is (small models) and exact fractions (large counts).

use serde_json::Value;
use tickets::sparsity::{Chance, Mask, Overlap, TensorSize};

use super::table::{larger, row};

/// What tests/oracles/overlap_cases.py printed.
const CASES: &str = include_str!("../oracles/overlap_cases.json");
const AGAINST: &str = "exact fractions (overlap_cases.py)";
/// Some ten roundings of numbers of one sign, and the difference of a count and a mean, which is taken relative to the
/// larger of them.
const BOUND: f64 = 1e-13;

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// The difference of two numbers that may be missing, relative to `scale` where that is the larger.
fn off(got: Option<f64>, expected: &Value, scale: f64) -> f64 {
    match (got, expected.as_f64()) {
        (Some(got), Some(expected)) => {
            (got - expected).abs() / expected.abs().max(scale).max(f64::MIN_POSITIVE)
        }
        (None, None) => 0.0,
        (got, expected) => panic!("{got:?} instead of {expected:?}"),
    }
}

/// The worst of mean, variance, chance and z.
fn account(chance: Chance, jaccard: Option<f64>, z: Option<f64>, expected: &Value) -> f64 {
    let z_scale = if chance.variance > 0.0 { chance.mean / chance.variance.sqrt() } else { 0.0 };
    let all = [
        off(Some(chance.mean), &expected["mean"], 0.0),
        off(Some(chance.variance), &expected["variance"], 0.0),
        off(jaccard, &expected["chance"], 0.0),
        off(z, &expected["z"], z_scale),
    ];
    all.into_iter().fold(0.0, larger)
}

#[test]
fn overlaps_are_those_of_every_mask_that_there_is() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let cases = cases["enumerated"].as_array().unwrap();
    let (mut uniform, mut per_tensor) = (0.0, 0.0);
    for case in cases {
        let sizes = case["sizes"].as_array().unwrap().iter().enumerate();
        let tensors: Vec<TensorSize> = sizes
            .map(|(at, size)| TensorSize { name: format!("t{at}"), shape: vec![count(size) as usize] })
            .collect();
        let mask = |key: &str| {
            let numbers = |list: &Value| list.as_array().unwrap().iter().map(|i| count(i) as u32).collect();
            let lists = case[key].as_array().unwrap().iter().map(numbers).collect();
            Mask::new(tensors.clone(), lists).unwrap()
        };
        let found = mask("a").overlap(&mask("b")).unwrap();
        assert_eq!((found.intersection, found.union), (count(&case["intersection"]), count(&case["union"])));
        let expected = &case["uniform"];
        uniform = larger(uniform, account(found.uniform(), found.chance(), found.z(), expected));
        let (expected, chance) = (&case["per_tensor"], found.per_tensor.unwrap());
        let worst = account(chance, found.chance_per_tensor(), found.z_per_tensor(), expected);
        per_tensor = larger(per_tensor, worst);
    }
    row("overlap by chance, uniform masks, all counted out", AGAINST, cases.len(), uniform, BOUND);
    row("overlap by chance, counts per tensor, all counted out", AGAINST, cases.len(), per_tensor, BOUND);
}

#[test]
fn chance_of_large_counts_is_that_of_exact_fractions() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let cases = cases["counts"].as_array().unwrap();
    let mut worst = 0.0;
    for case in cases {
        let of = |key: &str| count(&case[key]);
        let found = Overlap::of_counts(of("a"), of("b"), of("intersection"), of("total"));
        worst = larger(worst, account(found.uniform(), found.chance(), found.z(), &case["uniform"]));
    }
    row("overlap by chance, counts up to 10^10", AGAINST, cases.len(), worst, BOUND);
}
