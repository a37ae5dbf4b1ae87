//! The three things that a program is asked, over many episodes at once.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::error::Trouble;
use super::reply;
use crate::task::{Episode, Message, Played, Reward};

/// Something to ask about a list of things. Any part of the list can be asked about by itself.
pub(super) trait Question: Sync {
    /// What is learned of one of them.
    type Answer: Send;

    /// How many there are.
    fn count(&self) -> usize;
    /// The `type` of the request, and the key of the list in it and in the answer.
    fn words(&self) -> (&'static str, &'static str, &'static str);
    /// What is asked about one of them.
    fn item(&self, at: usize) -> Value;
    /// What else the request says.
    fn rest(&self, _request: &mut Map<String, Value>) {}
    /// The name of an episode.
    fn name(&self, at: usize) -> String;
    /// What is asked, for a message.
    fn verb(&self) -> &'static str;
    /// The answer about one of them.
    fn read(&self, at: usize, value: &Value) -> Result<Self::Answer, Trouble>;

    /// The request about a part.
    fn request(&self, id: u64, part: Range<usize>) -> Value {
        let (kind, list, _) = self.words();
        let mut request = Map::new();
        request.insert("type".to_owned(), kind.into());
        request.insert("id".to_owned(), id.into());
        self.rest(&mut request);
        request.insert(list.to_owned(), part.map(|at| self.item(at)).collect());
        Value::Object(request)
    }

    /// The answers about a part.
    fn answers(&self, part: Range<usize>, reply: &Value) -> Result<Vec<Self::Answer>, Trouble> {
        let (_, _, list) = self.words();
        let items = reply::items(reply, list, part.len())?;
        part.zip(items).map(|(at, value)| self.read(at, value)).collect()
    }

    /// What is asked about a part, for a message.
    fn asked(&self, part: Range<usize>) -> String {
        let names: Vec<String> = part.clone().take(3).map(|at| self.name(at)).collect();
        let more = part.len() - names.len();
        let (noun, more) = match (part.len(), more) {
            (1, _) => ("episode", String::new()),
            (_, 0) => ("episodes", String::new()),
            (_, more) => ("episodes", format!(" and {more} more")),
        };
        format!("{} {noun} {}{more}", self.verb(), names.join(", "))
    }
}

/// What are these episodes?
pub(super) struct Episodes<'a> {
    pub seed: u64,
    pub stream: &'a str,
    pub indices: &'a [u64],
}

impl Question for Episodes<'_> {
    type Answer = Episode;

    fn count(&self) -> usize {
        self.indices.len()
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        ("episodes", "indices", "episodes")
    }

    fn item(&self, at: usize) -> Value {
        self.indices[at].into()
    }

    fn rest(&self, request: &mut Map<String, Value>) {
        request.insert("seed".to_owned(), self.seed.into());
        request.insert("stream".to_owned(), self.stream.into());
    }

    fn name(&self, at: usize) -> String {
        format!("{} {}", self.stream, self.indices[at])
    }

    fn verb(&self) -> &'static str {
        "for"
    }

    fn read(&self, at: usize, value: &Value) -> Result<Episode, Trouble> {
        reply::episode(value, self.name(at))
    }
}

/// What does the user say next?
pub(super) struct Respond<'a>(pub Vec<&'a Played<'a>>);

impl Question for Respond<'_> {
    type Answer = Option<String>;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        ("respond", "conversations", "responses")
    }

    fn item(&self, at: usize) -> Value {
        conversation(self.0[at])
    }

    fn name(&self, at: usize) -> String {
        self.0[at].episode.name.clone()
    }

    fn verb(&self) -> &'static str {
        "to respond in"
    }

    fn read(&self, at: usize, value: &Value) -> Result<Option<String>, Trouble> {
        reply::no_bare(value, &format!("the response in episode {}", self.name(at)))?;
        reply::response(value, &self.name(at))
    }
}

/// What are these conversations worth?
pub(super) struct Score<'a> {
    pub played: &'a [Played<'a>],
    pub range: (f64, f64),
}

impl Question for Score<'_> {
    type Answer = Reward;

    fn count(&self) -> usize {
        self.played.len()
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        ("score", "conversations", "rewards")
    }

    fn item(&self, at: usize) -> Value {
        conversation(&self.played[at])
    }

    fn name(&self, at: usize) -> String {
        self.played[at].episode.name.clone()
    }

    fn verb(&self) -> &'static str {
        "to score"
    }

    fn read(&self, at: usize, value: &Value) -> Result<Reward, Trouble> {
        reply::reward(value, &self.name(at), self.played[at].answers.len(), self.range)
    }
}

/// A conversation as a program gets it: all that was said, and what the program itself had attached to the episode.
fn conversation(played: &Played<'_>) -> Value {
    let message = |message: Message| json!({ "role": message.role, "content": message.content });
    let messages: Vec<Value> = played.messages().into_iter().map(message).collect();
    json!({ "name": played.episode.name, "messages": messages, "info": played.episode.info })
}
