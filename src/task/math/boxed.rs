//! The final answer of a text: what its last box holds.

/// The content of the last `\boxed` or `\fbox`, without white space around it; `None` when there is no box, or when the last
/// one is not closed, as in a text that was cut off.
///
/// Braces nest, and `\{` and `\}` are no braces. Without braces, `\boxed 7`, the box holds the number or the letter that
/// follows: TeX would take its first digit, and nobody means that. `\boxedx` is another command.
pub fn boxed(text: &str) -> Option<&str> {
    let (start, after) = boxes(text).last()?;
    let content = text[start..].trim_start();
    match content.strip_prefix('{') {
        Some(inside) => Some(inside[..closing(inside)?].trim()),
        // A letter right behind the command would be part of its name.
        None if after || !content.starts_with(char::is_alphabetic) => bare(content),
        None => None,
    }
}

/// Where what is boxed starts, and whether white space separates it from the command.
fn boxes(text: &str) -> impl Iterator<Item = (usize, bool)> {
    text.match_indices('\\').filter_map(|(at, _)| {
        let name = &text[at + 1..];
        let rest = name.strip_prefix("boxed").or_else(|| name.strip_prefix("fbox"))?;
        // `\\boxed` is a line break before a word.
        let slashes = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        let letter = rest.starts_with(|c: char| c.is_ascii_alphabetic());
        (slashes % 2 == 0 && !letter)
            .then(|| (text.len() - rest.len(), rest.starts_with(char::is_whitespace)))
    })
}

/// The place of the brace that closes the one before the text.
fn closing(inside: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A number or a letter at the start.
fn bare(content: &str) -> Option<&str> {
    let bytes = content.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = usize::from(bytes.first() == Some(&b'-'));
    if digit(end) {
        while digit(end) || (matches!(bytes.get(end), Some(b'.' | b',')) && digit(end + 1)) {
            end += 1;
        }
        return Some(&content[..end]);
    }
    content.chars().next().filter(|c| c.is_alphabetic()).map(|c| &content[..c.len_utf8()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_counts() {
        let cases = [
            (r"so \boxed{7}.", Some("7")),
            (r"\boxed{1} then \boxed{2}", Some("2")),
            (r"\boxed{ \frac{1}{2} }$", Some(r"\frac{1}{2}")),
            (r"\boxed{\boxed{3}}", Some("3")),
            (r"\fbox{4}", Some("4")),
            (r"\boxed{1} \fbox{2}", Some("2")),
            (r"\boxed {5}", Some("5")),
            (r"\boxed{}", Some("")),
            ("\\boxed\n{6}", Some("6")),
            (r"\boxed{\text{é, ü}}", Some(r"\text{é, ü}")),
            ("no box 7", None),
            ("", None),
        ];
        for (text, content) in cases {
            assert_eq!(boxed(text), content, "{text}");
        }
    }

    #[test]
    fn braces_nest_and_escaped_ones_do_not() {
        let cases = [
            (r"\boxed{\{1,2\}}", Some(r"\{1,2\}")),
            (r"\boxed{\left\{ x : x^{2} < 4 \right\}} done}", Some(r"\left\{ x : x^{2} < 4 \right\}")),
            (r"\boxed{\}}", Some(r"\}")),
            (r"\boxed{\{}", Some(r"\{")),
            (r"\boxed{a \\}", Some(r"a \\")),
            (r"\boxed{\frac{\sqrt{3}}{x_{1}}}", Some(r"\frac{\sqrt{3}}{x_{1}}")),
        ];
        for (text, content) in cases {
            assert_eq!(boxed(text), content, "{text}");
        }
    }

    #[test]
    fn a_box_that_is_cut_off_is_none() {
        for text in [
            r"\boxed{",
            r"\boxed{\frac{1}{2}",
            r"\boxed{1} and \boxed{2",
            r"\boxed",
            r"\boxed{a\}",
            r"\boxed ",
        ] {
            assert_eq!(boxed(text), None, "{text}");
        }
    }

    #[test]
    fn a_box_without_braces_holds_what_follows() {
        let cases = [
            (r"$\boxed 7$", Some("7")),
            (r"\boxed7", Some("7")),
            (r"\boxed 12.5.", Some("12.5")),
            (r"\boxed -1,250, so", Some("-1,250")),
            (r"\boxed x+1", Some("x")),
            (r"\boxedx", None),
            (r"\boxedup{3}", None),
            (r"\boxed $", None),
            (r"\\boxed{3}", None),
        ];
        for (text, content) in cases {
            assert_eq!(boxed(text), content, "{text}");
        }
    }
}
