//! Which files of a repository a model is made of.
//!
//! In: the names that a commit has, or a folder. Out: the names that are wanted. Only these are ever fetched: no pickle,
//! no code, no other format of the weights.

use std::path::Path;

use serde_json::Value;

/// Files that a model cannot do without, weights aside.
pub const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that a model may have.
pub const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
/// The weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of files of weights in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// The file of weights or the index that a commit has.
///
/// # Errors
/// When it has neither: what it has instead.
pub fn weights_or_index(has: impl Fn(&str) -> bool, names: &[&str]) -> Result<&'static str, String> {
    if let Some(found) = [WEIGHTS, INDEX].into_iter().find(|name| has(name)) {
        return Ok(found);
    }
    let ends = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    let instead =
        [(".bin", "pickled weights (.bin)"), (".pt", "pickled weights (.pt)"), (".gguf", "GGUF files")];
    let instead: Vec<&str> =
        instead.iter().filter(|(ending, _)| ends(ending)).map(|(_, what)| *what).collect();
    let instead =
        if instead.is_empty() { String::new() } else { format!(", only {}", instead.join(" and ")) };
    Err(format!("it has neither {WEIGHTS} nor {INDEX}{instead}"))
}

/// The files of weights that an index names, sorted.
///
/// # Errors
/// When it is not an index, or names something that is not a file beside it.
pub fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let value: Value = serde_json::from_slice(index).map_err(|e| format!("{INDEX} is not JSON: {e}"))?;
    let map = value["weight_map"].as_object().ok_or(format!("{INDEX} has no `weight_map`"))?;
    let mut names: Vec<String> = Vec::new();
    for name in map.values() {
        match name.as_str() {
            Some(name) if is_plain(name) && name.ends_with(".safetensors") => names.push(name.to_owned()),
            _ => return Err(format!("{INDEX} names {name}, which is no safetensors file beside it")),
        }
    }
    names.sort();
    names.dedup();
    if names.is_empty() { Err(format!("{INDEX} names no files")) } else { Ok(names) }
}

/// Whether a name is that of a file in the folder itself.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0', ':'])
}

/// What a folder of the cache has of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files that are there.
    pub present: Vec<String>,
    /// Files that are needed and are not.
    pub missing: Vec<String>,
    /// Optional files of which nothing is known.
    pub unknown: Vec<String>,
}

/// Looks into a folder. `absent` says which optional files are known not to exist.
pub fn look(folder: &Path, absent: impl Fn(&str) -> bool) -> Found {
    let mut found = Found::default();
    let is_there = |name: &str| folder.join(name).is_file();
    for name in NEEDED {
        let list = if is_there(name) { &mut found.present } else { &mut found.missing };
        list.push(name.into());
    }
    for name in OPTIONAL {
        if is_there(name) {
            found.present.push(name.into());
        } else if !absent(name) {
            found.unknown.push(name.into());
        }
    }
    let index = folder.join(INDEX);
    if is_there(WEIGHTS) {
        found.present.push(WEIGHTS.into());
    } else if let Ok(names) = std::fs::read(&index).map_err(|e| e.to_string()).and_then(|text| shards(&text))
    {
        found.present.push(INDEX.into());
        for name in names {
            let list = if is_there(&name) { &mut found.present } else { &mut found.missing };
            list.push(name);
        }
    } else {
        found.missing.push(WEIGHTS.into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_safetensors_or_nothing() {
        let of = |names: &[&str]| weights_or_index(|name| names.contains(&name), names);
        assert_eq!(of(&["model.safetensors", "model.safetensors.index.json"]), Ok(WEIGHTS));
        assert_eq!(of(&["model.safetensors.index.json"]), Ok(INDEX));
        let said = of(&["pytorch_model.bin", "q4.gguf"]).unwrap_err();
        assert!(said.ends_with(", only pickled weights (.bin) and GGUF files"), "{said}");
        assert!(of(&[]).unwrap_err().ends_with(INDEX));
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let index = |names: &[&str]| {
            let map: serde_json::Map<_, _> =
                names.iter().enumerate().map(|(i, name)| (format!("t{i}"), (*name).into())).collect();
            shards(serde_json::json!({ "weight_map": map }).to_string().as_bytes())
        };
        assert_eq!(
            index(&["b.safetensors", "a.safetensors", "b.safetensors"]).unwrap(),
            ["a.safetensors", "b.safetensors"]
        );
        for bad in ["../a.safetensors", "/a.safetensors", "x/a.safetensors", "a.bin", "", ".a.safetensors"] {
            assert!(index(&[bad]).is_err(), "{bad}");
        }
        assert!(index(&[]).is_err() && shards(b"[]").is_err() && shards(b"{").is_err());
    }
}
