//! Disk space of what is left to do of a plan: for `plan`, and for `sweep` before anything is started.
//!
//! In: a plan, which of its runs will be executed, which shared stages are missing, the store. Out: what every run takes,
//! and what all that is left takes together beyond what is on the disk already. Nothing is written.

use std::collections::BTreeSet;
use std::path::Path;

use crate::estimate::{Disk, Footprint, footprint};
use crate::execute::is_wanted;
use crate::exit::{Code, Failure};
use crate::manifest::{ExecSpec, RunConfig};
use crate::plan::{Plan, RunSpec};
use crate::store::{FreeSpace, Stage, Store, StoreError, free_space};

/// The space of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    /// What every run takes in all, in the order of the plan; `None` where the shape of its base is not known.
    pub runs: Vec<Option<Disk>>,
    /// What is left to do takes beyond what is there.
    pub left: Disk,
    /// Runs that are left and whose space is not known.
    pub unknown: usize,
}

impl Space {
    /// Counts. `wanted` says which runs will be executed, `missing` which shared stages are to be made; shared stages count
    /// once, and what an unfinished run has on the disk is not needed again. `exec` may be other than the plan's.
    ///
    /// # Errors
    /// Those of `missing`.
    pub fn of(
        plan: &Plan,
        wanted: &[bool],
        missing: &dyn Fn(Stage, &str) -> Result<bool, StoreError>,
        store: &Store,
        jobs: usize,
        exec: &dyn Fn(&mut ExecSpec),
    ) -> Result<Self, StoreError> {
        let mut space = Self::default();
        let (mut left, mut seen, mut stages) = (Vec::new(), BTreeSet::new(), 0_u64);
        let mut last: Option<(RunConfig, Option<Footprint>)> = None;
        for (run, wanted) in plan.runs.iter().zip(wanted) {
            let mut config = as_far_as_space_goes(run);
            exec(&mut config.exec);
            let found = match &last {
                Some((like, found)) if *like == config => *found,
                _ => footprint(&config),
            };
            last = Some((config, found));
            space.runs.push(found.map(|found| found.run));
            if !wanted {
                continue;
            }
            let Some(found) = found else {
                space.unknown += 1;
                continue;
            };
            left.push(found.run.less(taken(&store.layout().run(run.id.as_str()))));
            let ids = &run.stages;
            for (stage, id, bytes) in [
                (Stage::Base, Some(&ids.base), found.base),
                (Stage::Scores, ids.scores.as_ref(), found.scores),
                (Stage::Mask, ids.mask.as_ref(), found.mask),
            ] {
                if let Some(id) = id
                    && seen.insert((stage, id))
                    && missing(stage, id)?
                {
                    stages = stages.saturating_add(bytes);
                }
            }
        }
        space.left = Disk::of_grid(stages, &left, jobs);
        Ok(space)
    }

    /// For a reader, on one line; empty when nothing is left.
    pub fn told(&self) -> String {
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!(" ({} not known)", super::plan::counted(unknown, "run")),
        };
        match self.left {
            Disk { peak_bytes: 0, .. } => String::new(),
            Disk { peak_bytes, kept_bytes } => {
                format!("disk: {} at most, {} stay{unknown}", size(peak_bytes), size(kept_bytes))
            }
        }
    }
}

/// A run without what takes no space: seeds and rates.
fn as_far_as_space_goes(run: &RunSpec) -> RunConfig {
    let mut config = run.config.clone();
    config.seed = 0;
    config.optimizer.lr = 1.0;
    config.eval.seed = 1;
    config.mask = config.mask.without_seeds();
    config
}

/// The bytes of the files below a folder; what is not there or goes away meanwhile takes none.
fn taken(folder: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

/// Whether a shared stage is to be made; a damaged one is made again.
///
/// # Errors
/// When the store cannot be read.
pub fn missing(store: &Store, stage: Stage, id: &str) -> Result<bool, StoreError> {
    match store.artifact(stage, id) {
        Ok(found) => Ok(found.is_none()),
        Err(StoreError::Damaged { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Refuses a sweep that the disk has no room for, before anything is started: what is left to do and a fifth must be free.
/// Where a file system does not say what is free, nothing is refused.
///
/// # Errors
/// When there is too little room, or the store cannot be read.
pub fn preflight(plan: &Plan, store: &Store, retry: bool, jobs: usize) -> Result<(), Failure> {
    let mut wanted = Vec::with_capacity(plan.runs.len());
    for run in &plan.runs {
        wanted.push(is_wanted(&store.run_state(run.id.as_str())?, retry));
    }
    let of = |exec: &dyn Fn(&mut ExecSpec)| {
        let missing = |stage, id: &str| missing(store, stage, id);
        Space::of(plan, &wanted, &missing, store, jobs, exec).map(|space| space.left)
    };
    let left = of(&|_| {})?;
    let Ok(free) = free_space(store.results()) else { return Ok(()) };
    if fits(left, &free) {
        return Ok(());
    }
    let least = of(&|exec| (exec.keep_mib, exec.keep_checkpoints) = (0, 1))?;
    Err(refusal(&plan.manifest.name, left, least, &free))
}

/// What should be free: the most that is taken, and a fifth, because estimates err and others write too.
fn needed(left: Disk) -> u64 {
    left.peak_bytes.saturating_add(left.peak_bytes / 5)
}

fn fits(left: Disk, free: &FreeSpace) -> bool {
    free.bytes.is_none_or(|bytes| needed(left) <= bytes)
}

/// `least` is what is left with as few checkpoints as can be.
fn refusal(name: &str, left: Disk, least: Disk, free: &FreeSpace) -> Failure {
    let error = format!(
        "too little room on the disk for what is left of {name}: {} are needed (about {} at most, and a fifth to be safe), \
         {} are free in {}",
        size(needed(left)),
        size(left.peak_bytes),
        size(free.bytes.unwrap_or_default()),
        free.folder.display(),
    );
    let enough = if fits(least, free) { "is enough" } else { "would still not be enough" };
    let fewer = if needed(least) < needed(left) {
        format!(
            "keep fewer checkpoints (--set exec.keep_mib=0 --set exec.keep_checkpoints=1 needs {}, which {enough}); ",
            size(needed(least)),
        )
    } else {
        String::new()
    };
    let hint = format!(
        "{fewer}make room (`tickets gc --keep-all --all --dry-run` shows what no manifest needs); use another disk (--results DIR); or start \
         anyway (--no-preflight): a sweep pauses when the disk is full, and nothing is lost"
    );
    Failure::new(Code::Store, error, Some(hint))
}

/// Bytes in binary units, two digits or so.
pub fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib {
        mib if mib < 9.95 => format!("{mib:.1} MiB"),
        mib if mib < 1000.0 => format!("{mib:.0} MiB"),
        mib if mib < 1000.0 * 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{:.1} TiB", mib / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn free(bytes: Option<u64>) -> FreeSpace {
        FreeSpace { folder: "/data/results".into(), existing: "/data".into(), bytes }
    }

    fn peak(peak_bytes: u64) -> Disk {
        Disk { peak_bytes, kept_bytes: 1 }
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        let said = [0, 300 << 10, 310 << 20, 3 << 29, 1500 << 30, 3 << 40].map(size);
        assert_eq!(said, ["0.0 MiB", "0.3 MiB", "310 MiB", "1.5 GiB", "1.5 TiB", "3.0 TiB"]);
    }

    #[test]
    fn what_is_left_and_a_fifth_must_be_free() {
        assert!(fits(peak(10 * GIB), &free(Some(12 * GIB))));
        assert!(!fits(peak(10 * GIB), &free(Some(12 * GIB - 1))));
        assert!(fits(peak(0), &free(Some(0))));
        assert!(!fits(peak(u64::MAX), &free(Some(u64::MAX - 1))));
        assert!(fits(peak(u64::MAX), &free(None)));
    }

    #[test]
    fn a_refusal_says_how_much_is_needed_where_and_what_helps() {
        let of = |left, least| {
            let failure = refusal("paper/math", peak(left), peak(least), &free(Some(3 * GIB)));
            assert_eq!(failure.code, Code::Store);
            (failure.error.to_string(), failure.hint.unwrap_or_default())
        };
        let (error, hint) = of(10 * GIB, 2 * GIB);
        assert_eq!(
            error,
            "too little room on the disk for what is left of paper/math: 12.0 GiB are needed (about 10.0 GiB at most, and \
             a fifth to be safe), 3.0 GiB are free in /data/results"
        );
        assert_eq!(
            hint,
            "keep fewer checkpoints (--set exec.keep_mib=0 --set exec.keep_checkpoints=1 needs 2.4 GiB, which is enough); \
             make room (`tickets gc --keep-all --all --dry-run` shows what no manifest needs); use another disk (--results DIR); or start \
             anyway (--no-preflight): a sweep pauses when the disk is full, and nothing is lost"
        );
        let (_, hint) = of(10 * GIB, 9 * GIB);
        assert!(hint.contains("needs 10.8 GiB, which would still not be enough"), "{hint}");
        // Where nothing is kept as it is, that is no advice.
        let (_, hint) = of(10 * GIB, 10 * GIB);
        assert!(hint.starts_with("make room"), "{hint}");
    }
}
