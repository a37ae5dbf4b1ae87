//! One manifest file, or one override, as checked settings that know where they were written.
//!
//! In: TOML text. Out: a [`Document`] in the order of the text. All issues of a text are found, not only the first.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::aliases;
use super::block::{self, Block};
use super::claim::{self, Claim};
use super::figure::{self, Figure};
use super::keys::{self, Key};
use super::named;
use super::source::{Issue, Source, Span, nearest};
use super::value::{self, Value};

/// A key with its value and its place.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its checked value.
    pub value: Value,
    /// Where the value stands.
    pub span: Span,
}

/// A text of settings.
#[derive(Clone, Debug)]
pub struct Document {
    /// The text.
    pub source: Arc<Source>,
    /// The folder that its relative paths start from.
    pub folder: PathBuf,
    /// The settings, in the order of the text.
    pub settings: Vec<Setting>,
    /// The table `[model.pretrain]`, when it is there, even empty.
    pub pretrain: Option<Span>,
}

impl Document {
    /// The setting of a key.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key.path == path)
    }
}

/// A whole manifest file: its settings and what stands outside of them.
#[derive(Debug)]
pub struct FileDocument {
    /// The settings.
    pub settings: Document,
    /// `title`.
    pub title: Option<String>,
    /// `question`.
    pub question: Option<String>,
    /// `extends`.
    pub extends: Option<(String, Span)>,
    /// The `[[grid]]` blocks; `None` when the file has no key `grid`.
    pub blocks: Option<Vec<Block>>,
    /// The `[[figure]]` blocks; `None` when the file has no key `figure`.
    pub figures: Option<Vec<Figure>>,
    /// The `[[claim]]` blocks; `None` when the file has no key `claim`.
    pub claims: Option<Vec<Claim>>,
}

/// Parses TOML, reporting every syntax error.
pub fn parse(source: &Arc<Source>) -> Result<Spanned<DeTable<'_>>, Vec<Issue>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    if errors.is_empty() {
        return Ok(table);
    }
    let issue = |error: &toml::de::Error| {
        let at = error.span().unwrap_or(0..0);
        let text = error.message().trim().replace('\n', "; ").replace(", expected nothing", "");
        Issue::new(source, &at, format!("not TOML: {text}"))
    };
    Err(errors.iter().take(20).map(issue).collect())
}

/// Reads a manifest file, and all that is wrong with it.
pub fn read_file(source: &Arc<Source>, folder: PathBuf) -> (FileDocument, Vec<Issue>) {
    let mut file = FileDocument {
        settings: Document { source: Arc::clone(source), folder, settings: Vec::new(), pretrain: None },
        title: None,
        question: None,
        extends: None,
        blocks: None,
        figures: None,
        claims: None,
    };
    let table = match parse(source) {
        Ok(table) => table,
        Err(issues) => return (file, issues),
    };
    let mut issues = Vec::new();
    let mut walk = Walk::new(source, &RESERVED, &mut issues);
    walk.table(table.get_ref(), "", &mut |name, value, issues| {
        let text = || value.get_ref().as_str().map(str::to_owned);
        let needs_text = |issues: &mut Vec<Issue>| {
            let written = source.excerpt(&value.span());
            let issue = Issue::new(source, &value.span(), format!("`{name}` cannot be {written}"));
            issues.push(issue.help("it must be a text in quotes"));
        };
        match name {
            "grid" => file.blocks = Some(block::read_all(value, source, issues)),
            "figure" => file.figures = Some(figure::read_all(value, source, issues)),
            "claim" => file.claims = Some(claim::read_all(value, source, issues)),
            _ if text().is_none() => needs_text(issues),
            "title" => file.title = text(),
            "question" => file.question = text(),
            _ => file.extends = text().map(|text| (text, value.span())),
        }
    });
    let (found, pretrain) = (walk.found, walk.pretrain);
    for (key, _, value) in found {
        match value::read(key, value.get_ref(), &value.span(), source) {
            Ok(checked) => file.settings.settings.push(Setting { key, value: checked, span: value.span() }),
            Err(issue) => issues.push(issue),
        }
    }
    file.settings.pretrain = pretrain;
    issues.sort_by_key(|issue| issue.span.start);
    (file, issues)
}

/// The names at the top of a file that are not settings.
pub(super) const RESERVED: [&str; 6] = ["title", "question", "extends", "grid", "figure", "claim"];

/// More issues than this are not looked for, nor shown.
pub const MOST_ISSUES: usize = 100;

/// What a walk does with a name that is not a setting.
pub type OnReserved<'f, 'v, 't> = dyn FnMut(&str, &'v Spanned<DeValue<'t>>, &mut Vec<Issue>) + 'f;

/// Flattens nested tables into known keys, in the order of the text.
pub struct Walk<'w, 'v, 't> {
    source: &'w Arc<Source>,
    reserved: &'w [&'static str],
    issues: &'w mut Vec<Issue>,
    seen: BTreeSet<&'static str>,
    /// Known keys: key, place of its name, value.
    pub found: Vec<(&'static Key, Span, &'v Spanned<DeValue<'t>>)>,
    /// The table `model.pretrain`.
    pub pretrain: Option<Span>,
}

impl<'w, 'v, 't> Walk<'w, 'v, 't> {
    /// A walk that hands `reserved` top-level names on.
    pub fn new(source: &'w Arc<Source>, reserved: &'w [&'static str], issues: &'w mut Vec<Issue>) -> Self {
        Self { source, reserved, issues, seen: BTreeSet::new(), found: Vec::new(), pretrain: None }
    }

    /// Walks a table and everything below it; then sorts what was found by place.
    pub fn table(&mut self, table: &'v DeTable<'t>, prefix: &str, reserved: &mut OnReserved<'_, 'v, 't>) {
        for (name, value) in table {
            if self.issues.len() >= MOST_ISSUES {
                break;
            }
            let path = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            if prefix.is_empty() && self.reserved.contains(&path.as_str()) {
                reserved(&path, value, self.issues);
            } else if let Some(key) = keys::find(&path) {
                if self.seen.insert(key.path) {
                    self.found.push((key, name.span(), value));
                } else {
                    let issue = Issue::new(self.source, &name.span(), format!("`{path}` is set twice"));
                    let first = self.found.iter().find(|(known, _, _)| known.path == key.path);
                    let line = first.map_or(0, |(_, span, _)| self.source.position(span.start).0);
                    self.issues.push(issue.help(format!("it is set on line {line} too: remove one of them")));
                }
            } else if keys::is_section(&path) {
                if path == "model.pretrain" {
                    self.pretrain = Some(name.span());
                }
                if let DeValue::Table(inner) = value.get_ref() {
                    if inner.is_empty() && matches!(named::split(&path), Some((_, ""))) {
                        let text = format!("the evaluation `{path}` has no settings");
                        let help = "give it at least one of its own, such as `seed`: the others come from [eval] and [task]";
                        self.issues.push(Issue::new(self.source, &name.span(), text).help(help));
                    }
                    self.table(inner, &path, reserved);
                } else if matches!(named::split(&path), Some((_, ""))) {
                    // A value is no evaluation of that name, but a misspelt key.
                    self.issues.push(unknown(self.source, &name.span(), &path, self.reserved));
                } else {
                    let written = self.source.excerpt(&value.span());
                    let issue =
                        Issue::new(self.source, &value.span(), format!("`{path}` cannot be {written}"));
                    let help = format!("`{path}` is a table with the keys {}", members(&path));
                    self.issues.push(issue.help(help));
                }
            } else {
                self.issues.push(unknown(self.source, &name.span(), &path, self.reserved));
            }
        }
        if prefix.is_empty() {
            self.found.sort_by_key(|(_, span, _)| span.start);
        }
    }
}

/// The issue of a key that does not exist.
pub fn unknown(source: &Arc<Source>, span: &Span, path: &str, reserved: &[&'static str]) -> Issue {
    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
    let mut candidates = keys::KEYS.iter().map(|key| key.path).collect::<Vec<_>>();
    candidates.extend(["model.pretrain", "eval.sampling", "task.prompts"]);
    if table.is_empty() {
        candidates.extend(reserved);
        candidates.extend(TABLES);
    }
    // A name of the same table is likelier to be meant than one of another.
    let near = |name: &&str| name.rsplit_once('.').map_or("", |(table, _)| table) == table;
    let siblings = candidates.iter().copied().filter(|name| near(name)).collect::<Vec<_>>();
    let meant = nearest(path, siblings).or_else(|| nearest(path, candidates.iter().copied()));
    let joined = candidates.iter().find(|name| name.contains('.') && name.replace('.', "_") == path);
    let meant = aliases::key(path).or(joined.copied()).or(meant);
    // In TOML whatever follows a table's heading belongs to that table.
    if let Some((table, last)) = path.rsplit_once('.')
        && (RESERVED.contains(&last) || TABLES.contains(&last))
        && table != "eval"
    {
        let text = format!("unknown key `{path}`");
        let help =
            format!("`{last}` belongs at the top of the file, above the first table, not in [{table}]");
        return Issue::new(source, span, text).help(help);
    }
    if let Some(issue) = unknown_of_named(source, span, path) {
        return issue;
    }
    // A table of `[eval]` that is no name.
    if let Some(name) =
        path.strip_prefix("eval.").filter(|name| !name.contains('.') && aliases::key(path).is_none())
    {
        let lower = name.to_lowercase();
        if lower != name && named::split(&format!("eval.{lower}")).is_some() {
            let help = format!("names of evaluations are in lower-case letters: [eval.{lower}]");
            return Issue::new(source, span, format!("unknown key `{path}`")).help(help);
        }
        if name == "task" {
            let help = "a task of its own belongs to a named evaluation, such as [eval.other.task]";
            return Issue::new(source, span, "`eval.task` is no evaluation").help(help);
        }
    }
    let help = match meant {
        Some(name) => format!("did you mean `{name}`?"),
        None if keys::is_section(table) => format!("[{table}] has the keys {}", members(table)),
        None => format!("the tables are {}", TABLES.join(", ")),
    };
    Issue::new(source, span, format!("unknown key `{path}`")).help(help).about(meant.as_slice())
}

/// The issue of a key that no named evaluation has.
fn unknown_of_named(source: &Arc<Source>, span: &Span, path: &str) -> Option<Issue> {
    let (name, rest) = named::split(path).filter(|(_, rest)| !rest.is_empty())?;
    let issue = Issue::new(source, span, format!("unknown key `{path}`"));
    if nearest(name, ["sampling"]).is_some() && keys::find(&format!("eval.sampling.{rest}")).is_some() {
        return Some(issue.help(format!("did you mean `eval.sampling.{rest}`?")));
    }
    let of_task = rest.starts_with("task.");
    let own = keys::KEYS.iter().filter(|key| key.path.starts_with(if of_task { "task." } else { "eval." }));
    let meant = nearest(&named::model(rest), own.map(|key| key.path))?;
    let meant = if of_task { meant } else { meant.strip_prefix("eval.")? };
    Some(issue.help(format!("did you mean `eval.{name}.{meant}`?")))
}

const TABLES: [&str; 9] =
    ["model", "task", "grpo", "optimizer", "sampling", "mask", "fisher", "eval", "exec"];

/// The names directly in a table, tables included.
fn members(table: &str) -> String {
    let mut names = Vec::new();
    // An evaluation of a name has the keys of `[eval]`, and those of `[task]` in its table `task`.
    let table = match named::split(table) {
        Some((_, "")) => {
            names.push("task");
            Cow::Borrowed("eval")
        }
        Some((_, rest)) => Cow::Owned(named::model(rest)),
        None => Cow::Borrowed(table),
    };
    for key in keys::KEYS {
        let rest = key.path.strip_prefix(table.as_ref()).and_then(|rest| rest.strip_prefix('.'));
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names.join(", ")
}
