//! Rewards to advantages: one group in, one advantage per rollout out.
//!
//! Source: DeepSeekMath (arXiv 2402.03300), equation for outcome supervision; `Mean` without the division is
//! Dr. GRPO's (arXiv 2503.20783) and prime-rl's.

use super::Advantage;

/// Added to the standard deviation by [`Advantage::MeanStd`] (TRL's value).
pub const STD_EPS: f64 = 1e-4;

/// Advantages of one group of rollouts that share a prompt.
///
/// A group whose rewards are all equal gets zeros exactly. The standard deviation is the sample's (n - 1), as in
/// TRL and torch; a group of one has advantage 0.
pub fn advantages(rewards: &[f64], rule: Advantage) -> Vec<f64> {
    if zero_variance(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    match rule {
        Advantage::Mean => rewards.iter().map(|r| r - mean).collect(),
        Advantage::MeanStd => {
            let squares: f64 = rewards.iter().map(|r| (r - mean).powi(2)).sum();
            let std = (squares / (rewards.len() - 1) as f64).sqrt();
            rewards.iter().map(|r| (r - mean) / (std + STD_EPS)).collect()
        }
    }
}

/// Whether a group teaches nothing because all its rewards are the same number.
pub fn zero_variance(rewards: &[f64]) -> bool {
    rewards.iter().all(|&r| r == rewards[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_subtracts_the_group_mean() {
        assert_eq!(advantages(&[1.0, 0.0, 0.5, 0.5], Advantage::Mean), vec![0.5, -0.5, 0.0, 0.0]);
    }

    #[test]
    fn mean_std_divides_by_the_sample_deviation() {
        // Rewards 1, 3: mean 2, squares 1 + 1, divided by n - 1 = 1: deviation sqrt(2) = 1.41421356.
        let got = advantages(&[1.0, 3.0], Advantage::MeanStd);
        let want = 1.0 / (2.0_f64.sqrt() + 1e-4);
        assert!((got[0] + want).abs() < 1e-15 && (got[1] - want).abs() < 1e-15, "{got:?}");
    }

    #[test]
    fn equal_rewards_and_single_rollouts_have_no_advantage() {
        // 0.1 + 0.1 + 0.1 is not 0.3 in binary: the mean of equal rewards need not be the reward.
        for rule in [Advantage::Mean, Advantage::MeanStd] {
            assert_eq!(advantages(&[0.1, 0.1, 0.1], rule), vec![0.0; 3]);
            assert_eq!(advantages(&[0.7], rule), vec![0.0]);
        }
    }
}
