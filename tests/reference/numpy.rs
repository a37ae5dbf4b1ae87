//! `generators::numpy` against NumPy itself: seeds, bounded draws, choices in raw order, tensors that share a generator,
//! permutations.
//!
//! Every case also compares the 32-bit draw that follows, which is another one when too many or too few bits were taken.

use serde_json::Value;
use tickets::generators::numpy::Generator;

use super::table::row;

/// What tests/oracles/numpy_cases.py printed.
const CASES: &str = include_str!("../oracles/numpy_cases.json");

fn fixture() -> Value {
    serde_json::from_str(CASES).unwrap()
}

fn cases(fixture: &Value, group: &str) -> Vec<Value> {
    fixture[group].as_array().unwrap().clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// Counts the cases that are not equal, names the first, and makes a row of them.
fn compare(what: &str, fixture: &Value, groups: &[&str], equal: impl Fn(&Value) -> bool) {
    let all: Vec<Value> = groups.iter().flat_map(|group| cases(fixture, group)).collect();
    let unequal: Vec<&Value> = all.iter().filter(|case| !equal(case)).collect();
    if let Some(case) = unequal.first() {
        let text = case.to_string();
        println!("{what}: {}", &text[..text.len().min(200)]);
    }
    let against = format!("NumPy {}", fixture["numpy"].as_str().unwrap());
    row(&format!("{what} (unequal)"), &against, all.len(), unequal.len() as f64, 0.0);
}

/// The sum of `(i + 1) * x_i` modulo 2^64: it depends on the order.
fn weighted<T: Copy + Into<u64>>(drawn: &[T]) -> u64 {
    (1..).zip(drawn).fold(0, |sum: u64, (weight, x)| sum.wrapping_add((*x).into().wrapping_mul(weight)))
}

fn plain<T: Copy + Into<u64>>(drawn: &[T]) -> u64 {
    drawn.iter().fold(0, |sum: u64, x| sum.wrapping_add((*x).into()))
}

/// `[seed, n, k, first 8, last 8, weighted sum, sum, next]`.
fn large_is_equal<T: Copy + Into<u64>>(case: &Value, draw: fn(&mut Generator, u64, u64) -> Vec<T>) -> bool {
    let mut generator = Generator::new(number(&case[0]));
    let drawn = draw(&mut generator, number(&case[1]), number(&case[2]));
    let (first, last) = (numbers(&case[3]), numbers(&case[4]));
    let ends = drawn.len().min(8);
    let is = |ours: &[T], theirs: &[u64]| ours.iter().map(|x| (*x).into()).eq(theirs.iter().copied());
    drawn.len() as u64 == number(&case[2])
        && is(&drawn[..ends], &first)
        && is(&drawn[drawn.len() - ends..], &last)
        && weighted(&drawn) == number(&case[5])
        && plain(&drawn) == number(&case[6])
        && u64::from(generator.next_u32()) == number(&case[7])
}

fn narrow(generator: &mut Generator, elements: u64, kept: u64) -> Vec<u32> {
    generator.choice(elements.try_into().unwrap(), kept.try_into().unwrap()).unwrap()
}

fn wide(generator: &mut Generator, elements: u64, kept: u64) -> Vec<u64> {
    generator.choice_wide(elements, kept).unwrap()
}

#[test]
fn seeds_and_raw_draws_are_those_of_numpy() {
    compare("seeds of masks, first draws of 64 and 32 bits", &fixture(), &["seeds"], |case| {
        let mut generator = Generator::new(number(&case[0]));
        let raw: Vec<u64> = (0..4).map(|_| generator.next_u64()).collect();
        let mut generator = Generator::new(number(&case[0]));
        // 64 bits between the two halves leave the second half alone.
        let first = u64::from(generator.next_u32());
        let mixed = [first, generator.next_u64(), generator.next_u32().into(), generator.next_u32().into()];
        raw == numbers(&case[1]) && mixed[..] == numbers(&case[2])
    });
}

#[test]
fn bounded_draws_are_those_of_numpy() {
    let fixture = fixture();
    let draws = |case: &Value| case[1].as_array().unwrap().clone();
    assert_eq!(cases(&fixture, "bounded").iter().map(|case| draws(case).len()).sum::<usize>(), 16 * 30);
    compare("bounded draws of 30 mixed ranges up to 64 bits", &fixture, &["bounded"], |case| {
        let mut generator = Generator::new(number(&case[0]));
        draws(case).iter().all(|draw| generator.up_to(number(&draw[0])) == number(&draw[1]))
    });
}

#[test]
fn choices_are_those_of_numpy_in_raw_order() {
    compare("choice without replacement, raw order", &fixture(), &["lists", "packed"], |case| {
        let mut generator = Generator::new(number(&case[0]));
        let drawn = narrow(&mut generator, number(&case[1]), number(&case[2]));
        let same = match &case[3] {
            Value::Array(_) => drawn.iter().map(|x| u64::from(*x)).eq(numbers(&case[3])),
            sum => weighted(&drawn) == number(sum),
        };
        same && drawn.len() as u64 == number(&case[2]) && u64::from(generator.next_u32()) == number(&case[4])
    });
}

#[test]
fn tensors_that_share_a_generator_are_those_of_numpy() {
    let fixture = fixture();
    let tensors: usize =
        cases(&fixture, "sequences").iter().map(|case| case[1].as_array().unwrap().len()).sum();
    assert_eq!(tensors, 1121);
    let what = "choice, 1121 tensors in 150 sequences of one generator";
    compare(what, &fixture, &["sequences"], |case| {
        let mut generator = Generator::new(number(&case[0]));
        let same = |tensor: &Value| {
            weighted(&narrow(&mut generator, number(&tensor[0]), number(&tensor[1]))) == number(&tensor[2])
        };
        case[1].as_array().unwrap().iter().all(same) && u64::from(generator.next_u32()) == number(&case[2])
    });
}

#[test]
fn choices_from_large_tensors_are_those_of_numpy() {
    compare("choice from 65,537 to 2^32 - 1 elements", &fixture(), &["large"], |case| {
        large_is_equal(case, narrow)
    });
}

#[test]
fn choices_of_64_bits_are_those_of_numpy() {
    compare("choice from 2^32 to 2^63 - 1 elements", &fixture(), &["wide"], |case| {
        large_is_equal(case, wide)
    });
}

#[test]
fn permutations_are_those_of_numpy() {
    compare("permutations of up to 70,000", &fixture(), &["permutations"], |case| {
        let mut generator = Generator::new(number(&case[0]));
        let drawn = generator.permutation(number(&case[1]));
        let same = match &case[2] {
            Value::Array(_) => drawn == numbers(&case[2]),
            sum => weighted(&drawn) == number(sum),
        };
        same && drawn.len() as u64 == number(&case[1]) && u64::from(generator.next_u32()) == number(&case[3])
    });
}

/// With `TICKETS_NUMPY_HUGE=1`: shuffles of up to 200 million elements, which take seconds and 0.9 GB.
#[test]
fn shuffles_of_200_million_are_those_of_numpy() {
    if std::env::var_os("TICKETS_NUMPY_HUGE").is_none() {
        println!("skipped: TICKETS_NUMPY_HUGE is not set");
        return;
    }
    for case in cases(&fixture(), "huge") {
        let started = std::time::Instant::now();
        assert!(large_is_equal(&case, narrow), "{case}");
        println!("{} of {}: {:.2} s", case[2], case[1], started.elapsed().as_secs_f64());
    }
}
