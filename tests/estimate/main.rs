//! Estimates against hand-worked numbers, against each other, and against runs that were measured.

#[path = "../manifest_support/mod.rs"]
mod manifest_support;

mod counts;
mod disk;
mod monotone;
mod quickstart;

use tickets::manifest::RunConfig;

/// The one run of a manifest made of the least that one must say, and a text.
fn run(text: &str) -> RunConfig {
    let mut plan = manifest_support::planned(text);
    assert_eq!(plan.runs.len(), 1, "{text}");
    plan.runs.remove(0).config
}

/// The one run of a whole manifest.
fn run_of(text: &str) -> RunConfig {
    let mut plan = manifest_support::plan(text, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.runs.len(), 1, "{text}");
    plan.runs.remove(0).config
}
