//! `tickets`: a declarative experiment runner for sparse-subnetwork reinforcement learning of language models.
//!
//! ```text
//! manifest (TOML) -> plan (runs with content hashes) -> execute (base, scores, mask, GRPO) -> store -> report
//! ```
//!
//! See ARCHITECTURE.md for the rooms and their invariants.

pub mod cli;
pub mod counter;
pub mod data;
pub mod estimate;
pub mod execute;
pub mod exit;
pub mod external;
pub mod generators;
pub mod grpo;
pub mod manifest;
pub mod masks;
pub mod model_folder;
pub mod plan;
pub mod provenance;
#[cfg(feature = "tables")]
pub mod report;
pub mod sparsity;
pub mod stats;
pub mod store;
pub mod task;
#[cfg(feature = "torch")]
pub mod torch;
