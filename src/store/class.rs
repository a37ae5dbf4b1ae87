//! Classes: what has to be equal for two runs to be numbers of one experiment, bit for bit.
//!
//! In: what a trainer noted beside a finished run. Out: the classes that its steps were made in, their short ids and
//! descriptions. Invariants: a class is what computes (device, processor, threads, versions, build, and how much at a time where
//! memory ran out), never what is
//! computed, so the inputs that differ between masks by nature are no part of it; an absent field and a null one are
//! the same thing, unknown; nothing is guessed for results that note no class. Of `reduced` both mean
//! that nothing was.

use serde_json::{Map, Value};

use super::record::canonical;
use super::{Store, StoreError};

/// The fields of a class, in the order in which tables show them.
pub const FIELDS: [&str; 7] = ["device", "processor", "threads", "libtorch", "tickets", "build", "reduced"];

/// The context of a class's digest.
const CONTEXT: &str = "tickets/v1/class";
/// Digits of a digest that a description shows.
const DIGITS: usize = 8;

/// What computes the steps of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    fields: Map<String, Value>,
}

impl Class {
    /// The class that an object describes; what else it holds is left out.
    pub fn of(object: &Value) -> Self {
        let known = |key: &&str| object.get(key).filter(|value| !value.is_null());
        let pairs = FIELDS.iter().filter_map(|key| Some(((*key).to_owned(), known(key)?.clone())));
        Self { fields: pairs.collect() }
    }

    /// The first eight digits of its digest, which is over the canonical text of the known fields.
    pub fn id(&self) -> String {
        let text = canonical(&Value::Object(self.fields.clone()));
        let hash = blake3::Hasher::new_derive_key(CONTEXT).update(text.as_bytes()).finalize();
        hash.to_hex().chars().take(DIGITS).collect()
    }

    /// A field as people read it; `None` when it is not known. A build is named by its first digits.
    pub fn field(&self, key: &str) -> Option<String> {
        let text = match self.fields.get(key)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(if key == "build" { text.chars().take(DIGITS).collect() } else { text })
    }

    /// The known fields, as they were noted.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// One line for people, such as `cpu, 2 threads, libtorch 2.11.0, tickets 0.1.0, build 3fa91c02, AMD EPYC`.
    pub fn description(&self) -> String {
        let threads = self.field("threads");
        let plural = if threads.as_deref() == Some("1") { "" } else { "s" };
        let named = |key: &str| self.field(key).map(|text| format!("{key} {text}"));
        let parts = [
            self.field("device"),
            threads.map(|count| format!("{count} thread{plural}")),
            named("libtorch"),
            named("tickets"),
            named("build"),
            self.field("processor"),
            named("reduced"),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if known.is_empty() { "nothing is known of it".to_owned() } else { known.join(", ") }
    }
}

/// The classes that a run's steps were made in, in that order: one as a rule, several when it was resumed elsewhere, none
/// when its results do not say.
pub fn classes_of(meta: &Value) -> Vec<Class> {
    let mut classes = Vec::new();
    for object in meta.get("classes").and_then(Value::as_array).into_iter().flatten() {
        let class = Class::of(object);
        // Entries may differ in what is no part of a class, as the digests of the inputs are.
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    classes
}

/// The class of a finished run by its short id, joined by `+` where the run crossed classes; `None` when its results do
/// not say. Two runs may be compared number by number when these are equal and hold no `+`.
pub fn class_of_run(done_meta: &Value) -> Option<String> {
    let ids: Vec<String> = classes_of(done_meta).iter().map(Class::id).collect();
    (!ids.is_empty()).then(|| ids.join("+"))
}

/// The keys of [`FIELDS`] in which classes differ.
pub fn differing(classes: &[Class]) -> Vec<&'static str> {
    let differs =
        |key: &&&str| classes.iter().any(|class| class.fields.get(**key) != classes[0].fields.get(**key));
    FIELDS.iter().filter(differs).copied().collect()
}

/// The classes of some runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunClasses {
    /// Each finished run's id and its class as in [`class_of_run`], in the order asked for.
    pub finished: Vec<(String, Option<String>)>,
    /// The known class of most finished runs; the first of equals. `None` when no class is known.
    pub majority: Option<String>,
}

impl RunClasses {
    /// From the classes of finished runs.
    pub fn new(finished: Vec<(String, Option<String>)>) -> Self {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for class in finished.iter().filter_map(|(_, class)| class.as_deref()) {
            match counts.iter_mut().find(|(known, _)| *known == class) {
                Some((_, count)) => *count += 1,
                None => counts.push((class, 1)),
            }
        }
        let most = counts.iter().map(|(_, count)| *count).max();
        let first = counts.iter().find(|(_, count)| Some(*count) == most);
        Self { majority: first.map(|(class, _)| (*class).to_owned()), finished }
    }

    /// Whether the finished runs are not all known to be of one class.
    pub fn several(&self) -> bool {
        let first = self.finished.first().map(|(_, class)| class);
        let crossed = |class: &Option<String>| class.as_ref().is_some_and(|id| id.contains('+'));
        self.finished.iter().any(|(_, class)| Some(class) != first || crossed(class))
    }
}

impl Store {
    /// The classes of the finished ones among these runs, of a plan as a rule.
    ///
    /// # Errors
    /// As [`Store::result`].
    pub fn run_classes<'a>(&self, runs: impl IntoIterator<Item = &'a str>) -> Result<RunClasses, StoreError> {
        let mut finished = Vec::new();
        for run in runs {
            if let Some(result) = self.result(run)? {
                finished.push((run.to_owned(), class_of_run(result.meta())));
            }
        }
        Ok(RunClasses::new(finished))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn noted() -> Value {
        json!({
            "device": "cpu", "processor": "AMD EPYC, AVX512", "threads": 2, "libtorch": "2.11.0",
            "tickets": "0.1.0", "build": "3fa91c02aaaabbbb", "inputs": {"base": "aa", "mask": "bb"},
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut object = noted();
        object[key] = value;
        object
    }

    #[test]
    fn an_id_is_of_what_computes_alone() {
        let class = Class::of(&noted());
        // blake3 derive_key over the canonical text, whose keys are sorted.
        let text = r#"{"build":"3fa91c02aaaabbbb","device":"cpu","libtorch":"2.11.0","processor":"AMD EPYC, AVX512","threads":2,"tickets":"0.1.0"}"#;
        let hash = blake3::Hasher::new_derive_key("tickets/v1/class").update(text.as_bytes()).finalize();
        assert_eq!(class.id(), hash.to_hex()[..8]);
        assert_eq!(class.id(), Class::of(&with("inputs", json!({"base": "aa", "mask": "cc"}))).id());
        for key in FIELDS {
            assert_ne!(class.id(), Class::of(&with(key, json!("other"))).id(), "{key}");
            // What is not known already: that nothing was reduced is not noted.
            if key != "reduced" {
                assert_ne!(class.id(), Class::of(&with(key, Value::Null)).id(), "{key}");
            }
        }
    }

    #[test]
    fn an_absent_field_is_an_unknown_one() {
        let mut absent = noted();
        absent.as_object_mut().unwrap().shift_remove("build");
        assert_eq!(Class::of(&absent), Class::of(&with("build", Value::Null)));
        assert_eq!(Class::of(&absent).field("build"), None);
    }

    #[test]
    fn a_description_is_one_line_of_what_is_known() {
        assert_eq!(
            Class::of(&noted()).description(),
            "cpu, 2 threads, libtorch 2.11.0, tickets 0.1.0, build 3fa91c02, AMD EPYC, AVX512"
        );
        let one = Class::of(&json!({"device": "cuda(0)", "threads": 1}));
        assert_eq!(one.description(), "cuda(0), 1 thread");
        let less = Class::of(&json!({"device": "cuda(0)", "reduced": {"micro_batch": 4}}));
        assert_eq!(less.description(), "cuda(0), reduced {\"micro_batch\":4}");
        assert_eq!(Class::of(&json!("nonsense")).description(), "nothing is known of it");
    }

    #[test]
    fn a_run_has_the_classes_of_its_steps_in_their_order() {
        let other_inputs = with("inputs", json!({"base": "zz"}));
        let (a, b) = (Class::of(&noted()).id(), Class::of(&with("threads", json!(4))).id());
        let of = |classes: Value| class_of_run(&json!({ "classes": classes }));
        assert_eq!(of(json!([noted()])), Some(a.clone()));
        assert_eq!(of(json!([noted(), other_inputs])), Some(a.clone()), "inputs make no class");
        assert_eq!(of(json!([noted(), with("threads", json!(4))])), Some(format!("{a}+{b}")));
        assert_eq!(of(json!([with("threads", json!(4)), noted()])), Some(format!("{b}+{a}")));
        // Older results, which note a device but no classes, and damaged ones.
        assert_eq!(class_of_run(&json!({"device": "cpu", "threads": 1})), None);
        assert_eq!((of(json!([])), of(Value::Null), of(json!("cpu"))), (None, None, None));
        assert_eq!(class_of_run(&Value::Null), None);
    }

    #[test]
    fn fields_that_differ_are_found() {
        let classes = [noted(), with("threads", json!(4)), with("build", Value::Null)].map(|o| Class::of(&o));
        assert_eq!(differing(&classes), ["threads", "build"]);
        assert!(differing(&classes[..1]).is_empty() && differing(&[]).is_empty());
    }

    #[test]
    fn the_majority_is_among_known_classes() {
        let run = |name: &str, class: Option<&str>| (name.to_owned(), class.map(str::to_owned));
        let classes =
            |names: &[Option<&str>]| RunClasses::new(names.iter().map(|class| run("r", *class)).collect());
        let mixed = classes(&[None, None, None, Some("b"), Some("a"), Some("a")]);
        assert_eq!((mixed.majority.as_deref(), mixed.several()), (Some("a"), true));
        assert_eq!(classes(&[Some("b"), Some("a")]).majority.as_deref(), Some("b"), "the first of equals");
        let unknown = classes(&[None, None]);
        assert_eq!((unknown.majority.as_deref(), unknown.several()), (None, false));
        assert!(!classes(&[Some("a"), Some("a")]).several() && !classes(&[]).several());
        assert!(classes(&[Some("a+b"), Some("a+b")]).several(), "a run of two classes is not of one");
    }
}
