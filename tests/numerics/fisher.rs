//! Scores against separate backward passes, one conversation at a time.

use tch::{Kind, Tensor};

use tickets::data::Chat;
use tickets::grpo::{Normaliser, RatioRule, advantages};
use tickets::manifest::RunConfig;
use tickets::sparsity::{FisherEstimator, FisherSpec, Measure, ONE_IN, top_overlaps};
use tickets::task::Task;
use tickets::torch::{
    Draws, Halves, Model, Rollout, ScoreSource, Scored, TorchError, demonstrate, drawn, norm, play, scores,
};

use super::plain;
use super::support::{chat, config, eager_model, grpo, model, relative, sampling, task};
use super::table::{larger, row};

/// The gradient of the summed logprob of a conversation's drawn tokens, computed the plain way: all logits of one row.
fn slope(model: &Model, rollout: &Rollout) -> Vec<Tensor> {
    let ids: Vec<i64> = rollout.tokens.iter().map(|&id| i64::from(id)).collect();
    let logprobs = plain::logits(model, &ids).log_softmax(-1, Kind::Float);
    let mut total = Tensor::zeros([], (Kind::Float, model.device()));
    for t in (0..rollout.tokens.len()).filter(|&t| rollout.drawn[t]) {
        total += logprobs.get(t as i64 - 1).get(i64::from(rollout.tokens[t]));
    }
    Tensor::run_backward(&[total], &model.weights.tensors, false, false)
}

/// The clip of these tests.
const CLIP: RatioRule = RatioRule::Clip { low: 0.2, high: 0.2, delta: None };
const MEASURES: [Measure; 2] = [Measure::Square, Measure::Absolute];

fn settings() -> RunConfig {
    config(grpo(CLIP, Normaliser::Token, 0.0, 5))
}

fn spec(estimator: FisherEstimator, episodes: u32) -> FisherSpec {
    FisherSpec { estimator, episodes, seed: 4 }
}

fn measured(gradient: &Tensor, measure: Measure) -> Tensor {
    match measure {
        Measure::Square => gradient.square(),
        Measure::Absolute => gradient.abs(),
    }
}

fn zeros(model: &Model) -> Vec<Tensor> {
    model.weights.tensors.iter().map(Tensor::zeros_like).collect()
}

/// Scores, and how far the halves agree.
fn made(source: &ScoreSource<'_>) -> (Vec<Tensor>, Option<Halves>) {
    let mut kept = None;
    let keep = |tensors| {
        kept = Some(tensors);
        Ok::<_, TorchError>(())
    };
    let scored = scores(source, &|_, _| {}, &|| false, keep).unwrap();
    let Scored::Complete(halves) = scored else { panic!("nobody stopped it") };
    (kept.unwrap(), halves)
}

/// The mean over conversations, taken one by one.
fn mean(model: &Model, conversations: &[Rollout], measure: Measure) -> Vec<Tensor> {
    let mut mean = zeros(model);
    for conversation in conversations {
        for (mean, slope) in mean.iter_mut().zip(slope(model, conversation)) {
            *mean += measured(&slope, measure) / conversations.len() as f64;
        }
    }
    mean
}

/// Fails unless the halves agree as far as these scores of both do. Sums that were taken in another order may swap neighbours
/// in the ranking, so that a count may be off by a few entries.
fn agree(model: &Model, found: &Halves, episodes: [u32; 2], left: &[Tensor], right: &[Tensor]) {
    let flat = |tensor: &Tensor| Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
    let expected = top_overlaps(&model.weights.sizes(), &ONE_IN, &mut |tensor, range| {
        Ok::<_, TorchError>([left, right].map(|side| flat(&side[tensor])[range.clone()].to_vec()))
    });
    let expected = expected.unwrap();
    assert_eq!(found.episodes, episodes);
    assert_eq!(found.overlaps.len(), expected.len());
    for (found, expected) in found.overlaps.iter().zip(&expected) {
        assert_eq!((found.one_in, found.kept, found.total), (expected.one_in, expected.kept, expected.total));
        let off = found.overlap.intersection.abs_diff(expected.overlap.intersection);
        assert!(off <= 1 + found.kept / 500, "{found:?} and not {expected:?}");
    }
    // Neither equal nor foreign, so that the counts say something.
    let tenth = found.overlaps[1];
    assert!((tenth.kept / 10..tenth.kept).contains(&tenth.overlap.intersection), "{tenth:?}");
}

/// The gradient of the loss of whole groups: on policy every ratio is 1, so it is the plain policy gradient, the sum of
/// -advantage / tokens * slope.
fn policy_gradient(model: &Model, config: &RunConfig, rollouts: &[Rollout]) -> Vec<Tensor> {
    let tokens: usize = rollouts.iter().map(Rollout::length).sum();
    let rewards: Vec<f64> = rollouts.iter().map(|rollout| rollout.reward).collect();
    let mut sum = zeros(model);
    let advantages = rewards.chunks(4).flat_map(|group| advantages(group, config.grpo.advantage));
    for (rollout, advantage) in rollouts.iter().zip(advantages) {
        for (sum, slope) in sum.iter_mut().zip(slope(model, rollout)) {
            *sum += slope * (-advantage / tokens as f64);
        }
    }
    assert!(norm(&sum).unwrap() > 0.0, "the rewards of a group differ: {rewards:?}");
    sum
}

#[test]
fn batch_is_made_of_the_clipped_policy_gradient() {
    let task = task();
    let chat = chat(&task, 40);
    let model = eager_model(&task, &chat);
    let mut config = settings();
    // Nine groups, so that the first half is the smaller one.
    let spec = spec(FisherEstimator::Batch, 36);
    config.sampling = sampling(24);
    let episodes: Vec<_> = (0..9).map(|index| task.episode(4, "fisher", index).unwrap()).collect();
    let draws = Draws { seed: 4, stream: "fisher", step: 0 };
    let rollouts = play(&model, &chat, &task, &episodes, 4, &config.sampling, draws).unwrap();
    let sum = policy_gradient(&model, &config, &rollouts);
    let (first, second) = rollouts.split_at(16);
    let parts = [first, second].map(|part| policy_gradient(&model, &config, part));
    let length = norm(&sum).unwrap();
    for (measure, what) in MEASURES.into_iter().zip(["Fisher scores", "Absolute gradients"]) {
        let (mut tensors, mut worst) = (0, 0.0f64);
        for clip_norm in [length / 3.0, length * 3.0, 0.0] {
            config.optimizer.clip_norm = clip_norm;
            let scale = if clip_norm == 0.0 { 1.0 } else { (clip_norm / (length + 1e-6)).min(1.0) };
            let expected: Vec<Tensor> = sum.iter().map(|g| measured(&(g * scale), measure)).collect();
            let source = ScoreSource {
                model: &model,
                chat: &chat,
                task: &task,
                config: &config,
                spec: &spec,
                measure,
            };
            let (got, halves) = made(&source);
            tensors += got.len();
            worst = larger(worst, relative(&got, &expected));
            let sides = [0, 1].map(|i| parts[i].iter().map(|g| measured(g, measure)).collect::<Vec<_>>());
            agree(&model, &halves.unwrap(), [16, 20], &sides[0], &sides[1]);
        }
        let what = format!("{what} of a batch, per tensor");
        row(&what, "backward passes of single rollouts", tensors, worst, 1e-4);
    }
}

/// Compares the estimator with means over these conversations.
fn compare(source: &ScoreSource<'_>, conversations: &[Rollout], what: &str) {
    let (model, before) = (source.model, conversations.len() / 2);
    for (measure, of) in MEASURES.into_iter().zip(["Fisher scores", "Absolute gradients"]) {
        let source = ScoreSource { measure, ..*source };
        let (got, halves) = made(&source);
        let worst = relative(&got, &mean(model, conversations, measure));
        let what = format!("{of} of {what}, per tensor");
        row(&what, "backward passes of single rollouts", got.len(), worst, 1e-4);
        let (first, second) = conversations.split_at(before);
        let sides = [first, second].map(|part| mean(model, part, measure));
        let episodes = [before, conversations.len() - before].map(|count| count as u32);
        agree(model, &halves.unwrap(), episodes, &sides[0], &sides[1]);
    }
}

fn parts() -> (Task, Chat, Model) {
    let (task, model) = (task(), model(false, 0.3));
    let chat = chat(&task, 40);
    (task, chat, model)
}

#[test]
fn sample_is_the_mean_over_demonstrations() {
    let ((task, chat, model), config) = (parts(), settings());
    let spec = spec(FisherEstimator::Sample, 7);
    let measure = Measure::Square;
    let source =
        ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
    let demonstration = |index| {
        let episode = task.episode(4, "fisher", index).unwrap();
        demonstrate(&chat, &task, &episode, None).unwrap()
    };
    compare(&source, &(0..7).map(demonstration).collect::<Vec<_>>(), "samples");
    let keep = |_| -> Result<(), TorchError> { panic!("what was stopped is not kept") };
    assert_eq!(scores(&source, &|_, _| {}, &|| true, keep).unwrap(), Scored::Stopped);
}

#[test]
fn model_is_the_mean_over_conversations_that_the_model_draws() {
    let ((task, _, model), mut config) = (parts(), settings());
    // Many tokens end an answer, so that some conversations are whole.
    let chat = chat(&task, 8);
    config.sampling = sampling(6);
    let spec = spec(FisherEstimator::Model, 40);
    let measure = Measure::Square;
    let source =
        ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
    // Two blocks: 32 conversations and 8.
    let conversations = [drawn(&source, 0).unwrap(), drawn(&source, 1).unwrap()].concat();
    assert_eq!(conversations.len(), 40);
    for (index, conversation) in (0..).zip(&conversations) {
        let episode = task.episode(4, "fisher", index).unwrap();
        let opening = chat.opening(&episode.turns[0].prompt).unwrap();
        assert!(conversation.tokens.starts_with(&opening), "the prompts are those of the other estimators");
        assert_eq!(conversation.answers.len(), episode.turns.len(), "all turns are played");
        assert!(conversation.length() <= 6 * episode.turns.len());
    }
    assert!(conversations.iter().any(|one| one.answers.len() > 1 && one.truncated == 0));
    compare(&source, &conversations, "drawn conversations");

    // The labels are the model's own, however training draws, and no other estimator's draws.
    let mut other = config.clone();
    (other.sampling.temperature, other.sampling.top_k, other.sampling.top_p) = (0.0, 1, 0.5);
    (other.sampling.min_p, other.sampling.repetition_penalty) = (0.1, 1.5);
    let again = drawn(&ScoreSource { config: &other, ..source }, 1).unwrap();
    assert_eq!(again, conversations[32..]);
    let episodes = [task.episode(4, "fisher", 0).unwrap()];
    let draws = Draws { seed: 4, stream: "fisher", step: 0 };
    let batch = play(&model, &chat, &task, &episodes, 1, &config.sampling, draws).unwrap();
    assert_ne!(batch[0].tokens, conversations[0].tokens);
}

/// N |mean slope|^2 over the mean of |slope|^2: 1 on average where slopes are independent and have no mean.
fn drift(model: &Model, conversations: &[Rollout]) -> f64 {
    let (mut sum, mut squares) = (zeros(model), 0.0);
    for conversation in conversations {
        let slope = slope(model, conversation);
        squares += norm(&slope).unwrap().powi(2);
        for (sum, slope) in sum.iter_mut().zip(slope) {
            *sum += slope;
        }
    }
    norm(&sum).unwrap().powi(2) / squares
}

#[test]
fn the_score_of_drawn_labels_has_no_mean() {
    let ((task, chat, model), mut config) = (parts(), settings());
    config.sampling = sampling(6);
    let spec = spec(FisherEstimator::Model, 160);
    let measure = Measure::Square;
    let source =
        ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
    let own = (0..5).flat_map(|block| drawn(&source, block).unwrap()).collect::<Vec<_>>();
    let given = |index| demonstrate(&chat, &task, &task.episode(4, "fisher", index).unwrap(), None).unwrap();
    let given = (0..64).map(given).collect::<Vec<_>>();
    let (own, given) = (drift(&model, &own), drift(&model, &given));
    println!(
        "squared mean over its expectation: {own:.2} of the model's own labels, {given:.1} of given ones"
    );
    // The mean of many terms that are not all alike: its deviation from 1 is well below 1. The mean of given labels is the
    // gradient of a loss, which is not zero, so that the ratio grows with the number of samples.
    assert!((0.3..2.0).contains(&own), "{own}");
    assert!(given > 10.0, "{given}");
}

#[test]
fn one_episode_has_no_halves() {
    let ((task, chat, model), config) = (parts(), settings());
    for (estimator, episodes) in
        [(FisherEstimator::Sample, 1), (FisherEstimator::Model, 1), (FisherEstimator::Batch, 4)]
    {
        let (spec, measure) = (spec(estimator, episodes), Measure::Square);
        let source =
            ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
        assert_eq!(made(&source).1, None, "{estimator:?}");
    }
}

#[test]
fn a_score_that_is_no_number_is_named() {
    let ((task, chat, model), config) = (parts(), settings());
    // A head so large that what is before it has gradients whose squares are beyond float32.
    let head = model.weights.tensors.last().unwrap();
    let _ = tch::no_grad(|| head.shallow_clone().g_mul_scalar_(1e21));
    let (spec, measure) = (spec(FisherEstimator::Sample, 2), Measure::Square);
    let source =
        ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
    let error = scores(&source, &|_, _| {}, &|| false, |_| Ok::<_, TorchError>(())).unwrap_err();
    let expected = "rank the scores of model.embed_tokens.weight: the score of entry ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn greedy_rollouts_are_scored_at_temperature_one() {
    // With one greedy rollout per prompt, or equal ones, nothing is learnt: the scores are zero, and numbers.
    let (task, model) = (task(), model(true, 0.4));
    let chat = chat(&task, 40);
    let mut config = settings();
    config.sampling.temperature = 0.0;
    let (spec, measure) = (spec(FisherEstimator::Batch, 8), Measure::Square);
    let source =
        ScoreSource { model: &model, chat: &chat, task: &task, config: &config, spec: &spec, measure };
    let (got, halves) = made(&source);
    assert!(got.iter().all(|scores| scores.abs().max().double_value(&[]) == 0.0));
    // All scores are equal, so both masks are the first entries.
    let halves = halves.unwrap();
    assert!(halves.overlaps.iter().all(|found| found.overlap.intersection == found.kept));
}
