//! Expressions of whole numbers with `+`, `-`, `*` and brackets: text in, the value and the numbers out.
//!
//! The usual order of operations; white space is free; no signs. Nothing that a model can write overflows, or nests too deep.

/// Brackets within brackets that are still read.
const DEEPEST: usize = 32;

/// The value of an expression, and its numbers as they stand in it; `None` when it is none, or its value is huge.
pub(super) fn evaluate(text: &str) -> Option<(i64, Vec<i64>)> {
    let mut reader = Reader { rest: text.as_bytes(), numbers: Vec::new() };
    let value = reader.sum(0)?;
    reader.space();
    reader.rest.is_empty().then_some((value, reader.numbers))
}

struct Reader<'t> {
    rest: &'t [u8],
    numbers: Vec<i64>,
}

impl Reader<'_> {
    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn take(&mut self, signs: &[u8]) -> Option<u8> {
        self.space();
        let (&first, rest) = self.rest.split_first()?;
        signs.contains(&first).then(|| {
            self.rest = rest;
            first
        })
    }

    fn sum(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.product(depth)?;
        while let Some(sign) = self.take(b"+-") {
            let term = self.product(depth)?;
            value = if sign == b'+' { value.checked_add(term)? } else { value.checked_sub(term)? };
        }
        Some(value)
    }

    fn product(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.factor(depth)?;
        while self.take(b"*").is_some() {
            value = value.checked_mul(self.factor(depth)?)?;
        }
        Some(value)
    }

    fn factor(&mut self, depth: usize) -> Option<i64> {
        if self.take(b"(").is_some() {
            if depth == DEEPEST {
                return None;
            }
            let value = self.sum(depth + 1)?;
            return self.take(b")").map(|_| value);
        }
        self.space();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        let value: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        self.rest = rest;
        self.numbers.push(value);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_usual_order() {
        for (text, value, numbers) in [
            ("7", 7, vec![7]),
            ("2 + 3 * 4", 14, vec![2, 3, 4]),
            ("(2+3)*4", 20, vec![2, 3, 4]),
            ("10 - 3 - 2", 5, vec![10, 3, 2]),
            ("2 * (3 - (1 + 5))\n", -6, vec![2, 3, 1, 5]),
        ] {
            assert_eq!(evaluate(text), Some((value, numbers)), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_has_no_value() {
        for text in ["", "2 +", "2 3", "(2", "2)", "-2", "2 = 2", "2 / 2", "x", "9999999999999999999", "٣"] {
            assert_eq!(evaluate(text), None, "{text}");
        }
        assert_eq!(evaluate("9999999999 * 9999999999"), None);
        assert_eq!(evaluate(&format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000))), None);
    }
}
