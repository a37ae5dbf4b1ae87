//! The ways in which gradients come about give the same ones: fused or not, kept or computed again, in parts, from a tape.

use tch::{Kind, Tensor};

use super::attention::{Cache, OverCache};
use super::generate::{Reserve, Row, converse};
use super::head::Targets;
use super::layer::Turned;
use super::loss::{Batch, Collected, each_gradient, gradients};
use super::model::{Room, Scratch};
use super::packing::{Feed, Sequences};
use super::rollout::Rollout;
use super::tape::{Part, Sink, Tape, backward};
use super::weights::tests::tiny;
use super::{Model, TorchError, Weights};
use crate::counter::Counter;
use crate::data::{Architecture, Family, Kept};
use crate::grpo::{Advantage, GrpoSpec, Level, Normaliser, RatioRule, SamplingSpec};

/// A model of a family with weights that matter.
fn model(family: Family) -> Model {
    of(&Architecture { family, ..tiny(family == Family::Qwen2) })
}

/// One of four layers.
fn deep(family: Family, tied: bool) -> Model {
    of(&Architecture { family, layers: 4, ..tiny(tied) })
}

pub(super) fn of(shape: &Architecture) -> Model {
    let attention_bias = shape.family != Family::Qwen3;
    let shape = Architecture { attention_bias, max_positions: 256, ..shape.clone() };
    let mut weights = Weights::fresh(&shape, 1).unwrap();
    for (i, tensor) in weights.tensors.iter_mut().enumerate() {
        let mut counter = Counter::new(11, "test/weights", &[i as u64]);
        let values: Vec<f32> = (0..tensor.numel()).map(|_| (counter.normal() * 0.3) as f32).collect();
        let base = if weights.parameters[i].name.contains("norm") { 1.0 } else { 0.0 };
        *tensor = Tensor::from_slice(&values).view(tensor.size().as_slice()) + base;
    }
    Model::new(weights).unwrap()
}

fn sampling() -> SamplingSpec {
    SamplingSpec {
        temperature: 0.9,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        max_tokens: 11,
    }
}

/// Conversations of one to three turns in groups of four, and the tape of them.
fn played(model: &Model) -> (Vec<Rollout>, Tape) {
    let openings: Vec<Vec<u32>> =
        [5u32, 1, 20].iter().map(|&n| (0..n).map(|i| (i * 7 + n) % 40).collect()).collect();
    let mut counters: Vec<Counter> = (0..12).map(|row| Counter::new(3, "test/rows", &[row])).collect();
    let mut rows: Vec<Row<'_>> = counters
        .iter_mut()
        .enumerate()
        .map(|(row, counter)| Row { context: row / 4, counter, first_draw: 0 })
        .collect();
    let mut rollouts: Vec<Rollout> = (0..12)
        .map(|row| Rollout {
            tokens: openings[row / 4].clone(),
            drawn: vec![false; openings[row / 4].len()],
            logprobs: vec![0.0; openings[row / 4].len()],
            ..Rollout::default()
        })
        .collect();
    let mut turns = [0; 12];
    let ends: Vec<u32> = (0..40).step_by(9).collect();
    let reserve = Reserve { tokens: 11, tape: 2000 };
    let tape = converse(model, &openings, &mut rows, &sampling(), &ends, reserve, &mut |done| {
        let answer = |(row, completion): (usize, super::Completion)| {
            let rollout = &mut rollouts[row];
            rollout.tokens.extend(&completion.tokens);
            rollout.drawn.resize(rollout.tokens.len(), true);
            rollout.logprobs.extend(&completion.logprobs);
            turns[row] += 1;
            if turns[row] > row % 3 {
                return Ok(None);
            }
            let said: Vec<u32> = (0..=row as u32 % 5).collect();
            rollout.tokens.extend(&said);
            rollout.drawn.resize(rollout.tokens.len(), false);
            rollout.logprobs.resize(rollout.tokens.len(), 0.0);
            Ok(Some(said))
        };
        done.into_iter().map(answer).collect()
    });
    (rollouts, tape.unwrap().tape.unwrap())
}

fn spec(micro_batch: u32) -> GrpoSpec {
    GrpoSpec {
        steps: 1,
        rollouts_per_step: 12,
        group_size: 4,
        advantage: Advantage::Mean,
        ratio: RatioRule::Clip { low: 0.2, high: 0.2, delta: None },
        level: Level::Token,
        normaliser: Normaliser::Token,
        kl_coef: 0.0,
        kl_corrected: false,
        minibatches: 1,
        updates_per_batch: 1,
        micro_batch,
        activations_mib: 2048,
    }
}

const ADVANTAGES: [f64; 12] = [0.5, -0.5, 0.0, 0.25, -0.25, 0.75, -0.75, 0.0, 1.0, -1.0, 0.5, -0.5];

fn batch(rollouts: &[Rollout]) -> Batch<'_> {
    Batch { rollouts, advantages: &ADVANTAGES, reference: None, temperature: 0.9 }
}

/// The largest difference of two lists of gradients, each relative to the largest entry of its tensor.
pub(super) fn apart(left: &[Tensor], right: &[Tensor]) -> f64 {
    let one = |(a, b): (&Tensor, &Tensor)| {
        assert_eq!(a.size(), b.size());
        let most = b.abs().max().double_value(&[]).max(1e-9);
        (a - b).abs().max().double_value(&[]) / most
    };
    left.iter()
        .zip(right)
        .map(one)
        .fold(0.0, |worst: f64, off| if off.is_nan() { off } else { worst.max(off) })
}

#[test]
fn fused_operators_give_the_gradients_of_libtorchs() {
    for family in Family::ALL {
        let (rollouts, _) = played(&model(family));
        let (fused, stats) = gradients(&model(family), batch(&rollouts), &spec(12)).unwrap();
        let (plain, other) = gradients(&model(family).unfused(), batch(&rollouts), &spec(12)).unwrap();
        let off = apart(&fused, &plain);
        assert!(off < 2e-5, "{family:?}: {off:e}");
        assert!((stats.entropy - other.entropy).abs() < 1e-3 && (stats.loss - other.loss).abs() < 1e-6);
        assert!(fused.iter().all(|gradient| gradient.abs().max().double_value(&[]) > 0.0));
    }
}

#[test]
fn the_tape_of_the_rollouts_gives_the_gradients_of_a_pass_of_its_own() {
    for family in Family::ALL {
        let model = model(family);
        let (rollouts, tape) = played(&model);
        // No token twice, none that predicts nothing.
        let fed: usize = rollouts.iter().map(|rollout| rollout.tokens.len() - 1).sum();
        let shared: usize = rollouts.chunks(4).map(|group| opening(&group[0]) * 3).sum();
        assert_eq!(tape.feed.len() as usize, fed - shared);
        let mut taped = Collected::new(&model);
        let stats = each_gradient(&model, batch(&rollouts), &spec(12), Some(tape), &mut taped).unwrap();
        let (own, other) = gradients(&model, batch(&rollouts), &spec(12)).unwrap();
        let off = apart(&taped.0, &own);
        assert!(off < 2e-5, "{family:?}: {off:e}");
        assert_eq!((stats.tokens, stats.clipped), (other.tokens, other.clipped));
        assert!((stats.entropy - other.entropy).abs() < 1e-3 && (stats.loss - other.loss).abs() < 1e-6);
    }
}

fn opening(rollout: &Rollout) -> usize {
    rollout.drawn.iter().position(|drawn| *drawn).unwrap()
}

/// All of it goes forward in so many parts, each kept so far.
fn parts(model: &Model, rollouts: &[Rollout], kept: Kept, parts: usize) -> Vec<Part> {
    let one = |list: &[Rollout]| {
        let feed = Feed::of(&list.iter().collect::<Vec<_>>(), 40, model.device()).unwrap();
        let tape = Tape::forward(model, feed, kept).unwrap();
        let (mut source, mut target) = (Vec::new(), Vec::new());
        for (at, rollout) in list.iter().enumerate() {
            for t in (1..rollout.tokens.len()).filter(|&t| rollout.drawn[t]) {
                source.push(i64::from(tape.feed.sequences.place(at, t - 1).unwrap()));
                target.push(i64::from(rollout.tokens[t]));
            }
        }
        let slope_m = Tensor::arange(target.len() as i64, (Kind::Float, model.device())).sin();
        let (source_m, target_m) = (Tensor::from_slice(&source), Tensor::from_slice(&target));
        let targets = Targets { source_m, target_m, temperature: 1.3 };
        Part { tape, targets, slope_m, scored: None }
    };
    rollouts.chunks(12 / parts).map(one).collect()
}

#[test]
fn what_is_computed_again_has_the_same_bits_and_parts_sum_to_the_whole() {
    // Four layers, so that some lie between two inputs that are kept.
    let model = deep(Family::Qwen3, true);
    let (rollouts, _) = played(&model);
    let run = |kept: Kept, count: usize| {
        let mut all = Collected::new(&model);
        backward(&model, parts(&model, &rollouts, kept, count), &mut all).unwrap();
        all.0
    };
    for count in [1, 3] {
        let kept = run(Kept::Everything, count);
        for every in [1, 2, 3, 4] {
            let again = run(Kept::Inputs(every), count);
            assert!(kept.iter().zip(&again).all(|(a, b)| a.equal(b)), "every {every}");
        }
    }
    let (whole, _) = gradients(&model, batch(&rollouts), &spec(12)).unwrap();
    for micro_batch in [1, 4, 5] {
        let (parts, _) = gradients(&model, batch(&rollouts), &spec(micro_batch)).unwrap();
        let off = apart(&parts, &whole);
        assert!(off < 2e-5, "micro-batches of {micro_batch}: {off:e}");
    }
    let least = GrpoSpec { activations_mib: 0, ..spec(5) };
    let (again, _) = gradients(&model, batch(&rollouts), &least).unwrap();
    let (kept, _) = gradients(&model, batch(&rollouts), &spec(5)).unwrap();
    assert!(kept.iter().zip(&again).all(|(a, b)| a.equal(b)));
}

/// Puts gradients together that come in rows.
struct Rows(Collected, Vec<Tensor>, usize);

impl Sink for Rows {
    fn put(&mut self, index: usize, gradient: Tensor) -> Result<(), TorchError> {
        self.0.put(index, gradient)
    }

    fn takes_rows(&self, _: usize) -> bool {
        true
    }

    fn put_rows(&mut self, index: usize, from: i64, rows: &Tensor) -> Result<(), TorchError> {
        self.2 += 1;
        let all = &mut self.1[index];
        *all = all.index_add(0, &(Tensor::arange(rows.size()[0], (Kind::Int64, all.device())) + from), rows);
        Ok(())
    }

    fn put_listed(&mut self, index: usize, ids: &Tensor, rows: &Tensor) -> Result<(), TorchError> {
        self.1[index] = self.1[index].index_add(0, ids, rows);
        Ok(())
    }
}

#[test]
fn a_vocabulary_in_rows_has_the_gradients_of_a_whole_one() {
    for (tied, count) in [(true, 1), (true, 3), (false, 1), (false, 3)] {
        let model = deep(Family::Llama, tied);
        let (rollouts, _) = played(&model);
        let made = |count| parts(&model, &rollouts, Kept::Everything, count);
        let mut whole = Collected::new(&model);
        let measured = backward(&model, made(count), &mut whole).unwrap();
        let zeros = model.weights.tensors.iter().map(Tensor::zeros_like).collect();
        let mut rows = Rows(Collected::new(&model), zeros, 0);
        let again = backward(&model, made(count), &mut rows).unwrap();
        // 40 rows, 16 at a time.
        assert_eq!(rows.2, 3);
        for (a, b) in measured.iter().zip(&again) {
            assert!(a.0.allclose(&b.0, 1e-5, 1e-5, false) && a.1.allclose(&b.1, 1e-5, 1e-5, false));
        }
        let merged: Vec<Tensor> = rows
            .0
            .0
            .into_iter()
            .zip(rows.1)
            .map(|(own, rows)| if own.defined() { own } else { rows })
            .collect();
        let off = apart(&merged, &whole.0);
        assert!(off < 2e-5, "tied {tied}, {count} parts: {off:e}");
    }
}

#[test]
fn half_precision_takes_the_same_way() {
    let wide = model(Family::Qwen2);
    let (rollouts, _) = played(&wide);
    let (exact, _) = gradients(&wide, batch(&rollouts), &spec(12)).unwrap();
    let mut weights = wide.weights;
    weights.tensors.iter_mut().for_each(|tensor| *tensor = tensor.to_kind(Kind::BFloat16));
    let (rough, _) = gradients(&Model::new(weights).unwrap(), batch(&rollouts), &spec(12)).unwrap();
    let flat = |list: &[Tensor]| Tensor::cat(&list.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
    let off = ((flat(&rough) - flat(&exact)).norm() / flat(&exact).norm()).double_value(&[]);
    assert!(off > 1e-4 && off < 0.1, "{off:e}");
}

#[test]
fn sequences_are_cut_and_named_anew() {
    let mut list = Sequences::new();
    list.begin([0, 1]);
    list.push([2, 3]);
    list.push([6]);
    list.begin([4]);
    list.push([5, 7, 8]);
    assert_eq!((list.len(), list.longest()), (3, 4));
    assert_eq!((list.place(1, 1), list.place(1, 2), list.place(1, 3)), (Some(1), Some(6), None));
    let (part, places) = list.part(&[1, 2]);
    assert_eq!(places, [0, 1, 4, 5, 6, 7, 8]);
    assert_eq!((part.place(0, 2), part.place(1, 0), part.place(1, 3)), (Some(4), Some(2), Some(6)));
}

/// Two rows of one token each.
fn rows<'c>(model: &Model, cache: &'c mut Cache, t: i64, ahead: i64) -> OverCache<'c> {
    OverCache::new(model, cache, vec![0, 1], vec![t, t], vec![0, 1, 2], ahead).unwrap()
}

#[test]
fn going_ahead_over_a_cache_is_going_step_by_step() {
    // What a GPU does between two looks of the host, on the CPU.
    let model = model(Family::Qwen2).unfused();
    let tables = model.rotary.tables(32).unwrap();
    let scratch = Scratch::new(&model, 2).unwrap();
    let step = |over: &mut OverCache<'_>, t: i64| {
        let positions = Tensor::from_slice(&[t, t]);
        let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
        let tokens = Tensor::from_slice(&[3 + t, 20 - t]);
        tch::no_grad(|| model.run(&tokens, turned, over, Room::Passing(&scratch), 0)).unwrap().copy()
    };
    let mut cache = Cache::new(&model, 2, 32).unwrap();
    let single: Vec<Tensor> = (0..4).map(|t| step(&mut rows(&model, &mut cache, t, 0), t)).collect();
    let mut cache = Cache::new(&model, 2, 32).unwrap();
    let mut over = rows(&model, &mut cache, 0, 3);
    for (t, expected) in (0..).zip(&single) {
        if t > 0 {
            over.advance().unwrap();
        }
        let off = (step(&mut over, t) - expected).abs().max().double_value(&[]);
        assert!(off < 1e-6, "step {t}: {off:e}");
    }
}
