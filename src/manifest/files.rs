//! Every read of the disk that planning needs: manifests, and the digests of name lists and model folders.
//!
//! In: paths. Out: text, names, blake3 digests in hex. Invariant: nothing is written and nothing is cached, so a
//! changed file under the same path is a new digest.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::ManifestError;
use crate::model_folder::{NEEDED, OPTIONAL, TOKENIZER, other_tokenizer};

/// The largest manifest that is read.
const LIMIT: u64 = 1 << 20;

/// The largest header of a safetensors file, as the format's own reader has it.
const LIMIT_OF_HEADER: u64 = 100_000_000;

/// The folder that names are looked up in.
pub const MANIFESTS: &str = "manifests";

/// The file that an argument means: a path, or a name under `manifests/`, with or without `.toml`.
pub fn locate(argument: &str) -> Result<PathBuf, ManifestError> {
    let below = Path::new(MANIFESTS).join(argument);
    let with_ending = |path: &Path| PathBuf::from(format!("{}.toml", path.display()));
    let plain = PathBuf::from(argument);
    let candidates = [plain.clone(), with_ending(&plain), below.clone(), with_ending(&below)];
    let usable = |path: &&PathBuf| !argument.trim().is_empty() && path.exists() && !path.is_dir();
    if let Some(found) = candidates.iter().find(usable) {
        return Ok(found.clone());
    }
    if let Some(path) = candidates.into_iter().find(|path| path.is_dir()) {
        let available = list(&path);
        return Err(ManifestError::Folder { path, available });
    }
    Err(ManifestError::NotFound { argument: argument.into(), available: list(Path::new(MANIFESTS)) })
}

/// The manifests below a folder, as names without `.toml`, sorted; at most 200, and only from ordinary folders.
pub fn list(root: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(root).max_depth(6).sort_by_file_name().into_iter();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let files = walk.filter_entry(visible).filter_map(Result::ok).take(10_000);
    let toml = files.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "toml"));
    let names = toml.filter_map(|entry| {
        let name = entry.path().strip_prefix(root).ok()?.with_extension("");
        Some(segments(&name))
    });
    names.take(200).collect()
}

/// A path with `/` between its parts on every system.
fn segments(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The canonical form of a path.
pub fn canonical(path: &Path) -> Result<PathBuf, ManifestError> {
    path.canonicalize().map_err(|source| ManifestError::Unreadable { path: path.into(), source })
}

/// The name of a manifest: its path below the nearest folder named `manifests`, else its file stem.
pub fn name(canonical: &Path) -> String {
    let bare = canonical.with_extension("");
    let parts = bare.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>();
    let from =
        parts.iter().rposition(|part| part == MANIFESTS).map_or(parts.len().saturating_sub(1), |at| at + 1);
    parts.get(from..).filter(|rest| !rest.is_empty()).map_or_else(String::new, |rest| rest.join("/"))
}

/// Reads a manifest's text.
pub fn read(path: &Path) -> Result<String, ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: path.into(), source };
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if found.is_dir() {
        return Err(ManifestError::Folder { path: path.into(), available: list(path) });
    }
    if !found.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not an ordinary file")));
    }
    if found.len() > LIMIT {
        return Err(ManifestError::TooLarge { path: path.into(), bytes: found.len(), limit: LIMIT });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|wrong| {
        let good =
            String::from_utf8_lossy(&wrong.as_bytes()[..wrong.utf8_error().valid_up_to()]).into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        ManifestError::NotUtf8 { path: path.into(), line, column }
    })?;
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(ManifestError::Empty { path: path.into() });
    }
    Ok(text)
}

/// The folder that relative paths on the command line and in the environment start from.
pub fn working_directory() -> Result<PathBuf, ManifestError> {
    std::env::current_dir().map_err(|source| ManifestError::Unreadable { path: ".".into(), source })
}

/// blake3 of a file's bytes, in hex.
pub fn file_digest(path: &Path) -> io::Result<String> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder where a file is expected"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// blake3 of a mask file's bytes, in hex, and how many entries it trains: as many as it has indices, or `true`s.
pub fn mask_file(path: &Path) -> io::Result<(String, u64)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let unread = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(unread)?);
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| bad("it is too short for a safetensors file"))?;
    let header = u64::from_le_bytes(size);
    if header > LIMIT_OF_HEADER {
        return Err(bad("it is no safetensors file"));
    }
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(|_| bad("it is shorter than its header says"))?;
    let tensors: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|_| bad("it is no safetensors file"))?;
    let tensors = || tensors.iter().filter(|(name, _)| *name != "__metadata__").map(|(_, tensor)| tensor);
    let elements = |tensor: &serde_json::Value| -> u64 {
        let sizes = tensor["shape"].as_array().into_iter().flatten().map(|size| size.as_u64().unwrap_or(0));
        sizes.fold(1, u64::saturating_mul)
    };
    let flags = tensors().any(|tensor| tensor["dtype"] == "BOOL" || tensor["dtype"] == "U8");
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size).update(&text);
    let mut active: u64 = if flags { 0 } else { tensors().map(elements).fold(0, u64::saturating_add) };
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).map_err(unread)?;
        if read == 0 {
            return Ok((hasher.finalize().to_hex().to_string(), active));
        }
        hasher.update(&block[..read]);
        if flags {
            active += block[..read].iter().filter(|byte| **byte != 0).count() as u64;
        }
    }
}

/// blake3 over the sorted names, sizes and bytes of a Hugging Face folder's model files, in hex.
///
/// Other files (README, images, optimizer states) do not count.
pub fn model_digest(folder: &Path) -> io::Result<String> {
    let missing = |what: &str| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("the model folder {} has no {what}", folder.display()),
        )
    };
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} {what}", folder.display())));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
            if weights || NEEDED.contains(&name.as_str()) || OPTIONAL.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    names.sort();
    for needed in NEEDED {
        if !names.iter().any(|name| name == needed) {
            let instead = if needed == TOKENIZER { other_tokenizer(folder) } else { "" };
            return Err(missing(&format!("{needed}{instead}")));
        }
    }
    if !names.iter().any(|name| name.ends_with(".safetensors")) {
        return Err(missing("*.safetensors file"));
    }
    let mut hasher = blake3::Hasher::new_derive_key("tickets/v1/model-folder");
    for name in names {
        let file = File::open(folder.join(&name))?;
        let size = file.metadata()?.len();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update_reader(file)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_below_manifests() {
        assert_eq!(name(Path::new("/a/manifests/quickstart.toml")), "quickstart");
        assert_eq!(name(Path::new("/a/manifests/micro/x.toml")), "micro/x");
        assert_eq!(name(Path::new("/manifests/b/manifests/x.toml")), "x");
        assert_eq!(name(Path::new("/tmp/my run.toml")), "my run");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    fn a_model_digest_sees_names_bytes_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let digest = || model_digest(folder.path());
        assert!(digest().expect_err("nothing there").to_string().contains("has no config.json"));
        write("config.json", "{}");
        assert!(digest().expect_err("no tokenizer").to_string().ends_with("has no tokenizer.json"));
        write("vocab.json", "{}");
        write("merges.txt", "");
        let said = digest().expect_err("an older tokenizer").to_string();
        assert!(said.contains("has no tokenizer.json, only the older vocab.json and merges.txt"), "{said}");
        write("tokenizer.json", "{}");
        assert!(digest().expect_err("no weights").to_string().contains("safetensors"));
        write("model.safetensors", "weights");
        let first = digest().expect("complete");
        write("README.md", "hello");
        assert_eq!(digest().expect("complete"), first);
        // Which tokens end an answer moves every reward, and so does the template.
        for name in OPTIONAL {
            write(name, "{\"eos_token_id\": 2}");
            let ended = digest().expect("complete");
            assert_ne!(ended, first, "{name}");
            write(name, "{\"eos_token_id\": 3}");
            assert_ne!(digest().expect("complete"), ended, "{name}");
            std::fs::remove_file(folder.path().join(name)).expect("removed");
        }
        write("model.safetensors", "weightz");
        let second = digest().expect("complete");
        assert_ne!(second, first);
        write("model.safetensors", "weights");
        assert_eq!(digest().expect("complete"), first);
        std::fs::rename(folder.path().join("model.safetensors"), folder.path().join("model-1.safetensors"))
            .expect("renamed");
        assert_ne!(digest().expect("complete"), first);
    }
}
