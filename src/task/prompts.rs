//! The wording of the prompts: compiled templates, and the wording used when a manifest has none of its own.
//!
//! In: templates and what one turn shows. Out: the user message of that turn. Invariant: templates that were accepted
//! know every variable they use, and a message does not end in a line break.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};

use super::error::TaskError;
use super::spec::{AlphabetSortSpec, PromptTemplates};

const FIRST: &str = "task.prompts.first";
const SECOND: &str = "task.prompts.second";
const LATER: &str = "task.prompts.later";

/// The variables of a template.
const VARIABLES: [&str; 4] = ["names", "key", "slots", "turn"];

const DEFAULT_FIRST: &str = r#"Arrange these people in alphabetical order of their {{ key }} name: {{ names | join(", ") }}

Reply in this exact format and with nothing else:
<alphabetical_sorted>
{% for slot in slots %}
Name{{ slot.number }}
{% endfor %}
</alphabetical_sorted>"#;

const DEFAULT_SECOND: &str = r#"Now arrange ALL the people, still by {{ key }} name, with these joining: {{ names | join(", ") }}

They come on top of the list you already have. Put `// new name!` behind each NEW name.

Reply in this exact format and with nothing else:
<combined_alphabetical_sorted>
{% for slot in slots %}
Name{{ slot.number }}{{ " // new name!" if slot.new else "" }}
{% endfor %}
</combined_alphabetical_sorted>"#;

const DEFAULT_LATER: &str = r#"Again arrange ALL the people, still by {{ key }} name, with these joining: {{ names | join(", ") }}

They come on top of the lists so far. Put `// new name!` behind each NEW name, and only there. Keep to the format of your previous reply."#;

/// The built-in wording.
pub fn default_prompts() -> PromptTemplates {
    PromptTemplates {
        first: DEFAULT_FIRST.to_owned(),
        second: DEFAULT_SECOND.to_owned(),
        later: DEFAULT_LATER.to_owned(),
    }
}

/// What one prompt shows.
pub(super) struct Shown<'t> {
    /// 1-based.
    pub turn: usize,
    /// The new names, shuffled.
    pub names: &'t [String],
    /// `FIRST` or `LAST`.
    pub key: &'static str,
    /// Lines of the format example.
    pub slots: u64,
    /// Lines above this number are shown as new ones.
    pub new_above: u64,
}

/// What is wrong with templates as texts, by key. None of them is rendered, so this ends whatever they say.
pub fn check_prompts(templates: &PromptTemplates) -> Vec<(&'static str, TaskError)> {
    let PromptTemplates { first, second, later } = templates;
    let checked = [(FIRST, first), (SECOND, second), (LATER, later)].map(|(key, template)| {
        let error = Prompts::empty().add(key, template).err()?;
        Some((key, error))
    });
    checked.into_iter().flatten().collect()
}

/// Compiled templates.
#[derive(Clone, Debug)]
pub(super) struct Prompts(Environment<'static>);

impl Prompts {
    /// Compiles the templates of `spec` and tries each on the smallest and the largest turn.
    pub(super) fn new(spec: &AlphabetSortSpec) -> Result<Self, TaskError> {
        let mut prompts = Self::empty();
        let PromptTemplates { first, second, later } = &spec.prompts;
        for (turn, key, template) in [(1, FIRST, first), (2, SECOND, second), (3, LATER, later)] {
            prompts.add(key, template)?;
            prompts.try_out(turn, spec)?;
        }
        Ok(prompts)
    }

    fn empty() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("only delimiters can clash, and these are the usual ones"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        Self(environment)
    }

    /// Compiles a template and checks its variables.
    fn add(&mut self, key: &'static str, template: &str) -> Result<(), TaskError> {
        self.0
            .add_template_owned(key, template.to_owned())
            .map_err(|source| TaskError::Template { key, source: Box::new(source) })?;
        self.check_variables(key)
    }

    /// The message of one turn.
    pub(super) fn render(&self, shown: &Shown) -> Result<String, TaskError> {
        let key = match shown.turn {
            1 => FIRST,
            2 => SECOND,
            _ => LATER,
        };
        let slots: Vec<Value> = (1..=shown.slots)
            .map(|number| context! { number => number, new => number > shown.new_above })
            .collect();
        let variables = context! {
            names => shown.names.iter().map(Value::from).collect::<Vec<_>>(),
            key => shown.key,
            slots => slots,
            turn => shown.turn,
        };
        let message = self
            .0
            .get_template(key)
            .and_then(|template| template.render(variables))
            .map_err(|source| TaskError::Template { key, source: Box::new(source) })?;
        Ok(message.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Refuses variables that no prompt has, in branches too that a try-out would not reach.
    fn check_variables(&self, key: &'static str) -> Result<(), TaskError> {
        let template = self
            .0
            .get_template(key)
            .map_err(|source| TaskError::Template { key, source: Box::new(source) })?;
        let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        used.sort_unstable();
        if !used.iter().any(|name| name == "names") {
            return Err(TaskError::NamesUnused { key });
        }
        let known =
            |name: &str| VARIABLES.contains(&name) || self.0.globals().any(|(global, _)| global == name);
        match used.into_iter().find(|name| !known(name)) {
            Some(variable) => Err(TaskError::UnknownVariable { key, variable }),
            None => Ok(()),
        }
    }

    /// Renders the template of `turn` for the fewest and the most names, so that what fails does so before a run.
    fn try_out(&self, turn: usize, spec: &AlphabetSortSpec) -> Result<(), TaskError> {
        for count in [spec.min_names_per_turn, spec.max_names_per_turn] {
            let names: Vec<String> = (1..=count).map(|n| format!("Given{n}Surname{n}")).collect();
            for key in ["FIRST", "LAST"] {
                let slots = u64::from(count);
                let new_above = if turn == 1 { slots } else { slots / 2 };
                self.render(&Shown { turn, names: &names, key, slots, new_above })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::alphabet_sort::tests::spec;

    fn with(first: &str) -> Result<Prompts, TaskError> {
        let mut spec = spec();
        spec.prompts.first = first.to_owned();
        Prompts::new(&spec)
    }

    fn render(prompts: &Prompts, turn: usize, slots: u64, new_above: u64) -> String {
        let names = ["EveMoss".to_owned(), "AdaBell".to_owned()];
        prompts.render(&Shown { turn, names: &names, key: "LAST", slots, new_above }).expect("valid template")
    }

    #[test]
    fn the_built_in_wording_has_the_structure_of_the_environment() {
        let prompts = Prompts::new(&spec()).expect("built-in");
        assert_eq!(
            render(&prompts, 1, 2, 2),
            "Arrange these people in alphabetical order of their LAST name: EveMoss, AdaBell\n\
             \n\
             Reply in this exact format and with nothing else:\n\
             <alphabetical_sorted>\nName1\nName2\n</alphabetical_sorted>"
        );
        let second = render(&prompts, 2, 3, 1);
        assert!(second.starts_with(
            "Now arrange ALL the people, still by LAST name, with these joining: EveMoss, AdaBell\n\n"
        ));
        assert!(second.ends_with(
            "\n<combined_alphabetical_sorted>\nName1\nName2 // new name!\nName3 // new name!\n</combined_alphabetical_sorted>"
        ));
        let later = render(&prompts, 5, 3, 1);
        assert!(later.contains(": EveMoss, AdaBell\n\n") && !later.contains("Name1"), "{later}");
    }

    #[test]
    fn templates_of_a_manifest_replace_the_wording() {
        // TOML's multi-line strings end in a line break; it is not part of the message.
        let prompts =
            with("{{ key }} {{ ', '.join(names) }}{% for s in slots %} {{ s.number }}{% endfor %}\n\r\n\n")
                .expect("valid");
        assert_eq!(render(&prompts, 1, 3, 3), "LAST EveMoss, AdaBell 1 2 3");
    }

    #[test]
    fn a_broken_template_names_its_key() {
        let error = with("{% for name in names %}").expect_err("never closed");
        assert_eq!(error.to_string(), "task.prompts.first is not a usable template");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("task.prompts.first:1"), "{cause}");
    }

    #[test]
    fn an_unknown_variable_is_refused_wherever_it_hides() {
        let error = with("{{ names }} {{ kye }}").expect_err("misspelt");
        assert_eq!(error.to_string(), "task.prompts.first uses `kye`, which no prompt has");
        assert!(with("{{ names }}{% if turn > 100 %}{{ kye }}{% endif %}").is_err());
        // Fields are known only when the template runs.
        assert!(with("{{ names }}{% for s in slots %}{{ s.nmuber }}{% endfor %}").is_err());
        // So is a name that the smallest turn does not have.
        assert!(with("{{ names[0] }} {{ names[1] }}").is_err());
        assert!(with("{% for n in range(2) %}{{ n }}{% endfor %}{% set k = names %}{{ k }}").is_ok());
    }

    #[test]
    fn a_template_without_the_names_is_refused() {
        let error = with("Sort by {{ key }}.").expect_err("nothing to sort");
        assert!(matches!(error, TaskError::NamesUnused { key: FIRST }));
    }
}
