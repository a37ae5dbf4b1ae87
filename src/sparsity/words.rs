//! The words of manifests and recipes for what a mask is chosen by.

use super::{Control, Keep, MaskRng, Rounding, Scope, Score, Side, Unit};

impl Score {
    /// The word of `mask.type`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fisher(_) => "fisher",
            Self::Gradient(_) => "gradient",
            Self::Snip(_) => "snip",
            Self::Magnitude => "magnitude",
            Self::Moved { .. } => "moved",
        }
    }
}

impl Scope {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerTensor => "per_tensor",
            Self::PerLayer => "per_layer",
            Self::PerGroup(_) => "per_group",
        }
    }
}

impl Unit {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Row => "row",
            Self::Column => "column",
        }
    }
}

impl Keep {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

impl Control {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Complement => "complement",
            Self::Permuted { .. } => "permuted",
        }
    }
}

impl Side {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

impl MaskRng {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chacha => "chacha",
            Self::Numpy => "numpy",
        }
    }
}

impl Rounding {
    /// Its word in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ceil => "ceil",
        }
    }
}
