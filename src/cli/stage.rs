//! `tickets stage` (hidden): one stage of one run, started by `tickets sweep` and `tickets work` in a process of its own.
//!
//! In: the sweep's manifest and overrides, a stage, a run id. Out: protocol lines on stdout, an exit code. The plan is
//! expanded again here, so a manifest that was edited in mid-sweep is noticed instead of mixed.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::execute::{
    FailureClass, Message, PlannedStop, Requests, StageFailure, StopHow, Trainer, Wire, WorkStage,
    end_with_parent, work as execute_work,
};
use crate::exit::{Code, Failure};
use crate::manifest::{self, Overrides};
use crate::plan::{self, RunSpec};
use crate::provenance;
use crate::store::{Sighting, Store};

/// Arguments of `tickets stage`.
#[derive(Args, Clone, Debug)]
pub struct StageArgs {
    /// Where results go
    #[arg(long, value_name = "DIR")]
    pub results: PathBuf,
    /// base, scores, mask or run
    #[arg(long, value_parser = |text: &str| WorkStage::from_name(text).ok_or("one of base, scores, mask, run"))]
    pub stage: WorkStage,
    /// The manifest, as an absolute path
    #[arg(long)]
    pub manifest: String,
    /// The sweep's --set
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The sweep's --no-env
    #[arg(long)]
    pub no_env: bool,
    /// The full id of the run
    #[arg(long)]
    pub run: String,
    /// Of a run: end by SIGKILL as soon as so many steps are complete
    #[arg(long, value_name = "STEP", conflicts_with = "pause_at")]
    pub kill_at: Option<u32>,
    /// Of a run: be asked to stop as soon as so many steps are complete
    #[arg(long, value_name = "STEP")]
    pub pause_at: Option<u32>,
    /// A lease of this stage that the sweep found abandoned
    #[arg(long)]
    pub abandoned: Option<Sighting>,
    /// The sweep's process id: the worker ends with it
    #[arg(long)]
    pub parent: Option<u32>,
}

/// Makes the trainer for a run: the device is chosen here.
pub type MakeTrainer<'a> = &'a dyn Fn(&RunSpec) -> Result<Box<dyn Trainer>, StageFailure>;

/// The command. Failures are told through the protocol, so the exit code is all that is left to return.
pub fn stage(args: &StageArgs, make: MakeTrainer) -> Code {
    if args.parent.is_some_and(|parent| !end_with_parent(parent)) {
        return Code::Interrupted; // the sweep ended before this process could watch it
    }
    provenance::note_manifest(Path::new(&args.manifest));
    let wire = Wire::new(Box::new(std::io::stdout()));
    let planned = [(args.kill_at, StopHow::Killed), (args.pause_at, StopHow::Paused)];
    let planned = planned.into_iter().find_map(|(after, how)| Some(PlannedStop { how, after: after? }));
    let prepared = Requests::from_signals(true)
        .map(|requests| requests.planned(planned))
        .map_err(|e| StageFailure::new(FailureClass::Infra, format!("cannot watch for signals: {e}")))
        .and_then(|requests| Ok((requests, find(args)?, Store::open(&args.results)?)))
        .and_then(|(requests, (manifest, run), store)| {
            if args.stage == WorkStage::Run {
                store.describe_run(run.id.as_str(), plan::record(&run, &manifest))?;
            }
            Ok((make(&run)?, requests, run, store))
        });
    match prepared {
        Ok((trainer, requests, run, store)) => {
            execute_work(trainer.as_ref(), &run, args.stage, &store, &wire, &requests, args.abandoned)
        }
        Err(failure) => {
            let code = failure.class.exit_code();
            wire.send(&Message::Failed(failure));
            code
        }
    }
}

/// The name of the manifest and the run, from the manifest as it is now.
fn find(args: &StageArgs) -> Result<(String, RunSpec), StageFailure> {
    let overrides = Overrides { set: args.set.clone(), env: !args.no_env };
    let plan = manifest::load(&args.manifest, &overrides)
        .map_err(Failure::from)
        .and_then(|manifest| plan::expand(manifest).map_err(Failure::from))
        .map_err(|failure| StageFailure {
            hint: failure.hint.clone(),
            ..StageFailure::from_error(FailureClass::BadInput, failure.error.as_ref())
        })?;
    let found = plan.runs.into_iter().find(|run| run.id.to_string() == args.run);
    found.map(|run| (plan.manifest.name, run)).ok_or_else(|| {
        let what = "the manifest no longer contains this run: it, or something that it names, was changed during the sweep";
        StageFailure::new(FailureClass::BadInput, what)
            .hinted("start the sweep again: it goes on with the manifest as it is now")
    })
}
