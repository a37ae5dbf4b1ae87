//! The cost of passes through the decoder, and the bytes that they keep, counted from the operations of
//! `torch::model`, `torch::loss` and `torch::sampler`.
//!
//! Shape legend, per token: h hidden, i inner width of the MLP, q = query heads * head width, k = key heads * head width,
//! n query heads, s positions attended to, v vocabulary, L layers, e bytes of a weight (4, or 2 in bfloat16).

use crate::data::{Architecture, Parameter};
use crate::grpo::SamplingSpec;

use super::cost::Cost;

/// Operations of a layer's forward pass: 12 in the norms, 4 in the products of attention, 8 in the rotations, 9 around
/// the scores, 6 in the MLP, 2 copies to the cache; views are cheap and count as the rest.
const CALLS_PER_LAYER: f64 = 45.0;
/// Operations of a pass outside the layers: embedding, rotary tables, mask, last norm, logits.
const CALLS_PER_PASS: f64 = 20.0;
/// Operations of drawing one token for every row.
const CALLS_PER_DRAW: f64 = 15.0;
/// Bytes per logit of a pass whose logprobs are wanted: product, log-softmax, and the entropy's exp, mul and sum.
const LOGIT_FORWARD: f64 = 36.0;
/// The same with the backward pass: zeros of the gather, the gradient of log-softmax, two products.
const LOGIT_TRAINED: f64 = 64.0;
/// Bytes per logit of a draw: product, log-softmax, exp, cumulative sum in float64.
const LOGIT_DRAWN: f64 = 32.0;
/// In addition for top-k, top-p or min-p: a sort with its indices and up to three further passes.
const LOGIT_SORTED: f64 = 80.0;
/// In addition for the repetition penalty.
const LOGIT_PENALISED: f64 = 32.0;

/// A decoder's shape as numbers to reckon with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    pub hidden: f64,
    pub inner: f64,
    pub queries: f64,
    pub keys: f64,
    pub heads: f64,
    pub layers: f64,
    pub vocabulary: f64,
    pub positions: f64,
    pub head_dim: f64,
    /// All parameters, a tied head once.
    pub parameters: f64,
    /// Bytes of a weight.
    pub width: f64,
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
            heads: real(shape.heads),
            layers: real(shape.layers),
            vocabulary: real(shape.vocab_size),
            positions: real(shape.max_positions),
            head_dim: real(shape.head_dim),
            parameters: real(shape.parameters().iter().map(Parameter::elements).sum()),
            width,
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
    /// - bytes: `weights_read` per pass; `L (56h + e (13h + 18q + 15k + 8i) + 24ns)` per token; `2eksL` per row;
    /// - calls: `45L + 20` per pass.
    pub fn forward(&self, pass: Pass) -> Cost {
        let (h, q, k, s) = (self.hidden, self.queries, self.keys, pass.attended);
        let around = 56.0 * h + self.width * (13.0 * h + 18.0 * q + 15.0 * k + 8.0 * self.inner);
        Cost {
            flops: pass.tokens * self.layers * (2.0 * self.matrices() + 4.0 * q * s)
                + pass.logits * 2.0 * h * self.vocabulary,
            bytes: pass.passes * self.weights_read()
                + pass.tokens * self.layers * (around + 24.0 * self.heads * s)
                + pass.rows * self.layers * 2.0 * self.width * k * s,
            calls: pass.passes * (CALLS_PER_LAYER * self.layers + CALLS_PER_PASS),
        }
    }

    /// Passes that give logprobs and entropies: a forward pass and `36v` bytes per token with logits.
    pub fn scored(&self, pass: Pass) -> Cost {
        self.forward(pass) + Cost::traffic(pass.logits * LOGIT_FORWARD * self.vocabulary)
    }

    /// Passes with gradients: three times the forward pass, and `64v` bytes per token with logits.
    pub fn trained(&self, pass: Pass) -> Cost {
        self.forward(pass) * 3.0 + Cost::traffic(pass.logits * LOGIT_TRAINED * self.vocabulary)
    }

    /// Drawing `tokens` in `steps` steps: 32 bytes per logit, more with filters.
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

    /// Bytes that autograd keeps for a token: per layer `(8 + 4e) h` for the two norms, `e (2q + 2k)` for attention's
    /// factors, `4ei` for the MLP, and the attention weights, `4ns` in float32 and `ens` more where they are rounded to
    /// bfloat16. A fused attention kernel would not keep those; none takes both a mask and grouped queries.
    pub fn kept(&self, attended: f64) -> f64 {
        let (e, rounded) = (self.width, if self.width < 4.0 { self.width } else { 0.0 });
        let norms = (8.0 + 4.0 * e) * self.hidden;
        let factors = e * (2.0 * self.queries + 2.0 * self.keys + 4.0 * self.inner);
        self.layers * (norms + factors + (4.0 + rounded) * self.heads * attended)
    }

    /// Bytes per token of the largest moment of a layer without gradients: the scores three times over (scores, masked
    /// scores, softmax) or the MLP's three vectors, and the stream.
    pub fn passing(&self, attended: f64) -> f64 {
        let mlp = 3.0 * self.width * self.inner;
        mlp.max(12.0 * self.heads * attended) + 3.0 * self.width * self.hidden
    }

    /// Bytes per row of a draw: logits twice, log-softmax, exp and a cumulative sum in float64; with filters a sorted
    /// copy, its indices and the filters' own; a flag and two copies for the penalty.
    pub fn drawing(&self, sampling: &SamplingSpec) -> f64 {
        let sorted = if filtered(sampling) { 32.0 } else { 0.0 };
        let penalised = if sampling.repetition_penalty == 1.0 { 0.0 } else { 9.0 };
        self.vocabulary * (24.0 + sorted + penalised)
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
        // Weights 4*(3*120 + 40) = 1600; around 56*4 + 4*(52 + 72 + 30 + 48) = 1032 and scores 24*2*5 = 240 per token and
        // layer; keys and values 3*2*4*2*5 = 240.
        assert_eq!(cost.bytes, 1600.0 + 5.0 * 3.0 * 1272.0 + 240.0);
        assert_eq!(cost.calls, 3.0 * 45.0 + 20.0);
        let trained = decoder().trained(pass);
        assert_eq!(trained.flops, 3.0 * cost.flops);
        assert_eq!(trained.bytes, 3.0 * cost.bytes + 2.0 * 10.0 * 64.0);
    }

    #[test]
    fn what_is_kept_is_counted_by_hand() {
        // Keys and values: 2 * 4 bytes * 3 layers * 2.
        assert_eq!(decoder().cached(), 48.0);
        // Per layer: norms 24*4 = 96, factors 4*(8 + 4 + 24) = 144, weights 4*2*7 = 56.
        assert_eq!(decoder().kept(7.0), 3.0 * 296.0);
        // In bfloat16: 16*4 = 64, 2*36 = 72, (4 + 2)*2*7 = 84.
        assert_eq!(Decoder { width: 2.0, ..decoder() }.kept(7.0), 3.0 * 220.0);
    }
}
