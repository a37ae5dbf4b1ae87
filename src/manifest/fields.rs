//! The fields of `[[figure]]` and `[[claim]]` blocks: tables with names of their own, read with their places.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::MOST_ISSUES;
use super::selector::{self, Selector};
use super::source::{Issue, Source, Span, nearest};
use super::value::{integer, number};

/// A block being read.
pub(super) struct Fields<'f, 'v, 't> {
    table: &'v DeTable<'t>,
    /// Where the block stands.
    pub span: Span,
    /// `figure` or `claim`.
    what: &'static str,
    source: &'f Arc<Source>,
    issues: &'f mut Vec<Issue>,
    asked: Vec<&'static str>,
    /// Whether the kind is not known: then which keys the block has is not known either.
    shapeless: bool,
}

/// Reads every block of a list with `read`; what is not a block is an issue.
pub(super) fn blocks<T>(
    value: &Spanned<DeValue<'_>>,
    what: &'static str,
    source: &Arc<Source>,
    issues: &mut Vec<Issue>,
    mut read: impl FnMut(&mut Fields<'_, '_, '_>) -> Option<T>,
) -> Vec<T> {
    let Some(items) = value.get_ref().as_array() else {
        let issue = Issue::new(source, &value.span(), format!("`{what}` is not a list of blocks"));
        issues.push(issue.help(format!("write [[{what}]], with two brackets")));
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in items {
        if issues.len() >= MOST_ISSUES {
            break;
        }
        let Some(table) = item.get_ref().as_table() else {
            let text = format!("a {what} cannot be {}", source.excerpt(&item.span()));
            issues.push(Issue::new(source, &item.span(), text).help(format!("write [[{what}]]")));
            continue;
        };
        let before = issues.len();
        let mut fields =
            Fields { table, span: item.span(), what, source, issues, asked: Vec::new(), shapeless: false };
        let block = read(&mut fields);
        fields.refuse_others();
        if issues.len() == before {
            found.extend(block);
        }
    }
    found
}

impl<'v, 't> Fields<'_, 'v, 't> {
    fn get(&mut self, name: &'static str) -> Option<&'v Spanned<DeValue<'t>>> {
        self.asked.push(name);
        self.table.get(name)
    }

    /// An issue at the place of a field, or of the block when it is absent.
    pub fn issue(&mut self, name: &str, text: String, help: &str) {
        let span = self.table.get(name).map_or(self.span.clone(), Spanned::span);
        self.issues.push(Issue::new(self.source, &span, text).help(help));
    }

    /// Where the value of a field stands, when it is there.
    pub fn place(&self, name: &str) -> Option<Span> {
        self.table.get(name).map(Spanned::span)
    }

    fn missing(&mut self, name: &str, allowed: &str) {
        let text = format!("the {} has no `{name}`", self.what);
        self.issue("", text, &format!("`{name}` is {allowed}"));
    }

    fn wrong(&mut self, name: &str, value: &Spanned<DeValue<'_>>, allowed: &str) {
        let text = format!("`{name}` cannot be {}", self.source.excerpt(&value.span()));
        self.issue(name, text, &format!("it must be {allowed}"));
    }

    /// A field read by `read`; one that cannot be read is an issue and counts as absent.
    fn read<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.wrong(name, value, allowed);
        }
        found
    }

    fn needed<T>(&mut self, name: &'static str, allowed: &str, found: Option<T>) -> Option<T> {
        if found.is_none() && self.table.get(name).is_none() {
            self.missing(name, allowed);
        }
        found
    }

    /// A text that may be absent.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// A name that may stand in file names.
    pub fn id(&mut self) -> Option<String> {
        let allowed = "a name of letters, digits, `-`, `_` and `.`, at most 64 characters";
        let found = self.read("id", allowed, |value| {
            let text = value.as_str()?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let good =
                !text.is_empty() && text.len() <= 64 && text.chars().all(plain) && !text.starts_with('.');
            good.then(|| text.to_owned())
        });
        self.needed("id", allowed, found)
    }

    /// One of several words.
    pub fn word(&mut self, name: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let allowed =
            format!("one of {}", words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", "));
        let value = self.get(name);
        let Some(value) = value else {
            self.shapeless |= name == "kind";
            self.missing(name, &allowed);
            return None;
        };
        let text = value.get_ref().as_str().unwrap_or_default();
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            self.shapeless |= name == "kind";
            let meant = nearest(text, words.iter().copied());
            let meant = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
            self.wrong(name, value, &format!("{allowed}{meant}"));
        }
        found
    }

    /// A whole number that may be absent.
    pub fn whole(&mut self, name: &'static str) -> Option<u64> {
        self.read(name, "a whole number, at least 0", |value| {
            integer(value).and_then(|x| u64::try_from(x).ok())
        })
    }

    /// A number that may be absent.
    pub fn number(&mut self, name: &'static str) -> Option<f64> {
        self.read(name, "a finite number", number)
    }

    /// A number that must be there.
    pub fn number_needed(&mut self, name: &'static str) -> Option<f64> {
        let found = self.number(name);
        self.needed(name, "a finite number", found)
    }

    /// A whole number that must be there.
    pub fn whole_needed(&mut self, name: &'static str) -> Option<u64> {
        let found = self.whole(name);
        self.needed(name, "a whole number, at least 0", found)
    }

    /// A tolerance: a number of at least 0.
    pub fn margin(&mut self) -> Option<f64> {
        self.read("margin", "a number of at least 0", |value| number(value).filter(|x| *x >= 0.0))
    }

    /// A tolerance that must be there.
    pub fn margin_needed(&mut self) -> Option<f64> {
        let found = self.margin();
        self.needed("margin", "a number of at least 0", found)
    }

    /// The ends of one or two numbers.
    pub fn ends(&mut self, name: &'static str) -> Option<(f64, f64)> {
        let allowed = "a list of one or two numbers, the smaller one first";
        let found = self.read(name, allowed, |value| {
            let numbers =
                value.as_array()?.iter().map(|item| number(item.get_ref())).collect::<Option<Vec<_>>>()?;
            match numbers.as_slice() {
                [only] => Some((*only, *only)),
                [low, high] if low < high => Some((*low, *high)),
                _ => None,
            }
        });
        self.needed(name, allowed, found)
    }

    fn one_selector(&mut self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Selector> {
        let source = self.source;
        let wrong = || {
            let text = format!("`{name}` cannot be {}", source.excerpt(&item.span()));
            Issue::new(source, &item.span(), text)
                .help("it must be a partial point, such as { mask.type = \"random\", mask.sparsity = 0.99 }")
        };
        selector::read(item, source, self.issues, wrong)
    }

    /// A selector that must be there.
    pub fn selector(&mut self, name: &'static str) -> Option<Selector> {
        let Some(value) = self.get(name) else {
            self.missing(name, "a partial point, such as { mask.type = \"full\" }");
            return None;
        };
        self.one_selector(name, value)
    }

    /// A list of selectors; absent is empty.
    pub fn selectors(&mut self, name: &'static str) -> Vec<Selector> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(name, value, "a list of partial points, such as [{ mask.type = \"full\" }]");
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items {
            if self.issues.len() >= MOST_ISSUES {
                break;
            }
            found.extend(self.one_selector(name, item));
        }
        found
    }

    /// Fields that nobody asked for.
    fn refuse_others(&mut self) {
        if self.shapeless {
            return;
        }
        for (name, _) in self.table {
            if self.issues.len() >= MOST_ISSUES {
                break;
            }
            let text = name.get_ref().as_ref();
            if !self.asked.contains(&text) {
                let meant = nearest(text, self.asked.iter().copied());
                let help = match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("this {} has the keys {}", self.what, self.asked.join(", ")),
                };
                let issue =
                    Issue::new(self.source, &name.span(), format!("unknown key `{text}` of a {}", self.what));
                self.issues.push(issue.help(help));
            }
        }
    }
}
