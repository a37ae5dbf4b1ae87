//! What lies around the results: leases, leftovers, what belongs to nobody, quarantine and trash.
//!
//! In: the store's folders. Out: notes; only a damaged lease record, or a file in a folder's place, is damage.

use std::path::Path;

use serde_json::Value;

use super::super::gc::TRASH;
use super::super::layout::{Stage, check_name};
use super::super::lease::parse_name;
use super::super::leased::Subject;
use super::super::measure::{age, human_bytes, human_duration, leftovers, size};
use super::super::process::Life;
use super::super::{REASON, StoreError, fs, record};
use super::check::Fault;
use super::{Auditor, FindingKind, Unit};

/// How long a lease lasts that does not say it.
const LEASE_SECONDS: f64 = 300.0;

impl Auditor {
    /// The names of the folders in a folder of the store. A file in a folder's place is damage.
    pub(super) fn folders(&mut self, parent: &Path) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for name in fs::list(parent)? {
            let path = parent.join(&name);
            if check_name(&name).is_err() {
                continue; // leftovers and strangers are told elsewhere
            }
            if path.is_dir() {
                names.push(name);
            } else if fs::exists(&path) {
                let fault = Fault::damaged(&path, "a file lies where a folder belongs");
                let unit = Unit { paths: vec![(path, format!("file-{name}"))], subject: Subject::Nothing };
                self.settle(vec![fault], &unit)?;
            }
        }
        Ok(names)
    }

    /// Notes what a folder holds besides what is known. Temporary names are told with the leftovers.
    pub(super) fn strangers(&mut self, folder: &Path, known: &dyn Fn(&str) -> bool) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let known = name.to_str().is_some_and(|name| known(name) || name.starts_with(fs::TEMPORARY));
            if !known {
                let what = format!("it belongs to nothing here ({})", human_bytes(size(&entry.path())));
                self.note(FindingKind::Unknown, &entry.path(), what);
            }
        }
    }

    /// Leases: well-formed, and whether they are still renewed.
    pub(super) fn leases(&mut self) -> Result<(), StoreError> {
        let folder = self.home.layout.leases();
        for name in fs::list(&folder)? {
            let path = folder.join(&name);
            let Some((task, _)) = parse_name(&name) else { continue };
            // One that was released meanwhile is none.
            let Some(content) = fs::read_optional(&path)? else { continue };
            match record::unseal(&content, &path) {
                Ok(record) => {
                    self.found.checked.files += 1;
                    self.found.checked.bytes += content.len() as u64;
                    let lasts = record.get("lasts_seconds").and_then(Value::as_f64).unwrap_or(LEASE_SECONDS);
                    let age = age(&path);
                    if age.as_secs_f64() > lasts {
                        let what =
                            format!("nobody has renewed this lease on {task} for {}", human_duration(age));
                        self.note(FindingKind::Leftover, &path, what);
                    }
                }
                // A lease appears whole, so nobody alive wrote it like this.
                Err(error) => {
                    let unit =
                        Unit { paths: vec![(path, format!("lease-{name}"))], subject: Subject::Nothing };
                    self.settle(vec![error.into()], &unit)?;
                }
            }
        }
        self.strangers(&folder, &|name| parse_name(name).is_some());
        Ok(())
    }

    /// Leftovers, strangers at the top, and how much was moved aside.
    pub(super) fn surroundings(&mut self) -> Result<(), StoreError> {
        let root = self.home.layout.root();
        let mut known = vec!["format", ".gitignore", "leases", "run", "logs", "quarantine", TRASH];
        known.extend(Stage::ALL.map(Stage::name));
        self.strangers(&root, &|name| known.contains(&name));
        let plain = |name: &str| check_name(name).is_ok();
        for stage in Stage::ALL {
            self.strangers(&self.home.layout.stage(stage), &plain);
        }
        self.strangers(&self.home.layout.runs(), &plain);
        self.strangers(&root.join("logs"), &plain);
        for path in leftovers(&root, &root.join(TRASH)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if fs::life_of_maker(&name) == Some(Life::Alive) {
                continue; // somebody is just writing it
            }
            let what = format!("{}, {} old", human_bytes(size(&path)), human_duration(age(&path)));
            self.note(FindingKind::Leftover, &path, what);
        }
        for (folder, advice) in [
            ("quarantine", "`tickets gc --quarantine` moves it to the trash"),
            (TRASH, "`tickets gc --purge` removes it"),
        ] {
            let path = root.join(folder);
            let mut names = fs::list(&path)?;
            names.retain(|name| !name.ends_with(REASON) && !name.starts_with(fs::TEMPORARY));
            if !names.is_empty() {
                let s = if names.len() == 1 { "" } else { "s" };
                let what = format!("{} thing{s}, {}; {advice}", names.len(), human_bytes(size(&path)));
                self.note(FindingKind::Aside, &path, what);
            }
        }
        Ok(())
    }
}
