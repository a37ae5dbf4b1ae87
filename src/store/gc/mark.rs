//! Marking: what may go.
//!
//! In: kept runs, a scope. Out: rubbish. Nothing is changed. Invariant: what cannot be judged stays, and a note says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::layout::{Stage, check_name};
use super::super::leased::{Footing, Live, Subject};
use super::super::measure::{age, human_duration, leftovers, size};
use super::super::process::Life;
use super::super::{REASON, Store, StoreError, checkpoint, fs, short};
use super::{LEFTOVER_AGE, Marked, Rubbish, RubbishKind, Scope, TRASH};

/// A marking under way.
struct Marking<'a> {
    store: &'a Store,
    scope: Scope,
    manifests: BTreeMap<String, String>,
    live: Live,
    found: Marked,
}

impl Store {
    /// Marks what may go: everything in the scope that no run of `keep`, and no run that stays, needs. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn mark(&self, keep: &BTreeMap<String, Footing>, scope: Scope) -> Result<Marked, StoreError> {
        let live = Live::look(self, keep)?;
        let manifest = |(id, record): (String, Map<String, Value>)| {
            Some((id, record.get("manifest")?.as_str()?.to_owned()))
        };
        let manifests = self.records()?.into_iter().filter_map(manifest).collect();
        let found = Marked { keep: keep.clone(), ..Marked::default() };
        let mut marking = Marking { store: self, scope, manifests, live, found };
        if let Some(task) = &marking.live.unknown {
            marking.found.notes.push(format!(
                "somebody works on {task}, and what that needs is not written down: only quarantine and leftovers can go"
            ));
        } else {
            let staying = marking.runs()?;
            marking.artifacts(&staying)?;
        }
        marking.rest()?;
        let mut found = marking.found;
        found.rubbish.sort_by(|left, right| (left.kind, &left.path).cmp(&(right.kind, &right.path)));
        Ok(found)
    }
}

impl Marking<'_> {
    fn add(&mut self, kind: RubbishKind, path: &Path, why: &str, subject: Subject, manifest: Option<String>) {
        let root = self.store.home.layout.root();
        let relative = path.strip_prefix(&root).unwrap_or(path).to_path_buf();
        let (bytes, why) = (size(path), why.to_owned());
        self.found.rubbish.push(Rubbish { kind, path: relative, bytes, why, manifest, subject });
    }

    /// Runs, and what finished ones no longer need of their own. The runs that stay.
    fn runs(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let mut staying = BTreeSet::new();
        let layout = self.store.home.layout.clone();
        for run in self.store.runs()? {
            if self.live.holds_run(&run) {
                self.found.notes.push(format!("run {} stays as it is: it is in use", short(&run)));
                staying.insert(run);
                continue;
            }
            let kept = self.found.keep.contains_key(&run);
            if self.scope.runs && !kept {
                let manifest = self.manifests.get(&run).cloned();
                let subject = Subject::Run(run.clone());
                self.add(RubbishKind::Run, &layout.run(&run), "no kept manifest has it", subject, manifest);
                continue;
            }
            self.within(&run)?;
            staying.insert(run);
        }
        Ok(staying)
    }

    /// Attempts and checkpoints of a run that stays. Without a sound result they may be all that there is.
    fn within(&mut self, run: &str) -> Result<(), StoreError> {
        if !self.scope.attempts && !self.scope.checkpoints {
            return Ok(());
        }
        let result = match self.store.load_result(run) {
            Ok(Some(result)) => result,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.found.notes.push(format!("run {} stays as it is: {error}", short(run)));
                return Ok(());
            }
        };
        let home = self.store.home.clone();
        let finished = result.detail()["attempt"].as_u64();
        for number in checkpoint::attempts(&home, run)? {
            let subject = || Subject::Run(run.to_owned());
            if self.scope.attempts && finished != Some(u64::from(number)) {
                let path = home.layout.attempt(run, number);
                self.add(RubbishKind::Attempt, &path, "another attempt finished the run", subject(), None);
            } else if self.scope.checkpoints {
                let folder = home.layout.checkpoints(run, number);
                for name in fs::list(&folder)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
                    let path = folder.join(name);
                    self.add(RubbishKind::Checkpoint, &path, "its run is finished", subject(), None);
                }
            }
        }
        Ok(())
    }

    /// Artifacts that neither a kept run nor one that stays needs.
    fn artifacts(&mut self, staying: &BTreeSet<String>) -> Result<(), StoreError> {
        if !self.scope.artifacts {
            return Ok(());
        }
        if let Some(run) = staying.iter().find(|run| !self.live.known.contains_key(*run)) {
            self.found.notes.push(format!(
                "every artifact stays: run {} does, and what it stands on is not written down",
                short(run)
            ));
            return Ok(());
        }
        let needing = self
            .live
            .known
            .iter()
            .filter(|(run, _)| staying.contains(*run) || self.found.keep.contains_key(*run));
        let needed: BTreeSet<(Stage, String)> =
            needing.flat_map(|(_, footing)| footing.artifacts.iter().cloned()).collect();
        let layout = self.store.home.layout.clone();
        for stage in Stage::ALL {
            for id in fs::list(&layout.stage(stage))? {
                let key = (stage, id);
                let ours = check_name(&key.1).is_ok();
                if !ours || needed.contains(&key) || self.live.holds_artifact(stage, &key.1) {
                    continue;
                }
                let path = layout.artifact(stage, &key.1);
                let subject = Subject::Artifact(stage, key.1);
                self.add(RubbishKind::of(stage), &path, "no run that stays needs it", subject, None);
            }
        }
        Ok(())
    }

    /// Quarantine and leftovers.
    fn rest(&mut self) -> Result<(), StoreError> {
        let layout = self.store.home.layout.clone();
        if self.scope.quarantine {
            let names = fs::list(&layout.quarantine())?;
            let has_owner = |name: &String| {
                let owner = name.strip_suffix(REASON);
                owner.is_some_and(|owner| names.iter().any(|other| other == owner))
            };
            for name in names.iter().filter(|name| !name.starts_with(fs::TEMPORARY) && !has_owner(name)) {
                let path = layout.quarantine().join(name);
                self.add(RubbishKind::Quarantine, &path, "it was set aside", Subject::Nothing, None);
            }
        }
        if self.scope.leftovers {
            let root = layout.root();
            for path in leftovers(&root, &root.join(TRASH)) {
                let relative = path.strip_prefix(&root).unwrap_or(&path);
                let inside = self.found.rubbish.iter().any(|thing| relative.starts_with(&thing.path));
                let old = age(&path);
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if inside || !is_abandoned(fs::life_of_maker(&name), old) || self.is_used(relative) {
                    continue;
                }
                let why = format!("a process left it behind {} ago", human_duration(old));
                self.add(RubbishKind::Leftover, &path, &why, Subject::Nothing, None);
            }
        }
        Ok(())
    }

    /// Whether a path lies in something that is in use.
    fn is_used(&self, relative: &Path) -> bool {
        let parts = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>();
        let [kind, id, _, ..] = parts.as_slice() else { return false };
        match Stage::ALL.into_iter().find(|stage| stage.name() == kind.as_ref()) {
            Some(stage) => self.live.holds_artifact(stage, id),
            None => kind.as_ref() == "run" && self.live.holds_run(id),
        }
    }
}

/// Whether a leftover is of no use to anyone: its maker has ended, or cannot be seen from here and it is old.
fn is_abandoned(maker: Option<Life>, age: Duration) -> bool {
    match maker {
        Some(Life::Dead) => true,
        Some(Life::Alive) => false,
        Some(Life::Unknown) | None => age >= LEFTOVER_AGE,
    }
}
