//! A decoder in the plainest way, one sequence at a time, with autograd for its gradients: what the program's own passes are
//! compared with.

use tch::{Kind, Tensor};

use tickets::torch::Model;

/// Next-token logits of one sequence, `[t, v]`, differentiable by the model's weights.
pub fn logits(model: &Model, tokens: &[i64]) -> Tensor {
    let shape = model.architecture();
    let weight = |name: &str| {
        let at = model.weights.parameters.iter().position(|parameter| parameter.name == name);
        at.map(|at| &model.weights.tensors[at])
    };
    let (t, d) = (tokens.len() as i64, shape.head_dim as i64);
    let norm = |x: &Tensor, name: &str| {
        let scale = (x.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + shape.rms_eps).rsqrt();
        x * scale * weight(name).unwrap()
    };
    let linear = |x: &Tensor, name: &str| {
        x.linear(weight(&format!("{name}.weight")).unwrap(), weight(&format!("{name}.bias")))
    };
    // The tests' models have no scaled positions.
    assert!(shape.rope_scaling.is_none());
    let exponent = Tensor::arange_start_step(0, d, 2, (Kind::Float, model.device())) / d as f64;
    let frequency = (exponent * -shape.rope_theta.ln()).exp();
    let angle = Tensor::arange(t, (Kind::Float, model.device())).outer(&frequency);
    let (cos, sin) = (angle.cos(), angle.sin());
    let turn = |x: &Tensor| {
        let (a, b) = (x.narrow(-1, 0, d / 2), x.narrow(-1, d / 2, d / 2));
        Tensor::cat(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], -1)
    };
    let hidden = Tensor::ones([t, t], (Kind::Bool, model.device())).triu(1);
    let mut x = weight("model.embed_tokens.weight").unwrap().index_select(0, &Tensor::from_slice(tokens));
    for layer in 0..shape.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let normed = norm(&x, &name("input_layernorm.weight"));
        let heads = |part: &str, count: usize, head_norm: &str| {
            let split = linear(&normed, &name(part)).view([t, count as i64, d]);
            let split =
                if weight(&name(head_norm)).is_some() { norm(&split, &name(head_norm)) } else { split };
            // Every query head has its key head beside it.
            split.transpose(0, 1).repeat_interleave_self_int((shape.heads / count) as i64, 0, None)
        };
        let query = turn(&heads("self_attn.q_proj", shape.heads, "self_attn.q_norm.weight"));
        let key = turn(&heads("self_attn.k_proj", shape.kv_heads, "self_attn.k_norm.weight"));
        let value = heads("self_attn.v_proj", shape.kv_heads, "no norm");
        let scores = query.matmul(&key.transpose(1, 2)) / (d as f64).sqrt();
        let shares = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let mixed = shares.matmul(&value).transpose(0, 1).reshape([t, shape.heads as i64 * d]);
        x = &x + linear(&mixed, &name("self_attn.o_proj"));
        let normed = norm(&x, &name("post_attention_layernorm.weight"));
        let inner = linear(&normed, &name("mlp.gate_proj")).silu() * linear(&normed, &name("mlp.up_proj"));
        x = &x + linear(&inner, &name("mlp.down_proj"));
    }
    let head = weight("lm_head.weight").or_else(|| weight("model.embed_tokens.weight")).unwrap();
    norm(&x, "model.norm.weight").matmul(&head.tr())
}
