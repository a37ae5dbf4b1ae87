//! What the checks of `tickets task check` compare, and the answers that they try.

use super::check::Found;
use crate::external::Counts;
use crate::task::Episode;

const FUNCTION: &str = "an episode should be a function of seed, stream and index alone: draw from a generator that is made anew of \
                        these three, and use no clock, no order of a set and nothing of earlier requests";

/// What was asked for and what came.
pub(super) struct Asked {
    pub seed: u64,
    pub stream: &'static str,
    pub indices: Vec<u64>,
    pub episodes: Vec<Episode>,
}

/// Episodes that came twice are the same.
pub(super) fn same(asked: &Asked, first: &[Episode], again: &[Episode], when: &str) -> Result<(), Found> {
    match first.iter().zip(again).find(|(first, again)| first != again) {
        None => Ok(()),
        Some((episode, again)) => {
            let (before, now) = difference(episode, again);
            let text = format!(
                "episode {} of stream {} and seed {} differs {when}: {} and {}",
                episode.name,
                asked.stream,
                asked.seed,
                short(&before),
                short(&now)
            );
            Err(Found::Wrong(text, FUNCTION.to_owned()))
        }
    }
}

/// The first part in which two episodes differ, with its name.
fn difference(first: &Episode, second: &Episode) -> (String, String) {
    let parts = |episode: &Episode| {
        let before: Vec<&str> = episode.before.iter().map(|message| message.content.as_str()).collect();
        [
            format!("`name` {:?}", episode.name),
            format!("`messages` {:?}", episode.turns[0].prompt),
            format!("`messages` {before:?}"),
            format!("`expected` {:?}", episode.turns[0].expected),
            format!("`info` {}", episode.info),
        ]
    };
    let pairs = parts(first).into_iter().zip(parts(second));
    pairs.into_iter().find(|(first, second)| first != second).unwrap_or_default()
}

/// What may not be meant: prompts that are all the same, or evaluations of what is trained on.
pub(super) fn odd_episodes(train: &Asked, eval: &Asked, counts: Counts) -> Option<String> {
    let prompts = |asked: &Asked| -> Vec<String> {
        asked.episodes.iter().map(|episode| episode.turns[0].prompt.clone()).collect()
    };
    let (of_train, of_eval) = (prompts(train), prompts(eval));
    if of_train.len() > 1 && of_train.iter().all(|prompt| *prompt == of_train[0]) {
        return Some(format!("all prompts of stream {} are the same", train.stream));
    }
    let common = of_train.iter().zip(&of_eval).filter(|(train, eval)| train == eval).count();
    (common == of_eval.len() && counts.train == counts.eval).then(|| {
        "those of stream eval are those of stream train: evaluations would ask what is trained on".to_owned()
    })
}

/// Answers that a model may give and nobody would.
pub(super) fn odd_answers(prompt: &str) -> Vec<String> {
    let texts = [
        "",
        " ",
        "\n\n\n",
        "\r",
        "\0",
        "NaN",
        "-1e999",
        "null",
        "{\"reward\": 1}",
        "<answer><answer></answer",
        "\\boxed{\\frac{1}{",
        "```python\nraise SystemExit\n```",
        "\u{feff}\u{202e}\u{e9}e\u{301}\u{1f469}\u{200d}\u{1f4bb}\u{10fffd}\u{2028}\u{85}",
    ];
    let long = ["x".repeat(100_000), "1 ".repeat(20_000), "(".repeat(5_000), "\u{1f600}\n".repeat(5_000)];
    texts.into_iter().map(str::to_owned).chain(long).chain([prompt.to_owned()]).collect()
}

/// The least and the largest.
pub(super) fn bounds(rewards: &[f64]) -> (f64, f64) {
    rewards
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| (low.min(*reward), high.max(*reward)))
}

/// The beginning of a text.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).collect();
    if text.chars().count() > MOST {
        short.push_str(" ...");
    }
    short
}
