//! The study's order, told by names alone: for files that come without their model.

use std::sync::LazyLock;

use crate::data::{Architecture, Family};
use crate::sparsity::layer_of;

/// Names of a decoder with one layer that has every kind of parameter, in study order.
static EVERY_KIND: LazyLock<Vec<String>> = LazyLock::new(|| {
    let one_layer = Architecture {
        family: Family::Qwen3,
        vocab_size: 1,
        hidden_size: 1,
        intermediate_size: 1,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 1,
        attention_bias: true,
        rope_theta: 1.0,
        rope_scaling: None,
        rms_eps: 0.0,
        tied: false,
        max_positions: 1,
    };
    one_layer.parameters().into_iter().map(|parameter| parameter.name).collect()
});

/// Where a parameter stands among those of its model; `None` for a name of no known layout.
pub fn rank(name: &str) -> Option<impl Ord + use<>> {
    let layer = layer_of(name);
    let first = layer.map(|layer| name.replacen(&format!("layers.{layer}."), "layers.0.", 1));
    let first = first.as_deref().unwrap_or(name);
    let position = EVERY_KIND.iter().position(|known| known == first)?;
    let part = match (layer, position) {
        (None, 0) => 0,
        (Some(_), _) => 1,
        (None, _) => 2,
    };
    Some((part, layer, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_give_the_order_of_every_family() {
        for config in ["qwen2.5-0.5b", "qwen3-0.6b", "llama-3.2-1b"] {
            let path = format!("{}/assets/shapes/{config}.json", env!("CARGO_MANIFEST_DIR"));
            let mut shape = Architecture::from_config_json(&std::fs::read(path).unwrap(), config).unwrap();
            for tied in [true, false] {
                shape.tied = tied;
                let names: Vec<String> = shape.parameters().into_iter().map(|found| found.name).collect();
                // By name layer 10 comes before layer 2, and the head before everything.
                let mut sorted = names.clone();
                sorted.sort();
                assert_ne!(sorted, names);
                sorted.sort_by_key(|name| rank(name));
                assert_eq!(sorted, names, "{config}");
            }
        }
    }

    #[test]
    fn other_names_have_no_rank() {
        for name in
            ["", "transformer.wte.weight", "model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.c.weight"]
        {
            assert!(rank(name).is_none(), "{name}");
        }
    }
}
