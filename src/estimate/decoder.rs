//! The cost of passes through the decoder, and the bytes that they keep, counted from the operations of
//! `torch::model`, `torch::loss` and `torch::sampler`.
//!
//! Shape legend, per token: h hidden, i inner width of the MLP, q = query heads * head width, k = key heads * head width,
//! n query heads, s positions attended to, v vocabulary, L layers, e bytes of a weight (4, or 2 in bfloat16).

use crate::data::{Architecture, Parameter, TokenBytes};
use crate::grpo::SamplingSpec;

use super::cost::Cost;

/// Operations of a layer's forward pass: two norms, seven products with their transposed views, two rotations, attention, the
/// inner activation, and the views of what they are kept in.
const CALLS_PER_LAYER: f64 = 30.0;
/// Operations of a pass outside the layers: embedding, list, last norm, logits.
const CALLS_PER_PASS: f64 = 20.0;
/// Operations of drawing one token for every row.
const CALLS_PER_DRAW: f64 = 10.0;
/// Bytes per logit of a pass whose logprobs are wanted: product, exponentials, entropy.
const LOGIT_FORWARD: f64 = 20.0;
/// The same with the way back: the gradient, and two products of it.
const LOGIT_TRAINED: f64 = 40.0;
/// Bytes per logit of a draw: product, exponentials, the walk along them.
const LOGIT_DRAWN: f64 = 16.0;
/// In addition for top-k, top-p or min-p: a sort with its indices and up to three further passes.
const LOGIT_SORTED: f64 = 96.0;
/// In addition for the repetition penalty.
const LOGIT_PENALISED: f64 = 32.0;

/// A decoder's shape as numbers to reckon with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    pub hidden: f64,
    pub inner: f64,
    pub queries: f64,
    pub keys: f64,
    pub layers: f64,
    pub vocabulary: f64,
    pub positions: f64,
    pub head_dim: f64,
    /// All parameters, a tied head once.
    pub parameters: f64,
    /// Bytes of a weight.
    pub width: f64,
    /// Bytes of a token in passes.
    pub token: TokenBytes,
}

/// One or several passes of the same kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// Tokens over all passes.
    pub tokens: f64,
    /// Sequences over all passes; each reads its keys and values once.
    pub rows: f64,
    /// Positions that a token attends to. Masked positions are computed too.
    pub attended: f64,
    /// Tokens whose logits are wanted.
    pub logits: f64,
    /// How many passes.
    pub passes: f64,
}

impl Decoder {
    pub fn new(shape: &Architecture, width: f64) -> Self {
        let real = |n: usize| n as f64;
        Self {
            hidden: real(shape.hidden_size),
            inner: real(shape.intermediate_size),
            queries: real(shape.heads * shape.head_dim),
            keys: real(shape.kv_heads * shape.head_dim),
            layers: real(shape.layers),
            vocabulary: real(shape.vocab_size),
            positions: real(shape.max_positions),
            head_dim: real(shape.head_dim),
            parameters: real(shape.parameters().iter().map(Parameter::elements).sum()),
            width,
            token: TokenBytes::of(shape, width as usize),
        }
    }

    /// Entries of a layer's matrices: `2hq + 2hk + 3hi`.
    fn matrices(&self) -> f64 {
        self.hidden * (2.0 * self.queries + 2.0 * self.keys + 3.0 * self.inner)
    }

    /// Weights that a pass reads: all layers and the head, in bytes.
    pub fn weights_read(&self) -> f64 {
        self.width * (self.layers * self.matrices() + self.hidden * self.vocabulary)
    }

    /// Passes without gradients.
    ///
    /// - flops: `L (2 (2hq + 2hk + 3hi) + 4qs)` per token, `2hv` per token with logits;
    /// - bytes: `weights_read` per pass; `eL (13h + 5q + 4k + 6i)` per token; `2eksL` per row;
    /// - calls: `30L + 20` per pass.
    pub fn forward(&self, pass: Pass) -> Cost {
        let (h, q, k, s) = (self.hidden, self.queries, self.keys, pass.attended);
        let around = self.width * (13.0 * h + 5.0 * q + 4.0 * k + 6.0 * self.inner);
        Cost {
            flops: pass.tokens * self.layers * (2.0 * self.matrices() + 4.0 * q * s)
                + pass.logits * 2.0 * h * self.vocabulary,
            bytes: pass.passes * self.weights_read()
                + pass.tokens * self.layers * around
                + pass.rows * self.layers * 2.0 * self.width * k * s,
            calls: pass.passes * (CALLS_PER_LAYER * self.layers + CALLS_PER_PASS),
        }
    }

    /// Passes that give logprobs and entropies: a forward pass and `20v` bytes per token with logits.
    pub fn scored(&self, pass: Pass) -> Cost {
        self.forward(pass) + Cost::traffic(pass.logits * LOGIT_FORWARD * self.vocabulary)
    }

    /// The way back: twice the forward pass, the logits once more, and `40v` bytes per token with logits.
    pub fn back(&self, pass: Pass) -> Cost {
        let again = Cost { flops: pass.logits * 2.0 * self.hidden * self.vocabulary, ..Cost::default() };
        self.forward(pass) * 2.0 + again + Cost::traffic(pass.logits * LOGIT_TRAINED * self.vocabulary)
    }

    /// Drawing `tokens` in `steps` steps: 16 bytes per logit, more with filters.
    pub fn drawn(&self, tokens: f64, steps: f64, sampling: &SamplingSpec) -> Cost {
        let mut logit = LOGIT_DRAWN;
        if filtered(sampling) {
            logit += LOGIT_SORTED;
        }
        if sampling.repetition_penalty != 1.0 {
            logit += LOGIT_PENALISED;
        }
        Cost { flops: 0.0, bytes: tokens * logit * self.vocabulary, calls: steps * CALLS_PER_DRAW }
    }

    /// Bytes that a token keeps in the cache of keys and values: `2eLk`.
    pub fn cached(&self) -> f64 {
        2.0 * self.width * self.layers * self.keys
    }

    /// Parameters of a layer's matrices and norms, biases left out.
    pub fn layer(&self) -> f64 {
        self.matrices() + 2.0 * self.hidden
    }

    /// Bytes that a layer keeps of a token for the way back, its input included.
    pub fn kept(&self) -> f64 {
        self.token.layer as f64
    }

    /// Bytes per token of the fullest moment of a pass that keeps nothing: a layer's, two streams, a norm and an activation.
    pub fn passing(&self) -> f64 {
        self.kept() + self.width * (2.0 * self.hidden + self.inner)
    }

    /// Bytes per row of a draw: the logits; with filters log-softmax, a sorted copy, its indices and the filters' own; a flag
    /// and two copies for the penalty.
    pub fn drawing(&self, sampling: &SamplingSpec) -> f64 {
        let sorted = if filtered(sampling) { 52.0 } else { 0.0 };
        let penalised = if sampling.repetition_penalty == 1.0 { 0.0 } else { 9.0 };
        // Without fused operators the plain draw takes log-softmax, exponentials and a cumulative sum in float64.
        let plain = if self.width == 4.0 || sorted > 0.0 { 0.0 } else { 20.0 };
        self.vocabulary * (4.0 + sorted + penalised + plain)
    }
}

fn filtered(sampling: &SamplingSpec) -> bool {
    sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Family;

    /// h 4, i 6, 2 heads of width 2 over 1 key head (q 4, k 2), 3 layers, 10 tokens.
    fn decoder() -> Decoder {
        let shape = Architecture {
            family: Family::Qwen2,
            vocab_size: 10,
            hidden_size: 4,
            intermediate_size: 6,
            layers: 3,
            heads: 2,
            kv_heads: 1,
            head_dim: 2,
            attention_bias: true,
            rope_theta: 1e4,
            rope_scaling: None,
            rms_eps: 1e-6,
            tied: true,
            max_positions: 64,
        };
        Decoder::new(&shape, 4.0)
    }

    #[test]
    fn a_pass_costs_what_it_costs_by_hand() {
        let pass = Pass { tokens: 5.0, rows: 1.0, attended: 5.0, logits: 2.0, passes: 1.0 };
        let cost = decoder().forward(pass);
        // Matrices of a layer: 4*4 + 2*(2*4) + 4*4 + 3*(4*6) = 120. Products: 5 tokens * 3 layers * (2*120 + 4*4*5) and
        // 2 tokens * 2*4*10.
        assert_eq!(cost.flops, 5.0 * 3.0 * 320.0 + 160.0);
        // Weights 4*(3*120 + 40) = 1600; around 4*(52 + 20 + 8 + 36) = 464 per token and layer; keys and values
        // 3*2*4*2*5 = 240.
        assert_eq!(cost.bytes, 1600.0 + 5.0 * 3.0 * 464.0 + 240.0);
        assert_eq!(cost.calls, 3.0 * 30.0 + 20.0);
        let back = decoder().back(pass);
        assert_eq!(back.flops, 2.0 * cost.flops + 160.0);
        assert_eq!(back.bytes, 2.0 * cost.bytes + 2.0 * 10.0 * 40.0);
    }

    #[test]
    fn what_is_kept_is_counted_by_hand() {
        // Keys and values: 2 * 4 bytes * 3 layers * 2.
        assert_eq!(decoder().cached(), 48.0);
        // Input and middle 8, queries and what attention gave 8, keys and values 4, MLP 12; two sums.
        assert_eq!(decoder().kept(), 4.0 * 32.0 + 8.0);
        assert_eq!(decoder().layer(), 128.0);
    }
}
