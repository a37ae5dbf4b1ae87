//! Hand-made pairs of answers, equal and unequal, and what must hold of any two texts.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{boxed, equivalent, gsm8k_correct, gsm8k_truth};

/// A pair: its line in the file, its kind, both answers, and whether they are the same.
struct Pair {
    line: usize,
    kind: &'static str,
    left: &'static str,
    right: &'static str,
    equal: bool,
}

/// `[kind]` lines, `# ...` lines, and pairs: `left = right` with `==` or `!=` between blanks.
fn pairs() -> Vec<Pair> {
    let mut kind = "";
    let mut pairs = Vec::new();
    for (number, line) in include_str!("pairs.txt").lines().enumerate() {
        if let Some(name) = line.strip_prefix("## ") {
            kind = name;
        } else if !line.is_empty() && !line.starts_with('#') {
            let equal = line.split_once(" == ");
            let (left, right) = equal.or_else(|| line.split_once(" <> ")).expect("a pair");
            pairs.push(Pair {
                line: number + 1,
                kind,
                left: left.trim(),
                right: right.trim(),
                equal: equal.is_some(),
            });
        }
    }
    pairs
}

#[test]
fn hand_made_pairs_are_told_apart() {
    let pairs = pairs();
    let count = |equal: bool| pairs.iter().filter(|pair| pair.equal == equal).count();
    assert!(count(true) >= 250 && count(false) >= 200, "{} equal, {} unequal", count(true), count(false));
    let wrong = pairs.iter().filter(|pair| equivalent(pair.left, pair.right) != pair.equal);
    let told = wrong.map(|pair| {
        let sign = if pair.equal { "==" } else { "<>" };
        format!("line {}, {}: {} {sign} {}", pair.line, pair.kind, pair.left, pair.right)
    });
    let told: Vec<String> = told.collect();
    assert!(told.is_empty(), "{} of {} pairs:\n{}", told.len(), pairs.len(), told.join("\n"));
}

#[test]
fn answers_of_pairs_keep_the_laws() {
    let pairs = pairs();
    for pair in &pairs {
        assert_eq!(
            equivalent(pair.left, pair.right),
            equivalent(pair.right, pair.left),
            "line {}",
            pair.line
        );
        for text in [pair.left, pair.right] {
            assert!(equivalent(text, text), "line {}: {text}", pair.line);
            // What surrounds an answer does not count.
            assert!(
                equivalent(&format!("$ {text} $."), text) || text.ends_with('\\'),
                "line {}: {text}",
                pair.line
            );
        }
    }
    // Nor does which answers are compared: those of any two kinds.
    for (one, other) in pairs.iter().zip(pairs.iter().skip(7)) {
        assert_eq!(equivalent(one.left, other.right), equivalent(other.right, one.left), "{}", one.line);
    }
}

/// Texts made of the pieces that answers are made of.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "\\frac",
        "\\sqrt",
        "{",
        "}",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        "^",
        "_",
        "1",
        "2",
        "12",
        "0.5",
        ",",
        "+",
        "-",
        "*",
        "/",
        "x",
        "y",
        "i",
        "e",
        "ab",
        "\\pi",
        "\\infty",
        "\\pm",
        "\\cup",
        "=",
        "<",
        "\\le",
        "\\in",
        "|",
        "!",
        "\\text{",
        "cm",
        "and",
        " ",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\%",
        "^\\circ",
        "\\$",
        "\\sin",
        "\\log",
        "\\left",
        "\\right",
        ".",
        "'",
        "\\overline{",
        "10^",
        "é",
        "√",
        "\\binom",
        "\\mathbb{R}",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

/// What a single comparison may take, without optimisation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn laws(left: &str, right: &str) -> Result<(), TestCaseError> {
    let started = Instant::now();
    prop_assert!(equivalent(left, left), "{left:?}");
    prop_assert_eq!(equivalent(left, right), equivalent(right, left), "{:?} {:?}", left, right);
    let _ = (boxed(left), gsm8k_correct(left, right), gsm8k_truth(left));
    prop_assert!(started.elapsed() < PATIENCE, "{:?}: {left:?} {right:?}", started.elapsed());
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 1_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_texts_keep_the_laws(left in any::<String>(), right in any::<String>()) {
        laws(&left, &right)?;
    }

    #[test]
    fn texts_like_answers_keep_the_laws(left in pieces(), right in pieces()) {
        laws(&left, &right)?;
        laws(&left, &format!("({right})"))?;
    }

    #[test]
    fn damaged_answers_keep_the_laws(at in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let pairs = pairs();
        let pair = &pairs[at.index(pairs.len())];
        let ends: Vec<usize> = pair.left.char_indices().map(|(at, _)| at).collect();
        let cut = ends[cut.index(ends.len())];
        laws(&pair.left[..cut], pair.right)?;
        laws(&pair.left[cut..], pair.right)?;
    }

    #[test]
    fn whole_numbers_are_compared_as_numbers(left in -2_000_i64..2_000, right in -2_000_i64..2_000, below in 1_i64..50) {
        let (one, other) = (format!("\\frac{{{left}}}{{{below}}}"), format!("{right}/{below}"));
        prop_assert_eq!(equivalent(&one, &other), left == right);
        let decimal = format!("{}.{:02}", left / 100, (left % 100).abs());
        if left >= 0 {
            let fraction = format!("\\dfrac{{{left}}}{{100}}");
            prop_assert!(equivalent(&decimal, &fraction));
        }
    }
}

#[test]
fn large_and_deep_texts_are_compared_in_no_time() {
    let deep =
        |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
    let texts = [
        "9".repeat(1 << 20),
        "{".repeat(1 << 20),
        "\\boxed{".repeat(1 << 17),
        deep("(", ")", 900),
        deep("\\frac{1}{", "}", 200),
        deep("\\sqrt{", "}", 250),
        deep("1\\frac{1}{", "}", 180),
        deep("\\{", "\\}", 450),
        deep("|", "|", 900),
        deep("\\text{", "}", 280),
        deep("\\sin", "", 480),
        deep("2^{", "}", 400),
        deep("a_", "", 900),
        deep("-", "", 1_900),
        "\\sqrt".repeat(390),
        "\\frac".repeat(390),
        "(x+y+z+1)^{64}".to_owned(),
        "(x+y+z+1)^9".repeat(140),
        "(a+b)(c+d)(e+f)(g+h)(j+k)(l+m)(n+o)(p+q)(r+s)(t+u)(v+w)(x+y)(A+B)(C+D)".to_owned(),
        "99^{99^{99^{99}}}".to_owned(),
        "\\sqrt{170141183460469231731687303715884105727}+".repeat(39),
        "1,".repeat(999),
        "\\{1,2\\},".repeat(60),
        "x=".repeat(900),
        "\\pm".repeat(600),
        "\\begin{pmatrix}".repeat(100),
        format!("\\begin{{pmatrix}}{}\\end{{pmatrix}}", "1 & ".repeat(400)),
    ];
    for (text, other) in texts.iter().zip(texts.iter().cycle().skip(1)) {
        let asked = Instant::now();
        assert!(equivalent(text, text));
        assert_eq!(boxed(text).is_some(), boxed(&format!("{text} ")).is_some());
        for other in [other, &format!("{text}+0"), &text[1..]] {
            assert_eq!(equivalent(text, other), equivalent(other, text));
        }
        assert!(asked.elapsed() < PATIENCE, "{:?}: {}", asked.elapsed(), &text[..text.len().min(40)]);
    }
}
