//! `[[figure]]` and `[[claim]]` blocks as JSON Schema: which keys each kind needs and which it may have.
//!
//! A test holds it against what `figure.rs` and `claim.rs` read.

use serde_json::{Map, Value, json};

use super::figure::{EVALUATION, SCORE, TRAINING};
use super::schema::reference;
use super::{claim, figure};

/// A kind of block.
struct Shape {
    /// What it says.
    doc: &'static str,
    /// The keys that it must have, beside `id` and `kind`.
    needs: &'static [&'static str],
    /// The keys that it may have, beside those that every kind may have.
    may: &'static [&'static str],
    /// What the kind asks of single keys.
    own: Value,
}

fn shape(
    doc: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
    own: Value,
) -> Shape {
    Shape { doc, needs, may, own }
}

fn figure_shape(kind: &str) -> Shape {
    let none = || json!({});
    match kind {
        "curves" => shape("the metric over the steps, one line a run", &[], &["metric"], none()),
        "lr_sweep" => {
            shape("the metric over the learning rate, one line per mask", &[], &["metric", "at_step"], none())
        }
        "density" => {
            shape("the best metric over the density of the mask", &[], &["metric", "at_step"], none())
        }
        "table" => shape("the metric as a table", &[], &["metric", "at_step"], none()),
        _ => shape("the overlaps of the masks", &[], &[], none()),
    }
}

fn claim_shape(kind: &str, axes: &Value) -> Shape {
    let (number, whole) = (json!({ "type": "number" }), json!({ "type": "integer", "minimum": 0 }));
    match kind {
        "value" => shape(
            "the mean is `expect`, give or take `margin`",
            &["of", "expect", "margin"],
            &["metric", "at_step"],
            json!({ "expect": number }),
        ),
        "equivalence" => shape(
            "the means of `left` and `right` differ by at most `margin`",
            &["left", "right", "margin"],
            &["metric", "at_step"],
            json!({}),
        ),
        "greater" => shape(
            "the mean of `left` exceeds that of `right` by more than `margin`",
            &["left", "right"],
            &["margin", "metric", "at_step"],
            json!({}),
        ),
        "optimum" => shape(
            "the best value of the key `over` lies within `expect`, give or take `grid_steps` of the swept values",
            &["of", "expect"],
            &["over", "grid_steps", "metric", "at_step"],
            json!({
                "over": axes,
                "expect": { "type": "array", "minItems": 1, "maxItems": 2, "items": number },
            }),
        ),
        "overlap" => shape(
            "the Jaccard index of every mask of `left` with every other one of `right` is `expect`",
            &["left", "right", "margin"],
            &["expect"],
            json!({ "expect": number }),
        ),
        "count" => shape(
            "the masks have exactly `expect` active entries",
            &["of", "expect"],
            &[],
            json!({ "expect": whole }),
        ),
        _ => shape(
            "log(best learning rate) over log(density of the mask) has the slope `expect`",
            &["of", "expect", "margin"],
            &["over", "metric", "at_step"],
            json!({ "over": { "const": "mask.density" }, "expect": number }),
        ),
    }
}

/// The schema of a `[[figure]]` block.
pub(super) fn figure() -> Value {
    let kinds = figure::KINDS.map(|(name, _)| name);
    let runs = json!({
        "description": "Which runs it shows: those that any of these selectors means.\n\nDefault: all runs.",
        "type": "array",
        "items": reference("selector"),
    });
    let own = json!({
        "title": text("Heading.\n\nDefault: that of the kind."),
        "runs": runs,
        "metric": metric(),
        "at_step": at_step(),
    });
    block("figure", "What the report draws.", own, &["title", "runs"], &kinds, &figure_shape)
}

/// The schema of a `[[claim]]` block; `axes` are the names of keys with numbers as values.
pub(super) fn claim(axes: &Value) -> Value {
    let selector = |text: &str| json!({ "description": text, "allOf": [reference("selector")] });
    let own = json!({
        "source": text("Where it was first made, such as the number of a published claim.\n\nDefault: empty."),
        "statement": text("What it says, in words.\n\nDefault: empty."),
        "of": selector("The runs that it is about."),
        "left": selector("The one side: the runs that it is about."),
        "right": selector("The other side."),
        "metric": metric(),
        "at_step": at_step(),
        "over": {
            "description": "The key whose best value is asked for.\n\nDefault: `\"optimizer.lr\"`; of a slope \
                            `\"mask.density\"`, and nothing else.",
            "type": "string",
        },
        "expect": {
            "description": "What is expected: a number; of an optimum a list of one or two, the smaller one first; of a \
                            count a whole number. Default of an overlap: that of chance, p / (2 - p) for the density p.",
        },
        "margin": {
            "description": "The largest distance from what is expected, in the unit of the metric; of a greater claim by \
                            how much at least.\n\nDefault of a greater claim: `0`. Range: at least 0.",
            "type": "number",
            "minimum": 0,
        },
        "grid_steps": {
            "description": "How many of the swept values beyond `expect` also count.\n\nDefault: `0`. Range: at least 0.",
            "type": "integer",
            "minimum": 0,
            "default": 0,
        },
    });
    let shapes = |kind: &str| claim_shape(kind, axes);
    block(
        "claim",
        "A hypothesis that the report tests.",
        own,
        &["source", "statement"],
        &claim::KINDS,
        &shapes,
    )
}

/// A block with its kinds: what each needs, and what it does not have.
fn block(
    what: &str,
    about: &str,
    own: Value,
    free: &[&str],
    kinds: &[&str],
    shape: &dyn Fn(&str) -> Shape,
) -> Value {
    let said = kinds.iter().map(|kind| format!("- `{kind}`: {}", shape(kind).doc)).collect::<Vec<_>>();
    let mut properties = json!({
        "id": {
            "description": format!(
                "Name of the {what}, and of what is made of it: letters, digits, `-`, `_` and `.`, at most 64. Needed."
            ),
            "type": "string",
            "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$",
        },
        "kind": {
            "description": format!("What it shows or says. Needed.\n\n{}", said.join("\n")),
            "enum": kinds,
            "x-taplo": { "docs": { "enumValues": kinds.iter().map(|kind| shape(kind).doc).collect::<Vec<_>>() } },
        },
    });
    if let (Some(properties), Value::Object(own)) = (properties.as_object_mut(), own) {
        properties.extend(own);
    }
    let cases = kinds.iter().map(|kind| {
        let Shape { needs, may, own, .. } = shape(kind);
        let had = [&["id", "kind"], free, needs, may].concat();
        let mut then = Map::new();
        if !needs.is_empty() {
            then.insert("required".into(), json!(needs));
        }
        then.insert("propertyNames".into(), json!({ "enum": had }));
        if own != json!({}) {
            then.insert("properties".into(), own);
        }
        json!({ "if": { "required": ["kind"], "properties": { "kind": { "const": kind } } }, "then": then })
    });
    json!({
        "description": about,
        "type": "object",
        "required": ["id", "kind"],
        "properties": properties,
        "additionalProperties": false,
        "allOf": cases.collect::<Vec<_>>(),
        "x-taplo": { "initKeys": ["id", "kind"] },
    })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn metric() -> Value {
    let scores = EVALUATION.iter().map(|column| format!("eval/{column}"));
    let words = scores.chain(TRAINING.iter().map(ToString::to_string)).collect::<Vec<_>>();
    json!({
        "description": format!("A column of metrics.csv or evals.csv.\n\nDefault: `\"{SCORE}\"`."),
        "type": "string",
        "default": SCORE,
        // Words for completion, and the columns of named evaluations.
        "anyOf": [{ "enum": words }, { "pattern": format!("^eval/.+/({})$", EVALUATION.join("|")) }],
    })
}

fn at_step() -> Value {
    json!({
        "description": "The step at which the metric is taken.\n\nDefault: the last. Range: at least 0.",
        "type": "integer",
        "minimum": 0,
    })
}
