//! Questions of a dataset with one answer each: `gsm8k` and `math`.
//!
//! In: rows of two texts, in their order. Out: an episode for each, the question as it is as its only turn, and the reward: 1
//! for the right answer, else 0. Parts: `correct`, the same; `boxed`, whether the text has an answer in a box at all.
//! Invariant: what is shown as the right answer earns 1, checked for every row when the task is made.

use serde_json::{Value, json};

use super::environment::{Environment, Episode, Played, Reward, Turn};
use super::error::TaskError;
use super::math::{boxed, equivalent, gsm8k_correct, gsm8k_truth};
use super::message::Message;
use crate::counter::Counter;

/// A row of a dataset of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionRow {
    /// The question, as the file has it.
    pub question: String,
    /// The answer, as the file has it: what is right in it is the task's matter.
    pub answer: String,
}

/// How answers are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// The box holds the text behind `####` of the reference, to the letter; see [`gsm8k_correct`].
    Gsm8k,
    /// The last box holds the same mathematical object; see [`equivalent`]. Without a box nothing is right.
    Math,
}

impl Marking {
    fn is_right(self, answer: &str, truth: &str) -> bool {
        match self {
            Self::Gsm8k => gsm8k_correct(answer, truth),
            Self::Math => boxed(answer).is_some_and(|content| equivalent(content, truth)),
        }
    }

    /// The right answer of a row, out of the column of answers. A text with a box is a solution, and its last box counts.
    fn truth(self, answer: &str, is_solution: bool) -> Result<&str, &'static str> {
        let truth = match self {
            Self::Gsm8k => gsm8k_truth(answer),
            Self::Math => match boxed(answer) {
                Some(content) => content,
                None if is_solution => return Err("its solution has no answer in a \\boxed{...}"),
                None => answer.trim(),
            },
        };
        if truth.trim().is_empty() { Err("its answer is empty") } else { Ok(truth) }
    }
}

/// The task, with all its rows.
#[derive(Clone, Debug)]
pub struct Questions {
    marking: Marking,
    before: Vec<Message>,
    /// Questions and right answers.
    rows: Vec<(String, String)>,
}

impl Questions {
    /// Finds the right answer of every row. `from` names the file or the dataset, `column` the column that the answers are
    /// from: in one that is called `solution` each must hold a box.
    ///
    /// # Errors
    /// When a row has no question or no right answer.
    pub fn new(
        marking: Marking,
        system_prompt: &str,
        rows: Vec<QuestionRow>,
        from: &str,
        column: &str,
    ) -> Result<Self, TaskError> {
        let is_solution = column == "solution";
        let checked = |(at, QuestionRow { question, answer }): (usize, QuestionRow)| {
            let bad = |what| TaskError::BadQuestion { from: from.to_owned(), row: at + 1, what };
            if question.trim().is_empty() {
                return Err(bad("it has no question"));
            }
            let truth = marking.truth(&answer, is_solution).map_err(bad)?;
            if !marking.is_right(&in_a_box(truth), truth) {
                return Err(bad("its answer fits in no \\boxed{...}: a brace is not closed"));
            }
            Ok((question, truth.to_owned()))
        };
        Ok(Self {
            marking,
            before: Some(system_prompt)
                .filter(|text| !text.is_empty())
                .map(Message::system)
                .into_iter()
                .collect(),
            rows: rows.into_iter().enumerate().map(checked).collect::<Result<_, _>>()?,
        })
    }

    fn episode(&self, index: u64) -> Result<Episode, TaskError> {
        let row = usize::try_from(index).ok().and_then(|index| self.rows.get(index));
        let (question, truth) = row.ok_or(TaskError::NoEpisodes)?;
        Ok(Episode {
            name: format!("row {}", index + 1),
            before: self.before.clone(),
            turns: vec![Turn { prompt: question.clone(), expected: vec![truth.clone()] }],
            info: json!({ "answer": truth }),
        })
    }
}

fn in_a_box(truth: &str) -> String {
    format!("\\boxed{{{truth}}}")
}

/// The right answer of an episode.
fn truth(episode: &Episode) -> &str {
    let expected = || episode.turns.first().and_then(|turn| turn.expected.first()).map(String::as_str);
    episode.info.get("answer").and_then(Value::as_str).or_else(expected).unwrap_or_default()
}

impl Environment for Questions {
    fn count(&self, _seed: u64, _stream: &str) -> Result<Option<u64>, TaskError> {
        Ok(Some(self.rows.len() as u64))
    }

    fn episodes(&self, _seed: u64, _stream: &str, indices: &[u64]) -> Result<Vec<Episode>, TaskError> {
        indices.iter().map(|&index| self.episode(index)).collect()
    }

    fn rewards(&self, played: &[Played<'_>]) -> Result<Vec<Reward>, TaskError> {
        let reward = |played: &Played<'_>| {
            let answer = played.answers.first().map_or("", String::as_str);
            // An answer that was not given is not the empty one.
            let right = !played.answers.is_empty() && self.marking.is_right(answer, truth(played.episode));
            let right = f64::from(right);
            Reward::single(right, &[("correct", right), ("boxed", f64::from(boxed(answer).is_some()))])
        };
        Ok(played.iter().map(reward).collect())
    }

    /// The answer in a box; it has no parts that could be shuffled.
    fn demonstration(&self, episode: &Episode, turn: usize, _: Option<&mut Counter>) -> Option<String> {
        episode.turns.get(turn).map(|turn| turn.expected.concat()).map(|truth| in_a_box(&truth))
    }

    fn markers(&self) -> Vec<&'static str> {
        vec!["\\boxed{"]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EvalRows, Order, Task};
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Vec<QuestionRow> {
        let row = |(question, answer): &(&str, &str)| QuestionRow {
            question: (*question).to_owned(),
            answer: (*answer).to_owned(),
        };
        rows.iter().map(row).collect()
    }

    fn made(marking: Marking, given: &[(&str, &str)], column: &str) -> Result<Questions, TaskError> {
        Questions::new(marking, "Think. Use \\boxed{}.", rows(given), "q.jsonl", column)
    }

    fn refused(marking: Marking, given: &[(&str, &str)], column: &str) -> String {
        made(marking, given, column).expect_err("refused").to_string()
    }

    #[test]
    fn an_episode_is_a_row_with_its_answer() {
        let given = [("1+1?\n", "Two.\n#### 2"), ("2*9?", "#### 1,800 ")];
        let task = made(Marking::Gsm8k, &given, "answer").expect("valid");
        assert_eq!(task.count(7, "eval").expect("counted"), Some(2));
        let episodes = task.episodes(7, "train", &[1, 0]).expect("made");
        assert_eq!([&*episodes[0].name, &*episodes[1].name], ["row 2", "row 1"]);
        assert_eq!(episodes[1].before, [Message::system("Think. Use \\boxed{}.")]);
        assert_eq!(episodes[1].turns, [Turn { prompt: "1+1?\n".into(), expected: vec!["2".into()] }]);
        assert_eq!(episodes[0].info, json!({ "answer": "1,800" }));
        assert_eq!(task.demonstration(&episodes[0], 0, None).as_deref(), Some("\\boxed{1,800}"));
        assert!(task.episodes(7, "train", &[2]).is_err());
        let silent = Questions::new(Marking::Gsm8k, "", rows(&given), "q.jsonl", "answer").expect("valid");
        assert!(silent.episodes(7, "train", &[0]).expect("made")[0].before.is_empty());
    }

    #[test]
    fn truths_of_mathematics_are_answers_or_the_boxes_of_solutions() {
        let solutions = [("a", "First \\boxed{1}, so $\\boxed{\\frac{1}{2}}$."), ("b", "\\boxed 7")];
        let task = made(Marking::Math, &solutions, "solution").expect("valid");
        let episodes = task.episodes(0, "eval", &[0, 1]).expect("made");
        assert_eq!([truth(&episodes[0]), truth(&episodes[1])], ["\\frac{1}{2}", "7"]);
        let answers = made(Marking::Math, &[("a", " \\frac{1}{2}\n"), ("b", "so \\boxed{3}")], "answer")
            .expect("valid");
        let episodes = answers.episodes(0, "eval", &[0, 1]).expect("made");
        assert_eq!([truth(&episodes[0]), truth(&episodes[1])], ["\\frac{1}{2}", "3"]);
    }

    #[test]
    fn a_row_that_does_not_serve_is_named() {
        let math = |answer: &str, column: &str| refused(Marking::Math, &[("a", "1"), ("b", answer)], column);
        assert_eq!(refused(Marking::Math, &[(" \n", "1")], "answer"), "q.jsonl, row 1: it has no question");
        assert_eq!(math(" ", "answer"), "q.jsonl, row 2: its answer is empty");
        assert!(math("\\boxed{}", "answer").ends_with("its answer is empty"));
        assert!(math("\\frac{1}{2", "answer").ends_with("a brace is not closed"));
        assert!(
            refused(Marking::Math, &[("a", "It is 7.")], "solution").ends_with("no answer in a \\boxed{...}")
        );
        assert!(refused(Marking::Gsm8k, &[("a", "text ####")], "answer").ends_with("its answer is empty"));
        let none = made(Marking::Math, &[], "answer").expect("no row");
        assert!(matches!(
            Task::of(none, Order::Rows).held_out(0, EvalRows::First, 1),
            Err(TaskError::NoEpisodes)
        ));
    }

    #[test]
    fn answers_are_marked() {
        let cases = [
            (Marking::Gsm8k, "18", "so \\boxed{18}", 1.0, 1.0),
            (Marking::Gsm8k, "18", "18", 1.0, 0.0),
            (Marking::Gsm8k, "18", "\\boxed{18.0}", 0.0, 1.0),
            (Marking::Gsm8k, "18", "so \\boxed{18", 0.0, 0.0),
            (Marking::Math, "\\frac{1}{2}", "so \\boxed{0.5}", 1.0, 1.0),
            (Marking::Math, "\\frac{1}{2}", "\\boxed{0.5} or \\boxed{2}", 0.0, 1.0),
            (Marking::Math, "\\frac{1}{2}", "\\frac{1}{2}", 0.0, 0.0),
            (Marking::Math, "\\frac{1}{2}", "", 0.0, 0.0),
        ];
        for (marking, truth, answer, total, in_box) in cases {
            let task = made(marking, &[("a", truth)], "answer").expect("valid");
            let task = Task::of(task, Order::Rows);
            let episode = task.train(0, 0..1).expect("made").remove(0);
            let reward = task.reward(&episode, &[answer.to_owned()]).expect("marked");
            assert_eq!(reward, Reward::single(total, &[("correct", total), ("boxed", in_box)]), "{answer}");
            assert_eq!(task.reward(&episode, &[]).expect("marked").total, 0.0);
        }
    }
}
