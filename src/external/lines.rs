//! Bytes of a pipe to lines.

use super::MOST_BYTES;

/// What has been read and is not yet a whole line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// So many bytes hold no line end.
    searched: usize,
}

impl Lines {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line that is not blank, without its end.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(end) = end.map(|at| self.searched + at) else {
                self.searched = self.bytes.len();
                return None;
            };
            let rest = self.bytes.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.bytes, rest);
            self.searched = 0;
            line.pop();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// Whether more than may be in a line has been read.
    pub fn is_full(&self) -> bool {
        self.bytes.len() > MOST_BYTES
    }

    /// What is there of a line without an end.
    pub fn rest(&self) -> &[u8] {
        self.bytes.trim_ascii()
    }
}

/// The beginning of a line, for a message: printable, and on one line.
pub(super) fn excerpt(line: &[u8]) -> String {
    const MOST: usize = 120;
    let text = String::from_utf8_lossy(&line[..line.len().min(MOST * 4)]);
    let text = text.trim();
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().count() > MOST || line.len() > MOST * 4 {
        short.push_str(" ...");
    }
    short.replace("\\\"", "\"").replace("\\'", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let text = b"{\"a\":1}\n\n  \r\n{\"b\":2}\r\n{\"c\"";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in text.chunks(size) {
                lines.push(part);
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8(line).expect("text"));
                }
            }
            assert_eq!(found, ["{\"a\":1}", "{\"b\":2}\r"], "in parts of {size}");
            assert_eq!(lines.rest(), b"{\"c\"");
        }
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt(b" say \"hi\"\x1b[31m\xff \n"), "say \"hi\"\\u{1b}[31m\u{fffd}");
        assert_eq!(excerpt(&[b'x'; 400]), format!("{} ...", "x".repeat(120)));
        assert_eq!(excerpt("\u{e9}".repeat(900).as_bytes()), format!("{} ...", "\u{e9}".repeat(120)));
    }
}
