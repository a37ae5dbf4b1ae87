//! Helpers of the manifest and plan tests: manifests in temporary folders, plans of them.
#![expect(dead_code, reason = "every test file uses its own part of these helpers")]

use std::path::PathBuf;

use tempfile::TempDir;
use tickets::manifest::{ManifestError, load_with};
use tickets::plan::{Plan, PlanError, expand};

/// The least that a manifest must say.
pub const HEAD: &str = "[model.pretrain]\n[task]\ntype = \"alphabet_sort\"\n";

/// A folder with manifests in it.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("removed");
    }

    /// Writes a file and gives its path as text.
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A message without this folder's path, which differs from run to run.
    pub fn strip(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

pub fn plan_of(argument: &str, set: &[&str], env: &[(&str, &str)]) -> Result<Plan, PlanError> {
    let set = set.iter().map(ToString::to_string).collect::<Vec<_>>();
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
    expand(load_with(argument, &set, &env)?)
}

/// Plans a manifest text.
pub fn plan(text: &str, set: &[&str]) -> Result<Plan, PlanError> {
    let folder = Folder::new();
    plan_of(&folder.write("m.toml", text), set, &[])
}

/// Plans `HEAD` followed by a text.
pub fn planned(text: &str) -> Plan {
    plan(&format!("{HEAD}{text}"), &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// The labels of `HEAD` followed by a text.
pub fn labels(text: &str) -> Vec<String> {
    planned(text).runs.into_iter().map(|run| run.label).collect()
}

/// The message of `HEAD` followed by a text (which begins on line 4) and its hint.
pub fn refused(text: &str, set: &[&str]) -> (String, String) {
    let folder = Folder::new();
    let path = folder.write("m.toml", format!("{HEAD}{text}"));
    let error = plan_of(&path, set, &[]).expect_err("it must be refused");
    (folder.strip(&error.to_string()), error.hint().unwrap_or_default())
}

/// The message of a manifest that does not load.
pub fn unloadable(argument: &str) -> ManifestError {
    load_with(argument, &[], &[]).expect_err("it must not load")
}
