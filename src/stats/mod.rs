//! Summaries of small samples.
//!
//! In: plain numbers. Out: plain numbers. Invariant: what a sample is too small for is `None`, never zero and never
//! NaN; values are summed in the order given, so equal input gives equal bits.

/// The arithmetic mean; `None` for an empty sample.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (n - 1 in the denominator); `None` below two values.
pub fn sample_sd(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The standard error of the mean, `sd / sqrt(n)`; `None` below two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    Some(sample_sd(values)? / (values.len() as f64).sqrt())
}

/// The centred moving average over `window` values (an even window counts as the next odd one). At the ends it is over
/// those of the window that exist.
pub fn moving_average(values: &[f64], window: usize) -> Vec<f64> {
    let half = window / 2;
    (0..values.len())
        .map(|centre| {
            let slice = &values[centre.saturating_sub(half)..values.len().min(centre + half + 1)];
            slice.iter().sum::<f64>() / slice.len() as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_a_hand_worked_sample() {
        // 2, 4, 4, 4, 5, 5, 7, 9: mean 5, squared deviations 9+1+1+1+0+0+4+16 = 32.
        let sample = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&sample), Some(5.0));
        assert_eq!(sample_sd(&sample), Some((32.0f64 / 7.0).sqrt()));
        // sd 2.13809 / sqrt(8) = 0.755929
        assert!((standard_error(&sample).expect("eight values") - 0.755_928_946).abs() < 1e-9);
    }

    #[test]
    fn samples_that_are_too_small_have_no_summary() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[3.0]), Some(3.0));
        assert_eq!(sample_sd(&[3.0]), None);
        assert_eq!(standard_error(&[]), None);
        assert_eq!(sample_sd(&[3.0, 3.0]), Some(0.0));
    }

    #[test]
    fn moving_average_uses_what_exists_at_the_ends() {
        // Window 3 on 0, 3, 6, 0: (0+3)/2, (0+3+6)/3, (3+6+0)/3, (6+0)/2.
        assert_eq!(moving_average(&[0.0, 3.0, 6.0, 0.0], 3), vec![1.5, 3.0, 3.0, 3.0]);
        assert_eq!(moving_average(&[4.0, 1.0], 1), vec![4.0, 1.0]);
        assert_eq!(moving_average(&[4.0, 2.0], 99), vec![3.0, 3.0]);
        assert!(moving_average(&[], 5).is_empty());
    }
}
