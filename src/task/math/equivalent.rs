//! When two answers to a question of competition mathematics are the same.
//!
//! Two answers are the same when they are the same mathematical object, and both are worked out as far as an answer has to
//! be. Each rule is an identity, so that what is called the same is the same; where a rule would have to guess, the answers
//! are compared as text. So the errors are on one side: a right answer in an unusual form may count as wrong. What is
//! passed over, because right answers differ in it, is listed in the documentation of tasks: units and labels that only one
//! of the two has, a percent sign, the order of lists.
//!
//! The relation is reflexive and symmetric. It is not transitive: 50 and 1/2 are both the same as 50 percent.

use super::compare::{hundredth, same_answer};
use super::lex::lex;
use super::polynomial::Work;
use super::render;
use super::structure::read;

/// The longest answer that is read, in bytes; a longer one is compared as text.
const LONGEST: usize = 2_000;

/// Whether `answer` and `truth`, the contents of two boxes, are the same answer.
///
/// # Examples
/// ```
/// use tickets::task::equivalent;
///
/// assert!(equivalent("x = 0.5", r"\dfrac{1}{2}"));
/// assert!(equivalent(r"\{3, 1\}", "1, 3"));
/// assert!(!equivalent("(1, 2]", "(1, 2)"));
/// assert!(!equivalent(r"3 \cdot 4", "12"));
/// ```
pub fn equivalent(answer: &str, truth: &str) -> bool {
    if answer.len() > LONGEST || truth.len() > LONGEST {
        let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        return visible(answer) == visible(truth);
    }
    let (left, right) = (lex(answer), lex(truth));
    if render::plain(&left) == render::plain(&right) {
        return true;
    }
    let (left, right) = (read(&left), read(&right));
    // In one order, so that the work that is left cannot make the relation depend on which is which.
    let ((left, units), (right, other_units)) = if left <= right { (left, right) } else { (right, left) };
    if !units.is_empty() && !other_units.is_empty() && units != other_units {
        return false;
    }
    let work = Work::default();
    if same_answer(&left, &right, &work) {
        return true;
    }
    // Per hundred: 50 percent is 50, as answers are given, and 1/2, as it is meant.
    let percent = |units: &std::collections::BTreeSet<String>| units.len() == 1 && units.contains("percent");
    let scaled = match (percent(&units), percent(&other_units)) {
        (true, false) => hundredth(&left, &work).map(|left| (left, right)),
        (false, true) => hundredth(&right, &work).map(|right| (left, right)),
        _ => None,
    };
    scaled.is_some_and(|(left, right)| same_answer(&left, &right, &work))
}
