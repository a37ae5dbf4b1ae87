//! Canonical bytes: what ids are hashes of.
//!
//! In: typed values at dotted paths. Out: bytes that depend on paths, types and values alone, and their digest.

use std::borrow::Cow;

use serde_json::Value;

/// A typed value.
enum Field<'c> {
    Text(Cow<'c, str>),
    Whole(u64),
    Number(f64),
    Flag(bool),
}

/// Settings by dotted path, in the order in which they were put. Their canonical bytes are sorted by path, each with a
/// type tag and a value of stated length.
///
/// Texts are borrowed from the configuration: a plan of ten thousand runs hashes them all.
pub(super) struct Canon<'c> {
    entries: Vec<(Cow<'c, str>, Field<'c>)>,
}

impl<'c> Canon<'c> {
    /// Nothing but a stage's revision.
    pub(super) fn new(rev: u32) -> Self {
        let mut canon = Self::empty();
        canon.whole("rev", rev);
        canon
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self { entries: Vec::with_capacity(80) }
    }

    fn put(&mut self, path: impl Into<Cow<'c, str>>, field: Field<'c>) {
        let path = path.into();
        debug_assert!(self.entries.iter().all(|(earlier, _)| *earlier != path), "{path} is put twice");
        self.entries.push((path, field));
    }

    /// A text.
    pub(super) fn text(&mut self, path: impl Into<Cow<'c, str>>, value: impl Into<Cow<'c, str>>) {
        self.put(path, Field::Text(value.into()));
    }

    /// A whole number.
    pub(super) fn whole(&mut self, path: impl Into<Cow<'c, str>>, value: impl Into<u64>) {
        self.put(path, Field::Whole(value.into()));
    }

    /// A number, by its bits.
    pub(super) fn number(&mut self, path: impl Into<Cow<'c, str>>, value: f64) {
        // Adding +0 turns -0 into +0 and leaves every other number alone.
        self.put(path, Field::Number(value + 0.0));
    }

    /// A truth value.
    pub(super) fn flag(&mut self, path: impl Into<Cow<'c, str>>, value: bool) {
        self.put(path, Field::Flag(value));
    }

    /// blake3 of the bytes under a stage's context, in hex.
    pub(super) fn id(&self, context: &str) -> String {
        blake3::Hasher::new_derive_key(context).update(&self.bytes()).finalize().to_hex().to_string()
    }

    /// The settings for readers, in order.
    pub(super) fn into_settings(self) -> Vec<(String, Value)> {
        let value = |field| match field {
            Field::Text(text) => Value::from(text.into_owned()),
            Field::Whole(number) => Value::from(number),
            Field::Number(number) => Value::from(number),
            Field::Flag(flag) => Value::from(flag),
        };
        self.entries.into_iter().map(|(path, field)| (path.into_owned(), value(field))).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut sorted = self.entries.iter().collect::<Vec<_>>();
        sorted.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let mut bytes = Vec::with_capacity(4096);
        for (path, field) in sorted {
            let mut entry = |tag: u8, value: &[u8]| {
                bytes.extend((path.len() as u64).to_le_bytes());
                bytes.extend(path.as_bytes());
                bytes.push(tag);
                bytes.extend((value.len() as u64).to_le_bytes());
                bytes.extend(value);
            };
            match field {
                Field::Text(text) => entry(b's', text.as_bytes()),
                Field::Whole(number) => entry(b'u', &number.to_le_bytes()),
                Field::Number(number) => entry(b'f', &number.to_bits().to_le_bytes()),
                Field::Flag(flag) => entry(b'b', &[u8::from(*flag)]),
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_are_sorted_tagged_and_sized() {
        let mut canon = Canon::new(7);
        canon.text("z", "hi");
        canon.number("a.b", -0.0);
        canon.flag("c", true);
        let mut wanted = Vec::new();
        // Path length, path, tag, value length, value: `a.b` before `c` before `rev` before `z`.
        wanted.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend(b"a.bf");
        wanted.extend([8, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0; 8]);
        wanted.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend(b"cb");
        wanted.extend([1, 0, 0, 0, 0, 0, 0, 0, 1]);
        wanted.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend(b"revu");
        wanted.extend([8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend(b"zs");
        wanted.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend(b"hi");
        assert_eq!(canon.bytes(), wanted);
        assert_ne!(canon.id("tickets/v1/base"), canon.id("tickets/v1/mask"));
    }
}
