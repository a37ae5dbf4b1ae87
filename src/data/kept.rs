//! What is kept of a pass for its way back, from a model's shape: a rule that what computes and what predicts share.

use super::Architecture;

/// Bytes of logits, in float32, that exist at the same time.
pub const LOGIT_BYTES: usize = 64 << 20;
/// Entries of a vocabulary's matrix up to which its gradient may be whole where few of them are trained.
pub const WHOLE_GRADIENT: usize = 1 << 24;
/// Beyond it, entries of rows whose gradient exists at the same time.
pub const ROW_ENTRIES: usize = 1 << 23;
/// Tokens that go back together on the CPU in float32: what is known of them stays in the processor's cache. A multiple of
/// 256, which outer.h adds up together.
pub const BACK_TOKENS: usize = 512;
/// A vocabulary up to which logits of these stay there too.
pub const SMALL_VOCABULARY: usize = 4096;
/// Bytes that the inputs of layers may take, however little else is to be kept.
const INPUTS: usize = 256 << 20;

/// Bytes of a token in passes through a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBytes {
    /// What a layer keeps of it when everything is kept, its input included.
    pub layer: usize,
    /// The input of a layer.
    pub input: usize,
    /// Its keys and values in the cache, of all layers.
    pub cached: usize,
    /// Layers.
    pub layers: usize,
}

impl TokenBytes {
    /// With weights of `width` bytes. For h hidden, i inner, q and k widths of queries and keys and n heads a layer keeps
    /// `width (2h + 2q + 2k + 2i)`, and `4n` for the sums of attention; norms of heads keep `width (q + k)` more.
    pub fn of(shape: &Architecture, width: usize) -> Self {
        let (q, k) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let normed = if shape.head_norms() { q + k } else { 0 };
        let kept = 2 * (shape.hidden_size + q + k + shape.intermediate_size) + normed;
        Self {
            layer: width * kept + 4 * shape.heads,
            input: width * shape.hidden_size,
            cached: 2 * width * k * shape.layers,
            layers: shape.layers,
        }
    }

    /// What all layers keep of so many tokens.
    pub fn everything(&self, tokens: usize) -> usize {
        tokens * self.layer * self.layers
    }
}

/// What is kept of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All that the way back needs.
    Everything,
    /// The input of every so-many-th layer: the rest is computed again.
    Inputs(usize),
}

impl Kept {
    /// Of a batch of so many tokens: everything, if it takes no more than `mib`. Otherwise inputs of layers: no more of them than what
    /// the keys and values of the rollouts took, which are gone by then, or 256 MiB; yet so many that at most the square root of
    /// all layers are computed again for one.
    pub fn of(bytes: &TokenBytes, tokens: usize, mib: u32) -> Self {
        if bytes.everything(tokens) <= (mib as usize) << 20 {
            return Self::Everything;
        }
        let room = ((tokens * bytes.cached).max(INPUTS) / (tokens * bytes.input).max(1)).max(1);
        let most = (bytes.layers as f64).sqrt().ceil() as usize;
        Self::Inputs(bytes.layers.div_ceil(room).min(most).max(1))
    }

    /// Bytes that are kept, those of the last layer's output included.
    pub fn bytes(self, bytes: &TokenBytes, tokens: usize) -> usize {
        match self {
            Self::Everything => bytes.everything(tokens) + tokens * bytes.input,
            Self::Inputs(every) => tokens * bytes.input * (bytes.layers.div_ceil(every) + 1),
        }
    }

    /// Forward passes that the way back makes again, on average over the layers.
    pub fn again(self) -> f64 {
        match self {
            Self::Everything => 0.0,
            Self::Inputs(every) => f64::midpoint(1.0, every as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Family;

    /// The shape of Qwen2.5-0.5B: a token's keys and values take 6.86 of its inputs.
    fn shape() -> Architecture {
        Architecture {
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
        }
    }

    #[test]
    fn a_large_batch_keeps_as_many_inputs_as_its_keys_and_values_took() {
        let bytes = TokenBytes::of(&shape(), 2);
        assert_eq!(bytes.layer, 2 * 2 * (896 + 896 + 128 + 4864) + 4 * 14);
        assert_eq!((bytes.input, bytes.cached), (2 * 896, 2 * 2 * 128 * 24));
        assert_eq!(Kept::of(&bytes, 3000, 2048), Kept::Everything);
        assert_eq!(Kept::of(&bytes, 3000, 1024), Kept::Inputs(1));
        let large = Kept::of(&bytes, 77_000, 2048);
        assert_eq!((large, large.again()), (Kept::Inputs(4), 2.5));
        assert_eq!(large.bytes(&bytes, 10), 10 * 7 * 2 * 896);
        // With a cache of one input no more than the square root of the layers is computed again.
        let narrow = TokenBytes { cached: bytes.input, ..bytes };
        assert_eq!(Kept::of(&narrow, 1_000_000, 2048), Kept::Inputs(5));
        // Norms of heads keep what they were made of.
        let normed = Architecture { family: Family::Qwen3, ..shape() };
        assert_eq!(TokenBytes::of(&normed, 4).layer, 4 * (2 * 6784 + 1024) + 56);
        assert_eq!(Kept::of(&bytes, 0, 0), Kept::Everything);
    }
}
