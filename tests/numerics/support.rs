//! A tiny model with weights that matter, a chat, a task, and comparisons.

use tch::{Kind, Tensor};

use tickets::counter::Counter;
use tickets::data::{
    Architecture, BUILT_IN_SPECIALS, BUILT_IN_TEMPLATE, Chat, ChatTemplate, Family, Tokenizer,
};
use tickets::grpo::{
    Advantage, ClipDomain, Decay, GrpoSpec, Level, Normaliser, OptimizerSpec, RatioRule, SamplingSpec,
    Schedule,
};
use tickets::manifest::{
    DeviceChoice, Dtype, EvalSpec, ExecSpec, ModelSource, ModelSpec, PretrainSpec, Retries, RunConfig,
};
use tickets::sparsity::MaskSpec;
use tickets::task::{
    AlphabetSortSpec, Episode, Episodes, EvalRows, NameSource, NamesSpec, RowNames, SortBy, Task, TaskSpec,
    default_prompts,
};
use tickets::torch::{Model, Rollout, Weights};

use super::table::{larger, largest};

/// Size of the vocabulary: 256 bytes, the special tokens, the markers, and a few merges.
pub const VOCABULARY: usize = 280;

/// A decoder with grouped queries, small enough for hundreds of passes.
pub fn architecture(tied: bool) -> Architecture {
    Architecture {
        family: Family::Qwen2,
        vocab_size: VOCABULARY,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        attention_bias: true,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied,
        max_positions: 2048,
    }
}

/// Weights of deviation `scale`, biases and norms included, so that every one of them has a say in the logits.
pub fn model(tied: bool, scale: f64) -> Model {
    let mut weights = Weights::fresh(&architecture(tied), 1).unwrap();
    for (i, tensor) in weights.tensors.iter_mut().enumerate() {
        let mut counter = Counter::new(11, "test/weights", &[i as u64]);
        let values: Vec<f32> = (0..tensor.numel()).map(|_| (counter.normal() * scale) as f32).collect();
        let noise = Tensor::from_slice(&values).view(tensor.size().as_slice());
        let base = if weights.parameters[i].name.contains("norm") { 1.0 } else { 0.0 };
        *tensor = (noise + base).set_requires_grad(true);
    }
    Model::new(weights).unwrap()
}

/// A model that likes the tags of the answer format and some letters, so that some of its random answers earn
/// something.
pub fn eager_model(task: &Task, chat: &Chat) -> Model {
    let model = model(false, 0.4);
    tch::no_grad(|| {
        // The first feature is the same for all tokens, and the head turns it into a liking for some.
        let [.., norm, head] = model.weights.tensors.as_slice() else { panic!("an untied model") };
        let _ = model.weights.tensors[0].select(1, 0).fill_(6.0);
        let _ = norm.get(0).fill_(1.0);
        let _ = head.shallow_clone().g_mul_scalar_(0.3);
        for token in task.markers().into_iter().chain(["a", "e", "i", "n", "r"]) {
            let id = chat.tokenizer.id(token).unwrap();
            let _ = head.get(i64::from(id)).get(0).fill_(4.0);
        }
    });
    model
}

/// A task with short prompts and up to three turns.
pub fn task() -> Task {
    Task::new(&task_spec(), NameSource::Shipped).unwrap()
}

fn task_spec() -> TaskSpec {
    TaskSpec::AlphabetSort(AlphabetSortSpec {
        min_turns: 1,
        max_turns: 3,
        min_names_per_turn: 1,
        max_names_per_turn: 2,
        sort_by: SortBy::Either,
        similarity_power: 1,
        power_per_turn: true,
        names: NamesSpec::Shipped,
        row_names: RowNames::First,
        episodes: Episodes::Counter,
        prompts: default_prompts(),
    })
}

/// The first episodes of the training stream.
pub fn episodes(task: &Task, count: u64) -> Vec<Episode> {
    (0..count).map(|index| task.episode(3, "train", index).unwrap()).collect()
}

/// A tokenizer trained on the task. One token in `1 / share` ends an answer, so that a random model ends some.
pub fn chat(task: &Task, every: usize) -> Chat {
    let markers: Vec<String> = task.markers().into_iter().map(str::to_owned).collect();
    let texts: Vec<String> =
        episodes(task, 20).iter().map(|episode| episode.turns[0].prompt.clone()).collect();
    let tokenizer = Tokenizer::train(&texts, VOCABULARY, &markers).unwrap();
    let end = tokenizer.id(BUILT_IN_SPECIALS[1]).unwrap();
    let template = ChatTemplate::new(BUILT_IN_TEMPLATE, "built-in", "", BUILT_IN_SPECIALS[1]).unwrap();
    let mut end_tokens: Vec<u32> = (0..VOCABULARY as u32).step_by(every).skip(1).collect();
    end_tokens.push(end);
    end_tokens.sort_unstable();
    Chat { tokenizer, template, end_tokens }
}

/// Plain sampling.
pub fn sampling(max_tokens: u32) -> SamplingSpec {
    SamplingSpec { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition_penalty: 1.0, max_tokens }
}

/// Settings of the loss.
pub fn grpo(ratio: RatioRule, normaliser: Normaliser, kl_coef: f64, micro_batch: u32) -> GrpoSpec {
    GrpoSpec {
        steps: 1,
        rollouts_per_step: 16,
        group_size: 4,
        advantage: Advantage::Mean,
        ratio,
        level: Level::Token,
        normaliser,
        kl_coef,
        kl_corrected: false,
        minibatches: 1,
        updates_per_batch: 1,
        micro_batch,
        activations_mib: 2048,
    }
}

/// A whole configuration, for what takes one.
pub fn config(grpo: GrpoSpec) -> RunConfig {
    let pretrain = PretrainSpec {
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        vocab_size: VOCABULARY as u32,
        steps: 1,
        batch: 1,
        lr: 1e-3,
        shuffled: 0.5,
        target_reward: 1.0,
        seed: 0,
        mix: Vec::new(),
    };
    RunConfig {
        seed: 3,
        model: ModelSpec { source: ModelSource::Pretrain(pretrain), dtype: Dtype::Float32 },
        task: task_spec(),
        grpo,
        optimizer: OptimizerSpec {
            lr: 1e-3,
            schedule: Schedule::CONSTANT,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            decay: Decay::Decoupled,
            clip_norm: 0.1,
            clip_domain: ClipDomain::Masked,
        },
        sampling: sampling(8),
        mask: MaskSpec::Full,
        eval: EvalSpec { examples: 2, rows: EvalRows::Sample, seed: 2001, every: 1, sampling: sampling(8) },
        evals: Vec::new(),
        exec: ExecSpec {
            device: DeviceChoice::Cpu,
            jobs: 1,
            threads: 1,
            checkpoint_every: 1,
            keep_checkpoints: 1,
            keep_mib: 0,
            lease_seconds: 0,
            retries: Retries { nan: 0, oom: 0, killed: 0, infra: 0, store: 0, task: 0 },
            task_workers: 1,
            task_timeout: 1,
            cuda_graphs: false,
            max_runs: 1000,
        },
    }
}

/// Rollouts made by hand: `prompt` tokens, then alternating spans of drawn and given tokens.
pub fn rollout(spans: &[(bool, usize)], counter: &mut Counter, behavior: f64) -> Rollout {
    let mut made = Rollout {
        tokens: Vec::new(),
        drawn: Vec::new(),
        logprobs: Vec::new(),
        answers: vec![String::new(); spans.iter().filter(|(drawn, _)| *drawn).count()],
        ..Rollout::default()
    };
    for &(drawn, length) in spans {
        for _ in 0..length {
            made.tokens.push(counter.below(VOCABULARY as u64) as u32);
            made.drawn.push(drawn);
            made.logprobs.push(if drawn { (behavior + counter.normal()) as f32 } else { 0.0 });
        }
    }
    made
}

/// The largest absolute difference. Fails when an entry of either is not finite.
pub fn distance(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    if left.numel() == 0 {
        return 0.0;
    }
    // A difference is finite exactly where both sides are, and the largest of torch is NaN where one is.
    larger(0.0, (left.to_kind(Kind::Double) - right.to_kind(Kind::Double)).abs().max().double_value(&[]))
}

/// The largest difference of a list of tensors, each relative to the largest entry of its right-hand tensor.
pub fn relative(left: &[Tensor], right: &[Tensor]) -> f64 {
    assert_eq!(left.len(), right.len());
    largest(left.iter().zip(right).map(|(left, right)| share(left, right)))
}

/// The largest difference, relative to the largest entry of the right-hand tensor.
pub fn share(left: &Tensor, right: &Tensor) -> f64 {
    distance(left, right) / right.abs().max().double_value(&[]).max(1e-12)
}
