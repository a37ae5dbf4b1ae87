//! GSM8K as the environment `gsm8k` of verifiers scores it: the box must hold the very text of the reference answer.
//!
//! Its rules, which are kept: the answer is what stands in the last `\boxed{`, with braces counted whether they are escaped
//! or not; where there is no such box, or it is not closed, the answer is the whole text; nothing is trimmed or normalised,
//! so `\boxed{ 18 }`, `\boxed{18.0}` and `\boxed{1,800}` for 1800 are wrong, and a text that is nothing but `18` is right.

use crate::task::text::strip;

/// Whether a completion earns the reward.
pub fn gsm8k_correct(completion: &str, truth: &str) -> bool {
    response(completion) == truth
}

/// The reference answer of a row: what stands behind the first `####` of its solution, up to the next one, without white
/// space around it. Where there is no such mark it is the whole text.
pub fn gsm8k_truth(solution: &str) -> &str {
    solution.split("####").nth(1).map_or(solution, strip)
}

fn response(completion: &str) -> &str {
    let Some((_, inside)) = completion.rsplit_once("\\boxed{") else { return completion };
    let mut open = 1_usize;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 1 => return &inside[..at],
            b'}' => open -= 1,
            _ => {}
        }
    }
    completion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_answer_stands_behind_the_mark() {
        let cases = [
            ("She makes 9 * 2 = $<<9*2=18>>18.\n#### 18", "18"),
            ("#### 2,125 \n", "2,125"),
            ("####18####19", "18"),
            ("text ####", ""),
            ("42", "42"),
            (" 42 ", " 42 "),
        ];
        for (solution, truth) in cases {
            assert_eq!(gsm8k_truth(solution), truth, "{solution:?}");
        }
    }

    #[test]
    fn a_completion_is_right_to_the_letter() {
        let right = ["so \\boxed{18}.", "\\boxed{17} no, \\boxed{18}", "18", "\\boxed{18} of { them"];
        for completion in right {
            assert!(gsm8k_correct(completion, "18"), "{completion}");
        }
        let wrong = [
            "\\boxed{ 18 }",
            "\\boxed{18.0}",
            "\\boxed{\\$18}",
            "\\boxed{18} or \\boxed{19}",
            "\\boxed 18",
            "\\boxed{18",
            "The answer is 18",
            "18 ",
            "",
        ];
        for completion in wrong {
            assert!(!gsm8k_correct(completion, "18"), "{completion}");
        }
        assert!(gsm8k_correct("\\boxed{2,125}", "2,125") && !gsm8k_correct("\\boxed{2125}", "2,125"));
        // Escaped braces count as braces there.
        assert!(gsm8k_correct("\\boxed{\\{1\\}}", "\\{1\\}"));
        assert!(gsm8k_correct("\\boxed{\\{}", "\\boxed{\\{}"));
    }
}
