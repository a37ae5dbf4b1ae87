//! The task against CPython: similarity, rewards and text handling, to the bit, on the cases that
//! `tests/oracles/difflib_cases.py` printed.

use serde::Deserialize;

use super::alphabet_sort::tests::spec;
use super::text::{lower, strip};
use super::*;

#[derive(Deserialize)]
struct Oracle {
    pythons: Vec<String>,
    ratio: Vec<(String, String, String)>,
    reward: Vec<RewardCase>,
    text: Vec<(String, String, String)>,
    upper: String,
}

#[derive(Deserialize)]
struct RewardCase {
    power: u32,
    per_turn: bool,
    turns: Vec<(String, Vec<String>)>,
    completions: Vec<String>,
    scores: Vec<String>,
    total: String,
}

fn oracle() -> Oracle {
    let oracle: Oracle = serde_json::from_str(include_str!("../../tests/oracles/difflib_cases.json"))
        .expect("the oracle is JSON");
    assert_eq!(oracle.pythons, ["3.11.7", "3.12.1", "3.13.0"]);
    oracle
}

fn float(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).expect("hexadecimal"))
}

#[test]
fn ratios_are_those_of_cpython() {
    let cases = oracle().ratio;
    assert!(cases.len() > 300 && cases.iter().filter(|(_, b, _)| b.chars().count() >= 200).count() > 50);
    for (a, b, bits) in cases {
        let (found, wanted) = (ratio(&a, &b), float(&bits));
        assert_eq!(found.to_bits(), wanted.to_bits(), "{a:?} {b:?}: {found} {wanted}");
    }
}

#[test]
fn rewards_are_those_of_the_python_reference() {
    let cases = oracle().reward;
    assert!(cases.len() >= 100);
    for case in cases {
        let spec = AlphabetSortSpec { similarity_power: case.power, power_per_turn: case.per_turn, ..spec() };
        let task = Task::new(&TaskSpec::AlphabetSort(spec), NameSource::Shipped).expect("valid");
        let turn = |(number, (tag, expected)): (usize, &(String, Vec<String>))| {
            assert_eq!(Tag::of(number).open(), format!("<{tag}>"));
            Turn { prompt: String::new(), expected: expected.clone() }
        };
        let turns = case.turns.iter().enumerate().map(turn).collect();
        let episode =
            Episode { name: "case".into(), before: Vec::new(), turns, info: serde_json::Value::Null };
        let found = task.reward(&episode, &case.completions).expect("in range");
        let turns = case.scores.iter().map(|bits| float(bits)).collect();
        let wanted = Reward { total: float(&case.total), turns, parts: Vec::new() };
        let bits = |reward: &Reward| {
            reward.turns.iter().chain([&reward.total]).map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&found), bits(&wanted), "{:?} {:?}: {found:?} {wanted:?}", episode, case.completions);
    }
}

#[test]
fn text_is_handled_as_in_python() {
    let cases = oracle().text;
    assert!(cases.len() > 100);
    for (text, lowered, stripped) in cases {
        assert_eq!(lower(&text), lowered, "{text:?}");
        assert_eq!(strip(&text), stripped, "{text:?}");
    }
}

#[test]
fn capitals_are_those_of_python() {
    let upper: Vec<char> = oracle().upper.chars().collect();
    assert!(upper.len() > 1900 && upper.iter().all(|c| c.is_uppercase()));
    let more: Vec<char> = ('\0'..=char::MAX).filter(|c| c.is_uppercase() && !upper.contains(c)).collect();
    // Capitals of Cyrillic, Latin, Garay and Beria Erfe that are younger than Unicode 15.1.
    let younger = |c: &char| matches!(c, '\u{1c89}' | '\u{a7cb}'..='\u{a7dc}' | '\u{10d50}'..='\u{10d65}' | '\u{16ea0}'..='\u{16eb8}');
    assert!(more.iter().all(younger), "{more:?}");
    // As in the header of src/task/text.rs.
    assert_eq!(more.len(), 55);
}
