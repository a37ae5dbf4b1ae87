//! What a program answers, checked: itself, episodes, next messages, rewards.

use serde_json::{Map, Value};

use super::PROTOCOL;
use super::error::Trouble;
use super::wire::{bare_within, kind};
use crate::task::{Episode, Message, Reward, Turn};

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Its name.
    pub name: String,
    /// Its version; empty when it has none.
    pub version: String,
    /// How many episodes it has.
    pub episodes: Counts,
    /// The least and the largest reward.
    pub range: (f64, f64),
    /// The most turns of a conversation.
    pub turns: usize,
}

/// How many episodes a program has; `None`: any index is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// For evaluations.
    pub eval: Option<u64>,
    /// For all else.
    pub train: Option<u64>,
}

impl Counts {
    /// The number for a stream.
    pub fn of(self, stream: &str) -> Option<u64> {
        if stream == "eval" { self.eval } else { self.train }
    }
}

fn shape(what: impl Into<String>) -> Trouble {
    Trouble::Shape(what.into())
}

/// A field that may be missing; null counts as missing.
fn field<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, Trouble> {
    value.as_object().ok_or_else(|| shape(format!("{what} is {} and should be an object", kind(value))))
}

fn text(map: &Map<String, Value>, key: &str, what: &str) -> Result<String, Trouble> {
    match map.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(shape(format!("`{key}` of {what} is {} and should be a text", kind(other)))),
        None => Err(shape(format!("{what} has no `{key}`"))),
    }
}

/// The items of a list that should have one for each of those asked for.
pub(super) fn items<'a>(reply: &'a Value, key: &str, wanted: usize) -> Result<&'a [Value], Trouble> {
    let items = match reply.get(key) {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(shape(format!("`{key}` is {} and should be a list", kind(other)))),
        None => return Err(shape(format!("it has no `{key}`"))),
    };
    if items.len() != wanted {
        return Err(shape(format!("`{key}` has {} entries and should have {wanted}", items.len())));
    }
    Ok(items)
}

/// A reply that holds a number which JSON does not have is refused, whatever the number is for.
pub(super) fn no_bare(value: &Value, what: &str) -> Result<(), Trouble> {
    match bare_within(value) {
        Some(number) => Err(shape(format!("{what} holds {number}, which JSON does not have"))),
        None => Ok(()),
    }
}

impl Hello {
    /// From the answer to `hello`.
    pub(super) fn read(reply: &Value) -> Result<Self, Trouble> {
        match reply.get("protocol") {
            Some(version) if version.as_u64() == Some(PROTOCOL) => {}
            Some(version) => return Err(Trouble::Version(version.to_string())),
            None => return Err(shape("it has no `protocol`")),
        }
        no_bare(reply, "it")?;
        let map = object(reply, "it")?;
        let name = text(map, "name", "it")?;
        if name.trim().is_empty() {
            return Err(shape("`name` is empty"));
        }
        let version =
            if field(map, "version").is_some() { text(map, "version", "it")? } else { String::new() };
        Ok(Self {
            name,
            version,
            episodes: counts(map.get("episodes").unwrap_or(&Value::Null))?,
            range: field(map, "range").map_or(Ok((0.0, 1.0)), range)?,
            turns: field(map, "turns").map_or(Ok(1), turns)?,
        })
    }
}

impl std::fmt::Display for Hello {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count =
            |count: Option<u64>| count.map_or_else(|| "any number of".to_owned(), |count| count.to_string());
        write!(out, "{}", self.name)?;
        if !self.version.is_empty() {
            write!(out, " {}", self.version)?;
        }
        let Counts { train, eval } = self.episodes;
        write!(out, ", {}", count(train))?;
        if eval != train {
            write!(out, " and for evaluations {}", count(eval))?;
        }
        let (low, high) = self.range;
        match self.turns {
            1 => write!(out, " episodes of one turn")?,
            turns => write!(out, " episodes of at most {turns} turns")?,
        }
        write!(out, ", rewards from {low} to {high}")
    }
}

fn counts(value: &Value) -> Result<Counts, Trouble> {
    let one = |value: &Value, what: &str| match (value, value.as_u64()) {
        (Value::Null, _) => Ok(None),
        (_, Some(0)) => Err(shape(format!("{what} is 0: a task has at least one episode"))),
        (_, Some(count)) => Ok(Some(count)),
        _ => Err(shape(format!("{what} is {} and should be null or a whole number", kind(value)))),
    };
    let Value::Object(streams) = value else {
        let count = one(value, "`episodes`")?;
        return Ok(Counts { train: count, eval: count });
    };
    let of = |key: &str| one(streams.get(key).unwrap_or(&Value::Null), &format!("`episodes.{key}`"));
    Ok(Counts { train: of("train")?, eval: of("eval")? })
}

fn range(value: &Value) -> Result<(f64, f64), Trouble> {
    let bounds = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match bounds {
        [low, high] => match (low.as_f64(), high.as_f64()) {
            (Some(low), Some(high)) if low < high => Ok((low, high)),
            _ => Err(shape(format!("`range` is {value} and should be two numbers, the smaller one first"))),
        },
        _ => Err(shape(format!("`range` is {value} and should be two numbers, the smaller one first"))),
    }
}

fn turns(value: &Value) -> Result<usize, Trouble> {
    let turns = value.as_u64().filter(|turns| (1..=10_000).contains(turns));
    turns
        .and_then(|turns| usize::try_from(turns).ok())
        .ok_or_else(|| shape(format!("`turns` is {} and should be a whole number, at least 1", kind(value))))
}

/// An entry of `episodes`; `name` is for one that has no name of its own.
pub(super) fn episode(value: &Value, name: String) -> Result<Episode, Trouble> {
    let what = format!("episode {name}");
    let map = object(value, &what)?;
    let name = if field(map, "name").is_some() { text(map, "name", &what)? } else { name };
    let what = format!("episode {name}");
    no_bare(value, &what)?;
    let listed = match map.get("messages") {
        Some(Value::Array(listed)) => listed,
        Some(other) => {
            return Err(shape(format!("`messages` of {what} is {} and should be a list", kind(other))));
        }
        None => return Err(shape(format!("{what} has no `messages`"))),
    };
    let mut before = listed.iter().map(|value| message(value, &what)).collect::<Result<Vec<_>, _>>()?;
    let Some(prompt) = before.pop().filter(|last| last.role == "user") else {
        return Err(shape(format!("the messages of {what} should end with one of role `user`")));
    };
    let expected = match field(map, "expected") {
        None => Vec::new(),
        Some(Value::Array(lines)) => {
            let lines = lines.iter().map(|line| line.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            lines.ok_or_else(|| shape(format!("`expected` of {what} should be a list of texts")))?
        }
        Some(other) => {
            return Err(shape(format!(
                "`expected` of {what} is {} and should be a list of texts",
                kind(other)
            )));
        }
    };
    let info = map.get("info").cloned().unwrap_or(Value::Null);
    Ok(Episode { name, before, turns: vec![Turn { prompt: prompt.content, expected }], info })
}

fn message(value: &Value, what: &str) -> Result<Message, Trouble> {
    let of = format!("a message of {what}");
    let map = object(value, &of)?;
    let role = text(map, "role", &of)?;
    Message::of(&role, text(map, "content", &of)?).ok_or_else(|| {
        shape(format!("{of} has the role {role:?} and should have `system`, `user` or `assistant`"))
    })
}

/// An entry of `responses`.
pub(super) fn response(value: &Value, episode: &str) -> Result<Option<String>, Trouble> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(shape(format!(
            "the response in episode {episode} is {} and should be a text, or null at the end",
            kind(other)
        ))),
    }
}

/// An entry of `rewards`, for a conversation of so many answers.
pub(super) fn reward(
    value: &Value,
    episode: &str,
    answers: usize,
    range: (f64, f64),
) -> Result<Reward, Trouble> {
    let what = format!("the reward of episode {episode}");
    let finite = |value: &Value, what: String| match value.as_f64() {
        Some(number) if number.is_finite() => Ok(number),
        _ if super::wire::bare(value).is_some() => Err(Trouble::Reward { what, is: kind(value) }),
        _ => Err(Trouble::Reward { what, is: format!("{}, which is not a number", kind(value)) }),
    };
    let Value::Object(map) = value else {
        let total = finite(value, what.clone())?;
        return Ok(Reward { total: within(total, what, range)?, turns: Vec::new(), parts: Vec::new() });
    };
    let total = map.get("reward").ok_or_else(|| shape(format!("{what} has no `reward`")))?;
    let total = within(finite(total, what.clone())?, what.clone(), range)?;
    let mut turns = Vec::new();
    if let Some(listed) = field(map, "turns") {
        let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        if listed.len() != answers {
            let should =
                format!("`turns` of {what} should be a list of {answers} numbers, one for each answer");
            return Err(shape(should));
        }
        for (at, value) in listed.iter().enumerate() {
            turns.push(finite(value, format!("turn {} of {what}", at + 1))?);
        }
    }
    let mut parts = Vec::new();
    if let Some(listed) = field(map, "parts") {
        for (name, value) in object(listed, &format!("`parts` of {what}"))? {
            parts.push((name.clone(), finite(value, format!("part `{name}` of {what}"))?));
        }
    }
    Ok(Reward { total, turns, parts })
}

fn within(total: f64, what: String, (low, high): (f64, f64)) -> Result<f64, Trouble> {
    if (low..=high).contains(&total) {
        return Ok(total);
    }
    let is = format!("{total}, which is outside of the range from {low} to {high}");
    Err(Trouble::Reward { what, is })
}
