//! How long prompts and answers are, in tokens, without a tokenizer.
//!
//! Alphabet-sort: some episodes are made as the run would make them, and their prompts and right answers counted by
//! [`tokens`]; so for the small tasks. **Assumption:** answers are as long as right ones. Questions (`gsm8k`, `math`): typical numbers, because
//! their data may not be here. Errors of both are within what measured runs correct.

use crate::data::open_task;
use crate::manifest::ModelSource;
use crate::task::{AlphabetSortSpec, Episodes, NameSource, NamesSpec, Serving, Task, TaskSpec};

/// No program is started here.
const ALONE: Serving = Serving { workers: 1, timeout_seconds: 1 };
/// Episodes that are looked at.
const EPISODES: u64 = 32;
/// Most letters of one token: of the built-in base's small vocabulary, and of a large one.
const BUILT_IN_LETTERS: usize = 4;
const LETTERS: usize = 6;
/// Tokens that the chat template puts around a user's message: role markers, line breaks, the opening of the answer.
const BUILT_IN_TEMPLATE: f64 = 2.0;
const TEMPLATE: f64 = 9.0;
/// A large model's default system message, once per conversation.
const SYSTEM: f64 = 25.0;
/// A question, the longest one, and an answer with its reasoning: GSM8K, MATH.
const GSM8K: (f64, f64, f64) = (65.0, 220.0, 250.0);
const MATH: (f64, f64, f64) = (85.0, 750.0, 550.0);
/// A batch is drawn until its longest answer ends; of a task with right answers of known length it is taken to be this
/// many times the longest right one.
const STRAGGLER: f64 = 1.5;

/// One turn's lengths, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Share of the conversations that get so far.
    pub share: f64,
    /// Mean length of what is put before the answer: message and template.
    pub prompt: f64,
    /// Longest prompt.
    pub longest_prompt: f64,
    /// Mean length of the answer, its end token included, before it is cut at the limit.
    pub answer: f64,
    /// Longest answer of a batch, before it is cut.
    pub longest_answer: f64,
}

/// The lengths of a task's conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// In order.
    pub turns: Vec<Turn>,
}

impl Lengths {
    /// Typical lengths of a task on a model.
    pub fn of(task: &TaskSpec, model: &ModelSource) -> Self {
        let counter = TokenCounter::new(model);
        match task {
            TaskSpec::AlphabetSort(spec) => sorted(task, spec, &counter),
            TaskSpec::Arithmetic(_) | TaskSpec::Reverse(_) | TaskSpec::Countdown(_) => {
                let made = Task::new(task, NameSource::Shipped).ok().and_then(|task| looked(&task, &counter));
                made.unwrap_or_else(|| question(GSM8K, "", &counter))
            }
            // A program is not started to be looked at.
            TaskSpec::Program(program) => {
                let one = question(GSM8K, "", &counter).turns;
                Self { turns: vec![one[0]; program.max_turns as usize] }
            }
            TaskSpec::Gsm8k(spec) => question(GSM8K, &spec.system_prompt, &counter),
            TaskSpec::Math(spec) => question(MATH, &spec.system_prompt, &counter),
        }
    }

    /// Mean tokens that are drawn in a conversation with at most `limit` in a turn.
    pub fn drawn(&self, limit: f64) -> f64 {
        self.turns.iter().map(|turn| turn.share * turn.answer.min(limit)).sum()
    }

    /// Mean tokens of a whole conversation.
    pub fn whole(&self, limit: f64) -> f64 {
        self.turns.iter().map(|turn| turn.share * turn.prompt).sum::<f64>() + self.drawn(limit)
    }

    /// Tokens that stand before the answer of a turn, from 0.
    pub fn context(&self, turn: usize, limit: f64) -> f64 {
        let before = self.turns[..turn].iter().map(|turn| turn.prompt + turn.answer.min(limit));
        before.sum::<f64>() + self.turns[turn].prompt
    }

    /// The longest conversation: the longest prompts, every answer cut at the limit.
    pub fn longest(&self, limit: f64) -> f64 {
        self.turns.iter().map(|turn| turn.longest_prompt + limit).sum()
    }

    /// Tokens that are drawn in `rows` conversations of which one runs to the limit in every turn, and the others are as
    /// long as long answers are.
    pub fn drawn_at_most(&self, rows: f64, limit: f64) -> f64 {
        let drawn = |turn: &Turn| limit + (rows - 1.0).max(0.0) * turn.longest_answer.min(limit);
        self.turns.iter().map(drawn).sum()
    }

    /// The longest demonstration: the longest prompts, each with the longest right answer.
    pub fn longest_right(&self) -> f64 {
        self.turns.iter().map(|turn| turn.longest_prompt + turn.longest_answer / STRAGGLER).sum()
    }

    /// The longest right answer of a turn.
    pub fn longest_right_answer(&self) -> f64 {
        self.turns.iter().map(|turn| turn.longest_answer / STRAGGLER).fold(0.0, f64::max)
    }
}

/// Questions with reasoning. Some rollout of a batch always runs to the limit.
fn question((prompt, longest, answer): (f64, f64, f64), system: &str, counter: &TokenCounter) -> Lengths {
    let system = if system.is_empty() { SYSTEM } else { 5.0 + counter.tokens(system, &[]) };
    let around = counter.template + system;
    Lengths {
        turns: vec![Turn {
            share: 1.0,
            prompt: prompt + around,
            longest_prompt: longest + around,
            answer,
            longest_answer: f64::INFINITY,
        }],
    }
}

fn sorted(task: &TaskSpec, spec: &AlphabetSortSpec, counter: &TokenCounter) -> Lengths {
    // Names that are not here are replaced by our own: of much the same length.
    let like = || {
        let spec =
            AlphabetSortSpec { names: NamesSpec::Shipped, episodes: Episodes::Counter, ..spec.clone() };
        Task::new(&TaskSpec::AlphabetSort(spec), NameSource::Shipped)
    };
    // A dataset of a hub is not fetched to be looked at.
    let here = if let NamesSpec::Hub(_) = spec.names { None } else { open_task(task, ALONE).ok() };
    let task = here.or_else(|| like().ok());
    task.and_then(|task| looked(&task, counter)).unwrap_or_else(|| bare(spec, counter))
}

/// The lengths of some episodes and their right answers; `None` when one cannot be made.
fn looked(task: &Task, counter: &TokenCounter) -> Option<Lengths> {
    let markers = if counter.built_in { task.markers() } else { Vec::new() };
    let mut sums: Vec<(f64, Turn)> = Vec::new();
    for index in 0..EPISODES {
        let episode = task.episode(0, "estimate", index).ok()?;
        for (at, turn) in episode.turns.iter().enumerate() {
            let system = if at == 0 { counter.system } else { 0.0 };
            let prompt = counter.tokens(&turn.prompt, &markers) + counter.template + system;
            let answer = counter.tokens(&task.demonstration(&episode, at)?, &markers) + 1.0;
            if sums.len() == at {
                sums.push((0.0, Turn::default()));
            }
            let (count, sum) = &mut sums[at];
            *count += 1.0;
            sum.prompt += prompt;
            sum.answer += answer;
            sum.longest_prompt = sum.longest_prompt.max(prompt);
            sum.longest_answer = sum.longest_answer.max(answer * STRAGGLER);
        }
    }
    let mean = |(count, sum): (f64, Turn)| Turn {
        share: count / EPISODES as f64,
        prompt: sum.prompt / count,
        answer: sum.answer / count,
        ..sum
    };
    Some(Lengths { turns: sums.into_iter().map(mean).collect() })
}

/// Where no episode can be made: three tokens a name, all names of the turns so far in each answer.
fn bare(spec: &AlphabetSortSpec, counter: &TokenCounter) -> Lengths {
    let mean = f64::from(spec.min_names_per_turn + spec.max_names_per_turn) / 2.0;
    let most = f64::from(spec.max_names_per_turn);
    let turn = |at: u32| {
        let system = if at == 1 { counter.system } else { 0.0 };
        let prompt = |names: f64| 50.0 + 5.0 * names + counter.template + system;
        let answer = |names: f64| 12.0 + 4.0 * names * f64::from(at);
        Turn {
            share: if at <= spec.min_turns { 1.0 } else { 0.5 },
            prompt: prompt(mean),
            longest_prompt: prompt(most),
            answer: answer(mean),
            longest_answer: answer(most) * STRAGGLER,
        }
    };
    Lengths { turns: (1..=spec.max_turns).map(turn).collect() }
}

impl Default for Turn {
    fn default() -> Self {
        Self { share: 0.0, prompt: 0.0, longest_prompt: 0.0, answer: 0.0, longest_answer: 0.0 }
    }
}

/// Counts the tokens of text as a tokenizer of the base's kind would, roughly.
struct TokenCounter {
    built_in: bool,
    letters: usize,
    template: f64,
    system: f64,
}

impl TokenCounter {
    fn new(model: &ModelSource) -> Self {
        let built_in = matches!(model, ModelSource::Pretrain(_));
        Self {
            built_in,
            letters: if built_in { BUILT_IN_LETTERS } else { LETTERS },
            template: if built_in { BUILT_IN_TEMPLATE } else { TEMPLATE },
            system: if built_in { 0.0 } else { SYSTEM },
        }
    }

    /// One token per marker; elsewhere one per digit, per run of punctuation, per run of line breaks, and per
    /// `letters` letters of a word. A capital behind a small letter begins a word; blanks belong to what follows.
    fn tokens(&self, text: &str, markers: &[&str]) -> f64 {
        if let Some((before, marker, after)) = markers
            .iter()
            .find_map(|marker| text.split_once(marker).map(|(before, after)| (before, *marker, after)))
        {
            debug_assert!(!marker.is_empty());
            return self.tokens(before, markers) + 1.0 + self.tokens(after, markers);
        }
        let (mut count, mut word, mut last) = (0usize, 0usize, Kind::Blank);
        let mut was_small = false;
        for c in text.chars() {
            let kind = Kind::of(c);
            let goes_on = kind == last && kind != Kind::Digit && !(was_small && c.is_uppercase());
            if kind == Kind::Letter {
                word = if goes_on { word + 1 } else { 1 };
                count += usize::from(word % self.letters == 1 || self.letters == 1);
            } else if kind != Kind::Blank {
                count += usize::from(!goes_on);
            }
            was_small = c.is_lowercase();
            last = kind;
        }
        count as f64
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Break,
    Blank,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            '\n' | '\r' => Self::Break,
            c if c.is_whitespace() => Self::Blank,
            c if c.is_alphabetic() => Self::Letter,
            c if c.is_numeric() => Self::Digit,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_as_tokenizers_cut_it() {
        let counter = TokenCounter { built_in: true, letters: 4, template: 0.0, system: 0.0 };
        // Sort : Abe , Cleo
        assert_eq!(counter.tokens("Sort: Abe, Cleo", &[]), 5.0);
        // Anna Moss, Bart holo mew, 4 2
        assert_eq!(counter.tokens("AnnaMoss Bartholomew 42", &[]), 7.0);
        // marker, break, Abe, break, marker
        assert_eq!(counter.tokens("<a>\nAbe\n</a>", &["<a>", "</a>"]), 5.0);
        // < a >, break, Abe, break, </ a >
        assert_eq!(counter.tokens("<a>\nAbe\n</a>", &[]), 9.0);
        assert_eq!(counter.tokens("", &["<a>"]), 0.0);
    }

    #[test]
    fn conversations_add_up() {
        let turn = |share, prompt, answer| Turn {
            share,
            prompt,
            answer,
            longest_prompt: 2.0 * prompt,
            longest_answer: 1.5 * answer,
        };
        let lengths = Lengths { turns: vec![turn(1.0, 10.0, 6.0), turn(0.5, 4.0, 8.0)] };
        assert_eq!(lengths.drawn(7.0), 6.0 + 0.5 * 7.0);
        assert_eq!(lengths.whole(7.0), 9.5 + 10.0 + 2.0);
        assert_eq!((lengths.context(0, 5.0), lengths.context(1, 5.0)), (10.0, 19.0));
        assert_eq!(lengths.longest(7.0), 20.0 + 8.0 + 14.0);
        // 7 and twice 7 (9 is cut); 7 and twice 7 (12 is cut). Of 10 at most: 10 + 2 * 9 and 10 + 2 * 10.
        assert_eq!(lengths.drawn_at_most(3.0, 7.0), 42.0);
        assert_eq!(lengths.drawn_at_most(3.0, 10.0), 28.0 + 30.0);
        assert_eq!((lengths.longest_right(), lengths.longest_right_answer()), (28.0 + 14.0, 8.0));
    }
}
