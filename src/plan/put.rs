//! How every part of a configuration enters canonical bytes: dotted path, type, value.
//!
//! Every struct is destructured without `..`: a new field does not compile until it is put in or left out here.
//! A field that is added later is left out at its old behaviour's value, so that old ids stay.

use super::canon::Canon;
use crate::grpo::{
    ACTIVATIONS_MIB, Advantage, ClipDomain, Decay, GrpoSpec, Level, Normaliser, OptimizerSpec, RatioRule,
    SamplingSpec, Schedule, Shape,
};
use crate::manifest::{Dtype, EvalSpec, ModelSource, ModelSpec, NamedEval, PretrainSpec};
use crate::task::{
    AlphabetSortSpec, ArithmeticSpec, CountdownSpec, DataSpec, Episodes, EvalRows, HubDataset, NamesSpec,
    Order, ProgramSpec, PromptTemplates, QuestionSpec, ReverseSpec, RowNames, SortBy, TaskSpec,
};

/// What stands for the revision of an input that is not pinned: such ids are provisional.
const UNPINNED: &str = "unpinned";

/// The type of the weights where the base's id does not hold it: the built-in base in another type than its own.
pub(super) fn put_type<'c>(canon: &mut Canon<'c>, model: &'c ModelSpec) {
    if let (ModelSource::Pretrain(_), Dtype::Bfloat16) = (&model.source, model.dtype) {
        canon.text("model.dtype", dtype_word(model.dtype));
    }
}

pub(super) fn put_model<'c>(canon: &mut Canon<'c>, model: &'c ModelSpec, dtype: Dtype) {
    let ModelSpec { source, dtype: _ } = model;
    canon.text("model.dtype", dtype_word(dtype));
    match source {
        ModelSource::Directory { path: _, digest } => canon.text("model.digest", digest),
        ModelSource::Hub { id, revision } => {
            canon.text("model.id", id);
            canon.text("model.revision", revision.as_deref().unwrap_or(UNPINNED));
        }
        ModelSource::Run { run } => canon.text("model.run", run),
        ModelSource::Pretrain(pretrain) => put_pretrain(canon, pretrain),
    }
}

fn put_pretrain<'c>(canon: &mut Canon<'c>, pretrain: &'c PretrainSpec) {
    let PretrainSpec {
        hidden_size,
        intermediate_size,
        layers,
        heads,
        kv_heads,
        vocab_size,
        steps,
        batch,
        lr,
        shuffled,
        target_reward,
        seed,
        mix,
    } = pretrain;
    canon.whole("model.pretrain.hidden_size", *hidden_size);
    canon.whole("model.pretrain.intermediate_size", *intermediate_size);
    canon.whole("model.pretrain.layers", *layers);
    canon.whole("model.pretrain.heads", *heads);
    canon.whole("model.pretrain.kv_heads", *kv_heads);
    canon.whole("model.pretrain.vocab_size", *vocab_size);
    canon.whole("model.pretrain.steps", *steps);
    canon.whole("model.pretrain.batch", *batch);
    canon.number("model.pretrain.lr", *lr);
    canon.number("model.pretrain.shuffled", *shuffled);
    canon.number("model.pretrain.target_reward", *target_reward);
    canon.whole("model.pretrain.seed", *seed);
    for (number, task) in mix.iter().enumerate() {
        put_task(canon, &format!("model.pretrain.mix.{number}"), task);
    }
}

/// A task under the dotted path of its table.
pub(super) fn put_task<'c>(canon: &mut Canon<'c>, table: &str, task: &'c TaskSpec) {
    let at = |name: &str| format!("{table}.{name}");
    let (word, questions) = match task {
        TaskSpec::AlphabetSort(sort) => return put_alphabet_sort(canon, &at, sort),
        TaskSpec::Gsm8k(questions) => ("gsm8k", questions),
        TaskSpec::Math(questions) => ("math", questions),
        TaskSpec::Arithmetic(ArithmeticSpec { digits, terms }) => {
            canon.text(at("type"), task.word());
            canon.whole(at("digits"), *digits);
            return canon.whole(at("terms"), *terms);
        }
        TaskSpec::Reverse(ReverseSpec { length }) => {
            canon.text(at("type"), task.word());
            return canon.whole(at("length"), *length);
        }
        TaskSpec::Countdown(CountdownSpec { numbers, largest }) => {
            canon.text(at("type"), task.word());
            canon.whole(at("numbers"), *numbers);
            return canon.whole(at("largest"), *largest);
        }
        TaskSpec::Program(program) => return put_program(canon, &at, program),
    };
    let QuestionSpec { data, question, answer, system_prompt, order } = questions;
    canon.text(at("type"), word);
    match data {
        DataSpec::Hub(dataset) => put_dataset(canon, &at, dataset),
        DataSpec::File { path: _, digest } => canon.text(at("file.digest"), digest),
    }
    if let Some(question) = question {
        canon.text(at("question_column"), question);
    }
    if let Some(answer) = answer {
        canon.text(at("answer_column"), answer);
    }
    canon.text(at("system_prompt"), system_prompt);
    put_order(canon, &at, *order);
}

fn put_program<'c>(canon: &mut Canon<'c>, at: &dyn Fn(&str) -> String, program: &'c ProgramSpec) {
    let ProgramSpec { path: _, digest, command, max_turns, order } = program;
    canon.text(at("type"), "program");
    canon.text(at("program.digest"), digest);
    canon.text(at("command"), command);
    canon.whole(at("max_turns"), *max_turns);
    put_order(canon, at, *order);
}

/// The order of training, left out where every pass is shuffled.
fn put_order(canon: &mut Canon<'_>, at: &dyn Fn(&str) -> String, order: Order) {
    match order {
        Order::Shuffled => {}
        Order::Rows => canon.text(at("order"), "rows"),
        Order::Recycled { eval_seed, period } => {
            canon.text(at("order"), "recycled");
            canon.whole(at("order.eval_seed"), eval_seed);
            canon.whole(at("order.period"), period);
        }
    }
}

fn put_alphabet_sort<'c>(canon: &mut Canon<'c>, at: &dyn Fn(&str) -> String, sort: &'c AlphabetSortSpec) {
    let AlphabetSortSpec {
        min_turns,
        max_turns,
        min_names_per_turn,
        max_names_per_turn,
        sort_by,
        similarity_power,
        power_per_turn,
        names,
        row_names,
        episodes,
        prompts,
    } = sort;
    canon.text(at("type"), "alphabet_sort");
    canon.whole(at("min_turns"), *min_turns);
    canon.whole(at("max_turns"), *max_turns);
    canon.whole(at("min_names_per_turn"), *min_names_per_turn);
    canon.whole(at("max_names_per_turn"), *max_names_per_turn);
    canon.text(at("sort_by"), sort_by_word(*sort_by));
    canon.whole(at("similarity_power"), *similarity_power);
    canon.flag(at("power_per_turn"), *power_per_turn);
    let rule = match row_names {
        RowNames::First => "first",
        RowNames::Sample => "sample",
    };
    match names {
        NamesSpec::Shipped => canon.text(at("names"), "shipped"),
        NamesSpec::File { path: _, digest } => {
            canon.text(at("names.digest"), digest);
            canon.text(at("row_names"), rule);
        }
        NamesSpec::Hub(dataset) => {
            put_dataset(canon, at, dataset);
            canon.text(at("row_names"), rule);
        }
    }
    if let Episodes::Python { seed, order } = episodes {
        canon.text(at("episodes"), "python");
        canon.whole(at("seed"), *seed);
        put_order(canon, at, *order);
    }
    let PromptTemplates { first, second, later } = prompts;
    canon.text(at("prompts.first"), first);
    canon.text(at("prompts.second"), second);
    canon.text(at("prompts.later"), later);
}

fn put_dataset<'c>(canon: &mut Canon<'c>, at: &dyn Fn(&str) -> String, dataset: &'c HubDataset) {
    let HubDataset { id, revision, subset, split } = dataset;
    canon.text(at("dataset"), id);
    canon.text(at("revision"), revision.as_deref().unwrap_or(UNPINNED));
    if let Some(subset) = subset {
        canon.text(at("subset"), subset);
    }
    canon.text(at("split"), split);
}

/// The GRPO loop but for the number of its steps.
pub(super) fn put_loop(canon: &mut Canon<'_>, grpo: &GrpoSpec) {
    let GrpoSpec {
        steps: _,
        rollouts_per_step,
        group_size,
        advantage,
        ratio,
        level,
        normaliser,
        kl_coef,
        kl_corrected,
        minibatches,
        updates_per_batch,
        micro_batch,
        activations_mib,
    } = grpo;
    canon.whole("grpo.rollouts_per_step", *rollouts_per_step);
    canon.whole("grpo.group_size", *group_size);
    canon.text("grpo.advantage", advantage_word(*advantage));
    put_ratio(canon, *ratio, *level);
    canon.text("grpo.normaliser", normaliser_word(*normaliser));
    put_kl(canon, *kl_coef, *kl_corrected);
    canon.whole("grpo.minibatches", *minibatches);
    canon.whole("grpo.updates_per_batch", *updates_per_batch);
    canon.whole("grpo.micro_batch", *micro_batch);
    if *activations_mib != ACTIVATIONS_MIB {
        canon.whole("grpo.activations_mib", *activations_mib);
    }
}

pub(super) fn put_ratio(canon: &mut Canon<'_>, ratio: RatioRule, level: Level) {
    match ratio {
        RatioRule::Clip { low, high, delta } => {
            canon.text("grpo.ratio", "clip");
            canon.number("grpo.clip_low", low);
            canon.number("grpo.clip_high", high);
            if let Some(delta) = delta {
                canon.number("grpo.clip_delta", delta);
            }
        }
        RatioRule::Mask { low, high, sequence_low } => {
            canon.text("grpo.ratio", "mask");
            canon.number("grpo.mask_low", low);
            canon.number("grpo.mask_high", high);
            if sequence_low > 0.0 {
                canon.number("grpo.sequence_mask_low", sequence_low);
            }
        }
        RatioRule::Cispo { high } => {
            canon.text("grpo.ratio", "cispo");
            canon.number("grpo.cispo_high", high);
        }
    }
    match level {
        Level::Token => {}
        Level::Sequence => canon.text("grpo.level", "sequence"),
    }
}

pub(super) fn put_kl(canon: &mut Canon<'_>, coef: f64, corrected: bool) {
    canon.number("grpo.kl_coef", coef);
    // Without a penalty there is nothing to correct.
    if corrected && coef > 0.0 {
        canon.flag("grpo.kl_corrected", true);
    }
}

pub(super) fn put_optimizer(canon: &mut Canon<'_>, optimizer: &OptimizerSpec) {
    let OptimizerSpec {
        lr,
        schedule,
        betas: [first, second],
        eps,
        weight_decay,
        decay,
        clip_norm,
        clip_domain,
    } = optimizer;
    canon.number("optimizer.lr", *lr);
    put_schedule(canon, *schedule);
    canon.number("optimizer.betas.0", *first);
    canon.number("optimizer.betas.1", *second);
    canon.number("optimizer.eps", *eps);
    canon.number("optimizer.weight_decay", *weight_decay);
    match decay {
        Decay::Decoupled => {}
        Decay::Study => canon.text("optimizer.decay", "study"),
    }
    canon.number("optimizer.clip_norm", *clip_norm);
    canon.text(
        "optimizer.clip_domain",
        match clip_domain {
            ClipDomain::Masked => "masked",
            ClipDomain::Dense => "dense",
        },
    );
}

fn put_schedule(canon: &mut Canon<'_>, schedule: Schedule) {
    let Schedule { warmup_steps, shape } = schedule;
    let (word, floor) = match shape {
        Shape::Constant => ("constant", None),
        Shape::Linear { floor } => ("linear", Some(floor)),
        Shape::Cosine { floor } => ("cosine", Some(floor)),
    };
    if let Some(floor) = floor {
        canon.text("optimizer.schedule", word);
        canon.number("optimizer.final_share", floor);
    }
    if warmup_steps > 0 {
        canon.whole("optimizer.warmup_steps", warmup_steps);
    }
}

pub(super) fn put_sampling(canon: &mut Canon<'_>, table: &str, sampling: &SamplingSpec) {
    let SamplingSpec { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens } = sampling;
    canon.number(format!("{table}.temperature"), *temperature);
    canon.number(format!("{table}.top_p"), *top_p);
    canon.whole(format!("{table}.top_k"), *top_k);
    canon.number(format!("{table}.min_p"), *min_p);
    canon.number(format!("{table}.repetition_penalty"), *repetition_penalty);
    canon.whole(format!("{table}.max_tokens"), *max_tokens);
}

/// All evaluations and how often they are made.
pub(super) fn put_evals<'c>(canon: &mut Canon<'c>, eval: &'c EvalSpec, evals: &'c [NamedEval]) {
    if evals.is_empty() {
        canon.whole("eval.every", eval.every);
    }
    for NamedEval { name, eval, task: _ } in evals {
        canon.whole(format!("eval.{name}.every"), eval.every);
    }
    put_scores(canon, eval, evals);
}

/// What moves the scores of all evaluations. Where there are named ones, the plain one is not made.
pub(super) fn put_scores<'c>(canon: &mut Canon<'c>, eval: &'c EvalSpec, evals: &'c [NamedEval]) {
    if evals.is_empty() {
        put_score(canon, "eval", eval);
    }
    for NamedEval { name, eval, task } in evals {
        put_score(canon, &format!("eval.{name}"), eval);
        put_task(canon, &format!("eval.{name}.task"), task);
    }
}

/// What moves the score of one evaluation: not how often there is one.
fn put_score(canon: &mut Canon<'_>, table: &str, eval: &EvalSpec) {
    let EvalSpec { examples, rows, seed, every: _, sampling } = eval;
    match rows {
        EvalRows::Sample => {}
        EvalRows::First => canon.text(format!("{table}.rows"), "first"),
    }
    canon.whole(format!("{table}.examples"), *examples);
    canon.whole(format!("{table}.seed"), *seed);
    put_sampling(canon, &format!("{table}.sampling"), sampling);
}

fn dtype_word(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "float32",
        Dtype::Bfloat16 => "bfloat16",
    }
}

pub(super) fn advantage_word(advantage: Advantage) -> &'static str {
    match advantage {
        Advantage::Mean => "mean",
        Advantage::MeanStd => "mean_std",
    }
}

pub(super) fn normaliser_word(normaliser: Normaliser) -> &'static str {
    match normaliser {
        Normaliser::Token => "token",
        Normaliser::Sequence => "sequence",
        // Its number of tokens follows from the task and the sampling, which are in every id that it is in.
        Normaliser::Constant { tokens: _ } => "constant",
    }
}

fn sort_by_word(sort_by: SortBy) -> &'static str {
    match sort_by {
        SortBy::First => "first",
        SortBy::Last => "last",
        SortBy::Either => "either",
    }
}
