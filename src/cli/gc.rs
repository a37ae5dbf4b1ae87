//! `tickets gc`: frees disk space in two steps. What no kept manifest needs is moved to the trash; `--purge` empties it.
//!
//! In: the manifests to keep, and what may go. Out: a table of what goes, by kind and by manifest. Nothing goes that is
//! not asked for: without a manifest to keep and a scope the command is refused. `--dry-run` opens the store for reading.
//!
//! A manifest keeps its runs as it is written, and as it is under the overrides of this call: an override that is
//! forgotten costs no result.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::manifest::{self, Overrides};
use crate::plan::{self, Plan};
use crate::store::{
    Collected, Footing, Rubbish, RubbishKind, Scope, Store, Trash, human_bytes, human_duration,
};

/// The folder whose manifests `--keep-all` keeps.
const MANIFESTS: &str = "manifests";
/// How long things stay in the trash unless something else is asked for.
const IN_TRASH: Duration = Duration::from_hours(7 * 24);

/// Arguments of `tickets gc`.
#[derive(Args, Clone, Debug)]
#[command(override_usage = "tickets gc <--keep MANIFEST ...|--keep-all> <SCOPE ...> [OPTIONS]\n       \
                            tickets gc --purge [--older-than TIME] [OPTIONS]")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct GcArgs {
    /// Keep the runs of this manifest and what they stand on (may be given several times)
    #[arg(long, value_name = "MANIFEST")]
    pub keep: Vec<String>,
    /// Keep those of every manifest below manifests/
    #[arg(long)]
    pub keep_all: bool,
    /// Keep the runs of the manifests under this override too
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Ignore TICKETS_* environment variables
    #[arg(long)]
    pub no_env: bool,
    /// Scope: runs of no kept manifest
    #[arg(long, help_heading = "Scope")]
    pub runs: bool,
    /// Scope: bases, scores and masks that no run needs that stays
    #[arg(long, help_heading = "Scope")]
    pub artifacts: bool,
    /// Scope: checkpoints of finished runs, kept ones included
    #[arg(long, help_heading = "Scope")]
    pub checkpoints: bool,
    /// Scope: attempts of finished runs, kept ones included, but for the one that finished
    #[arg(long, help_heading = "Scope")]
    pub attempts: bool,
    /// Scope: temporary files of processes that ended, on this host or more than 7 days ago
    #[arg(long, help_heading = "Scope")]
    pub leftovers: bool,
    /// Scope: what was moved to quarantine
    #[arg(long, help_heading = "Scope")]
    pub quarantine: bool,
    /// All of these
    #[arg(long, help_heading = "Scope")]
    pub all: bool,
    /// Remove what has been in the trash for long enough
    #[arg(
        long,
        conflicts_with_all = ["keep", "keep_all", "runs", "artifacts", "checkpoints", "attempts", "leftovers", "quarantine", "all"]
    )]
    pub purge: bool,
    /// With --purge: for how long, as in 7d, 12h, 30min, 10s; 0d is at once [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub older_than: Option<Duration>,
    /// The folder of results and artifacts
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl GcArgs {
    fn scope(&self) -> Scope {
        Scope {
            runs: self.runs || self.all,
            artifacts: self.artifacts || self.all,
            checkpoints: self.checkpoints || self.all,
            attempts: self.attempts || self.all,
            leftovers: self.leftovers || self.all,
            quarantine: self.quarantine || self.all,
        }
    }
}

/// The command.
///
/// # Errors
/// When it is not said what to keep and what may go, a manifest to keep cannot be planned, or the store cannot be used.
pub fn gc(args: &GcArgs, out: &mut dyn Write) -> Result<Code, Failure> {
    let text = if args.purge { purge(args)? } else { collect(args)? };
    let _ = writeln!(out, "{text}");
    Ok(Code::Ok)
}

fn collect(args: &GcArgs) -> Result<String, Failure> {
    let scope = args.scope();
    let usage = |what: &str, hint: &str| Err(Failure::new(Code::Usage, what, Some(hint.to_owned())));
    if args.keep.is_empty() && !args.keep_all {
        return usage(
            "it is not said what to keep",
            "tickets gc --keep-all --runs --artifacts --dry-run, or --keep MANIFEST for each manifest that is still of use",
        );
    }
    if scope == Scope::default() {
        return usage(
            "it is not said what may go",
            "add --runs, --artifacts, --checkpoints, --attempts, --leftovers, --quarantine or --all; with --dry-run nothing is changed",
        );
    }
    if args.older_than.is_some() {
        return usage("--older-than is about the trash", "tickets gc --purge --older-than TIME");
    }
    let (manifests, mut keep, moved) = kept(args)?;
    let store = Store::open_read_only(&args.results)?;
    // A run whose changes chose a kept run's mask is kept with what it stands on, whatever manifest it is of.
    for id in moved {
        let stages = store.described(&id)?.map(|record| record["stages"].clone()).unwrap_or_default();
        let named = stages.as_object().into_iter().flatten();
        let named = named.filter_map(|(stage, id)| Some((stage.as_str(), id.as_str()?)));
        keep.entry(id).or_insert(Footing::of(named));
    }
    let marked = store.mark(&keep, scope)?;
    let done = if args.dry_run || marked.rubbish.is_empty() {
        Collected { folder: None, moved: marked.rubbish, notes: marked.notes }
    } else {
        let mut done = Store::open(&args.results)?.collect(&marked)?;
        done.notes.splice(0..0, marked.notes);
        done
    };
    let shown = Shown { args, manifests, kept: keep.len(), done: &done };
    Ok(if args.json { format!("{:#}", shown.json()) } else { shown.text() })
}

/// The names of the kept manifests, their runs with what they stand on, and the runs whose changes chose their masks.
type Kept = (BTreeSet<String>, BTreeMap<String, Footing>, BTreeSet<String>);

fn kept(args: &GcArgs) -> Result<Kept, Failure> {
    let mut manifests = args.keep.clone();
    if args.keep_all {
        manifests.extend(all_manifests(Path::new(MANIFESTS))?);
    }
    let (mut names, mut runs, mut moved) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut add = |plan: Plan| {
        names.insert(plan.manifest.name);
        for run in plan.runs {
            runs.insert(run.id.to_string(), Footing::of(run.stages.named()));
            moved.extend(run.config.stands_on().map(str::to_owned));
        }
    };
    for manifest in &manifests {
        let plain = manifest::load(manifest, &Overrides::default())?;
        add(plan::expand(plain)?);
        let under = manifest::load(manifest, &Overrides { set: args.set.clone(), env: !args.no_env })?;
        if !under.overrides.is_empty() {
            add(plan::expand(under)?);
        }
    }
    Ok((names, runs, moved))
}

/// Every manifest below a folder, by path. What cannot be looked at could be a manifest to keep.
fn all_manifests(folder: &Path) -> Result<Vec<String>, Failure> {
    let hint = format!(
        "--keep-all keeps every manifest below {}/; run it where that folder is, or use --keep",
        folder.display()
    );
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let mut found = Vec::new();
    for entry in walk.filter_entry(visible) {
        let entry = entry.map_err(|error| Failure::new(Code::Manifest, error, Some(hint.clone())))?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|ending| ending == "toml") {
            found.push(entry.path().display().to_string());
        }
    }
    if found.is_empty() {
        let error = format!("there is no manifest below {}/", folder.display());
        return Err(Failure::new(Code::Manifest, error, Some(hint)));
    }
    Ok(found)
}

fn purge(args: &GcArgs) -> Result<String, Failure> {
    let store = Store::open_read_only(&args.results)?;
    let older_than = args.older_than.unwrap_or(IN_TRASH);
    let (old, left) = store.trash(older_than)?;
    if !args.dry_run && !old.is_empty() {
        Store::open(&args.results)?.purge(&old)?;
    }
    let bytes = |trash: &[Trash]| trash.iter().map(|trash| trash.bytes).sum::<u64>();
    if args.json {
        let entry = |trash: &Trash| {
            let Trash { name, age, bytes } = trash;
            json!({"name": name, "age_seconds": age.map(|age| age.as_secs()), "bytes": bytes})
        };
        return Ok(format!(
            "{:#}",
            json!({
                "results": args.results.display().to_string(), "dry_run": args.dry_run,
                "older_than_seconds": older_than.as_secs(),
                "purged": old.iter().map(entry).collect::<Vec<_>>(), "left": left.iter().map(entry).collect::<Vec<_>>(),
                "total": {"count": old.len(), "bytes": bytes(&old)},
            })
        ));
    }
    let mut lines = Vec::new();
    for Trash { name, age, bytes } in &old {
        let age = age.map_or("left by an interrupted removal".to_owned(), |age| {
            format!("{} old", human_duration(age))
        });
        lines.push(format!("trash/{name}  {bytes} bytes ({})  {age}", human_bytes(*bytes)));
    }
    let freed = if args.dry_run { "would be freed" } else { "freed" };
    lines.push(format!("{} bytes ({}) {freed}", bytes(&old), human_bytes(bytes(&old))));
    if !left.is_empty() {
        let size = human_bytes(bytes(&left));
        lines.push(format!(
            "{size} stay in the trash: they have not been there for {}; --older-than 0d removes them at once",
            human_duration(older_than)
        ));
    }
    lines.extend(args.dry_run.then(|| "dry run: nothing was changed".to_owned()));
    Ok(lines.join("\n"))
}

/// What is printed about a collection.
struct Shown<'a> {
    args: &'a GcArgs,
    manifests: BTreeSet<String>,
    kept: usize,
    done: &'a Collected,
}

impl Shown<'_> {
    fn sum<'r>(things: impl Iterator<Item = &'r Rubbish>) -> (usize, u64) {
        things.fold((0, 0), |(count, bytes), thing| (count + 1, bytes + thing.bytes))
    }

    fn of(&self, kind: RubbishKind) -> (usize, u64) {
        Self::sum(self.done.moved.iter().filter(|thing| thing.kind == kind))
    }

    /// Of each manifest whose runs go: how many, and their bytes.
    fn by_manifest(&self) -> BTreeMap<&str, (usize, u64)> {
        let mut found: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for thing in self.done.moved.iter().filter(|thing| thing.kind == RubbishKind::Run) {
            let entry = found.entry(thing.manifest.as_deref().unwrap_or("(not written down)")).or_default();
            *entry = (entry.0 + 1, entry.1 + thing.bytes);
        }
        found
    }

    fn json(&self) -> Value {
        let sums = |(count, bytes): (usize, u64)| json!({"count": count, "bytes": bytes});
        let kinds = RubbishKind::ALL.map(|kind| (kind.name().to_owned(), sums(self.of(kind))));
        let manifest = |(name, (runs, bytes)): (&str, (usize, u64))| json!({"manifest": name, "runs": runs, "bytes": bytes});
        let item = |thing: &Rubbish| {
            let path = Path::new(".store").join(&thing.path);
            json!({
                "kind": thing.kind.name(), "path": path.display().to_string(), "bytes": thing.bytes, "why": thing.why,
            })
        };
        json!({
            "results": self.args.results.display().to_string(), "dry_run": self.args.dry_run,
            "kept": {"manifests": self.manifests, "runs": self.kept},
            "kinds": Value::Object(kinds.into_iter().collect()),
            "total": sums(Self::sum(self.done.moved.iter())),
            "by_manifest": self.by_manifest().into_iter().map(manifest).collect::<Vec<_>>(),
            "items": self.done.moved.iter().map(item).collect::<Vec<_>>(),
            "notes": self.done.notes,
            "trash": self.done.folder.as_ref().map(|path| path.display().to_string()),
        })
    }

    fn text(&self) -> String {
        let names = self.manifests.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("kept: {} runs of {names}", self.kept)];
        let row = |name: &str, (count, bytes): (usize, u64)| {
            format!("{name:<12} {count:>7} {bytes:>15}  {}", human_bytes(bytes))
        };
        lines.push(format!("{:<12} {:>7} {:>15}", "kind", "count", "bytes"));
        let rows = RubbishKind::ALL.map(|kind| (kind, self.of(kind)));
        lines.extend(
            rows.iter().filter(|(_, (count, _))| *count > 0).map(|(kind, sum)| row(kind.name(), *sum)),
        );
        lines.push(row("total", Self::sum(self.done.moved.iter())));
        let go = if self.args.dry_run { "would go" } else { "went" };
        for (name, (runs, bytes)) in self.by_manifest() {
            let s = if runs == 1 { "" } else { "s" };
            lines.push(format!("of {name}: {runs} run{s} {go}, {bytes} bytes ({})", human_bytes(bytes)));
        }
        lines.extend(self.done.notes.iter().map(|note| format!("note: {note}")));
        lines.push(match &self.done.folder {
            _ if self.args.dry_run => "dry run: nothing was changed".to_owned(),
            None => "there is nothing to collect".to_owned(),
            Some(folder) => format!(
                "moved to {}, with record.json to move it back by; `tickets gc --purge` frees the space after 7 days",
                folder.display()
            ),
        });
        lines.join("\n")
    }
}

/// A length of time, as in `7d`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 7d, 12h, 30min, 10s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "d" => 86_400,
        "h" => 3600,
        "min" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let cases = [("7d", 604_800), ("0d", 0), ("12h", 43_200), ("30min", 1800), ("10s", 10)];
        for (text, seconds) in cases {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "7 d", "-1d", "1.5d", "7w", "99999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
