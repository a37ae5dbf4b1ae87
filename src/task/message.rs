//! Messages of a conversation, as chat templates take them.

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

impl Message {
    /// What holds for the whole conversation; the first message, if there is one.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system", content: content.into() }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user", content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant", content: content.into() }
    }

    /// A message of a role that is given as text; `None` when there is no such role.
    pub fn of(role: &str, content: impl Into<String>) -> Option<Self> {
        let role = ["system", "user", "assistant"].into_iter().find(|known| *known == role)?;
        Some(Self { role, content: content.into() })
    }
}
