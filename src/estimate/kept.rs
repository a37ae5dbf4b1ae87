//! What is kept of a pass for the way back: the rule of `torch::loss`.

use super::decoder::Decoder;

/// Bytes that the inputs of layers may take, however little else is to be kept.
const INPUTS: f64 = (256u64 << 20) as f64;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kept {
    /// All that the way back needs.
    Everything,
    /// The input of every so-many-th layer.
    Inputs(f64),
}

impl Kept {
    /// Of a batch of so many tokens, with `mib` for everything.
    pub fn of(decoder: &Decoder, tokens: f64, mib: u32) -> Self {
        if tokens * decoder.kept() * decoder.layers <= f64::from(mib) * f64::from(1 << 20) {
            return Self::Everything;
        }
        let input = (tokens * decoder.width * decoder.hidden).max(1.0);
        let room = ((tokens * decoder.cached()).max(INPUTS) / input).floor().max(1.0);
        Self::Inputs((decoder.layers / room).ceil().min(decoder.layers.sqrt().ceil()).max(1.0))
    }

    /// Bytes, those of the last layer's output included.
    pub fn bytes(self, decoder: &Decoder, tokens: f64) -> f64 {
        let stream = decoder.width * decoder.hidden;
        tokens
            * match self {
                Self::Everything => decoder.kept() * decoder.layers + stream,
                Self::Inputs(every) => ((decoder.layers / every).ceil() + 1.0) * stream,
            }
    }

    /// Forward passes that the way back makes again.
    pub fn again(self) -> f64 {
        match self {
            Self::Everything => 0.0,
            Self::Inputs(every) => f64::midpoint(1.0, every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Family;

    #[test]
    fn a_large_batch_keeps_as_many_inputs_as_its_keys_and_values_took() {
        // The shape of Qwen2.5-0.5B: 24 layers, 896 wide, 2 of 14 heads have keys, so a token's cache is 6.86 of its inputs.
        let shape = crate::data::Architecture {
            family: Family::Qwen2,
            vocab_size: 151_936,
            hidden_size: 896,
            intermediate_size: 4864,
            layers: 24,
            heads: 14,
            kv_heads: 2,
            head_dim: 64,
            attention_bias: true,
            rope_theta: 1e6,
            rope_scaling: None,
            rms_eps: 1e-6,
            tied: true,
            max_positions: 32_768,
        };
        let decoder = Decoder::new(&shape, 2.0);
        assert_eq!(Kept::of(&decoder, 3000.0, 2048), Kept::Everything);
        assert_eq!(Kept::of(&decoder, 3000.0, 1024), Kept::Inputs(1.0));
        let large = Kept::of(&decoder, 77_000.0, 2048);
        assert_eq!((large, large.again()), (Kept::Inputs(4.0), 2.5));
        assert_eq!(large.bytes(&decoder, 10.0), 10.0 * 7.0 * 2.0 * 896.0);
        // With a cache of one input no more than the square root of the layers is computed again.
        let narrow = Decoder { keys: 16.0, ..decoder };
        assert_eq!(Kept::of(&narrow, 1e6, 2048), Kept::Inputs(5.0));
    }
}
