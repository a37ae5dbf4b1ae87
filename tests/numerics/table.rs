//! The parity table: a row per comparison with a reference, as `make parity` gathers it.

/// Fails when `worst` exceeds `bound`, else prints a row: what was compared, against which version of what, on how many
/// cases, the worst difference (0 when all are equal), and what it may be.
pub fn row(what: &str, against: &str, cases: usize, worst: f64, bound: f64) {
    assert!(cases > 0, "{what}: nothing was compared");
    assert!(worst <= bound, "{what} against {against}: off by {worst:e}, at most {bound:e}");
    let number = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
    println!("parity | {what} | {against} | {cases} | {} | {} |", number(worst), number(bound));
}
