//! Character similarity as CPython's `difflib.SequenceMatcher(None, a, b).ratio()` computes it, bit for bit.
//!
//! In: two strings, compared as sequences of code points. Out: `2 M / T`, where `M` counts the characters in matching
//! blocks and `T` is the sum of both lengths. The automatic junk rule is on, as it is by default there: when `b` has at
//! least 200 characters, one that occurs in it more than `len(b) / 100 + 1` times cannot seed a match, though it may
//! still extend one. The order of the arguments matters.
//!
//! Source: the documented behaviour of the Python standard library; `tests/oracles/difflib_cases.py` prints values
//! from the interpreter itself.

/// The similarity of `a` (the answer) to `b` (the truth), in `[0, 1]`; two empty strings are alike.
pub fn ratio(a: &str, b: &str) -> f64 {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let total = a.len() + b.len();
    if total == 0 {
        return 1.0;
    }
    2.0 * Matcher::new(&a, &b).matched() as f64 / total as f64
}

/// Where `b` has the characters of `a`, and the working rows of the longest-match search.
struct Matcher<'t> {
    a: &'t [char],
    b: &'t [char],
    /// Positions in `b`, grouped by character and ascending in each group.
    positions: Vec<usize>,
    /// For each character of `a`, its group in `positions`; empty when `b` lacks it or has it too often.
    groups: Vec<(usize, usize)>,
    /// Lengths of the common runs that end at the present and the previous character of `a`, by position in `b`
    /// plus one. A cell counts only while its stamp is the row asked for, so nothing is ever cleared.
    rows: [Vec<Cell>; 2],
    /// Stamp of the present row.
    row: usize,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    row: usize,
    length: usize,
}

/// A common run: `a[a..a + length] == b[b..b + length]`.
struct Block {
    a: usize,
    b: usize,
    length: usize,
}

/// A pair of ranges still to be compared.
#[derive(Clone, Copy)]
struct Window {
    a: (usize, usize),
    b: (usize, usize),
}

impl<'t> Matcher<'t> {
    fn new(a: &'t [char], b: &'t [char]) -> Self {
        let mut positions: Vec<usize> = (0..b.len()).collect();
        positions.sort_unstable_by_key(|&j| (b[j], j));
        let most = if b.len() >= 200 { b.len() / 100 + 1 } else { usize::MAX };
        let groups = a
            .iter()
            .map(|wanted| {
                let start = positions.partition_point(|&j| b[j] < *wanted);
                let length = positions[start..].partition_point(|&j| b[j] == *wanted);
                if length > most { (start, start) } else { (start, start + length) }
            })
            .collect();
        let rows = [vec![Cell::default(); b.len() + 1], vec![Cell::default(); b.len() + 1]];
        // Stamps begin above the default one, so that an untouched cell never counts.
        Self { a, b, positions, groups, rows, row: 1 }
    }

    /// The number of characters in matching blocks: the longest run, then the same on both sides of it.
    fn matched(&mut self) -> usize {
        let mut matched = 0;
        // A stack of our own: the depth follows the text, which a model wrote.
        let mut pending = vec![Window { a: (0, self.a.len()), b: (0, self.b.len()) }];
        while let Some(window) = pending.pop() {
            let block = self.longest(window);
            if block.length == 0 {
                continue;
            }
            matched += block.length;
            let (a_end, b_end) = (block.a + block.length, block.b + block.length);
            if window.a.0 < block.a && window.b.0 < block.b {
                pending.push(Window { a: (window.a.0, block.a), b: (window.b.0, block.b) });
            }
            if a_end < window.a.1 && b_end < window.b.1 {
                pending.push(Window { a: (a_end, window.a.1), b: (b_end, window.b.1) });
            }
        }
        matched
    }

    /// The longest run within `window`, of equals the one that starts earliest in `a`, then in `b`.
    ///
    /// With every character in play that is what the search finds. Characters that are too common only take part in
    /// the extension at the end, which also starts from the lower corner of the window when nothing was found.
    fn longest(&mut self, window: Window) -> Block {
        let Window { a: (a_low, a_high), b: (b_low, b_high) } = window;
        let mut best = Block { a: a_low, b: b_low, length: 0 };
        // One stamp is left out, so that the first row here has no previous row.
        self.row += 1;
        for i in a_low..a_high {
            self.row += 1;
            let (previous, present) = match &mut self.rows {
                [even, odd] if self.row.is_multiple_of(2) => (&*odd, even),
                [even, odd] => (&*even, odd),
            };
            let group = &self.positions[self.groups[i].0..self.groups[i].1];
            let first = group.partition_point(|&j| j < b_low);
            for &j in group[first..].iter().take_while(|&&j| j < b_high) {
                let before = previous[j];
                let length = if before.row == self.row - 1 { before.length + 1 } else { 1 };
                present[j + 1] = Cell { row: self.row, length };
                if length > best.length {
                    best = Block { a: i + 1 - length, b: j + 1 - length, length };
                }
            }
        }
        while best.a > a_low && best.b > b_low && self.a[best.a - 1] == self.b[best.b - 1] {
            best = Block { a: best.a - 1, b: best.b - 1, length: best.length + 1 };
        }
        while best.a + best.length < a_high
            && best.b + best.length < b_high
            && self.a[best.a + best.length] == self.b[best.b + best.length]
        {
            best.length += 1;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equality to the bit: the values below are quotients that both sides round in the same way.
    #[track_caller]
    fn check(a: &str, b: &str, matched: u32, total: u32) {
        let expected = 2.0 * f64::from(matched) / f64::from(total);
        assert_eq!(ratio(a, b).to_bits(), expected.to_bits(), "{a:?} {b:?}: {} {expected}", ratio(a, b));
    }

    #[test]
    fn empty_strings_are_alike_and_unlike_anything_else() {
        assert_eq!(ratio("", "").to_bits(), 1.0_f64.to_bits());
        check("", "a", 0, 1);
        check("a", "", 0, 1);
    }

    #[test]
    fn the_longest_run_comes_first_then_both_sides() {
        // "bcd" is the longest run; "a" lies to its left in both, nothing is left on the right.
        check("abcd", "axbcd", 4, 9);
        // The greedy run "cde" leaves "ab" before it in one string and after it in the other: not a subsequence search.
        check("abcde", "cdeab", 3, 10);
        // "aa" begins at (0, 0) already, but the longest run is "aab" at (0, 1).
        check("aab", "aaab", 3, 7);
    }

    #[test]
    fn the_arguments_are_not_symmetric() {
        // From "tide" the first of the equal runs is "t": then "i", "d" and "e" have only "e" left after it in "diet".
        // From "diet" the first is "d": to its right only "e" remains in "tide" ("i" lies before "d").
        check("tide", "diet", 1, 8);
        check("diet", "tide", 2, 8);
    }

    #[test]
    fn lengths_are_in_code_points() {
        check("éa", "éb", 1, 4);
        check("🦀🦀x", "🦀🦀y", 2, 6);
    }

    #[test]
    fn a_common_character_seeds_nothing_in_a_long_truth() {
        // 199 characters: no rule. 200 characters: "x" occurs 200 > 200 / 100 + 1 = 3 times and seeds no match, but a
        // match may grow from the lower corner of the window, so a shared prefix still counts ...
        check(&"x".repeat(50), &"x".repeat(199), 50, 249);
        check(&"x".repeat(50), &"x".repeat(200), 50, 250);
        // ... and without one nothing is found.
        check(&format!("a{}", "x".repeat(50)), &"x".repeat(199), 50, 250);
        check(&format!("a{}", "x".repeat(50)), &"x".repeat(200), 0, 251);
        // A rare character seeds, and the common ones beside it extend: "xxqxx" against a truth with one "q".
        let truth = format!("{}q{}", "x".repeat(100), "x".repeat(100));
        check("xxqxx", &truth, 5, 206);
    }

    #[test]
    fn the_bound_on_common_characters_is_exclusive() {
        // 200 characters, bound 3: a character that occurs three times still seeds, one that occurs four times does not.
        let mut filler = (0..).filter_map(|n| char::from_u32(0x4e00 + n));
        let mut text = |often: usize| -> String {
            let mut text: Vec<char> = filler.by_ref().take(200 - often).collect();
            text.extend(std::iter::repeat_n('z', often));
            text.into_iter().collect()
        };
        check("yz", &text(3), 1, 202);
        check("yz", &text(4), 0, 202);
    }

    #[test]
    fn deep_recursion_elsewhere_is_a_loop_here() {
        // Alternating junk makes one block per character: tens of thousands of nested windows.
        let a: String =
            (0..3_000_u32).flat_map(|n| [char::from_u32(0x4e00 + n), Some('a')]).flatten().collect();
        let b: String =
            (0..3_000_u32).flat_map(|n| [char::from_u32(0x4e00 + n), Some('b')]).flatten().collect();
        check(&a, &b, 3_000, 12_000);
    }
}
