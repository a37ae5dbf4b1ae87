//! All layers in one call give what they give one by one, and of a token the same bits whatever else is passed.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::Model;
use super::attention::{Cache, OverCache};
use super::kernels::CachedRows;
use super::kernels::decoder::{Space, suits};
use super::layer::{Saved, Turned};
use super::list::List;
use super::model::{Room, Scratch};
use super::packing::rows;
use super::pass::Pass;
use super::recorder::{Owner, Recorder};
use super::tape_tests::{apart, of};
use super::weights::tests::tiny;
use crate::data::{Architecture, Family};
use crate::grpo::SamplingSpec;

/// What float32 is off by after two layers whose weights are fifteen times as large as those of a fresh model.
const ROUNDING: f64 = 2e-5;

/// Heads that fill tiles and heads that do not, widths that do not.
fn shapes() -> Vec<Architecture> {
    let wide = Architecture {
        hidden_size: 37,
        intermediate_size: 50,
        heads: 3,
        kv_heads: 1,
        head_dim: 16,
        max_positions: 256,
        ..tiny(false)
    };
    Family::ALL
        .into_iter()
        .flat_map(|family| [Architecture { family, ..tiny(true) }, Architecture { family, ..wide.clone() }])
        .collect()
}

/// Room in which everything is kept.
fn kept(model: &Model, n: i64) -> (Vec<Tensor>, Vec<Saved>) {
    let layers = model.architecture().layers;
    let h = model.architecture().hidden_size as i64;
    let x = (0..=layers).map(|_| rows(n, h, Kind::Float, model.device()).unwrap()).collect();
    (x, (0..layers).map(|_| Saved::new(model, n).unwrap()).collect())
}

/// New tokens of a slot that has some: slot, tokens there, new ones.
type New = (usize, usize, Vec<i64>);

/// Passes them in one call or layer by layer; the last layer's output.
fn pass(model: &Model, cache: &mut Cache, list: &[New], at_once: bool, room: Room<'_>, from: i64) -> Tensor {
    let _guard = tch::no_grad_guard();
    let tokens: Vec<i64> = list.iter().flat_map(|(_, _, new)| new.clone()).collect();
    let positions: Vec<i64> = list
        .iter()
        .flat_map(|(_, before, new)| (*before..before + new.len()).map(|position| position as i64))
        .collect();
    let slot: Vec<i64> = list.iter().map(|(slot, ..)| *slot as i64).collect();
    let before: Vec<i64> = list.iter().map(|(_, before, _)| *before as i64).collect();
    let mut start = vec![0i64];
    for (.., new) in list {
        start.push(start[start.len() - 1] + new.len() as i64);
    }
    if !at_once {
        let positions = Tensor::from_slice(&positions);
        let tables = model.rotary.tables(200).unwrap();
        let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
        let mut over = OverCache::new(model, cache, slot, before, start, 0).unwrap();
        return model.run(&Tensor::from_slice(&tokens), turned, &mut over, room, from).unwrap();
    }
    let rows = CachedRows { slot: &slot, before: &before, start: &start };
    model.decode(cache, (rows, &tokens), (room, from), None, &mut Space::default()).unwrap();
    room.input(model.architecture().layers).narrow(0, from, tokens.len() as i64)
}

fn tokens(count: usize, seed: usize) -> Vec<i64> {
    (0..count).map(|at| ((at * 13 + seed * 7) % 40) as i64).collect()
}

/// Rows of several lengths, then some of them go on, one by many tokens.
fn lists() -> [Vec<New>; 2] {
    let first = [1, 3, 70, 1, 17].iter().enumerate().map(|(slot, &n)| (slot, 0, tokens(n, slot)));
    let second = [(4, 17, tokens(1, 5)), (1, 3, tokens(20, 6)), (2, 70, tokens(1, 7))];
    [first.collect(), second.to_vec()]
}

#[test]
fn at_once_is_layer_by_layer() {
    for shape in shapes() {
        let model = of(&shape);
        let [mut one, mut other] = [0; 2].map(|_| Cache::new(&model, 5, 100).unwrap());
        let ((x, saved), (at_once, of_all)) = (kept(&model, 130), kept(&model, 130));
        let mut from = 0;
        for list in lists() {
            let n: usize = list.iter().map(|(.., new)| new.len()).sum();
            let expected = pass(&model, &mut one, &list, false, Room::Kept(&x, &saved), from);
            let found = pass(&model, &mut other, &list, true, Room::Kept(&at_once, &of_all), from);
            let off = apart(&[found], &[expected]);
            assert!(off < ROUNDING, "{off:e} {shape:?}");
            from += n as i64;
        }
        let cut = |tensor: &Tensor| tensor.narrow(0, 0, from);
        for layer in 0..shape.layers {
            let off = apart(&[cut(&at_once[layer])], &[cut(&x[layer])]);
            assert!(off < ROUNDING, "{off:e} {shape:?}");
            let list = |saved: &Saved| {
                let raw = saved.raw.iter().flat_map(|(q, k)| [q, k]);
                let others = [
                    &saved.q,
                    &saved.k,
                    &saved.v,
                    &saved.attended,
                    &saved.lse,
                    &saved.middle,
                    &saved.gate,
                    &saved.up,
                ];
                raw.chain(others).map(cut).collect::<Vec<_>>()
            };
            let off = apart(&list(&of_all[layer]), &list(&saved[layer]));
            assert!(off < ROUNDING, "{off:e} {shape:?}");
        }
        // Nothing kept: the same output.
        let scratch = Scratch::new(&model, 130).unwrap();
        let mut cache = Cache::new(&model, 5, 100).unwrap();
        let [first, _] = lists();
        let found = pass(&model, &mut cache, &first, true, Room::Passing(&scratch), 0);
        let n = found.size()[0];
        assert_eq!(found, at_once[shape.layers].narrow(0, 0, n));
    }
}

#[test]
fn a_token_has_the_same_bits_in_any_company() {
    for shape in shapes() {
        let model = of(&shape);
        let scratch = Scratch::new(&model, 130).unwrap();
        let room = Room::Passing(&scratch);
        let [first, second] = lists();
        let mut together = Cache::new(&model, 5, 100).unwrap();
        let mut expected = Vec::new();
        for list in [&first, &second] {
            let x = pass(&model, &mut together, list, true, room, 0).copy();
            let logits = model.decode_logits(&x).unwrap();
            let mut from = 0;
            for (slot, before, new) in list {
                let cut = |tensor: &Tensor| tensor.narrow(0, from, new.len() as i64).copy();
                expected.push((*slot, *before, new.clone(), cut(&x), cut(&logits)));
                from += new.len() as i64;
            }
        }
        // Each alone, on one thread, in a cache of another size, a few tokens at a time.
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let mut alone = Cache::new(&model, 6, 160).unwrap();
        for (slot, before, new, x, logits) in expected {
            let mut at = 0;
            while at < new.len() {
                let some = (new.len() - at).min(9);
                let list = [(slot + 1, before + at, new[at..at + some].to_vec())];
                let found = pass(&model, &mut alone, &list, true, room, 0);
                let cut = |tensor: &Tensor| tensor.narrow(0, at as i64, some as i64);
                assert_eq!(found, cut(&x), "{shape:?}, slot {slot}, token {at}");
                assert_eq!(model.decode_logits(&found).unwrap(), cut(&logits), "{shape:?}, slot {slot}");
                at += some;
            }
        }
        tch::set_num_threads(threads);
    }
}

#[test]
fn logits_at_once_are_the_logits() {
    for shape in shapes() {
        let model = of(&shape);
        let x = Tensor::arange(35 * shape.hidden_size as i64, (Kind::Float, model.device()));
        let x = x.view([35, -1]).sin();
        let found = model.decode_logits(&x).unwrap();
        let off = apart(&[found], &[model.unfused().logits(&x).unwrap()]);
        assert!(off < ROUNDING, "{off:e} {shape:?}");
    }
}

#[test]
fn draws_at_once_are_those_from_the_logits() {
    let threads = tch::get_num_threads();
    tch::set_num_threads(2);
    let sampling = SamplingSpec {
        temperature: 0.8,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        max_tokens: 3,
    };
    let _guard = tch::no_grad_guard();
    for shape in shapes() {
        let model = of(&shape);
        // More rows than a thread takes together; one has more tokens than that.
        let rows = 150;
        let list = |before: usize, length: usize| {
            let mut list = List::default();
            for row in 0..rows {
                let new = tokens(if row == 3 { length } else { 1 }, row + before);
                list.push(Owner::Row(row), row, if row == 3 { 70 * before } else { before }, new);
            }
            list
        };
        let uniforms: Vec<f64> = (0..rows).map(|row| (row as f64 * 0.37).fract()).collect();
        let play = |at_once: bool, kept: bool| {
            let recorder = kept.then(|| Recorder::new(&model, 1, rows, 400).unwrap());
            let (mut pass, mut cache) =
                (Pass::new(&model, recorder), Cache::new(&model, rows as i64, 100).unwrap());
            let drawn = [list(0, 70), list(1, 1)].map(|list| {
                if at_once {
                    return pass.next(&mut cache, &list, &uniforms, None, &sampling).unwrap();
                }
                let logits = pass.logits(&mut cache, &list).unwrap();
                pass.draw(&mut cache, &list, logits, &uniforms, None, &sampling).unwrap()
            });
            let tape = pass.recorder.map(|recorder| recorder.finish(&model, &vec![0; rows]).unwrap());
            (drawn, tape)
        };
        let ((drawn, _), (expected, by_parts)) = (play(true, false), play(false, true));
        assert_eq!(drawn, expected, "{shape:?}");
        // What is kept is the same, and there once.
        let (again, at_once) = play(true, true);
        assert_eq!(again, expected, "{shape:?}");
        let (by_parts, at_once) = (by_parts.unwrap(), at_once.unwrap());
        assert_eq!(at_once.feed.len(), 219 + 150);
        assert_eq!(at_once.feed.tokens_n, by_parts.feed.tokens_n);
        assert_eq!(at_once.output, by_parts.output);
        let different: BTreeSet<i64> = drawn[1].0.iter().copied().collect();
        assert!(different.len() > 5, "{different:?}");
    }
    tch::set_num_threads(threads);
}

#[test]
fn what_is_in_no_table_is_refused() {
    let model = of(&tiny(true));
    let scratch = Scratch::new(&model, 1).unwrap();
    let try_one = |before: i64, token: i64| {
        let cache = Cache::new(&model, 1, 64).unwrap();
        let rows = CachedRows { slot: &[0], before: &[before], start: &[0, 1] };
        let room = (Room::Passing(&scratch), 0);
        model
            .decode(&cache, (rows, &[token]), room, None, &mut Space::default())
            .map_err(|error| error.to_string())
    };
    try_one(3, 39).unwrap();
    assert!(try_one(3, 40).unwrap_err().contains("vocabulary"));
    assert!(try_one(3, -1).unwrap_err().contains("vocabulary"));
    assert!(try_one(64, 1).unwrap_err().contains("cache"));
    let most = model.architecture().max_positions as i64;
    assert!(try_one(most, 1).unwrap_err().contains("positions"));
}

#[test]
fn lists_that_give_no_tile_to_some_thread_are_left_to_others() {
    let threads = tch::get_num_threads();
    tch::set_num_threads(2);
    assert!(suits(2, 32) && !suits(1, 1000) && !suits(31, 31));
    tch::set_num_threads(threads);
}
