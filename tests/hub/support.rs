//! A cache of its own for each test, and what is asked of a hub with it.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tickets::data::hub::{HubError, Pinned, Settings, Snapshot, Told, Watch, fetch};

use crate::server::{COMMIT, Hub, ID, blob};

/// Files of the chat model, sorted; the first four of the study's models have one more.
pub const FILES: [&str; 5] =
    ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// A cache.
pub struct Cache {
    folder: TempDir,
    pub settings: Settings,
}

impl Cache {
    /// An empty one, for a hub that is given up after a second of silence.
    pub fn new(hub: &Hub) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = settings(&hub.endpoint, folder.path());
        settings.retry_after = Duration::from_millis(5);
        Self { folder, settings }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn repository(&self) -> PathBuf {
        self.path().join("models--tiny--chat")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT).join(name)
    }

    pub fn blob(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.repository().join("blobs").join(blob(name, bytes))
    }

    pub fn incomplete(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.blob(name, bytes).with_extension("incomplete")
    }

    pub fn fetch(&self) -> Result<Snapshot, HubError> {
        fetch(&self.settings, &pinned(), Watch::NOBODY)
    }

    /// The same, with what was told.
    pub fn fetch_told(&self) -> (Result<Snapshot, HubError>, Vec<Told>) {
        let told = RefCell::new(Vec::new());
        let tell = |what| told.borrow_mut().push(what);
        let result = fetch(&self.settings, &pinned(), Watch { stop: &|| false, tell: &tell });
        (result, told.into_inner())
    }

    /// Fetches in vain; the error and the advice as one text.
    #[track_caller]
    pub fn fails(&self) -> String {
        let error = self.fetch().expect_err("it cannot be had");
        format!("{error}\n{}", error.hint().unwrap_or_default())
    }

    /// Checks that all is there, byte by byte, and nothing half-written.
    #[track_caller]
    pub fn holds_all_of(&self, hub: &Hub) {
        for name in FILES {
            assert_eq!(fs::read(self.file(name)).expect(name), hub.file(name), "{name}");
            let target = fs::read_link(self.file(name)).expect("a link");
            assert_eq!(target, Path::new("../../blobs").join(blob(name, &hub.file(name))));
        }
        assert_eq!(self.halves(), Vec::<String>::new());
    }

    /// Names of unfinished files.
    pub fn halves(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.repository().join("blobs")) else { return Vec::new() };
        let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
        names.filter(|name| name.contains('.')).collect()
    }
}

pub fn pinned() -> Pinned {
    Pinned::model(ID, COMMIT)
}

/// Settings of a hub and a cache, with nothing of this machine's environment.
pub fn settings(endpoint: &str, cache: &Path) -> Settings {
    let settings = Settings::from_variables(&|name| match name {
        "HF_ENDPOINT" => Some(endpoint.into()),
        "HF_HUB_CACHE" => Some(cache.into()),
        "HF_HUB_ETAG_TIMEOUT" | "HF_HUB_DOWNLOAD_TIMEOUT" => Some("1".into()),
        _ => None,
    });
    settings.expect("settings")
}
