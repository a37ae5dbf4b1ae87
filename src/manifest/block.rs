//! `[[grid]]` blocks as they are written: which keys a block fixes, which it sweeps, what it zips and excludes.
//!
//! Their algebra is `grid.rs`.

use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::document::{MOST_ISSUES, Walk, unknown};
use super::keys::{self, Key, Kind};
use super::range;
use super::selector::{self, Selector};
use super::source::{Issue, Source, Span, counted};
use super::value::{self, Value};

/// One `[[grid]]` block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Where it begins.
    pub span: Span,
    /// The text that it stands in.
    pub source: Arc<Source>,
    /// Its keys, in the order of the text.
    pub entries: Vec<Entry>,
    /// `zip`: groups of keys that advance together.
    pub zip: Vec<Zip>,
    /// `exclude`: partial points that are left out.
    pub exclude: Vec<Selector>,
    /// The table `model.pretrain`, when the block names it.
    pub pretrain: Option<Span>,
}

/// A key of a block.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: &'static Key,
    /// Where the value, or the list, stands.
    pub span: Span,
    /// The values: one when the block fixes the key.
    pub values: Vec<(Value, Span)>,
    /// Whether it was written as a list, and so is an axis.
    pub swept: bool,
}

/// A group of axes that advance together.
#[derive(Clone, Debug)]
pub struct Zip {
    /// Where it stands.
    pub span: Span,
    /// The keys.
    pub keys: Vec<(&'static Key, Span)>,
}

impl Block {
    /// The entry of a key.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.path == path)
    }

    /// How messages name the block.
    pub fn title(&self) -> String {
        let (line, _) = self.source.position(self.span.start);
        format!("[[grid]] block {} ({}:{line})", self.number, self.source.name)
    }
}

/// Reads the value of `grid`.
pub fn read_all(value: &Spanned<DeValue<'_>>, source: &Arc<Source>, issues: &mut Vec<Issue>) -> Vec<Block> {
    let DeValue::Array(items) = value.get_ref() else {
        let issue = Issue::new(source, &value.span(), "`grid` is not a list of blocks");
        issues.push(issue.help("write [[grid]], with two brackets"));
        return Vec::new();
    };
    if let Some(beyond) = items.get(MOST_BLOCKS) {
        let text = format!("the grid has {}", counted(items.len() as u128, "block"));
        let most = counted(MOST_BLOCKS as u128, "block");
        let help = format!("it may have {most}: keys with lists of values make many runs of one");
        issues.push(Issue::new(source, &beyond.span(), text).help(help));
        return Vec::new();
    }
    let mut blocks = Vec::new();
    let mut budget = range::MOST_IN_ALL;
    for (index, item) in items.iter().enumerate() {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        if item.get_ref().is_table() {
            blocks.push(read(index + 1, item, source, &mut budget, issues));
        } else {
            let written = source.excerpt(&item.span());
            issues.push(
                Issue::new(source, &item.span(), format!("a block cannot be {written}"))
                    .help("write [[grid]]"),
            );
        }
    }
    blocks
}

/// The most blocks of a grid: each is merged by itself, which takes a while.
const MOST_BLOCKS: usize = 10_000;

fn read(
    number: usize,
    item: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    budget: &mut i64,
    issues: &mut Vec<Issue>,
) -> Block {
    let mut block = Block {
        number,
        span: item.span(),
        source: Arc::clone(source),
        entries: Vec::new(),
        zip: Vec::new(),
        exclude: Vec::new(),
        pretrain: None,
    };
    let Some(table) = item.get_ref().as_table() else { return block };
    let mut walk = Walk::new(source, &["zip", "exclude"], issues);
    walk.table(table, "", &mut |name, value, issues| match name {
        "zip" => block.zip = read_zip(value, source, issues),
        _ => block.exclude = read_exclude(value, source, issues),
    });
    let (found, pretrain) = (walk.found, walk.pretrain);
    block.pretrain = pretrain;
    for (key, name, value) in found {
        if key.section() == "exec" {
            let issue = Issue::new(source, &name, format!("`{}` cannot be set by a grid block", key.path));
            issues.push(
                issue.help(
                    "[exec] says how runs are carried out, not what they are: set it in the [exec] table",
                ),
            );
            continue;
        }
        match read_entry(key, value, source, budget) {
            Ok(entry) => block.entries.push(entry),
            Err(found) => issues.extend(found),
        }
    }
    block
}

/// A list is an axis, and so is a range; for keys whose type is a list, a list of lists is.
fn read_entry(
    key: &'static Key,
    value: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    budget: &mut i64,
) -> Result<Entry, Vec<Issue>> {
    let span = value.span();
    if let Some(values) = range::read(key, value, source, budget) {
        return values.map(|values| Entry { key, span, values, swept: true }).map_err(|issue| vec![issue]);
    }
    let axis = value.get_ref().as_array().filter(|items| {
        let listed = matches!(key.kind, Kind::Pair(_));
        !listed || items.iter().next().is_none_or(|first| first.get_ref().is_array())
    });
    let Some(items) = axis else {
        let checked = value::read(key, value.get_ref(), &span, source).map_err(|issue| vec![issue])?;
        return Ok(Entry { key, values: vec![(checked, span.clone())], span, swept: false });
    };
    let mut issues = Vec::new();
    let mut values = Vec::new();
    for item in items {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        match value::read(key, item.get_ref(), &item.span(), source) {
            Ok(checked) => values.push((checked, item.span())),
            Err(issue) => issues.push(issue),
        }
    }
    if values.is_empty() && issues.is_empty() {
        let issue = Issue::new(source, &span, format!("the axis `{}` has no values", key.path));
        issues.push(issue.help("an empty axis makes an empty grid: give it a value or remove the key"));
    }
    if issues.is_empty() { Ok(Entry { key, span, values, swept: true }) } else { Err(issues) }
}

fn read_zip(value: &Spanned<DeValue<'_>>, source: &Arc<Source>, issues: &mut Vec<Issue>) -> Vec<Zip> {
    let help = "zip is a list of lists of keys, such as [[\"mask.seed\", \"optimizer.lr\"]]";
    let wrong = |span: &Span, text: String| Issue::new(source, span, text).help(help);
    let mut zips = Vec::new();
    let Some(groups) = value.get_ref().as_array() else {
        issues.push(wrong(&value.span(), "`zip` is not a list".into()));
        return zips;
    };
    for group in groups {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        let Some(names) = group.get_ref().as_array() else {
            let written = source.excerpt(&group.span());
            issues.push(wrong(&group.span(), format!("zip holds {written}, not a list of keys")));
            continue;
        };
        if names.len() < 2 {
            issues.push(wrong(&group.span(), "a zip needs at least two keys".into()));
        }
        let mut zip = Zip { span: group.span(), keys: Vec::new() };
        for name in names {
            match name.get_ref().as_str().map(|text| (text, keys::find(text))) {
                Some((_, Some(key))) => zip.keys.push((key, name.span())),
                Some((text, None)) => issues.push(unknown(source, &name.span(), text, &[])),
                None => {
                    let written = source.excerpt(&name.span());
                    issues.push(wrong(&name.span(), format!("zip names {written}")));
                }
            }
        }
        zips.push(zip);
    }
    zips
}

fn read_exclude(
    value: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
) -> Vec<Selector> {
    let help = "exclude is a list of tables, such as [{ mask.sparsity = 0.999, optimizer.lr = 1e-5 }]";
    let Some(items) = value.get_ref().as_array() else {
        issues.push(Issue::new(source, &value.span(), "`exclude` is not a list").help(help));
        return Vec::new();
    };
    let read = |item: &Spanned<DeValue<'_>>, issues: &mut Vec<Issue>| {
        let wrong = || {
            let written = source.excerpt(&item.span());
            Issue::new(source, &item.span(), format!("exclude holds {written}")).help(help)
        };
        selector::read(item, source, issues, wrong)
    };
    let mut found = Vec::new();
    for item in items {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        found.extend(read(item, issues));
    }
    found
}
