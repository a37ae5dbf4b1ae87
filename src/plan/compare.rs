//! What differs between two runs, key by key.

use serde_json::Value;

/// A setting that differs, with its value on both sides; `None` where a side has no such setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The dotted key.
    pub key: String,
    /// The value of the first.
    pub left: Option<Value>,
    /// The value of the second.
    pub right: Option<Value>,
}

/// The settings that differ, in the order of the first, then those that the second alone has.
pub fn differences(left: &[(String, Value)], right: &[(String, Value)]) -> Vec<Difference> {
    let of = |side: &[(String, Value)], key: &str| {
        side.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    let known = |key: &str| left.iter().any(|(known, _)| known == key);
    let keys = left.iter().chain(right.iter().filter(|(key, _)| !known(key))).map(|(key, _)| key);
    keys.map(|key| Difference { key: key.clone(), left: of(left, key), right: of(right, key) })
        .filter(|found| !same(found.left.as_ref(), found.right.as_ref()))
        .collect()
}

/// Numbers are compared by value: a record that was read back may hold `1.0` as `1`.
fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    // Seeds are larger than a float is exact.
    if let (Some(left), Some(right)) = (left.and_then(Value::as_u64), right.and_then(Value::as_u64)) {
        return left == right;
    }
    match (left.and_then(Value::as_f64), right.and_then(Value::as_f64)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_named() {
        let side =
            |value: Value| value.as_object().expect("an object").clone().into_iter().collect::<Vec<_>>();
        let left =
            side(json!({ "seed": 0, "mask.type": "random", "mask.sparsity": 0.9, "optimizer.lr": 1.0 }));
        let right = side(json!({ "seed": 0, "mask.type": "full", "optimizer.lr": 1, "eval.every": 5 }));
        let found = differences(&left, &right);
        let named =
            found.iter().map(|d| (d.key.as_str(), d.left.clone(), d.right.clone())).collect::<Vec<_>>();
        let wanted = [
            ("mask.type", Some(json!("random")), Some(json!("full"))),
            ("mask.sparsity", Some(json!(0.9)), None),
            ("eval.every", None, Some(json!(5))),
        ];
        assert_eq!(named, wanted);
        assert!(differences(&left, &left).is_empty());
    }
}
