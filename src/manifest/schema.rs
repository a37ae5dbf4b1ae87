//! The JSON Schema of a manifest, for editors and for `taplo`: made from the key table.
//!
//! Out: draft-07. It says what every single key may hold and where it may stand; rules across keys are the loader's.
//! Tables come in three forms: as settings, as a `[[grid]]` block, and as a selector.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind};
use super::{schema_blocks, schema_value};

/// What stands for the name of an evaluation in the names of definitions.
pub(super) const NAME: &str = "NAME";

/// The names of evaluations.
const EVAL_NAMES: &str = "^[a-z][a-z0-9_-]{0,31}$";

/// The schema as `manifests/schema.json` holds it.
pub fn schema_text() -> String {
    let generated = SchemaSettings::draft07().into_generator().into_root_schema_for::<Root>().to_value();
    // schemars puts what it adds last, and readers look for it first.
    let mut ordered = Map::new();
    for name in ["$schema", "title", "description"] {
        ordered.extend(generated.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    ordered.extend(
        generated.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())),
    );
    format!("{:#}\n", Value::Object(ordered))
}

struct Root;

impl JsonSchema for Root {
    fn schema_name() -> Cow<'static, str> {
        "Manifest of tickets".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let definitions = generator.definitions_mut();
        let entries = entries();
        for entry in &entries {
            definitions.insert(entry.path.clone(), schema_value::of_key(entry));
        }
        definitions.extend(schema_value::ranges());
        let tables = Tables { entries: &entries };
        for form in [Form::Settings, Form::Grid, Form::Selector] {
            for path in tables.paths().filter(|path| tables.differs(form, path)) {
                definitions.insert(tables.name(form, path), tables.table(form, path));
            }
        }
        definitions.insert("grid".into(), grid(&tables));
        definitions.insert("selector".into(), selector(&tables));
        definitions.insert("figure".into(), schema_blocks::figure());
        definitions.insert(
            "claim".into(),
            schema_blocks::claim(&tables.names(|key| schema_value::range_of(key.kind).is_some())),
        );
        let blocks = |name: &str, text: &str| json!({ "description": text, "type": "array", "items": reference(name) });
        let mut properties = json!({
            "title": {
                "description": "Heading of the plan and of the report.\n\nDefault: the manifest's name.",
                "type": "string",
            },
            "question": {
                "description": "What the grid is to answer; printed below the title.\n\nDefault: empty.",
                "type": "string",
            },
            "extends": {
                "description": "The manifest that this one builds on: a path, relative to this file. Tables are merged key \
                                by key; [[grid]], [[figure]] and [[claim]] blocks replace those of the parent.\n\n\
                                Default: none.",
                "type": "string",
            },
        });
        if let Some(properties) = properties.as_object_mut() {
            properties.extend(tables.properties(Form::Settings, ""));
            properties.insert("grid".into(), blocks("grid", "The runs: each block is a product of axes."));
            properties.insert("figure".into(), blocks("figure", "What the report draws."));
            properties.insert("claim".into(), blocks("claim", "Hypotheses that the report tests."));
        }
        json_schema!({
            "description": "A declarative experiment: a base model, a task, how to train, and a grid of runs. \
                            Made by `tickets schema`.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// A reference to a definition.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// A key and where it may stand.
pub(super) struct Entry {
    /// Its path, with [`NAME`] for the name of an evaluation.
    pub path: String,
    /// The key, or that of the plain evaluation or task.
    pub key: &'static Key,
}

impl Entry {
    /// Whether it is that of a named evaluation, whose defaults are the settings of `[eval]` and `[task]`.
    pub fn named(&self) -> bool {
        self.path != self.key.path
    }
}

/// Every key, and those of named evaluations.
fn entries() -> Vec<Entry> {
    let plain = KEYS.iter().map(|key| Entry { path: key.path.to_owned(), key });
    let named = KEYS.iter().filter_map(|key| {
        let rest = key.path.strip_prefix("eval.");
        let rest = rest.or_else(|| key.path.starts_with("task.").then_some(key.path))?;
        Some(Entry { path: format!("eval.{NAME}.{rest}"), key })
    });
    plain.chain(named).collect()
}

/// The forms that a table takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One value per key.
    Settings,
    /// A value, a list of values or a range per key; not `[exec]`.
    Grid,
    /// One value per key, of the keys that can select runs.
    Selector,
}

impl Form {
    fn has(self, key: &Key) -> bool {
        match self {
            Self::Settings => true,
            Self::Grid => key.section() != "exec",
            Self::Selector => key.section() != "exec" && key.kind != Kind::Path,
        }
    }

    fn value(self, entry: &Entry) -> Value {
        let one = reference(&entry.path);
        if self != Self::Grid {
            return one;
        }
        let mut ways = vec![one.clone(), json!({ "type": "array", "minItems": 1, "items": one })];
        ways.extend(schema_value::range_of(entry.key.kind).map(reference));
        json!({ "anyOf": ways })
    }
}

struct Tables<'e> {
    entries: &'e [Entry],
}

impl Tables<'_> {
    /// Every table that holds keys, in the order of the keys.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let mut seen = Vec::new();
        for entry in self.entries {
            for (dot, _) in entry.path.match_indices('.') {
                if !seen.contains(&&entry.path[..dot]) {
                    seen.push(&entry.path[..dot]);
                }
            }
        }
        seen.into_iter()
    }

    /// Whether a table has a definition of its own in a form: most selectors' tables are those of the settings.
    fn differs(&self, form: Form, path: &str) -> bool {
        let inside = |entry: &&Entry| entry.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        let mut inside = self.entries.iter().filter(inside);
        match form {
            Form::Settings => true,
            Form::Grid => inside.any(|entry| form.has(entry.key)),
            Form::Selector => {
                !(path == "exec" || path.starts_with("exec.")) && inside.any(|entry| !form.has(entry.key))
            }
        }
    }

    /// The definition of a table in a form.
    fn name(&self, form: Form, path: &str) -> String {
        match form {
            Form::Grid => format!("grid.{path}"),
            Form::Selector if self.differs(form, path) => format!("selector.{path}"),
            Form::Settings | Form::Selector => path.to_owned(),
        }
    }

    /// What stands directly in a table (`""` is the top of a file), each with its schema.
    fn properties(&self, form: Form, table: &str) -> Map<String, Value> {
        let start = if table.is_empty() { String::new() } else { format!("{table}.") };
        let mut found = Map::new();
        for entry in self.entries.iter().filter(|entry| form.has(entry.key)) {
            let Some(rest) = entry.path.strip_prefix(&start) else { continue };
            let (name, value) = match rest.split_once('.') {
                None => (rest, form.value(entry)),
                Some((name, _)) => (name, reference(&self.name(form, &format!("{start}{name}")))),
            };
            found.insert(name.to_owned(), value);
        }
        found
    }

    fn table(&self, form: Form, path: &str) -> Value {
        let mut properties = self.properties(form, path);
        let named = properties.shift_remove(NAME);
        let mut table = json!({ "description": about(path), "type": "object", "properties": properties });
        if let Some(named) = named {
            table["additionalProperties"] = named;
            table["propertyNames"] = json!({ "pattern": EVAL_NAMES, "not": { "const": "task" } });
        } else {
            table["additionalProperties"] = false.into();
        }
        if path.ends_with(NAME) {
            table["minProperties"] = 1.into();
        }
        table
    }

    /// The paths of the keys that a test admits, as a schema of texts.
    fn names(&self, admits: impl Fn(&Key) -> bool) -> Value {
        schema_value::key_names(self.entries.iter().filter(|entry| admits(entry.key)))
    }
}

fn grid(tables: &Tables<'_>) -> Value {
    let zip = "Groups of axes that advance together, such as `[[\"mask.seed\", \"optimizer.lr\"]]`.";
    let exclude =
        "Partial points that are left out, such as `[{ mask.sparsity = 0.999, optimizer.lr = 1e-4 }]`.";
    let mut properties = tables.properties(Form::Grid, "");
    let names = tables.names(|key| Form::Grid.has(key));
    let group = json!({ "type": "array", "minItems": 2, "items": names });
    properties.insert("zip".into(), json!({ "description": zip, "type": "array", "items": group }));
    let point = reference("selector");
    properties.insert("exclude".into(), json!({ "description": exclude, "type": "array", "items": point }));
    json!({
        "description": "A product of axes: a list or a range is an axis, a single value is fixed for the block. \
                        The first axis changes slowest. Any key but those of [exec] may be set.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn selector(tables: &Tables<'_>) -> Value {
    json!({
        "description": "A partial point: the runs that have all of these values.",
        "type": "object",
        "minProperties": 1,
        "properties": tables.properties(Form::Selector, ""),
        "additionalProperties": false,
    })
}

/// What a table is for.
fn about(path: &str) -> &'static str {
    match path {
        "model" => {
            "The base model: a Hugging Face folder (`path`), a hub's model (`id`), or [model.pretrain]."
        }
        "model.pretrain" => {
            "The built-in base: a small decoder of the Qwen2 architecture and its tokenizer, both made from the task. \
             May be empty."
        }
        "task" => "The environment: where prompts come from and how answers are rewarded.",
        "task.prompts" => "Templates of the prompts, in minijinja.",
        "grpo" => "How to train: steps, groups, advantages, the loss.",
        "optimizer" => "AdamW on the trained entries, and clipping.",
        "sampling" => "How training rollouts are sampled.",
        "mask" => "Which parameters are trained.",
        "fisher" => "How scores of gradients are estimated.",
        "eval" => "Held-out evaluation; with tables [eval.NAME] what these have in common.",
        "eval.sampling" => "How evaluations are sampled. It inherits nothing from [sampling].",
        "exec" => {
            "How runs are carried out. Nothing here is part of a run's identity, and nothing here can be an axis."
        }
        "exec.retries" => {
            "How often one sweep tries a run again by itself, by the class of its failure. It goes on from the newest \
             checkpoint."
        }
        "eval.NAME" => {
            "One of several evaluations. What it does not set comes from [eval] and [task]. A name has lower-case \
             letters, digits, `_` and `-`, and begins with a letter."
        }
        "eval.NAME.sampling" => {
            "How this evaluation is sampled. What it does not set comes from [eval.sampling]."
        }
        "eval.NAME.task" => "The task of this evaluation. What it does not set comes from [task].",
        "eval.NAME.task.prompts" => {
            "Templates of this evaluation's prompts. What it does not set comes from [task.prompts]."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_says_what_it_is_for() {
        let entries = entries();
        let tables = Tables { entries: &entries };
        let silent = tables.paths().filter(|path| about(path).is_empty()).collect::<Vec<_>>();
        assert_eq!((silent, tables.paths().count()), (Vec::new(), 17));
    }
}
