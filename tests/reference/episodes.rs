//! `task.episodes = "python"` against the original's way of making episodes in CPython: the same names and seed give the same
//! episodes in the same order, and training asks the same ones again after an evaluation.

use std::collections::BTreeSet;

use tickets::task::{Episode, EvalRows, Order, Turn};

use super::alphabet_sort::{Asked, Fixture, Listed, fixture};
use super::table::row;

/// The turns that a line of the fixture stands for.
fn turns(fixture: &Fixture, (row, key, turns): &Listed) -> Vec<Turn> {
    let mut seen = BTreeSet::new();
    let joined = fixture.rows[*row].iter().map(|name| name.replace(' ', ""));
    let names: Vec<String> = joined.filter(|name| seen.insert(name.clone())).collect();
    let turn = |(number, (shown, slots, new_above, order)): (usize, &Asked)| {
        let asked: Vec<&str> = shown.iter().map(|at| names[*at].as_str()).collect();
        let example: String = (0..*slots).map(|line| if line < *new_above { 'o' } else { 'n' }).collect();
        let line = |at: &usize| {
            let mark = if number > 0 && shown.contains(at) { " // new name!" } else { "" };
            format!("{}{mark}", names[*at])
        };
        let prompt = format!("{key}|{}|{example}", asked.join("|"));
        Turn { prompt, expected: order.iter().map(line).collect() }
    };
    turns.iter().enumerate().map(turn).collect()
}

fn differing(fixture: &Fixture, episodes: &[Episode], list: &[Listed]) -> usize {
    assert_eq!(episodes.len(), list.len());
    let differs = |(episode, listed): &(&Episode, &Listed)| {
        let differs = episode.turns != turns(fixture, listed);
        if differs {
            println!("{episode:?} is not {listed:?}");
        }
        differs
    };
    episodes.iter().zip(list).filter(differs).count()
}

#[test]
fn episodes_are_those_of_the_original_in_its_order() {
    let fixture = fixture();
    let (mut cases, mut unequal) = (0, 0);
    for case in &fixture.episodes {
        let episodes = fixture.list(case.settings, case.seed);
        unequal += differing(&fixture, &episodes, &case.list);
        cases += episodes.len();
        // Some rows are too short, and each costs draws.
        assert!((20..fixture.rows.len()).contains(&episodes.len()));
        let name = format!("row {} of seed {}", case.list[0].0 + 1, case.seed);
        assert_eq!(episodes[0].name, name);
    }
    let first = fixture.list(fixture.episodes[0].settings, fixture.episodes[0].seed);
    for (episode, lines) in first.iter().zip(&fixture.lines) {
        assert!(episode.turns.iter().map(|turn| &turn.expected).eq(lines));
    }
    row("episodes of alphabet-sort (unequal)", &fixture.against("random"), cases, unequal as f64, 0.0);
}

#[test]
fn an_evaluation_has_a_list_of_its_own_and_training_does_not_depend_on_the_run() {
    let fixture = fixture();
    let of = |seed| {
        fixture.episodes.iter().find(|case| case.seed == seed && case.settings == [2, 2, 1, 5]).unwrap()
    };
    let (train, eval) = (of(1_337_420), of(2001));
    let task = fixture.task(train.settings, train.seed, Order::Rows);
    let first = task.held_out(2001, EvalRows::First, 40).unwrap();
    assert_eq!(differing(&fixture, &first, &eval.list[..40]), 0);
    // A sample is of the same list.
    for episode in task.held_out(2001, EvalRows::Sample, 40).unwrap() {
        assert!(eval.list.iter().any(|listed| turns(&fixture, listed) == episode.turns), "{episode:?}");
    }
    assert_eq!(task.train(3, 0..9).unwrap(), task.train(4, 0..9).unwrap());
    assert_eq!(differing(&fixture, &task.train(3, 0..9).unwrap(), &train.list[..9]), 0);
    // Row by row, from the first again after the last.
    let count = train.list.len() as u64;
    assert_eq!(task.train(3, count..count + 2).unwrap(), task.train(3, 0..2).unwrap());
}

#[test]
fn recycled_problems_are_those_of_the_original() {
    let fixture = fixture();
    let against = format!("{}; NumPy 2.4.6", fixture.against("random"));
    let (mut cases, mut unequal) = (0, 0);
    for (settings, seed, eval_seed, indices) in &fixture.recycled {
        let all = fixture.list(*settings, *seed);
        let period = indices.len() as u64;
        let task = fixture.task(*settings, *seed, Order::Recycled { eval_seed: *eval_seed, period });
        let asked = task.train(5, 0..period).unwrap();
        unequal +=
            asked.iter().zip(indices).filter(|(asked, index)| **asked != all[**index as usize]).count();
        cases += asked.len();
        // After an evaluation the same problems come again, wherever one begins to ask.
        assert_eq!(task.train(5, period - 3..period + 4).unwrap(), [&asked[157..], &asked[..4]].concat());
    }
    row("problems that training asks between evaluations (unequal)", &against, cases, unequal as f64, 0.0);
}
