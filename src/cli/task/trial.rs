//! The checks of `tickets task check`, in their order: each uses what the ones before have found.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::check::{Found, Page};
use super::compare::{Asked, bounds, odd_answers, odd_episodes, same, short};
use crate::external::{Ending, ExternalError, Program};
use crate::task::{Episode, Played};

/// The seeds that are asked for.
const SEEDS: [u64; 2] = [0, 1];
/// Their streams.
const STREAMS: [&str; 2] = ["train", "eval"];
/// An index far away, of programs that have any.
const FAR: u64 = 1_000_000_007;
/// How many episodes get every odd answer.
const ANSWERED: usize = 4;
/// The least time that a program has to end.
const LEAST_END: Duration = Duration::from_secs(10);

const PURE: &str =
    "a reward should be a function of the conversation alone: keep what it needs in the episode's `info`";

/// A conversation that was had.
#[derive(Clone)]
struct Held {
    episode: Episode,
    prompts: Vec<String>,
    answers: Vec<String>,
}

impl Held {
    fn played(&self) -> Played<'_> {
        Played { episode: &self.episode, prompts: &self.prompts, answers: &self.answers }
    }
}

/// The checks of one program.
pub(super) struct Trial {
    program: Program,
    number: u64,
    workers: usize,
}

/// What a check gives to the next ones, and what it found; or what is wrong.
type Checked<T> = Result<(T, Found), Found>;
/// Conversations and what each earned.
type Earned = (Vec<Held>, Vec<f64>);

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: ExternalError) -> Found {
    let advice = error.hint().unwrap_or_default();
    Found::Wrong(error.to_string(), advice)
}

impl Trial {
    pub fn new(program: Program, number: u32) -> Self {
        let workers = program.settings().workers as usize;
        Self { program, number: number.into(), workers }
    }

    /// All checks, until one fails that the others need.
    pub fn run(self, page: &mut Page) {
        if let Some(asked) = tell(page, "episodes", self.episodes()) {
            tell(page, "the same twice", self.repeated(&asked));
            tell(page, "any order", self.reordered(&asked));
            if self.workers > 1 {
                tell(page, "another process", self.by_others(&asked));
            }
            let answered = tell(page, "odd answers", self.odd(&asked));
            if let Some((held, rewards)) = &answered {
                tell(page, "rewards again", self.scored_again(held, rewards));
                tell(page, "expected answers", self.expected(&asked, held, rewards));
            }
            tell(page, "after a kill", self.killed(&asked));
        }
        tell(page, "end of input", self.end());
    }

    fn indices(&self, stream: &str) -> Vec<u64> {
        match self.program.hello().episodes.of(stream) {
            None => (0..self.number).chain([FAR]).collect(),
            Some(count) => {
                let some: BTreeSet<u64> = (0..self.number.min(count)).chain([count - 1]).collect();
                some.into_iter().collect()
            }
        }
    }

    fn episodes(&self) -> Checked<Vec<Asked>> {
        let mut asked = Vec::new();
        for seed in SEEDS {
            for stream in STREAMS {
                let indices = self.indices(stream);
                let episodes = self.program.only(0).episodes(seed, stream, &indices).map_err(failed)?;
                asked.push(Asked { seed, stream, indices, episodes });
            }
        }
        let count: usize = asked.iter().map(|asked| asked.episodes.len()).sum();
        let text = format!("{count} of {} streams and {} seeds", STREAMS.len(), SEEDS.len());
        let found = match asked.as_slice() {
            [train, eval, ..] => match odd_episodes(train, eval, self.program.hello().episodes) {
                Some(odd) => Found::Odd(format!("{text}; {odd}")),
                None => Found::Fine(text),
            },
            _ => Found::Fine(text),
        };
        Ok((asked, found))
    }

    fn repeated(&self, asked: &[Asked]) -> Checked<()> {
        for first in asked {
            let again =
                self.program.only(0).episodes(first.seed, first.stream, &first.indices).map_err(failed)?;
            same(first, &first.episodes, &again, "the second time")?;
        }
        Ok(fine("the same request has the same answer"))
    }

    fn reordered(&self, asked: &[Asked]) -> Checked<()> {
        for first in asked {
            let only = self.program.only(0);
            let backwards: Vec<u64> = first.indices.iter().rev().copied().collect();
            let mut again = only.episodes(first.seed, first.stream, &backwards).map_err(failed)?;
            again.reverse();
            same(first, &first.episodes, &again, "in a request for the same indices backwards")?;
            let middle = first.indices.len() / 2;
            let alone =
                only.episodes(first.seed, first.stream, &first.indices[middle..=middle]).map_err(failed)?;
            same(first, &first.episodes[middle..=middle], &alone, "in a request for it alone")?;
        }
        Ok(fine("an episode does not depend on the others of its request"))
    }

    fn by_others(&self, asked: &[Asked]) -> Checked<()> {
        for worker in 1..self.workers {
            for first in asked {
                let only = self.program.only(worker);
                let again = only.episodes(first.seed, first.stream, &first.indices).map_err(failed)?;
                same(first, &first.episodes, &again, &format!("by worker {worker}"))?;
            }
        }
        Ok(fine(&format!("{} processes agree", self.workers)))
    }

    /// Has conversations with these answers, the same one at every turn, until the program ends them.
    fn hold(&self, openings: Vec<(Episode, String)>) -> Result<Vec<Held>, Found> {
        let mut held: Vec<Held> = openings
            .into_iter()
            .map(|(episode, answer)| Held {
                prompts: vec![episode.turns[0].prompt.clone()],
                answers: vec![answer],
                episode,
            })
            .collect();
        let mut open: Vec<usize> = (0..held.len()).collect();
        for _ in 1..self.program.hello().turns {
            let played: Vec<Played> = open.iter().map(|at| held[*at].played()).collect();
            let responses = self.program.only(0).respond(&played).map_err(failed)?;
            let again = self.program.only(self.workers - 1).respond(&played).map_err(failed)?;
            let mut still = Vec::new();
            for ((at, response), again) in open.into_iter().zip(responses).zip(again) {
                if response != again {
                    let name = &held[at].episode.name;
                    let text = format!("episode {name} goes on differently when it is asked again");
                    return Err(Found::Wrong(text, PURE.replace("a reward", "a response")));
                }
                if let Some(prompt) = response {
                    let answer = held[at].answers[0].clone();
                    held[at].prompts.push(prompt);
                    held[at].answers.push(answer);
                    still.push(at);
                }
            }
            open = still;
            if open.is_empty() {
                break;
            }
        }
        Ok(held)
    }

    fn odd(&self, asked: &[Asked]) -> Checked<Earned> {
        let episodes = asked.iter().flat_map(|asked| asked.episodes.iter().take(ANSWERED));
        let openings = episodes.flat_map(|episode| {
            odd_answers(&episode.turns[0].prompt).into_iter().map(|answer| (episode.clone(), answer))
        });
        let held = self.hold(openings.collect())?;
        let rewards = self.rewards(0, &held)?;
        let turns = held.iter().map(|held| held.answers.len()).max().unwrap_or(1);
        let (low, high) = bounds(&rewards);
        let turns = if turns > 1 { format!(" in up to {turns} turns") } else { String::new() };
        let text = format!(
            "{} conversations{turns} with empty, long, odd and broken answers earn from {low} to {high}",
            held.len()
        );
        Ok(((held, rewards), Found::Fine(text)))
    }

    fn rewards(&self, worker: usize, held: &[Held]) -> Result<Vec<f64>, Found> {
        let played: Vec<Played> = held.iter().map(Held::played).collect();
        let rewards = self.program.only(worker).rewards(&played).map_err(failed)?;
        Ok(rewards.into_iter().map(|reward| reward.total).collect())
    }

    fn scored_again(&self, held: &[Held], rewards: &[f64]) -> Checked<()> {
        let backwards: Vec<Held> = held.iter().rev().cloned().collect();
        for worker in 0..self.workers {
            let mut again = self.rewards(worker, &backwards)?;
            again.reverse();
            for ((held, first), again) in held.iter().zip(rewards).zip(&again) {
                if first.to_bits() != again.to_bits() {
                    let name = &held.episode.name;
                    let text = format!(
                        "episode {name} earns {first}, and {again} in another order, by worker {worker}"
                    );
                    return Err(Found::Wrong(text, PURE.to_owned()));
                }
            }
        }
        Ok(fine("the same conversations earn the same"))
    }

    fn expected(&self, asked: &[Asked], odd: &[Held], rewards: &[f64]) -> Checked<()> {
        let episodes = asked.iter().flat_map(|asked| &asked.episodes);
        let told = episodes.filter(|episode| !episode.turns[0].expected.is_empty());
        let held: Vec<Held> = told
            .map(|episode| Held {
                prompts: vec![episode.turns[0].prompt.clone()],
                answers: vec![episode.turns[0].expected.join("\n")],
                episode: episode.clone(),
            })
            .collect();
        let spoken = self.program.hello().turns > 1;
        if held.is_empty() || spoken {
            let why = if spoken { "episodes have several turns" } else { "none is given" };
            return Ok(((), Found::Odd(format!("{why}, so that it is not known what should earn the most"))));
        }
        let (_, most) = self.program.hello().range;
        let earned = self.rewards(0, &held)?;
        let mut less = None;
        for (held, earned) in held.iter().zip(&earned) {
            let same = odd.iter().zip(rewards).filter(|(odd, _)| odd.episode == held.episode);
            if let Some((odd, better)) = same.into_iter().find(|(_, reward)| **reward > *earned) {
                let text = format!(
                    "in episode {} the expected answer {:?} earns {earned}, and {:?} earns {better}",
                    held.episode.name,
                    short(&held.answers[0]),
                    short(&odd.answers[0])
                );
                let advice =
                    "an expected answer is one that earns the most; mend it or the reward".to_owned();
                return Err(Found::Wrong(text, advice));
            }
            if *earned < most {
                less = less.or(Some((&held.episode.name, earned)));
            }
        }
        let (low, high) = bounds(&earned);
        let text = format!("{} earn from {low} to {high}", held.len());
        Ok(match less {
            Some((name, earned)) => (
                (),
                Found::Odd(format!(
                    "{text}; that of episode {name} earns {earned} where `range` ends at {most}"
                )),
            ),
            None => ((), Found::Fine(text)),
        })
    }

    fn killed(&self, asked: &[Asked]) -> Checked<()> {
        let only = self.program.only(0);
        let id = only.start().map_err(failed)?;
        if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; the next request finds out.
            let _ = kill_process(id, Signal::KILL);
        }
        for first in asked {
            let again = only.episodes(first.seed, first.stream, &first.indices).map_err(failed)?;
            same(first, &first.episodes, &again, "by a process that was started anew")?;
        }
        Ok(fine("a process that is started anew gives the same answers"))
    }

    fn end(self) -> Checked<()> {
        let grace = self.program.settings().timeout.min(LEAST_END);
        let mut odd = None;
        for (worker, (ending, unasked)) in self.program.close(grace).into_iter().enumerate() {
            if let Some(line) = unasked {
                let text = format!("worker {worker} had written what nobody asked for: {line}");
                let advice = "standard output is for one answer a request: write all else to standard error";
                return Err(Found::Wrong(text, advice.to_owned()));
            }
            if ending == Ending::Killed {
                let text = format!(
                    "worker {worker} did not end within {} s after its input had ended",
                    grace.as_secs()
                );
                return Err(Found::Wrong(text, "end when standard input ends".to_owned()));
            }
            if !ending.is_success() {
                odd = odd.or(Some(format!("worker {worker} ended with {ending}")));
            }
        }
        Ok(((), odd.map_or_else(|| Found::Fine("every process ends by itself".to_owned()), Found::Odd)))
    }
}

/// Prints what a check found, and returns what the next checks use.
fn tell<T>(page: &mut Page, name: &str, checked: Checked<T>) -> Option<T> {
    let (value, found) = match checked {
        Ok((value, found)) => (Some(value), found),
        Err(found) => (None, found),
    };
    page.tell(name, found);
    value
}

fn fine(text: &str) -> ((), Found) {
    ((), Found::Fine(text.to_owned()))
}
