//! The layers of a configuration and their order: defaults < `extends` chain < manifest < grid < environment < `--set`.
//!
//! Files and overrides become [`Document`]s; figment merges them. `exec.*` may be overridden like any other key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider};
use toml::de::DeValue;

use super::document::{self, Document, FileDocument, Setting, Walk, unknown};
use super::error::ManifestError;
use super::files;
use super::keys::{self, KEYS, Kind};
use super::named;
use super::source::{Issue, Source};
use super::value;

/// Environment variables with this prefix are overrides.
pub const PREFIX: &str = "TICKETS_";

/// Variables with the prefix that are not overrides: they steer set-up and the program itself.
pub const RESERVED: [&str; 5] =
    ["TICKETS_CACHE", "TICKETS_KEEP_WHEELS", "TICKETS_LIBTORCH", "TICKETS_PICTURES", "TICKETS_REQUIRE_CUDA"];

/// The most files that one manifest may extend, one after another.
const MOST_PARENTS: usize = 32;

/// The built-in defaults, as a layer.
pub struct Defaults;

impl Provider for Defaults {
    fn metadata(&self) -> Metadata {
        Metadata::named("built-in defaults")
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for key in KEYS {
            if let Some(value) = key.preset() {
                insert(&mut dict, key.path, value.figment());
            }
        }
        Ok(Profile::Default.collect(dict))
    }
}

impl Provider for &Document {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.name.clone())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for setting in &self.settings {
            let value = match (&setting.value, setting.key.kind) {
                (value::Value::Text(text), Kind::Path) => resolve(&self.folder, text).map_err(|e| *e)?.into(),
                (value, _) => value.figment(),
            };
            insert(&mut dict, &named::place(setting.key.path), value);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// A path as resolved against the folder of the text that wrote it.
pub fn resolve(folder: &Path, text: &str) -> Result<String, Box<figment::Error>> {
    let path = folder.join(text);
    let refuse = || Box::new(format!("{} is not UTF-8 text", path.display()).into());
    path.to_str().map(str::to_owned).ok_or_else(refuse)
}

/// Puts a value at a dotted path.
pub fn insert(dict: &mut Dict, path: &str, value: figment::value::Value) {
    use figment::value::Value;
    let Some((head, rest)) = path.split_once('.') else {
        dict.insert(path.to_owned(), value);
        return;
    };
    if !matches!(dict.get(head), Some(Value::Dict(..))) {
        dict.insert(head.to_owned(), Value::from(Dict::new()));
    }
    if let Some(Value::Dict(_, inner)) = dict.get_mut(head) {
        insert(inner, rest, value);
    }
}

/// Takes the value at a dotted path away.
pub fn remove(dict: &mut Dict, path: &str) {
    match path.split_once('.') {
        None => {
            dict.remove(path);
        }
        Some((head, rest)) => {
            if let Some(figment::value::Value::Dict(_, inner)) = dict.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}

/// Reads a manifest and everything it extends, the manifest last; what is wrong with them, the manifest first.
pub fn read_chain(path: &Path) -> Result<(Vec<FileDocument>, Vec<Issue>), ManifestError> {
    let mut chain = Vec::new();
    let mut issues = Vec::new();
    let mut visited = BTreeSet::new();
    let mut next = (path.to_path_buf(), None::<Issue>);
    loop {
        let (path, asked) = next;
        let (file, found) = match (read_one(&path), asked) {
            (Ok(read), _) => read,
            // A parent that cannot be read is the fault of the line that names it.
            (Err(error), Some(issue)) => {
                let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
                let help = issue.help.or_else(|| error.hint());
                issues.push(Issue { text: format!("{}: {error}{cause}", issue.text), help, ..issue });
                break;
            }
            (Err(error), None) => return Err(error),
        };
        issues.extend(found);
        visited.insert(files::canonical(&path)?);
        let parent = file.extends.clone();
        let (source, folder) = (Arc::clone(&file.settings.source), file.settings.folder.clone());
        chain.push(file);
        let Some((text, span)) = parent else { break };
        let issue = |what: &str| Issue::new(&source, &span, format!("`extends` = \"{text}\"{what}"));
        let parent = folder.join(&text);
        if parent.canonicalize().is_ok_and(|found| visited.contains(&found)) {
            issues.push(issue(" closes a cycle").help("a manifest cannot extend itself"));
            break;
        }
        if chain.len() > MOST_PARENTS {
            let far = issue(&format!(" is more than {MOST_PARENTS} files away"));
            issues.push(far.help(format!("a manifest stands on at most {MOST_PARENTS} others")));
            break;
        }
        let mut asked = issue("");
        if !parent.exists() {
            let near = files::list(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder });
            let stem = text.strip_suffix(".toml").unwrap_or(&text);
            let meant = super::source::nearest(stem, near.iter().map(String::as_str));
            let meant = meant.map(|name| format!("did you mean \"{name}.toml\"? ")).unwrap_or_default();
            asked = asked.help(format!("{meant}a path starts from the folder of the file that names it"));
        }
        next = (parent, Some(asked));
    }
    chain.reverse();
    Ok((chain, issues))
}

fn read_one(path: &Path) -> Result<(FileDocument, Vec<Issue>), ManifestError> {
    let text = files::read(path)?;
    let source = Arc::new(Source { name: path.display().to_string(), text });
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(document::read_file(&source, folder))
}

/// Reads overrides: environment variables first, sorted by name, then `--set` in the order given.
///
/// Values are read as TOML; what is not TOML is a text.
pub fn read_overrides(
    set: &[String],
    env: &[(String, String)],
) -> Result<(Vec<Document>, Vec<Issue>), ManifestError> {
    if set.is_empty() && env.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let folder = files::working_directory()?;
    let mut issues = Vec::new();
    let mut layers = Vec::new();
    let mut variables = env.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())).collect::<Vec<_>>();
    variables.sort();
    let mut seen = BTreeMap::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let path = rest.to_lowercase().replace("__", ".");
        if let Some(twin) = seen.insert(path.clone(), name) {
            let source = Arc::new(Source { name: "environment".into(), text: format!("{name}={value}") });
            let text = format!("{twin} and {name} both set `{path}`");
            issues
                .push(Issue::new(&source, &(0..name.len()), text).help("capitals do not count: remove one"));
        }
        read_override(
            format!("environment variable {name}"),
            &path,
            value,
            &folder,
            &mut layers,
            &mut issues,
        );
    }
    for argument in set {
        if let Some((path, value)) = argument.split_once('=') {
            read_override("--set".into(), path.trim(), value.trim(), &folder, &mut layers, &mut issues);
        } else {
            let source = Arc::new(Source { name: "--set".into(), text: argument.clone() });
            let issue = Issue::new(&source, &(0..argument.len()), format!("`{argument}` has no value"));
            issues.push(issue.help("write --set key=value, such as --set optimizer.lr=1e-4"));
        }
    }
    Ok((layers, issues))
}

fn read_override(
    name: String,
    path: &str,
    value: &str,
    folder: &Path,
    layers: &mut Vec<Document>,
    issues: &mut Vec<Issue>,
) {
    let known = keys::find(path);
    if known.is_none() && !keys::is_section(path) {
        let text = format!("{path} = {value}");
        let source = Arc::new(Source { name, text });
        let at = 0..path.len();
        let mut issue = if path.is_empty() {
            let help = "write --set key=value, such as --set optimizer.lr=1e-4";
            Issue::new(&source, &(0..source.text.len()), "there is no key before the `=`").help(help)
        } else if document::RESERVED.contains(&path) {
            let text = format!("`{path}` cannot be overridden: it is no setting of a run");
            Issue::new(&source, &at, text).help("edit the manifest")
        } else {
            unknown(&source, &at, path, &[])
        };
        if source.name.contains(PREFIX) {
            let note = format!("{PREFIX}OPTIMIZER__LR sets `optimizer.lr`; --no-env ignores the environment");
            issue.help = Some(issue.help.map_or(note.clone(), |help| format!("{help} {note}")));
        }
        issues.push(issue);
        return;
    }
    // Keys that take a text take any text: `--set task.names=2001` is a file of that name.
    let wants_text = known.is_some_and(|key| key.kind.is_text());
    let plain = match DeValue::parse(value) {
        Ok(parsed) => !wants_text || parsed.get_ref().is_str(),
        Err(_) => false,
    };
    // A JSON string is a TOML string on one line.
    let written = if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() };
    let source = Arc::new(Source { name, text: format!("{path} = {written}") });
    let table = match document::parse(&source) {
        Ok(table) => table,
        Err(found) => return issues.extend(found),
    };
    let mut layer = Document {
        source: Arc::clone(&source),
        folder: PathBuf::from(folder),
        settings: Vec::new(),
        pretrain: None,
    };
    let mut walk = Walk::new(&source, &[], issues);
    walk.table(table.get_ref(), "", &mut |_, _, _| ());
    let (found, pretrain) = (walk.found, walk.pretrain);
    // A key inside the table does not choose the built-in base; the table itself does.
    layer.pretrain = pretrain.filter(|_| path == "model.pretrain" || path == "model");
    for (key, _, value) in found {
        match value::read(key, value.get_ref(), &value.span(), &source) {
            Ok(checked) => layer.settings.push(Setting { key, value: checked, span: value.span() }),
            Err(issue) => issues.push(issue),
        }
    }
    layers.push(layer);
}

/// The environment variables that are overrides or look like ones.
pub fn environment() -> Result<Vec<(String, String)>, ManifestError> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        match value.into_string() {
            Ok(value) => found.push((name.to_owned(), value)),
            Err(_) if RESERVED.contains(&name) => (),
            Err(_) => return Err(ManifestError::Environment { name: name.to_owned() }),
        }
    }
    Ok(found)
}
