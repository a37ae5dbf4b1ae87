//! The names of blobs, which are digests of their bytes: SHA-256 for large files, and for others what git calls them.

use std::fmt;

/// The name of a blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobName {
    /// SHA-256 of the bytes, in hex.
    Sha256(String),
    /// SHA-1 of `blob SIZE\0` and the bytes, in hex: git's name.
    Git(String),
}

impl BlobName {
    /// A name from its digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            64 if hex => Some(Self::Sha256(text.into())),
            40 if hex => Some(Self::Git(text.into())),
            _ => None,
        }
    }

    /// How the digest is made, for people.
    #[cfg(feature = "torch")]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git SHA-1",
        }
    }

    /// The name that the bytes of a reader have, `size` of them. Between pieces `go_on` is asked; `None` when it said no.
    ///
    /// # Errors
    /// When they cannot be read.
    #[cfg(feature = "torch")]
    pub fn of(
        &self,
        mut reader: impl std::io::Read,
        size: u64,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> std::io::Result<Option<Self>> {
        use std::fmt::Write as _;

        use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
        let mut context = match self {
            Self::Sha256(_) => Context::new(&SHA256),
            Self::Git(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                context
            }
        };
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) if go_on(read) => context.update(&buffer[..read]),
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut hex = String::new();
        for byte in context.finish().as_ref() {
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(Some(match self {
            Self::Sha256(_) => Self::Sha256(hex),
            Self::Git(_) => Self::Git(hex),
        }))
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Sha256(text) | Self::Git(text)) = self;
        out.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "torch")]
    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
        for name in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let name = BlobName::parse(name).unwrap();
            assert_eq!(name.of(&b"hello\n"[..], 6, |_| true).unwrap(), Some(name.clone()));
            assert_ne!(name.of(&b"hallo\n"[..], 6, |_| true).unwrap(), Some(name.clone()));
            assert_eq!(name.of(&b"hello\n"[..], 6, |_| false).unwrap(), None);
        }
    }

    #[test]
    fn only_digests_are_names() {
        for text in ["", "../../etc/passwd", &"g".repeat(40), &"A".repeat(64), &"a".repeat(41)] {
            assert_eq!(BlobName::parse(text), None, "{text}");
        }
    }
}
