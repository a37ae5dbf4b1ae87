//! `str.strip` and `str.lower` as Python has them, for rewards that must not depend on the language they run in.
//!
//! Departures from CPython: each side follows the Unicode tables that it was built with. Against CPython 3.11 to 3.13
//! every assigned character lower-cases and strips alike; the 55 capitals that are younger than Unicode 15.1 have a
//! lower case here only. Final sigma is the same on both: `Σ` becomes `ς` after a cased letter that no other follows.

/// Removes white space from both ends, as Python's `str.strip()`.
///
/// Python also counts the four information separators U+001C to U+001F as white space; Rust's `trim` does not.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// Lower-cases with the full, context-dependent mapping, as Python's `str.lower()`.
pub fn lower(text: &str) -> String {
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_takes_what_python_takes() {
        assert_eq!(strip("\u{1c}\u{1d} \t\r\u{b}\u{c}\u{85}a b\u{a0}\u{2003}\u{3000}\u{1e}\u{1f}"), "a b");
        // Zero-width characters are not white space on either side.
        assert_eq!(strip("\u{200b}a\u{feff}"), "\u{200b}a\u{feff}");
        assert_eq!(strip(" \u{1f} "), "");
    }

    #[test]
    fn lower_maps_as_python_maps() {
        // Values from CPython 3.11: "ΑΣ".lower() == "ας", and so on.
        assert_eq!(lower("ÉÀ ẞ"), "éà ß");
        assert_eq!(lower("İ"), "i\u{307}");
        assert_eq!(lower("ΑΣ"), "ας");
        assert_eq!(lower("ΑΣ // new name!"), "ας // new name!");
        assert_eq!(lower("ΑΣΑ"), "ασα");
        assert_eq!(lower("Σ"), "σ");
        assert_eq!(lower("aΣ"), "aς");
        // A full stop does not end a word for this purpose.
        assert_eq!(lower("ΣΑΣ.Σ ΑΣ-Σ"), "σασ.ς ας-σ");
    }
}
