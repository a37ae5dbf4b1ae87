//! A small judge of JSON Schema draft-07: the keywords that the schema of manifests uses, and no other.
//!
//! A keyword that it does not know is a panic, so nothing in a schema goes unjudged. `scripts/taplo.sh` is the second
//! opinion.

use std::cmp::Ordering;

use regex_lite::Regex;
use serde_json::{Number, Value};

/// What is wrong with a value, each with the path of where it stands; nothing when it is valid.
pub fn judge(root: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(root, root, value, "", &mut found);
    found
}

fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let schema = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return found.push(format!("{path}: may not be there")),
        other => other.as_object().expect("a schema is an object or a flag"),
    };
    if let Some(target) = schema.get("$ref") {
        assert_eq!(schema.len(), 1, "draft-07 ignores what stands beside $ref: {schema:?}");
        let pointer =
            target.as_str().expect("a text").strip_prefix('#').expect("a reference within the file");
        let target = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
        return check(root, target, value, path, found);
    }
    for (keyword, wanted) in schema {
        let holds = match keyword.as_str() {
            // What annotates, and what is read with its neighbours.
            "$schema"
            | "title"
            | "description"
            | "default"
            | "definitions"
            | "x-taplo"
            | "then"
            | "additionalItems"
            | "additionalProperties" => true,
            "type" => is_type(wanted.as_str().expect("one type"), value),
            "enum" => wanted.as_array().expect("a list").contains(value),
            "const" => wanted == value,
            "pattern" => value.as_str().is_none_or(|text| pattern(wanted).is_match(text)),
            "minimum" => compared(value, wanted, Ordering::is_ge),
            "exclusiveMinimum" => compared(value, wanted, Ordering::is_gt),
            "maximum" => compared(value, wanted, Ordering::is_le),
            "exclusiveMaximum" => compared(value, wanted, Ordering::is_lt),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= count(wanted)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= count(wanted)),
            "minProperties" => value.as_object().is_none_or(|table| table.len() >= count(wanted)),
            "maxProperties" => value.as_object().is_none_or(|table| table.len() <= count(wanted)),
            "required" => value.as_object().is_none_or(|table| {
                let mut names = wanted.as_array().expect("a list").iter();
                names.all(|name| table.contains_key(name.as_str().expect("a name")))
            }),
            "anyOf" => wanted.as_array().expect("a list").iter().any(|one| valid(root, one, value)),
            "not" => !valid(root, wanted, value),
            "allOf" => {
                for part in wanted.as_array().expect("a list") {
                    check(root, part, value, path, found);
                }
                true
            }
            "if" => {
                if valid(root, wanted, value) {
                    check(root, &schema["then"], value, path, found);
                }
                true
            }
            "propertyNames" => {
                let mut names =
                    value.as_object().into_iter().flatten().map(|(name, _)| Value::from(name.as_str()));
                names.all(|name| valid(root, wanted, &name))
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let known = wanted.get(name).or_else(|| schema.get("additionalProperties"));
                    if let Some(known) = known {
                        check(root, known, inner, &format!("{path}.{name}"), found);
                    }
                }
                true
            }
            "items" => {
                for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
                    let known = match wanted {
                        Value::Array(places) => places.get(at).unwrap_or(&schema["additionalItems"]),
                        every => every,
                    };
                    check(root, known, inner, &format!("{path}[{at}]"), found);
                }
                true
            }
            other => panic!("the keyword `{other}` is not one of draft-07 that is used here"),
        };
        if !holds {
            found.push(format!("{path}: {value} breaks `{keyword}`: {wanted}"));
        }
    }
}

fn count(wanted: &Value) -> usize {
    usize::try_from(wanted.as_u64().expect("a count")).expect("small")
}

fn pattern(wanted: &Value) -> Regex {
    Regex::new(wanted.as_str().expect("a text")).expect("a pattern")
}

fn is_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        // As draft-07 has it: 4.0 is a whole number.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
        other => panic!("the type `{other}` is not used here"),
    }
}

/// Whole numbers are compared as such: as floats 2^63 - 1 and 2^63 are the same.
fn compared(value: &Value, bound: &Value, holds: fn(Ordering) -> bool) -> bool {
    let (Value::Number(value), Value::Number(bound)) = (value, bound) else { return !value.is_number() };
    let whole = |x: &Number| x.as_i64().map(i128::from).or_else(|| x.as_u64().map(i128::from));
    match (whole(value), whole(bound)) {
        (Some(value), Some(bound)) => holds(value.cmp(&bound)),
        _ => holds(value.as_f64().expect("a number").total_cmp(&(bound.as_f64().expect("a number") + 0.0))),
    }
}
