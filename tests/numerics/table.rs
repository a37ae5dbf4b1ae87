//! The parity table: a row per comparison with a reference, as `make parity` gathers it. `f64::max` drops what is not a number, so
//! the worst of several differences is taken here, where one that is not finite fails.

/// The larger of two differences. Fails when one is not finite.
pub fn larger(worst: f64, off: f64) -> f64 {
    assert!(worst.is_finite() && off.is_finite(), "no finite difference: {off} after {worst}");
    worst.max(off)
}

/// The largest of the differences, 0 of none. Fails when one is not finite.
pub fn largest(differences: impl IntoIterator<Item = f64>) -> f64 {
    differences.into_iter().fold(0.0, larger)
}

/// Fails when `worst` exceeds `bound` or is not finite, else prints a row: what was compared, against which version of what, on
/// how many cases, the worst difference (0 when all are equal), and what it may be.
pub fn row(what: &str, against: &str, cases: usize, worst: f64, bound: f64) {
    assert!(cases > 0, "{what}: nothing was compared");
    assert!(
        worst.is_finite() && bound.is_finite() && (0.0..=bound).contains(&worst),
        "{what} against {against}: off by {worst:e}, at most {bound:e}"
    );
    let number = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
    println!("parity | {what} | {against} | {cases} | {} | {} |", number(worst), number(bound));
}
