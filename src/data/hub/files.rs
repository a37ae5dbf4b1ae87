//! Which files of a repository a model is made of.
//!
//! In: the names that a commit has, or a folder. Out: the names that are wanted. Only these are ever fetched: no pickle,
//! no code, no other format of the weights.

use std::path::Path;

use crate::data::weight_files::weight_map;
use crate::model_folder::{INDEX, NEEDED, OPTIONAL, WEIGHTS};

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
    let mut names: Vec<String> =
        weight_map(index).map_err(|what| format!("{INDEX}: {what}"))?.into_values().collect();
    names.sort();
    names.dedup();
    Ok(names)
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
