//! The keys of a manifest: path, kind, range, default, meaning. One table, read by every check.
//!
//! Invariant: the table and the serde structs of `raw.rs` name the same keys (a test compares them).

use super::named;
use super::value::Value;

/// A key that a manifest, a grid block or an override may set.
#[derive(Debug)]
pub struct Key {
    /// Dotted path, such as `optimizer.lr`.
    pub path: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// Its value when nothing sets it.
    pub default: Preset,
    /// What stands before its value in a label; empty when the value speaks for itself.
    pub short: &'static str,
    /// Meaning and unit.
    pub doc: &'static str,
}

/// The values that a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path, relative to the file that wrote it.
    Path,
    /// A repository of a hub, `owner/name`.
    Repository,
    /// A full commit hash: 40 hexadecimal digits.
    Commit,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in this closed range.
    Integer(i64, i64),
    /// A finite number.
    Number(Range),
    /// Two finite numbers.
    Pair(Range),
    /// `true` or `false`.
    Flag,
}

/// A range of finite numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
    /// Whether the ends are outside.
    open: (bool, bool),
}

/// The default of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preset {
    /// None: absent unless written.
    Absent,
    /// A text.
    Text(&'static str),
    /// The task room's own wording of this prompt.
    Prompt,
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Two numbers.
    Pair(f64, f64),
    /// A flag.
    Flag(bool),
}

impl Range {
    /// The lower end, and whether it is outside.
    pub fn low(self) -> (f64, bool) {
        (self.low, self.open.0)
    }

    /// The upper end, and whether it is outside; `None` when there is none.
    pub fn high(self) -> Option<(f64, bool)> {
        (self.high < f64::MAX).then_some((self.high, self.open.1))
    }

    /// Whether a number is inside (never for NaN and infinities).
    pub fn contains(self, x: f64) -> bool {
        let above = if self.open.0 { x > self.low } else { x >= self.low };
        let below = if self.open.1 { x < self.high } else { x <= self.high };
        x.is_finite() && above && below
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { low, high, open } = *self;
        match (open, high >= f64::MAX) {
            ((true, _), true) => write!(out, "above {low}"),
            ((false, _), true) => write!(out, "of at least {low}"),
            ((low_open, high_open), false) => {
                let (left, right) = (if low_open { '(' } else { '[' }, if high_open { ')' } else { ']' });
                write!(out, "in {left}{low}, {high}{right}")
            }
        }
    }
}

impl Kind {
    /// Whether values are texts.
    pub fn is_text(self) -> bool {
        match self {
            Self::Text | Self::Path | Self::Repository | Self::Commit | Self::Choice(_) => true,
            Self::Integer(..) | Self::Number(_) | Self::Pair(_) | Self::Flag => false,
        }
    }

    /// What is allowed, as a phrase that completes "it must be ...".
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "a text in quotes".into(),
            Self::Path => "a path in quotes".into(),
            Self::Repository => "a repository in quotes, \"owner/name\"".into(),
            Self::Commit => {
                "the full commit hash in quotes, 40 hexadecimal digits in lower case: branches and tags move"
                    .into()
            }
            Self::Choice(words) => {
                format!("one of {}", words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", "))
            }
            Self::Integer(low, high) if high >= U32 => format!("a whole number, at least {low}"),
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(range) => format!("a number {range}"),
            Self::Pair(range) => format!("a list of two numbers, each {range}"),
            Self::Flag => "true or false".into(),
        }
    }
}

impl Key {
    /// The value when nothing sets the key.
    pub fn preset(&self) -> Option<Value> {
        let prompts = crate::task::default_prompts;
        Some(match self.default {
            Preset::Absent => return None,
            Preset::Text(text) => Value::Text(text.into()),
            Preset::Prompt => Value::Text(match self.path {
                "task.prompts.first" => prompts().first,
                "task.prompts.second" => prompts().second,
                _ => prompts().later,
            }),
            Preset::Integer(value) => Value::Integer(value),
            Preset::Number(value) => Value::Number(value),
            Preset::Pair(first, second) => Value::List(vec![Value::Number(first), Value::Number(second)]),
            Preset::Flag(value) => Value::Flag(value),
        })
    }

    /// The first segment of the path.
    pub fn section(&self) -> &'static str {
        self.path.split('.').next().unwrap_or(self.path)
    }
}

/// Finds a key by its dotted path; those of named evaluations too.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path).or_else(|| named::find(path))
}

/// Whether a dotted path is a table that holds keys.
pub fn is_section(path: &str) -> bool {
    let holds = |path: &str| {
        KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    };
    holds(path)
        || match named::split(path) {
            Some((_, "")) => true,
            Some((_, rest)) => holds(&named::model(rest)),
            None => false,
        }
}

const U32: i64 = u32::MAX as i64;
const ANY_SEED: Kind = Kind::Integer(0, i64::MAX);
const SHARE: Kind = Kind::Number(closed(0.0, 1.0));

const fn closed(low: f64, high: f64) -> Range {
    Range { low, high, open: (false, false) }
}
const fn open(low: f64, high: f64) -> Range {
    Range { low, high, open: (true, true) }
}
const fn above(low: f64, high: f64) -> Range {
    Range { low, high, open: (true, false) }
}
const fn below(low: f64, high: f64) -> Range {
    Range { low, high, open: (false, true) }
}

const fn key(path: &'static str, short: &'static str, kind: Kind, default: Preset, doc: &'static str) -> Key {
    Key { path, kind, default, short, doc }
}
const fn count(path: &'static str, short: &'static str, low: i64, default: i64, doc: &'static str) -> Key {
    key(path, short, Kind::Integer(low, U32), Preset::Integer(default), doc)
}
const fn seed(path: &'static str, short: &'static str, default: i64, doc: &'static str) -> Key {
    key(path, short, ANY_SEED, Preset::Integer(default), doc)
}
const fn num(path: &'static str, short: &'static str, range: Range, default: f64, doc: &'static str) -> Key {
    key(path, short, Kind::Number(range), Preset::Number(default), doc)
}
const fn word(
    path: &'static str,
    short: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Key {
    key(path, short, Kind::Choice(words), Preset::Text(default), doc)
}

/// Every key.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    seed("seed", "seed", 0, "seed of the training data order and of the rollouts"),

    key("model.path", "", Kind::Path, Preset::Absent, "folder of a Hugging Face model; excludes `id`, `run` and [model.pretrain]"),
    key("model.id", "", Kind::Repository, Preset::Absent, "model of a hub, owner/name; excludes `path`, `run` and [model.pretrain]"),
    key("model.run", "from-", Kind::Text, Preset::Absent, "id of a finished run whose weights are the base; excludes `path`, `id` and [model.pretrain]"),
    key("model.revision", "", Kind::Commit, Preset::Absent, "commit of `model.id`; absent: the ids of runs are provisional"),
    word("model.dtype", "", &["float32", "bfloat16"], "float32", "storage and compute type of the weights"),
    count("model.pretrain.hidden_size", "h", 1, 128, "width of the residual stream, in features"),
    count("model.pretrain.intermediate_size", "ffn", 1, 352, "width of the SwiGLU layer, in features"),
    key("model.pretrain.layers", "layers", Kind::Integer(1, 1024), Preset::Integer(4), "decoder layers"),
    count("model.pretrain.heads", "heads", 1, 4, "query heads; hidden_size / heads must be whole and even"),
    count("model.pretrain.kv_heads", "kv", 1, 2, "key and value heads; divides heads"),
    key("model.pretrain.vocab_size", "vocab", Kind::Integer(300, 1_000_000), Preset::Integer(512), "size of the trained vocabulary in tokens, special ones included"),
    count("model.pretrain.steps", "warm", 0, 600, "most optimizer steps of the warm start"),
    count("model.pretrain.batch", "warmbatch", 1, 64, "demonstrations per warm-start step"),
    num("model.pretrain.lr", "warmlr", above(0.0, 1.0), 2e-3, "peak learning rate of the warm start"),
    key("model.pretrain.shuffled", "shuffled", SHARE, Preset::Number(0.6), "share of demonstrations with the answer in random order"),
    num("model.pretrain.target_reward", "target", above(0.0, 1.0), 1.0, "sampled reward, 0 to 1, that ends the warm start; 1 turns the check off"),
    seed("model.pretrain.seed", "base", 0, "seed of the initial weights and demonstrations"),
    key("model.pretrain.mix", "mix-", Kind::Text, Preset::Absent, "tasks whose demonstrations the warm start sees in turn, such as `arithmetic+reverse`, with their default settings; absent: the run's own task"),

    key("task.type", "", Kind::Choice(&["alphabet_sort", "gsm8k", "math", "arithmetic", "reverse", "countdown", "program"]), Preset::Absent, "the environment"),
    key("task.min_turns", "minturns", Kind::Integer(1, 1000), Preset::Integer(1), "fewest turns of an episode"),
    key("task.max_turns", "turns", Kind::Integer(1, 1000), Preset::Integer(3), "most turns of an episode"),
    key("task.min_names_per_turn", "minnames", Kind::Integer(1, 1000), Preset::Integer(1), "fewest new names in a turn"),
    key("task.max_names_per_turn", "names", Kind::Integer(1, 1000), Preset::Integer(5), "most new names in a turn"),
    word("task.sort_by", "", &["first", "last", "either"], "either", "which part of a name is compared"),
    key("task.similarity_power", "power", Kind::Integer(1, 64), Preset::Integer(4), "exponent on the similarity of answer and truth"),
    key("task.power_per_turn", "powerperturn-", Kind::Flag, Preset::Flag(true), "raise each turn's similarity before averaging"),
    key("task.names", "", Kind::Path, Preset::Absent, "JSONL or Parquet file with a column `names`; absent: the shipped list"),
    word("task.row_names", "", &["first", "sample"], "first", "which names of a row an episode takes"),
    word("task.episodes", "", &["counter", "python"], "counter", "generator of episodes: by counter, or as the original environment"),
    seed("task.seed", "env", 1_337_420, "seed of the original environment's training episodes"),
    key("task.prompts.first", "first-", Kind::Text, Preset::Prompt, "template of the first turn's prompt"),
    key("task.prompts.second", "second-", Kind::Text, Preset::Prompt, "template of the second turn's prompt"),
    key("task.prompts.later", "later-", Kind::Text, Preset::Prompt, "template of later turns' prompts"),
    key("task.dataset", "", Kind::Repository, Preset::Absent, "dataset of a hub, owner/name; excludes `names` and `file`"),
    key("task.revision", "", Kind::Commit, Preset::Absent, "commit of `task.dataset`; absent: the ids of runs are provisional"),
    key("task.subset", "", Kind::Text, Preset::Absent, "configuration of `task.dataset`, where it has several"),
    key("task.split", "", Kind::Text, Preset::Absent, "split of `task.dataset`; absent: `train`"),
    key("task.file", "", Kind::Path, Preset::Absent, "JSONL or Parquet file of questions and answers; excludes `dataset`"),
    key("task.question_column", "", Kind::Text, Preset::Absent, "column of the questions; absent: `question` or `problem`"),
    key("task.answer_column", "", Kind::Text, Preset::Absent, "column of the answers; absent: `answer` or `solution`"),
    word("task.order", "order-", &["shuffled", "rows", "recycled"], "shuffled", "order in which training asks a fixed list: anew for every pass, row by row, or as the study's"),
    key("task.digits", "digits", Kind::Integer(1, 9), Preset::Integer(2), "most digits of a number of `arithmetic`"),
    key("task.terms", "terms", Kind::Integer(2, 16), Preset::Integer(2), "numbers of a task of `arithmetic`"),
    key("task.length", "length", Kind::Integer(1, 1000), Preset::Integer(6), "most letters of a text of `reverse`; it has half of them at least"),
    key("task.numbers", "numbers", Kind::Integer(2, 6), Preset::Integer(3), "numbers of a task of `countdown`"),
    key("task.largest", "largest", Kind::Integer(1, 100), Preset::Integer(9), "largest number of a task of `countdown`"),
    key("task.program", "", Kind::Path, Preset::Absent, "program that is the task: its bytes are part of the run's identity"),
    key("task.command", "command-", Kind::Text, Preset::Text("{program}"), "how the program is started, for a shell; `{program}` stands for its path"),
    key("task.system_prompt", "system-", Kind::Text, Preset::Text(""), "system message before every question; empty for none"),

    count("grpo.steps", "steps", 1, 100, "rollout-and-update steps"),
    count("grpo.rollouts_per_step", "rollouts", 2, 128, "rollouts of one step; a multiple of group_size"),
    count("grpo.group_size", "g", 2, 8, "rollouts that share a prompt"),
    word("grpo.advantage", "", &["mean", "mean_std"], "mean", "how rewards become advantages"),
    word("grpo.ratio", "ratio-", &["clip", "mask", "cispo"], "clip", "treatment of importance ratios far from one"),
    word("grpo.level", "level-", &["token", "sequence"], "token", "what has an importance ratio of its own"),
    num("grpo.clip_low", "cliplow", above(0.0, 1.0), 0.2, "lower margin of ratio = \"clip\""),
    num("grpo.clip_high", "cliphigh", above(0.0, f64::MAX), 0.2, "upper margin of ratio = \"clip\""),
    key("grpo.clip_delta", "delta", Kind::Number(above(1.0, f64::MAX)), Preset::Absent, "largest ratio with which ratio = \"clip\" still moves a token of negative advantage"),
    num("grpo.mask_low", "masklow", below(0.0, 1.0), 0.125, "smallest ratio kept by ratio = \"mask\""),
    num("grpo.mask_high", "maskhigh", above(1.0, f64::MAX), 8.0, "largest ratio kept by ratio = \"mask\""),
    num("grpo.sequence_mask_low", "seqmask", below(0.0, 1.0), 0.0, "ratio = \"mask\" drops a rollout with a token's ratio below this; 0 turns it off"),
    num("grpo.cispo_high", "cispohigh", closed(1.0, f64::MAX), 5.0, "largest weight of ratio = \"cispo\""),
    word("grpo.normaliser", "", &["token", "sequence", "constant"], "token", "denominator of the loss"),
    num("grpo.kl_coef", "kl", closed(0.0, f64::MAX), 0.0, "weight of the KL penalty to the base, in loss per nat; 0 turns it off"),
    key("grpo.kl_corrected", "klcorrected-", Kind::Flag, Preset::Flag(false), "multiply the KL penalty by the importance ratio; no effect at a `kl_coef` of 0"),
    count("grpo.minibatches", "mb", 1, 1, "optimizer steps of one pass over a batch; divides the number of groups"),
    count("grpo.updates_per_batch", "updates", 1, 1, "passes over a batch of rollouts"),
    count("grpo.micro_batch", "micro", 1, 128, "rollouts per backward pass; changes float rounding only"),
    count("grpo.activations_mib", "activations", 0, 2048, "MiB of activations that are kept for the way back; what is beyond is computed again; changes float rounding only"),

    num("optimizer.lr", "lr", above(0.0, 1.0), 1e-6, "learning rate; the largest of the schedule"),
    word("optimizer.schedule", "", &["constant", "linear", "cosine"], "constant", "course of the learning rate after its warm-up"),
    count("optimizer.warmup_steps", "warmup", 0, 0, "steps over which the learning rate rises from 0"),
    num("optimizer.final_share", "final", below(0.0, 1.0), 0.0, "share of `lr` that a falling learning rate ends at"),
    key("optimizer.betas", "betas", Kind::Pair(below(0.0, 1.0)), Preset::Pair(0.9, 0.999), "decay rates of the first and second moment, per optimizer step"),
    num("optimizer.eps", "eps", above(0.0, 1.0), 1e-8, "added to the root of the second moment"),
    num("optimizer.weight_decay", "wd", closed(0.0, f64::MAX), 0.01, "weight decay: an optimizer step takes the learning rate times this share off every trained entry"),
    word("optimizer.decay", "decay-", &["decoupled", "study"], "decoupled", "what the weight decay is multiplied by"),
    num("optimizer.clip_norm", "clip", closed(0.0, f64::MAX), 1.0, "largest L2 norm of the gradient; 0 turns clipping off"),
    word("optimizer.clip_domain", "", &["masked", "dense"], "masked", "whose gradient norm is clipped"),

    num("sampling.temperature", "t", above(0.0, 100.0), 1.0, "divides the logits of training rollouts"),
    num("sampling.top_p", "topp", above(0.0, 1.0), 1.0, "nucleus: share of the probability that is kept; 1 is off"),
    count("sampling.top_k", "topk", 0, 0, "most probable tokens kept; 0 is off"),
    num("sampling.min_p", "minp", below(0.0, 1.0), 0.0, "share of the largest probability a token needs; 0 is off"),
    num("sampling.repetition_penalty", "rep", above(0.0, 100.0), 1.0, "factor against tokens already in the context; 1 is off"),
    key("sampling.max_tokens", "tokens", Kind::Integer(1, 1_000_000), Preset::Integer(128), "most new tokens in a turn"),

    word("mask.type", "", &["full", "random", "fisher", "gradient", "snip", "magnitude", "moved", "layers", "modules", "file", "union", "intersection"], "full", "which parameters are trained"),
    key("mask.sparsity", "", Kind::Number(open(0.0, 1.0)), Preset::Absent, "share of entries that stay untouched, of those in `modules`"),
    seed("mask.seed", "s", 0, "seed of a random mask"),
    word("mask.rng", "", &["chacha", "numpy"], "chacha", "generator of a random mask"),
    word("mask.rounding", "", &["floor", "ceil"], "floor", "rounding of the kept count"),
    word("mask.layers", "", &["first", "last"], "first", "which decoder layers are trained, whole"),
    count("mask.count", "x", 1, 1, "decoder layers that are trained"),
    key("mask.scope", "", Kind::Choice(&["global", "per_tensor", "per_layer", "per_group"]), Preset::Absent, "pools that each keep their share; absent: `per_tensor` for random masks, else `global`"),
    key("mask.group", "group", Kind::Integer(2, 65_536), Preset::Integer(4), "consecutive entries of a row that are a pool"),
    word("mask.unit", "", &["entry", "row", "column"], "entry", "what is chosen as one"),
    word("mask.keep", "keep-", &["high", "low"], "high", "end of the ranking that is trained"),
    key("mask.modules", "", Kind::Text, Preset::Text("all"), "module kinds that may be trained, such as `attention+mlp` or `-embeddings`"),
    key("mask.run", "run-", Kind::Text, Preset::Absent, "id of the finished full run whose changes are the scores"),
    key("mask.file", "", Kind::Path, Preset::Absent, "mask file, of `tickets masks` or of PyTorch"),
    key("mask.other", "with-", Kind::Path, Preset::Absent, "mask file that `file` is joined with"),
    word("mask.control", "", &["none", "complement", "permuted"], "none", "what is made of the chosen entries"),
    seed("mask.control_seed", "places", 0, "seed of the places of `control` = \"permuted\""),

    word("fisher.estimator", "", &["batch", "sample", "model"], "batch", "estimator of the scores of gradients"),
    count("fisher.episodes", "episodes", 1, 1024, "rollouts (batch), demonstrations (sample) or prompts (model) of the estimate"),
    seed("fisher.seed", "f", 0, "seed of the estimate's episodes and draws"),

    count("eval.examples", "examples", 1, 128, "held-out episodes, one rollout each"),
    word("eval.rows", "rows-", &["sample", "first"], "sample", "episodes of a fixed list that are asked: a sample by `eval.seed`, or the first ones as in the study"),
    seed("eval.seed", "evalseed", 2001, "seed of the held-out episodes; differs from seed"),
    count("eval.every", "every", 1, 10, "steps between evaluations"),
    num("eval.sampling.temperature", "evalt", closed(0.0, 100.0), 1.0, "divides the logits of evaluation; 0 is greedy"),
    num("eval.sampling.top_p", "evaltopp", above(0.0, 1.0), 1.0, "nucleus: share of the probability that is kept; 1 is off"),
    count("eval.sampling.top_k", "evaltopk", 0, 0, "most probable tokens kept; 0 is off"),
    num("eval.sampling.min_p", "evalminp", below(0.0, 1.0), 0.0, "share of the largest probability a token needs; 0 is off"),
    num("eval.sampling.repetition_penalty", "evalrep", above(0.0, 100.0), 1.0, "factor against tokens already in the context; 1 is off"),
    key("eval.sampling.max_tokens", "evaltokens", Kind::Integer(1, 1_000_000), Preset::Integer(128), "most new tokens in a turn"),

    word("exec.device", "", &["auto", "cpu", "cuda"], "auto", "where tensors live"),
    key("exec.jobs", "", Kind::Integer(0, 4096), Preset::Integer(0), "runs at the same time; 0 chooses"),
    key("exec.threads", "", Kind::Integer(1, 4096), Preset::Integer(1), "libtorch threads of a run"),
    count("exec.checkpoint_every", "", 1, 10, "steps between checkpoints"),
    count("exec.keep_checkpoints", "", 1, 2, "checkpoints kept while a run is under way"),
    count("exec.keep_mib", "", 0, 256, "MiB of checkpoints that stay with a run, evenly spread, for runs of its trajectory"),
    count("exec.lease_seconds", "", 0, 300, "seconds for which a worker's claim on a run outlives its last sign of life; 0 takes no claims, and 1 is too short"),
    count("exec.retries.nan", "", 0, 0, "times that a sweep tries a run again whose numbers were not finite"),
    count("exec.retries.oom", "", 0, 0, "times that a sweep tries a run again that found too little memory"),
    count("exec.retries.killed", "", 0, 2, "times that a sweep tries a run again that something else ended"),
    count("exec.retries.infra", "", 0, 2, "times that a sweep tries a run again that failed for another reason"),
    count("exec.retries.task", "", 0, 1, "times that a sweep tries a run again whose task failed: an outside program, or a reward"),
    count("exec.task_workers", "", 1, 1, "processes of a task of `type` = \"program\""),
    count("exec.task_timeout", "", 1, 60, "seconds that such a process has for a request"),
    key("exec.cuda_graphs", "", Kind::Flag, Preset::Flag(false), "record a decoding step on a GPU once and replay it"),
    count("exec.retries.store", "", 0, 1, "times that a sweep tries a run again whose results folder failed"),
    key("exec.max_runs", "", Kind::Integer(1, 1_000_000), Preset::Integer(1000), "most runs that the grid may have"),
];
