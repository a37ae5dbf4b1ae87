//! The shape of a model, as arguments name it: its `config.json`, the directory that has it, or a name that is known.

use std::path::Path;

use crate::data::{Architecture, KNOWN_SHAPES};
use crate::exit::{Code, Failure};

/// The text of the `config.json` that an argument names. `flag` names the argument in advice.
pub fn config_text(named: &str, flag: &str) -> Result<Vec<u8>, Failure> {
    if let Some((_, text)) = KNOWN_SHAPES.iter().find(|(name, _)| *name == named) {
        return Ok(text.as_bytes().to_vec());
    }
    let path = Path::new(named);
    let file = if path.is_dir() { path.join("config.json") } else { path.into() };
    std::fs::read(&file).map_err(|error| {
        let names = KNOWN_SHAPES.map(|(name, _)| name).join(", ");
        let hint = format!("{flag} takes a config.json, a directory that has one, or one of {names}");
        Failure::new(Code::Environment, format!("read {}: {error}", file.display()), Some(hint))
    })
}

/// The shape that `--model` names.
pub fn architecture(named: &str) -> Result<Architecture, Failure> {
    Ok(Architecture::from_config_json(&config_text(named, "--model")?, named)?)
}
