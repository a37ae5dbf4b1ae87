//! What somebody works on at the moment, and what that stands on: neither a repair nor the collection of rubbish touches
//! any of it.
//!
//! In: the lease files, the records of runs. Out: [`Live`]. Invariant: what a lease needs and nobody wrote down is said to
//! be unknown, never taken for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::layout::Stage;
use super::lease::Claim;
use super::observer::Standing;
use super::{Home, Store, StoreError};

/// What a run stands on: the artifacts that it reads, and its trajectory, which other runs may take steps over from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footing {
    /// Base, scores and mask, those that the run has.
    pub artifacts: BTreeSet<(Stage, String)>,
    /// The id of the trajectory; empty when the run has none.
    pub trajectory: String,
}

impl Footing {
    /// From the names and ids of stages; stages without an artifact are left out.
    pub fn of<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut footing = Self::default();
        for (name, id) in named {
            if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == name) {
                footing.artifacts.insert((stage, id.to_owned()));
            } else if name == "trajectory" {
                id.clone_into(&mut footing.trajectory);
            }
        }
        footing
    }

    /// From the record about a run.
    pub(super) fn of_record(record: &Map<String, Value>) -> Self {
        let stages = record.get("stages").and_then(Value::as_object).into_iter().flatten();
        Self::of(stages.filter_map(|(name, id)| Some((name.as_str(), id.as_str()?))))
    }

    fn extend(&mut self, other: &Self) {
        self.artifacts.extend(other.artifacts.iter().cloned());
        self.trajectory.clone_from(&other.trajectory);
    }
}

/// A lease of another host that was not renewed for so long is nobody's any more.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// What somebody may work on, by task: all whose lease is held, or was until a short while ago by a holder whose life cannot be
/// seen from here. `None` for a lease that a newer program wrote: what it is at is its own matter.
fn live_leases(store: &Store) -> Result<BTreeMap<String, Option<Claim>>, StoreError> {
    let now = SystemTime::now();
    let live = |claim: &Claim| match claim.glance(now) {
        Standing::Held => true,
        Standing::Dead => false,
        Standing::Expired => claim.age(now) < FORGOTTEN,
    };
    let mut tasks = BTreeMap::new();
    for (task, generation) in store.generations()? {
        match store.load_claim(&task, generation) {
            Ok(claim) if claim.as_ref().is_some_and(live) => drop(tasks.insert(task, claim)),
            Err(StoreError::Newer { .. }) => drop(tasks.insert(task, None)),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tasks)
}

/// What has to be free for a thing to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The run that the thing is, or is part of.
    Run(String),
    /// The artifact.
    Artifact(Stage, String),
    /// The thing belongs to nothing that can be in use.
    Nothing,
}

/// What is in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// What runs stand on, as far as that is known.
    pub known: BTreeMap<String, Footing>,
    /// The leases that were there.
    leases: BTreeSet<String>,
    tasks: BTreeSet<String>,
    artifacts: BTreeSet<(Stage, String)>,
    trajectories: BTreeSet<String>,
    /// A task whose needs are not written down anywhere, so that anything could be in use.
    pub unknown: Option<String>,
}

impl Live {
    /// Looks at the leases, and at what runs stand on: those of `also`, and those whose record can be read.
    pub fn look(store: &Store, also: &BTreeMap<String, Footing>) -> Result<Self, StoreError> {
        let (claims, known) = (live_leases(store)?, store.footings(also)?);
        let mut live = Self { leases: claims.keys().cloned().collect(), ..Self::default() };
        for (task, claim) in claims {
            let Some((kind, id)) = task.split_once('-') else { continue };
            live.tasks.insert(task.clone());
            if claim.as_ref().is_some_and(Claim::is_sweep) {
                live.announced(claim.as_ref().map_or(&[], |claim| &claim.needs), &known);
                continue;
            }
            let mut needs = Footing::default();
            match Stage::ALL.into_iter().find(|stage| stage.name() == kind) {
                None => match known.get(id) {
                    Some(footing) => needs.extend(footing),
                    None => live.unknown = Some(task.clone()),
                },
                Some(stage) => {
                    let own = (stage, id.to_owned());
                    let users = known.values().filter(|footing| footing.artifacts.contains(&own));
                    let before = users.flat_map(|footing| &footing.artifacts);
                    needs.artifacts.extend(before.filter(|(other, _)| *other <= stage).cloned());
                    if stage != Stage::Base && needs.artifacts.is_empty() {
                        live.unknown = Some(task.clone());
                    }
                    needs.artifacts.insert(own);
                }
            }
            live.artifacts.extend(needs.artifacts);
            live.trajectories.extend(Some(needs.trajectory).filter(|id| !id.is_empty()));
        }
        live.known = known;
        Ok(live)
    }

    /// Takes in what a sweep has before it.
    fn announced(&mut self, needs: &[String], known: &BTreeMap<String, Footing>) {
        for need in needs {
            let Some((kind, id)) = need.split_once('-') else { continue };
            if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == kind) {
                self.artifacts.insert((stage, id.to_owned()));
            } else {
                self.tasks.insert(need.clone());
                self.trajectories.extend(known.get(id).map(|footing| footing.trajectory.clone()));
            }
        }
        self.trajectories.remove("");
    }

    /// Whether the leases have changed since.
    pub fn is_outdated(&self, home: &Home) -> Result<bool, StoreError> {
        let now = live_leases(&Store { home: home.clone() })?;
        Ok(!now.keys().eq(self.leases.iter()))
    }

    /// Whether something is in use.
    pub fn holds(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Run(run) => self.holds_run(run),
            Subject::Artifact(stage, id) => self.holds_artifact(*stage, id),
            Subject::Nothing => false,
        }
    }

    /// Whether a run is in use: somebody works on it, or may take its steps over.
    pub fn holds_run(&self, run: &str) -> bool {
        let related =
            self.known.get(run).is_some_and(|footing| self.trajectories.contains(&footing.trajectory));
        related || self.unknown.is_some() || self.tasks.contains(&format!("run-{run}"))
    }

    /// Whether an artifact is in use: somebody makes it, or works on what stands on it.
    pub fn holds_artifact(&self, stage: Stage, id: &str) -> bool {
        self.unknown.is_some() || self.artifacts.contains(&(stage, id.to_owned()))
    }
}

impl Store {
    fn footings(&self, also: &BTreeMap<String, Footing>) -> Result<BTreeMap<String, Footing>, StoreError> {
        let mut known = also.clone();
        for (run, record) in self.records()? {
            let found = Footing::of_record(&record);
            known
                .entry(run)
                .and_modify(|footing| footing.artifacts.extend(found.artifacts.clone()))
                .or_insert(found);
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footing_is_what_has_an_artifact() {
        let footing = Footing::of([("base", "b"), ("mask", "m"), ("trajectory", "t"), ("train", "x")]);
        let artifacts = [(Stage::Base, "b".to_owned()), (Stage::Mask, "m".to_owned())];
        assert_eq!(footing, Footing { artifacts: artifacts.into(), trajectory: "t".into() });
    }
}
