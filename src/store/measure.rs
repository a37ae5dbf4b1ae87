//! How large and how old things on the disk are, for notes and tables; no result depends on it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::fs;

/// The bytes of a file, or of all files below a folder. What cannot be seen does not count.
pub(super) fn size(path: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(path).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

/// How long ago a file or folder was changed, by the clock of this machine; zero when that lies ahead.
pub(super) fn age(path: &Path) -> Duration {
    let changed = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    changed.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}

/// Everything below a folder that has a temporary name, by path; not what lies inside such a folder or inside `except`.
pub(super) fn leftovers(root: &Path, except: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut walk = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let Ok(entry) = entry else { continue };
        let temporary = entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with(fs::TEMPORARY);
        if temporary {
            found.push(entry.path().to_path_buf());
        }
        if entry.file_type().is_dir() && (temporary || entry.path() == except) {
            walk.skip_current_dir();
        }
    }
    found
}

/// A number of bytes for a reader.
pub fn human_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    for unit in ["KiB", "MiB", "GiB"] {
        size /= 1024.0;
        if size < 1023.95 {
            return format!("{size:.1} {unit}");
        }
    }
    format!("{:.1} TiB", size / 1024.0)
}

/// A length of time for a reader.
pub fn human_duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 29, "1.5 GiB"), (1 << 30, "1.0 GiB")];
        assert_eq!(cases.map(|(bytes, _)| human_bytes(bytes)), cases.map(|(_, text)| text.to_owned()));
        assert_eq!(human_bytes(5 << 40), "5.0 TiB");
        let seconds = [119, 120, 7200, 172_800].map(|seconds| human_duration(Duration::from_secs(seconds)));
        assert_eq!(seconds, ["119 s", "2 min", "2 h", "2 days"]);
    }
}
