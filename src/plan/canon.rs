//! Canonical bytes: what ids are hashes of.
//!
//! In: typed values at dotted paths. Out: bytes that depend on paths, types and values alone, and their digest.

use std::collections::BTreeMap;

/// Canonical bytes: paths sorted, each with a type tag and a value of stated length.
pub(super) struct Canon {
    entries: BTreeMap<String, (u8, Vec<u8>)>,
}

impl Canon {
    /// Nothing but a stage's revision.
    pub(super) fn new(rev: u32) -> Self {
        let mut canon = Self { entries: BTreeMap::new() };
        canon.whole("rev", rev);
        canon
    }

    fn put(&mut self, path: &str, tag: u8, bytes: &[u8]) {
        let earlier = self.entries.insert(path.to_owned(), (tag, bytes.to_vec()));
        debug_assert!(earlier.is_none(), "{path} is hashed twice");
    }

    /// A text.
    pub(super) fn text(&mut self, path: &str, value: &str) {
        self.put(path, b's', value.as_bytes());
    }

    /// A whole number.
    pub(super) fn whole(&mut self, path: &str, value: impl Into<u64>) {
        self.put(path, b'u', &value.into().to_le_bytes());
    }

    /// A number, by its bits.
    pub(super) fn number(&mut self, path: &str, value: f64) {
        // Adding +0 turns -0 into +0 and leaves every other number alone.
        self.put(path, b'f', &(value + 0.0).to_bits().to_le_bytes());
    }

    /// A truth value.
    pub(super) fn flag(&mut self, path: &str, value: bool) {
        self.put(path, b'b', &[u8::from(value)]);
    }

    /// blake3 of the bytes under a stage's context, in hex.
    pub(super) fn id(&self, context: &str) -> String {
        blake3::Hasher::new_derive_key(context).update(&self.bytes()).finalize().to_hex().to_string()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2048);
        for (path, (tag, value)) in &self.entries {
            bytes.extend((path.len() as u64).to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.push(*tag);
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend(value);
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
