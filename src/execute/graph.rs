//! What a sweep has to do, as tasks with dependencies: base -> scores -> lost masks, runs.
//!
//! In: a plan and the store. Out: one task per missing base, per missing set of scores and per unfinished run; a stage
//! that several runs need is one task. Order: bases, scores, runs, each in the plan's order, because the shared stages
//! are what everything else waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::worker::WorkStage;
use crate::plan::{Plan, RunSpec};
use crate::store::{RunState, Sighting, Stage, Store, StoreError};

/// One thing to do, in one worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which stage.
    pub stage: WorkStage,
    /// The id of the base, of the scores or of the run.
    pub id: String,
    /// What to call it: the run's label, or the stage and its short id.
    pub label: String,
    /// The run whose configuration it uses, as an index into the plan.
    pub run: usize,
    /// The step that a run goes on from.
    pub from_step: Option<u32>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Waiting,
    Running,
    Done,
    /// It failed, or something that it needs did.
    Failed,
    /// It stopped when asked to.
    Paused,
}

/// A task and what it waits for.
#[derive(Debug)]
pub(super) struct Node {
    pub task: Task,
    /// Indices of the nodes that must be done before.
    pub needs: Vec<usize>,
    /// Of a run: runs of one trajectory go one after the other, so that the later takes steps of the earlier over.
    pub trajectory: Option<String>,
    pub status: Status,
    /// Who is at it, when another worker is.
    pub elsewhere: Option<String>,
    /// The lease of it that was found abandoned.
    pub abandoned: Option<Sighting>,
    /// Not to be tried again before this moment.
    pub not_before: Option<Instant>,
    /// How often it failed in this sweep.
    pub failures: u64,
    /// Of a run: the number of its newest attempt when this sweep began.
    pub attempts_before: u32,
}

/// The tasks of a sweep.
#[derive(Debug)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
}

/// The state of every run of a plan, in the plan's order.
pub(super) fn states(plan: &Plan, store: &Store) -> Result<Vec<RunState>, StoreError> {
    plan.runs.iter().map(|run| store.run_state(&run.id.to_string())).collect()
}

impl Graph {
    /// The tasks for the runs that `wanted` selects, and for the masks of `done` runs that are no longer there. Shared artifacts
    /// that exist are verified first, so that a damaged one is made again now and not found out by the runs.
    pub fn build(plan: &Plan, wanted: &[bool], done: &[bool], store: &Store) -> Result<Self, StoreError> {
        let mut nodes = Vec::new();
        let lost = lost_masks(plan, done, store)?;
        let runs = || {
            let needed = |index: &usize| wanted[*index] || lost.values().any(|run| run == index);
            plan.runs.iter().enumerate().filter(move |(index, _)| needed(index))
        };

        let mut bases: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        // A run whose weights are another's base, or whose changes choose its mask, comes first; the plan has no such
        // circle, since ids hold ids.
        let mut waits = Vec::new();
        for (index, run) in runs() {
            let id = run.stages.base.as_str();
            if !bases.contains_key(id) {
                let present = store.verified_artifact(Stage::Base, id)?.is_some();
                let node =
                    (!present).then(|| push(&mut nodes, shared(WorkStage::Base, id, index), Vec::new()));
                waits.extend(node.zip(run.config.begins_with()));
                bases.insert(id, node);
            }
        }
        let mut scores: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for (index, run) in runs() {
            let Some(id) = run.stages.scores.as_deref() else { continue };
            if !scores.contains_key(id) {
                let present = store.verified_artifact(Stage::Scores, id)?.is_some();
                let needs = bases[run.stages.base.as_str()].into_iter().collect();
                scores.insert(
                    id,
                    (!present).then(|| push(&mut nodes, shared(WorkStage::Scores, id, index), needs)),
                );
            }
        }
        let mut node_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, index) in &lost {
            let stages = &plan.runs[*index].stages;
            let mut needs: Vec<usize> = bases[stages.base.as_str()].into_iter().collect();
            needs.extend(stages.scores.as_deref().and_then(|id| scores[id]));
            let node = push(&mut nodes, shared(WorkStage::Mask, id, *index), needs);
            waits.extend(plan.runs[*index].config.mask.moved_by().map(|other| (node, other)));
        }
        for (index, run) in runs().filter(|(index, _)| wanted[*index]) {
            let mut needs: Vec<usize> = bases[run.stages.base.as_str()].into_iter().collect();
            needs.extend(run.stages.scores.as_deref().and_then(|id| scores[id]));
            let node = push(&mut nodes, run_task(run, index, store)?, needs);
            nodes[node].trajectory = Some(run.stages.trajectory.clone());
            nodes[node].attempts_before = store.next_attempt(run.id.as_str())? - 1;
            node_of.insert(run.id.as_str(), node);
            waits.extend(run.config.mask.moved_by().map(|other| (node, other)));
        }
        for (node, other) in waits {
            nodes[node].needs.extend(node_of.get(other));
        }
        Ok(Self { nodes })
    }

    /// The first task that can start: what it needs is done, and nobody is at it or at its trajectory.
    pub fn next_ready(&self) -> Option<usize> {
        let running = self.nodes.iter().filter(|node| node.status == Status::Running);
        let mut underway = running.filter_map(|node| node.trajectory.as_deref()).collect::<BTreeSet<_>>();
        underway.extend(self.trajectories_elsewhere());
        let now = Instant::now();
        self.nodes.iter().position(|node| {
            node.status == Status::Waiting
                && node.elsewhere.is_none()
                && node.not_before.is_none_or(|time| time <= now)
                && node.needs.iter().all(|need| self.nodes[*need].status == Status::Done)
                && node.trajectory.as_deref().is_none_or(|own| !underway.contains(own))
        })
    }

    /// Who is at another run of a node's trajectory.
    pub fn whose_trajectory(&self, node: &Node) -> Option<String> {
        let own = node.trajectory.as_deref()?;
        let mut same = self.nodes.iter().filter(|other| other.trajectory.as_deref() == Some(own));
        same.find_map(|other| other.elsewhere.clone().filter(|_| other.status == Status::Waiting))
    }

    /// The trajectories at which other workers are.
    pub fn trajectories_elsewhere(&self) -> BTreeSet<&str> {
        let held =
            self.nodes.iter().filter(|node| node.elsewhere.is_some() && node.status == Status::Waiting);
        held.filter_map(|node| node.trajectory.as_deref()).collect()
    }

    /// Everything that waits for `cause`, directly or not, in order. Marks it with a status.
    pub fn mark_dependents(&mut self, cause: usize, status: Status) -> Vec<usize> {
        let mut lost = vec![cause];
        // A run may need one that stands after it, so passes go on until one finds nothing.
        loop {
            let known = lost.len();
            for index in 0..self.nodes.len() {
                let node = &mut self.nodes[index];
                if node.status == Status::Waiting && node.needs.iter().any(|need| lost.contains(need)) {
                    node.status = status;
                    lost.push(index);
                }
            }
            if lost.len() == known {
                break;
            }
        }
        lost.remove(0);
        lost.sort_unstable();
        lost
    }
}

/// The masks of finished runs that the store has no more, each with a run that has it. Runs that are not finished make theirs
/// themselves.
fn lost_masks(plan: &Plan, done: &[bool], store: &Store) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut masks: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, run) in plan.runs.iter().enumerate().filter(|(index, _)| done[*index]) {
        if let Some(id) = &run.stages.mask {
            masks.entry(id).or_insert(index);
        }
    }
    let mut lost = BTreeMap::new();
    for (id, index) in masks {
        if store.verified_artifact(Stage::Mask, id)?.is_none() {
            lost.insert(id.to_owned(), index);
        }
    }
    Ok(lost)
}

fn push(nodes: &mut Vec<Node>, task: Task, needs: Vec<usize>) -> usize {
    nodes.push(Node {
        task,
        needs,
        trajectory: None,
        status: Status::Waiting,
        elsewhere: None,
        abandoned: None,
        not_before: None,
        failures: 0,
        attempts_before: 0,
    });
    nodes.len() - 1
}

fn shared(stage: WorkStage, id: &str, run: usize) -> Task {
    let label = format!("{} {}", stage.name(), id.get(..12).unwrap_or(id));
    Task { stage, id: id.to_owned(), label, run, from_step: None }
}

fn run_task(run: &RunSpec, index: usize, store: &Store) -> Result<Task, StoreError> {
    let id = run.id.to_string();
    let from_step = store.saved_step(&id)?;
    Ok(Task { stage: WorkStage::Run, id, label: run.label.clone(), run: index, from_step })
}
