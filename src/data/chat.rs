//! Chat templates: messages in, the exact prompt text out, as transformers renders it.
//!
//! Rendered with minijinja and minijinja-contrib's `pycompat` (Python string methods), `trim_blocks` and
//! `lstrip_blocks` on, as transformers sets them. A template sees `messages`, `add_generation_prompt`, the special
//! tokens, and `tools` and `documents` as none; other variables, `enable_thinking` among them, are undefined, as they are
//! in transformers unless somebody passes them. Departure: there is no `strftime_now`, because a prompt that depends on the
//! day would make runs irreproducible. Llama 3.2's template then takes the fixed date that it has for this case.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::{DataError, chat_python};
use crate::task::Message;

/// The template used by the built-in base: role markers that are single tokens.
pub const BUILT_IN_TEMPLATE: &str = "{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}\
{%- if message.role == 'assistant' -%}<|end|>{%- endif -%}{%- endfor -%}\
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: String,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// The template of the built-in base.
    ///
    /// # Errors
    /// Never, unless the constant is broken.
    pub fn built_in() -> Result<Self, DataError> {
        Self::new(BUILT_IN_TEMPLATE, "of the built-in base", "", "<|end|>")
    }

    /// Compiles a template; `path` names it in errors. A token that is empty is undefined in the template.
    ///
    /// # Errors
    /// When the template has a syntax error.
    pub fn new(source: &str, path: &str, bos_token: &str, eos_token: &str) -> Result<Self, DataError> {
        let mut environment = Environment::new();
        let failed =
            |error: Error| DataError::ChatTemplate { path: path.into(), what: describe(&error, source) };
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        chat_python::add(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            let what = format!("the template refuses this conversation: {message}");
            Err(Error::new(ErrorKind::InvalidOperation, what))
        });
        environment.add_template_owned("chat", chat_python::source(source)).map_err(failed)?;
        Ok(Self { environment, path: path.into(), bos_token: bos_token.into(), eos_token: eos_token.into() })
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// When the template itself raises an error.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        let failed = |error: &Error, source: &str| DataError::ChatTemplate {
            path: self.path.clone(),
            what: describe(error, source),
        };
        let template = self.environment.get_template("chat").map_err(|error| failed(&error, ""))?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| Value::from_pairs([("role", message.role), ("content", message.content.as_str())]))
            .collect();
        let token = |text: &str| if text.is_empty() { Value::UNDEFINED } else { Value::from(text) };
        template
            .render(context! {
                messages,
                add_generation_prompt,
                // transformers passes these as none, and templates ask `is not none`.
                tools => (),
                documents => (),
                bos_token => token(&self.bos_token),
                eos_token => token(&self.eos_token),
            })
            .map_err(|error| failed(&error, template.source()))
    }

    /// What stands between an assistant's answer and the next generation prompt: the end of the answer's turn, the
    /// user's follow-up and the opening of the next answer.
    ///
    /// This is right whatever the template does to answers that are history: what a model drew stays in its context as it
    /// was drawn. Qwen3's template drops the thoughts of earlier answers, and Llama 3's trims answers, when it renders a
    /// whole conversation anew; a conversation that is played here keeps them, because its log-probabilities were
    /// conditioned on them.
    ///
    /// # Errors
    /// When the template raises an error or drops the assistant's message.
    pub fn follow_up(&self, history: &[Message], next: &str) -> Result<String, DataError> {
        // A private-use character that no template strips and no prompt holds.
        const ANSWER: &str = "\u{e0f1}answer\u{e0f1}";
        let mut messages = history.to_vec();
        messages.push(Message::assistant(ANSWER));
        messages.push(Message::user(next));
        let text = self.render(&messages, true)?;
        let (_, suffix) = text.rsplit_once(ANSWER).ok_or_else(|| DataError::ChatTemplate {
            path: self.path.clone(),
            what: "it drops the assistant's message, so a conversation of several turns cannot be built"
                .into(),
        })?;
        Ok(suffix.to_owned())
    }
}

/// What is wrong and where; `source` is the template.
fn describe(error: &Error, source: &str) -> String {
    let detail = error.detail().unwrap_or_default();
    let line = error.line().and_then(|line| source.lines().nth(line - 1)).unwrap_or_default();
    let unknown = error.kind() == ErrorKind::UnknownFunction || detail.contains("not callable");
    let what = match error.kind() {
        _ if unknown && line.contains("strftime_now") => {
            "it calls strftime_now, but a prompt must not depend on today's date: write a fixed date instead"
                .into()
        }
        ErrorKind::InvalidOperation if !detail.is_empty() => detail.to_owned(),
        kind if detail.is_empty() => kind.to_string(),
        kind => format!("{kind}: {detail}"),
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        <|im_start|>system\nBe kind.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n\
        {{ message['content'].strip() }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    #[test]
    fn a_chatml_template_renders_as_in_python() {
        let template = ChatTemplate::new(CHATML, "chat_template.jinja", "", "<|im_end|>").unwrap();
        let text = template.render(&[Message::user("  hi ")], true).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn the_follow_up_starts_where_the_answer_ended() {
        let template = ChatTemplate::new(CHATML, "t", "", "").unwrap();
        let suffix = template.follow_up(&[Message::user("one")], "two").unwrap();
        assert_eq!(suffix, "<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n");
        let built_in = ChatTemplate::new(BUILT_IN_TEMPLATE, "built-in", "", "<|end|>").unwrap();
        assert_eq!(built_in.render(&[Message::user("one")], true).unwrap(), "<|user|>one<|assistant|>");
        assert_eq!(
            built_in.follow_up(&[Message::user("one")], "two").unwrap(),
            "<|end|><|user|>two<|assistant|>"
        );
    }

    #[test]
    fn broken_templates_and_raised_errors_name_the_file() {
        let syntax =
            ChatTemplate::new("{% for %}", "dir/chat_template.jinja", "", "").unwrap_err().to_string();
        assert!(syntax.contains("dir/chat_template.jinja") && syntax.contains("line 1"), "{syntax}");
        let raising = ChatTemplate::new("{{ raise_exception('no system') }}", "t", "", "").unwrap();
        assert!(raising.render(&[], false).unwrap_err().to_string().contains("no system"));
        let dropping = ChatTemplate::new("{{ messages[0].content }}", "t", "", "").unwrap();
        assert!(dropping.follow_up(&[Message::user("a")], "b").unwrap_err().to_string().contains("drops"));
    }
}
