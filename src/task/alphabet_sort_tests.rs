//! Tests of alphabet-sort: hand-worked orders and marks, and properties over random settings.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::task::{Episodes, NamesSpec, RowNames, default_prompts};

/// The defaults of a manifest.
pub(in crate::task) fn spec() -> AlphabetSortSpec {
    AlphabetSortSpec {
        min_turns: 1,
        max_turns: 3,
        min_names_per_turn: 1,
        max_names_per_turn: 5,
        sort_by: SortBy::Either,
        similarity_power: 4,
        power_per_turn: true,
        names: NamesSpec::Shipped,
        row_names: RowNames::First,
        episodes: Episodes::Counter,
        prompts: default_prompts(),
    }
}

fn reward(task: &AlphabetSort, episode: &Episode, answers: &[String]) -> Reward {
    let prompts = vec![String::new(); answers.len()];
    task.rewards(&[Played { episode, prompts: &prompts, answers }]).expect("scored").remove(0)
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Two turns of two names from one row: the truth has to be worked out from the row alone.
fn two_turns(sort_by: SortBy) -> AlphabetSort {
    let spec = AlphabetSortSpec {
        min_turns: 2,
        max_turns: 2,
        min_names_per_turn: 2,
        max_names_per_turn: 2,
        sort_by,
        ..spec()
    };
    let row = owned(&["Cleo Adams", "Ben Young", "Ada Moss", "Dan Bell", "Never Used"]);
    AlphabetSort::new(&spec, NameSource::Rows(vec![row])).expect("valid")
}

#[test]
fn the_key_is_cut_at_the_second_capital() {
    let parts = |name| (sort_key(name, SortBy::First), sort_key(name, SortBy::Last));
    assert_eq!(parts("AnnaMoss"), ("Anna", "Moss"));
    assert_eq!(parts("AnnaMariaMoss"), ("Anna", "MariaMoss"));
    assert_eq!(parts("Anna"), ("Anna", ""));
    assert_eq!(parts("anna"), ("anna", ""));
    // The first character never cuts, whatever its case; initials do.
    assert_eq!(parts("J.R.Moss"), ("J.", "R.Moss"));
    assert_eq!(parts("deBoer"), ("de", "Boer"));
    assert_eq!(parts("ÉvaÖrn"), ("Éva", "Örn"));
    assert_eq!(parts(""), ("", ""));
}

#[test]
fn names_are_sorted_by_code_point_and_ties_stay_as_introduced() {
    let names = owned(&["ZoeAbel", "adamYork", "AnnaCole", "ÉvaBell", "AnnaBrown"]);
    // By first name: "Anna" twice (Cole came first), "Zoe"; lower case after all capitals, É after all of ASCII.
    assert_eq!(truth(&names, 0, SortBy::First), ["AnnaCole", "AnnaBrown", "ZoeAbel", "adamYork", "ÉvaBell"]);
    assert_eq!(truth(&names, 0, SortBy::Last), ["ZoeAbel", "ÉvaBell", "AnnaBrown", "AnnaCole", "adamYork"]);
}

#[test]
fn later_turns_hold_all_names_and_mark_the_new_ones() {
    let first = two_turns(SortBy::First).episode(1, "train", 0).expect("an episode");
    assert_eq!(first.turns[0].expected, ["BenYoung", "CleoAdams"]);
    assert_eq!(
        first.turns[1].expected,
        ["AdaMoss // new name!", "BenYoung", "CleoAdams", "DanBell // new name!"]
    );
    let last = two_turns(SortBy::Last).episode(1, "train", 0).expect("an episode");
    assert_eq!(last.turns[0].expected, ["CleoAdams", "BenYoung"]);
    assert_eq!(
        last.turns[1].expected,
        ["CleoAdams", "DanBell // new name!", "AdaMoss // new name!", "BenYoung"]
    );
}

#[test]
fn a_third_turn_marks_its_own_names_only() {
    let names = owned(&["Cy", "Al", "Bo"]);
    assert_eq!(truth(&names, 2, SortBy::First), ["Al", "Bo // new name!", "Cy"]);
}

#[test]
fn prompts_say_what_is_asked() {
    let task = two_turns(SortBy::Last);
    let mut examples = BTreeSet::new();
    for index in 0..200 {
        let episode = task.episode(3, "train", index).expect("an episode");
        let [first, second] = &episode.turns[..] else { panic!("two turns") };
        assert!(first.prompt.contains("LAST") && !first.prompt.contains("FIRST"));
        assert!(
            first.prompt.contains(": CleoAdams, BenYoung\n")
                || first.prompt.contains(": BenYoung, CleoAdams\n")
        );
        assert!(
            second.prompt.contains(": AdaMoss, DanBell\n") || second.prompt.contains(": DanBell, AdaMoss\n")
        );
        // The example of the first turn has min..=max lines, here always two.
        assert!(first.prompt.ends_with("\nName1\nName2\n</alphabetical_sorted>"));
        let example = second.prompt.split(Tag::Combined.open()).nth(1).expect("an example").lines().skip(1);
        let example: Vec<&str> = example.take_while(|line| !line.starts_with('<')).collect();
        examples
            .insert((example.len(), example.iter().filter(|line| line.ends_with(" // new name!")).count()));
    }
    // That of the second has min lines to as many as there are names by then, and one new name at least.
    assert_eq!(
        examples,
        BTreeSet::from([(2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2), (4, 3), (4, 4)])
    );
}

#[test]
fn either_key_is_drawn_and_leaves_the_names_alone() {
    let task = |sort_by| {
        AlphabetSort::new(&AlphabetSortSpec { sort_by, ..spec() }, NameSource::Shipped).expect("valid")
    };
    let (either, first) = (task(SortBy::Either), task(SortBy::First));
    let mut by_first = 0;
    for index in 0..1000 {
        let episode = either.episode(5, "train", index).expect("an episode");
        by_first += u32::from(episode.turns[0].prompt.contains(" FIRST "));
        let same = first.episode(5, "train", index).expect("an episode");
        let set = |e: &Episode| e.turns.iter().flat_map(|t| t.expected.clone()).collect::<BTreeSet<_>>();
        assert_eq!(set(&episode), set(&same));
    }
    // 500 expected, standard deviation 16.
    assert!((405..=595).contains(&by_first), "{by_first}");
}

#[test]
fn turns_and_names_cover_their_ranges_evenly() {
    let task = AlphabetSort::new(&spec(), NameSource::Shipped).expect("valid");
    let mut turns = [0; 4];
    let mut names = [0; 6];
    for index in 0..3000 {
        let episode = task.episode(9, "train", index).expect("an episode");
        turns[episode.turns.len()] += 1;
        names[episode.turns[0].expected.len()] += 1;
    }
    // 1000 and 600 expected, standard deviations 26 and 22.
    assert!(turns[0] == 0 && turns[1..].iter().all(|n| (850..1150).contains(n)), "{turns:?}");
    assert!(names[0] == 0 && names[1..].iter().all(|n| (470..730).contains(n)), "{names:?}");
}

#[test]
fn an_episode_is_pinned() {
    // The shipped episodes are part of every result; this one was written down when they were first drawn.
    let task = AlphabetSort::new(&spec(), NameSource::Shipped).expect("valid");
    let episode = task.episode(0, "train", 2).expect("an episode");
    let [first, second, third] = &episode.turns[..] else { panic!("three turns: {episode:?}") };
    assert_eq!(first.expected, ["MoiraMihail"]);
    assert!(first.prompt.contains(" LAST name: MoiraMihail\n") && first.prompt.contains("\nName4\n</"));
    assert_eq!(
        second.expected,
        ["JoaoLombardi // new name!", "MoiraMihail", "BelaStone // new name!", "JennyYilmaz // new name!"]
    );
    assert!(second.prompt.contains(": JennyYilmaz, JoaoLombardi, BelaStone\n"));
    assert!(second.prompt.contains("_sorted>\nName1 // new name!\n</"));
    assert_eq!(third.expected.len(), 8);
    assert!(third.prompt.contains(": EdithAbebe, GiuliaMann, RobertAyers, SebastianChoi\n"));
}

#[test]
fn settings_without_a_value_are_refused() {
    let error = |spec: AlphabetSortSpec| {
        AlphabetSort::new(&spec, NameSource::Shipped).expect_err("refused").to_string()
    };
    assert_eq!(
        error(AlphabetSortSpec { min_turns: 0, ..spec() }),
        "task.min_turns is 0 and must be at least 1"
    );
    assert_eq!(
        error(AlphabetSortSpec { min_names_per_turn: 6, ..spec() }),
        "task.min_names_per_turn..=task.max_names_per_turn has no value between 6 and 5"
    );
    assert_eq!(
        error(AlphabetSortSpec { similarity_power: 0, ..spec() }),
        "task.similarity_power is 0 and must be at least 1"
    );
    let all = u32::MAX;
    assert!(
        error(AlphabetSortSpec { max_turns: all, max_names_per_turn: all, ..spec() })
            .contains("18446744065119617025")
    );
}

#[test]
fn a_shuffled_demonstration_has_the_right_lines_in_any_order() {
    let task = two_turns(SortBy::First);
    let episode = task.episode(1, "demonstration", 0).expect("an episode");
    let seen: BTreeSet<String> = (0..200)
        .filter_map(|n| task.demonstration(&episode, 1, Some(&mut Counter::new(n, "test", &[]))))
        .collect();
    assert_eq!(seen.len(), 24, "all orders of four lines");
    assert!(seen.contains(&task.demonstration(&episode, 1, None).expect("an answer")));
    for text in seen {
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.remove(0), lines.pop()), (Tag::Combined.open(), Some(Tag::Combined.close())));
        lines.sort_unstable();
        assert_eq!(lines, ["AdaMoss // new name!", "BenYoung", "CleoAdams", "DanBell // new name!"]);
    }
}

prop_compose! {
    /// Settings within what the shipped list serves.
    fn any_spec()(
        min_turns in 1_u32..4,
        more_turns in 0_u32..3,
        min_names_per_turn in 1_u32..6,
        more_names in 0_u32..6,
        sort_by in prop::sample::select(vec![SortBy::First, SortBy::Last, SortBy::Either]),
        similarity_power in 1_u32..9,
        power_per_turn: bool,
    ) -> AlphabetSortSpec {
        AlphabetSortSpec {
            min_turns,
            max_turns: min_turns + more_turns,
            min_names_per_turn,
            max_names_per_turn: min_names_per_turn + more_names,
            sort_by,
            similarity_power,
            power_per_turn,
            ..spec()
        }
    }
}

/// Rows of odd names: other alphabets, white space inside and outside, final sigmas, control characters.
fn any_rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    let name = "[A-Z][a-z ]{0,6}[A-ZÉΣİ]?[a-zßσ\t\u{1f}\u{a0}.,'-]{0,6}";
    prop::collection::vec(prop::collection::vec(name, 0..12), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn perfect_answers_earn_exactly_one(spec in any_spec(), seed: u64, index: u64) {
        let task = AlphabetSort::new(&spec, NameSource::Shipped).expect("valid");
        let episode = task.episode(seed, "train", index).expect("an episode");
        let answers: Vec<String> = (0..episode.turns.len()).filter_map(|turn| task.demonstration(&episode, turn, None)).collect();
        let reward = reward(&task, &episode, &answers);
        prop_assert_eq!(reward.total.to_bits(), 1.0_f64.to_bits());
        prop_assert!(reward.turns.iter().all(|score| score.to_bits() == 1.0_f64.to_bits()));
    }

    #[test]
    fn perfect_answers_earn_exactly_one_on_any_rows(rows in any_rows(), seed: u64) {
        let spec = AlphabetSortSpec { max_turns: 2, max_names_per_turn: 2, ..spec() };
        if let Ok(task) = AlphabetSort::new(&spec, NameSource::Rows(rows)) {
            let episode = task.episode(seed, "eval", 0).expect("an episode");
            let answers: Vec<String> = (0..episode.turns.len()).filter_map(|turn| task.demonstration(&episode, turn, None)).collect();
            prop_assert_eq!(reward(&task, &episode, &answers).total.to_bits(), 1.0_f64.to_bits());
        }
    }

    #[test]
    fn rewards_stay_within_bounds(spec in any_spec(), seed: u64, texts in prop::collection::vec("(<(combined_)?alphabetical_sorted>)?[A-Za-z\n]{0,40}(</(combined_)?alphabetical_sorted>)?", 0..6)) {
        let task = AlphabetSort::new(&spec, NameSource::Shipped).expect("valid");
        let episode = task.episode(seed, "train", 0).expect("an episode");
        let shuffled = task.demonstration(&episode, 0, Some(&mut Counter::new(seed, "test", &[]))).expect("an answer");
        for texts in [texts.clone(), [vec![shuffled], texts].concat()] {
            let reward = reward(&task, &episode, &texts);
            prop_assert!((0.0..=1.0).contains(&reward.total), "{reward:?}");
            prop_assert_eq!(reward.turns.len(), episode.turns.len());
            prop_assert!(reward.turns.iter().all(|score| (0.0..=1.0).contains(score)));
            prop_assert!(reward.turns.iter().skip(texts.len()).all(|score| *score == 0.0));
        }
    }

    #[test]
    fn episodes_are_pure_and_streams_apart(spec in any_spec(), seed: u64, index in 0..u64::MAX) {
        // Three names at least, so that two episodes do not agree by chance.
        let spec = AlphabetSortSpec { min_names_per_turn: 3, max_names_per_turn: spec.max_names_per_turn + 3, ..spec };
        let task = AlphabetSort::new(&spec, NameSource::Shipped).expect("valid");
        let again = AlphabetSort::new(&spec, NameSource::Shipped).expect("valid");
        let episode = |task: &AlphabetSort, stream, index| task.episode(seed, stream, index).expect("an episode");
        let one = episode(&task, "train", index);
        let other = episode(&task, "train", index + 1);
        prop_assert_ne!(&one, &other);
        prop_assert_ne!(&one, &episode(&task, "eval", index));
        prop_assert_ne!(&one, &task.episode(seed.wrapping_add(1), "train", index).expect("an episode"));
        // Whatever was asked before, and by whichever instance.
        prop_assert_eq!(&one, &episode(&task, "train", index));
        prop_assert_eq!(&other, &episode(&again, "train", index + 1));
    }

    #[test]
    fn each_turn_adds_its_names_to_a_sorted_list(spec in any_spec(), seed: u64) {
        let task = AlphabetSort::new(&spec, NameSource::Shipped).expect("valid");
        let episode = task.episode(seed, "train", 7).expect("an episode");
        let key = if episode.turns[0].prompt.contains(" FIRST ") { SortBy::First } else { SortBy::Last };
        prop_assert!(spec.sort_by == SortBy::Either || spec.sort_by == key);
        let mut known = BTreeSet::new();
        for (at, turn) in episode.turns.iter().enumerate() {
            let bare: Vec<&str> = turn.expected.iter().map(|line| line.trim_end_matches(NEW_NAME)).collect();
            prop_assert!(bare.windows(2).all(|pair| sort_key(pair[0], key) < sort_key(pair[1], key)));
            let new: BTreeSet<&str> = bare.iter().copied().filter(|name| !known.contains(*name)).collect();
            let (low, high) = (spec.min_names_per_turn as usize, spec.max_names_per_turn as usize);
            prop_assert!((low..=high).contains(&new.len()));
            prop_assert_eq!(bare.len(), known.len() + new.len());
            for (line, name) in turn.expected.iter().zip(&bare) {
                prop_assert_eq!(line != name, at > 0 && new.contains(name), "{}", line);
            }
            for name in &new {
                prop_assert!(turn.prompt.contains(*name));
            }
            known.extend(new.into_iter().map(str::to_owned));
        }
    }
}
