//! Similarity of texts against CPython's difflib, to the bit. Rewards rest on it.

use super::table::row;

/// What tests/oracles/difflib_cases.py printed.
const CASES: &str = include_str!("../oracles/difflib_cases.json");

#[test]
fn ratios_are_those_of_difflib() {
    let fixture: serde_json::Value = serde_json::from_str(CASES).unwrap();
    let cases = fixture["ratio"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let unequal = cases.iter().filter(|case| {
        let expected = u64::from_str_radix(&text(&case[2]), 16).unwrap();
        tickets::task::ratio(&text(&case[0]), &text(&case[1])).to_bits() != expected
    });
    let pythons: Vec<String> = fixture["pythons"].as_array().unwrap().iter().map(text).collect();
    let against = format!("difflib of CPython {}", pythons.join(", "));
    let what = "similarity of texts (unequal in their bits)";
    row(what, &against, cases.len(), unequal.count() as f64, 0.0);
}
