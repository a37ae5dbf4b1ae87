//! Where the parameters of a decoder layer stand among the model's tensors: the one place that knows what a family has.

use crate::data::Architecture;

/// Where a layer's parameters stand in study order, counted from its first; a bias follows its matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub query: usize,
    pub key: usize,
    pub value: usize,
    pub output: usize,
    /// Norm of the heads' queries; that of the keys follows.
    pub head_norms: Option<usize>,
    pub gate: usize,
    pub up: usize,
    pub down: usize,
    pub attention_norm: usize,
    pub mlp_norm: usize,
    /// Parameters of a layer.
    pub count: usize,
}

impl Slots {
    pub fn new(shape: &Architecture) -> Self {
        let projection = 1 + usize::from(shape.attention_bias);
        let output = 3 * projection;
        let after = output + 1 + usize::from(shape.output_bias());
        let gate = after + 2 * usize::from(shape.head_norms());
        Self {
            query: 0,
            key: projection,
            value: 2 * projection,
            output,
            head_norms: shape.head_norms().then_some(after),
            gate,
            up: gate + 1,
            down: gate + 2,
            attention_norm: gate + 3,
            mlp_norm: gate + 4,
            count: gate + 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Family;
    use crate::torch::weights::tests::tiny;

    #[test]
    fn slots_are_where_the_names_are() {
        for family in Family::ALL {
            for bias in [false, true] {
                let attention_bias = bias || family == Family::Qwen2;
                let shape = Architecture { family, attention_bias, ..tiny(true) };
                let (slots, parameters) = (Slots::new(&shape), shape.parameters());
                let names = [
                    (slots.query, "self_attn.q_proj.weight"),
                    (slots.key, "self_attn.k_proj.weight"),
                    (slots.value, "self_attn.v_proj.weight"),
                    (slots.output, "self_attn.o_proj.weight"),
                    (slots.gate, "mlp.gate_proj.weight"),
                    (slots.up, "mlp.up_proj.weight"),
                    (slots.down, "mlp.down_proj.weight"),
                    (slots.attention_norm, "input_layernorm.weight"),
                    (slots.mlp_norm, "post_attention_layernorm.weight"),
                ];
                for layer in 0..shape.layers {
                    let at = |slot: usize| parameters[1 + layer * slots.count + slot].name.clone();
                    for (slot, name) in names {
                        assert_eq!(at(slot), format!("model.layers.{layer}.{name}"));
                    }
                    if let Some(slot) = slots.head_norms {
                        assert_eq!(at(slot), format!("model.layers.{layer}.self_attn.q_norm.weight"));
                        assert_eq!(at(slot + 1), format!("model.layers.{layer}.self_attn.k_norm.weight"));
                    }
                }
                assert_eq!(parameters[1 + shape.layers * slots.count].name, "model.norm.weight");
            }
        }
    }
}
