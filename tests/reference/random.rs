//! `generators::python` against CPython's `random`: seeds of any size, and mixed calls in a row.
//!
//! Every case also compares the 32-bit draw that follows, which is another one when too many or too few bits were taken.

use serde_json::Value;
use tickets::generators::python::Random;

use super::table::row;

/// What tests/oracles/random_cases.py printed.
const CASES: &str = include_str!("../oracles/random_cases.json");

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn seeded(digits: &Value) -> Random {
    let digits: Vec<u32> = numbers(digits).into_iter().map(|digit| digit.try_into().unwrap()).collect();
    let random = Random::of_digits(&digits);
    if let [low] | [low, 0] = digits[..] {
        assert_eq!(random, Random::new(low.into()));
    }
    if let [low, high] = digits[..] {
        assert_eq!(random, Random::new(u64::from(high) << 32 | u64::from(low)));
    }
    random
}

/// A list, or its sum of `(i + 1) * x_i` modulo 2^64.
fn same(drawn: &[usize], expected: &Value) -> bool {
    let drawn: Vec<u64> = drawn.iter().map(|x| *x as u64).collect();
    match expected {
        Value::Array(_) => drawn == numbers(expected),
        sum => {
            let add = |sum: u64, (weight, x): (u64, &u64)| sum.wrapping_add(x.wrapping_mul(weight));
            (1..).zip(&drawn).fold(0, add) == number(sum)
        }
    }
}

/// Whether a call returns what it returned in CPython.
fn call_is_equal(random: &mut Random, call: &Value) -> bool {
    let at = |index: usize| number(&call[index]);
    match call[0].as_str().unwrap() {
        "bits" => random.getrandbits(at(1).try_into().unwrap()) == at(2),
        "below" => random.randbelow(at(1)) == at(2),
        "randint" => random.randint(at(1), at(2)) == at(3),
        "random" => format!("{:016x}", random.random().to_bits()) == call[1].as_str().unwrap(),
        "choice" => {
            let items: Vec<u64> = (0..at(1)).collect();
            *random.choice(&items) == at(2)
        }
        "shuffle" => {
            let mut items: Vec<usize> = (0..at(1) as usize).collect();
            random.shuffle(&mut items);
            same(&items, &call[2])
        }
        "sample" => same(&random.sample(at(1) as usize, at(2) as usize).unwrap(), &call[3]),
        other => panic!("unknown call {other}"),
    }
}

#[test]
fn seeds_and_calls_are_those_of_cpython() {
    let fixture: Value = serde_json::from_str(CASES).unwrap();
    let pythons: Vec<&str> =
        fixture["pythons"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let against = format!("random of CPython {}", pythons.join(", "));

    let seeds = fixture["seeds"].as_array().unwrap();
    let unequal = seeds.iter().filter(|case| {
        let mut random = seeded(&case[0]);
        let first: Vec<u64> = (0..4).map(|_| random.next_u32().into()).collect();
        for _ in 0..1300 {
            random.next_u32();
        }
        first != numbers(&case[1]) || u64::from(random.next_u32()) != number(&case[2])
    });
    let what = "seeds of up to 702 digits, first draws and those after two turns of the state (unequal)";
    row(what, &against, seeds.len(), unequal.count() as f64, 0.0);

    let (mut cases, mut unequal) = (0, 0);
    for case in fixture["calls"].as_array().unwrap() {
        let mut random = seeded(&case[0]);
        let calls = case[1].as_array().unwrap();
        cases += calls.len();
        unequal += calls.iter().filter(|call| !call_is_equal(&mut random, call)).count();
        unequal += usize::from(u64::from(random.next_u32()) != number(&case[2]));
    }
    let what = "calls of getrandbits, randrange, randint, random, choice, shuffle and sample (unequal)";
    row(what, &against, cases, unequal as f64, 0.0);
}
