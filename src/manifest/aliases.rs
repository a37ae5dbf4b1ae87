//! What other trainers call our keys, so that a message can name the key that is meant.
//!
//! Names of TRL, prime-rl, verl, Hydra's habits, and slips that are near nothing.

use super::keys;

/// The last part of a name that people write, and the key.
const KEYS: &[(&str, &str)] = &[
    ("adam_beta1", "optimizer.betas"),
    ("adam_beta2", "optimizer.betas"),
    ("adam_epsilon", "optimizer.eps"),
    ("advantage_type", "grpo.advantage"),
    ("batch_size", "grpo.rollouts_per_step"),
    ("beta", "grpo.kl_coef"),
    ("checkpoint_interval", "exec.checkpoint_every"),
    ("delta", "grpo.clip_delta"),
    ("density", "mask.sparsity"),
    ("epsilon", "grpo.clip_low"),
    ("epsilon_high", "grpo.clip_high"),
    ("eval_every", "eval.every"),
    ("eval_interval", "eval.every"),
    ("eval_steps", "eval.every"),
    ("grad_clip", "optimizer.clip_norm"),
    ("importance_sampling_level", "grpo.level"),
    ("interval", "eval.every"),
    ("kl", "grpo.kl_coef"),
    ("kl_loss_coef", "grpo.kl_coef"),
    ("learning_rate", "optimizer.lr"),
    ("loss_type", "grpo.ratio"),
    ("lr", "optimizer.lr"),
    ("lr_scheduler_type", "optimizer.schedule"),
    ("max_completion_length", "sampling.max_tokens"),
    ("max_grad_norm", "optimizer.clip_norm"),
    ("max_length", "sampling.max_tokens"),
    ("max_new_tokens", "sampling.max_tokens"),
    ("max_response_length", "sampling.max_tokens"),
    ("max_steps", "grpo.steps"),
    ("min_lr_rate", "optimizer.final_share"),
    ("model_name", "model.id"),
    ("model_name_or_path", "model.id"),
    ("n_generations", "grpo.group_size"),
    ("num_generations", "grpo.group_size"),
    ("num_iterations", "grpo.updates_per_batch"),
    ("num_steps", "grpo.steps"),
    ("num_workers", "exec.jobs"),
    ("per_device_train_batch_size", "grpo.micro_batch"),
    ("ppo_epochs", "grpo.updates_per_batch"),
    ("ppo_mini_batch_size", "grpo.minibatches"),
    ("rollout_batch_size", "grpo.rollouts_per_step"),
    ("rollouts_per_example", "grpo.group_size"),
    ("save_steps", "exec.checkpoint_every"),
    ("scale_rewards", "grpo.advantage"),
    ("torch_dtype", "model.dtype"),
    ("train_batch_size", "grpo.rollouts_per_step"),
    ("use_bias_correction_kl", "grpo.kl_corrected"),
    ("warmup", "optimizer.warmup_steps"),
    ("wd", "optimizer.weight_decay"),
];

/// A word that people write, and ours.
const WORDS: &[(&str, &str)] = &[
    ("bf16", "bfloat16"),
    ("dr_grpo", "mean"),
    ("f32", "float32"),
    ("fp32", "float32"),
    ("gpu", "cuda"),
    ("none", "full"),
];

/// The key that is meant by a name that is another tool's, given the whole path. In `[eval]` it is the evaluation's own.
pub(super) fn key(path: &str) -> Option<&'static str> {
    let (table, last) = path.rsplit_once('.').unwrap_or(("", path));
    let meant = KEYS.iter().find(|(name, _)| *name == last).map(|(_, key)| *key);
    if table == "eval" {
        let name = meant.and_then(|key| key.strip_prefix("sampling.")).unwrap_or(last);
        if let Some(key) = keys::find(&format!("eval.sampling.{name}")) {
            return Some(key.path);
        }
    }
    meant
}

/// The word that is meant, out of those that are allowed.
pub(super) fn word(text: &str, allowed: &[&'static str]) -> Option<&'static str> {
    let (_, meant) = WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text))?;
    allowed.iter().find(|word| *word == meant).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_name_means_a_key_and_is_none() {
        for (name, meant) in KEYS {
            assert!(keys::find(meant).is_some(), "{meant}");
            let table = meant.rsplit_once('.').expect("a table").0;
            assert!(keys::find(&format!("{table}.{name}")).is_none_or(|key| key.path == *meant), "{name}");
        }
        assert!(KEYS.is_sorted() && WORDS.is_sorted());
        assert_eq!(key("eval.temperature"), Some("eval.sampling.temperature"));
        assert_eq!(key("eval.max_new_tokens"), Some("eval.sampling.max_tokens"));
        assert_eq!(key("grpo.lr"), Some("optimizer.lr"));
        assert_eq!(
            (word("BF16", &["float32", "bfloat16"]), word("bf16", &["full"])),
            (Some("bfloat16"), None)
        );
    }
}
