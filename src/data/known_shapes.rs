//! The shapes of models that are known by name: their `config.json`.

/// Names and texts.
pub const KNOWN_SHAPES: [(&str, &str); 4] = [
    ("qwen2.5-0.5b", include_str!("../../assets/shapes/qwen2.5-0.5b.json")),
    ("qwen2.5-1.5b", include_str!("../../assets/shapes/qwen2.5-1.5b.json")),
    ("qwen3-0.6b", include_str!("../../assets/shapes/qwen3-0.6b.json")),
    ("llama-3.2-1b", include_str!("../../assets/shapes/llama-3.2-1b.json")),
];
