//! A set of module kinds, as manifests spell it.

use super::ModuleKind;

/// A set of module kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modules([bool; ModuleKind::ALL.len()]);

impl Modules {
    /// All kinds.
    pub const ALL: Self = Self([true; ModuleKind::ALL.len()]);

    /// Reads `"attention+mlp"` (these) or `"-embeddings-norms"` (all but these).
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "all" {
            return Ok(Self::ALL);
        }
        let words = || ModuleKind::ALL.map(ModuleKind::word).join(", ");
        let (excluded, list) = match text.strip_prefix('-') {
            Some(rest) => (true, rest.split('-').collect::<Vec<_>>()),
            None => (false, text.split('+').collect()),
        };
        let mut named = [false; ModuleKind::ALL.len()];
        for word in list {
            let Some(at) = ModuleKind::ALL.iter().position(|kind| kind.word() == word.trim()) else {
                return Err(format!("`{}` is none of {}", word.trim(), words()));
            };
            if std::mem::replace(&mut named[at], true) {
                return Err(format!("`{}` stands in it twice", word.trim()));
            }
        }
        let set = Self(named.map(|is| is != excluded));
        if set.0.contains(&true) { Ok(set) } else { Err("it leaves nothing".into()) }
    }

    /// The canonical spelling.
    pub fn text(self) -> String {
        if self == Self::ALL {
            return "all".into();
        }
        let kept = ModuleKind::ALL.iter().zip(self.0).filter(|(_, kept)| *kept);
        kept.map(|(kind, _)| kind.word()).collect::<Vec<_>>().join("+")
    }

    /// Whether a kind is in it.
    pub fn has(self, kind: ModuleKind) -> bool {
        ModuleKind::ALL.iter().zip(self.0).any(|(own, kept)| *own == kind && kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_kinds_are_listed_or_left_out() {
        let text = |text: &str| Modules::parse(text).map(Modules::text);
        assert_eq!(text("all").as_deref(), Ok("all"));
        assert_eq!(text("mlp+attention").as_deref(), Ok("attention+mlp"));
        assert_eq!(text("-embeddings").as_deref(), Ok("attention+mlp+norms+biases"));
        assert_eq!(text("-norms-biases").as_deref(), Ok("attention+mlp+embeddings"));
        assert_eq!(text("mlp + norms").as_deref(), Ok("mlp+norms"));
        assert!(text("heads").unwrap_err().contains("`heads` is none of attention, mlp"));
        assert!(text("mlp+mlp").unwrap_err().contains("twice"));
        assert!(text("").is_err() && text("-").is_err());
        assert!(text("-attention-mlp-norms-biases-embeddings").unwrap_err().contains("nothing"));
    }
}
