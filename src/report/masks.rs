//! The masks of a plan's runs, and how they overlap.
//!
//! In: a plan and a store. Out: an [`Overlap`] for every pair of distinct masks of one model. Invariant: the store is only
//! read. A mask from before files described themselves takes its shapes from its base, or from another mask of its base; where
//! nobody knows them, what takes the sizes of tensors is left out.

use serde_json::Value;

use super::collect::stored;
use super::error::ReportError;
use super::put;
use super::result::ResultSet;
use super::series::{plain, trimmed};
use super::table::TextTable;
use crate::masks::{MASK_FILE, is_loose, lists, model_sizes, parse};
use crate::plan::{Plan, RunSpec, settings};
use crate::sparsity::{self, Mask, TensorSize, compare_all};
use crate::store::{Artifact, Stage, Store};

/// The file of a base that says of which shapes it is.
const CONFIG_FILE: &str = "config.json";

/// How many pairs a page shows; all of them are in `jaccard.csv`.
const SHOWN: usize = 45;

/// How two masks overlap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlap {
    /// The first mask's name, for example `random-0.99-s0`.
    pub a: String,
    /// The second mask's name.
    pub b: String,
    /// Active entries of the first.
    pub count_a: u64,
    /// Active entries of the second.
    pub count_b: u64,
    /// Entries of the model.
    pub total: u64,
    /// Entries active in both.
    pub intersection: u64,
    /// Entries active in either.
    pub union: u64,
    /// `intersection / union`; of two empty masks there is none.
    pub jaccard: Option<f64>,
    /// The Jaccard index of two independent uniform masks of these counts, see [`sparsity::Overlap::chance`].
    pub chance: Option<f64>,
    /// How many standard deviations the intersection lies above that chance, see [`sparsity::Overlap::z`].
    pub z: Option<f64>,
    /// As `chance`, with the counts of every tensor fixed.
    pub chance_per_tensor: Option<f64>,
    /// As `z`, with the counts of every tensor fixed.
    pub z_per_tensor: Option<f64>,
}

impl Overlap {
    /// The overlap of two named masks.
    pub fn of(a: &str, b: &str, found: &sparsity::Overlap) -> Self {
        Self {
            a: a.to_owned(),
            b: b.to_owned(),
            count_a: found.count_a,
            count_b: found.count_b,
            total: found.total,
            intersection: found.intersection,
            union: found.union,
            jaccard: found.jaccard(),
            chance: found.chance(),
            z: found.z(),
            chance_per_tensor: found.chance_per_tensor(),
            z_per_tensor: found.z_per_tensor(),
        }
    }

    /// The Jaccard index over that of chance.
    pub fn ratio(&self) -> Option<f64> {
        self.chance.filter(|chance| *chance > 0.0).and_then(|chance| Some(self.jaccard? / chance))
    }
}

/// A mask with a name that is unique among those of a report.
#[derive(Clone, Debug)]
pub struct NamedMask {
    /// Its name.
    pub name: String,
    /// Its entries.
    pub mask: Mask,
    /// Entries of the model, where the tensors' sizes are not known: those of `mask` are made up.
    pub total: Option<u64>,
}

/// Every pair of masks of one model, in the order given.
pub fn overlaps(masks: &[NamedMask]) -> Vec<Overlap> {
    let pairs = masks.iter().enumerate().flat_map(|(at, a)| masks[at + 1..].iter().map(move |b| (a, b)));
    let found = compare_all(&masks.iter().map(|mask| &mask.mask).collect::<Vec<_>>());
    let of = |((a, b), found): ((&NamedMask, &NamedMask), Result<sparsity::Comparison, _>)| {
        let whole = found.ok()?.whole;
        let whole = match (a.total, b.total) {
            (None, None) => whole,
            (Some(total), Some(other)) if total == other => {
                sparsity::Overlap::of_counts(whole.count_a, whole.count_b, whole.intersection, total)
            }
            _ => return None,
        };
        Some(Overlap::of(&a.name, &b.name, &whole))
    };
    pairs.zip(found).filter_map(of).collect()
}

/// The overlaps as a reader sees them, where more is known than the figure shows; with a note below.
pub fn table(set: &ResultSet) -> Option<(TextTable, String)> {
    if set.overlaps.iter().all(|pair| pair.z.is_none()) {
        return None;
    }
    let digits = |value: Option<f64>| value.map(|value| format!("{value:.6}")).unwrap_or_default();
    let deviation = |z: Option<f64>| z.map(|z| format!("{z:+.1}")).unwrap_or_default();
    let rows = set.overlaps.iter().take(SHOWN).map(|pair| {
        vec![
            pair.a.clone(),
            pair.b.clone(),
            pair.intersection.to_string(),
            digits(pair.jaccard),
            digits(pair.chance),
            pair.ratio().map(|ratio| trimmed(ratio, 3)).unwrap_or_default(),
            deviation(pair.z),
            digits(pair.chance_per_tensor),
            deviation(pair.z_per_tensor),
        ]
    });
    let header = [
        "a",
        "b",
        "common entries",
        "Jaccard",
        "chance",
        "× chance",
        "z",
        "chance per tensor",
        "z per tensor",
    ];
    let mut note =
        "Chance: two independent uniform masks of these counts; per tensor: with the counts of every tensor \
                    fixed. z: the common entries' distance from the mean by chance, in standard deviations."
            .to_owned();
    if set.overlaps.len() > SHOWN {
        let rest = set.overlaps.len() - SHOWN;
        put(&mut note, format_args!(" {rest} further pairs are in jaccard.csv."));
    }
    let table = TextTable {
        header: header.map(str::to_owned).to_vec(),
        numeric: [false, false, true, true, true, true, true, true, true].to_vec(),
        rows: rows.collect(),
    };
    Some((table, note))
}

/// A mask whose shapes may not be known yet.
struct Found<'p> {
    id: &'p str,
    base: &'p str,
    name: String,
    content: Content,
    total: u64,
}

enum Content {
    Whole(Mask),
    Lists(Vec<(String, Vec<u32>)>),
}

impl Found<'_> {
    fn wrong(&self, what: &dyn std::fmt::Display) -> ReportError {
        ReportError::Mask { id: self.id.to_owned(), name: self.name.clone(), what: what.to_string() }
    }

    fn sizes(&self) -> Option<&[TensorSize]> {
        match &self.content {
            Content::Whole(mask) => Some(mask.tensors()),
            Content::Lists(_) => None,
        }
    }

    /// The mask, as one of a model with these tensors.
    fn into_mask(mut self, sizes: &[TensorSize]) -> Result<Mask, ReportError> {
        let mut lists = match std::mem::replace(&mut self.content, Content::Lists(Vec::new())) {
            Content::Whole(mask) => return Ok(mask),
            Content::Lists(lists) => lists,
        };
        let mut take = |name: &str| {
            let at = lists.iter().position(|(known, _)| known == name);
            at.map(|at| lists.swap_remove(at).1).unwrap_or_default()
        };
        let indices = sizes.iter().map(|size| take(&size.name)).collect();
        if let Some((name, _)) = lists.first() {
            return Err(self.wrong(&format!("its tensor {name} is not in its base")));
        }
        Mask::new(sizes.to_vec(), indices).map_err(|error| self.wrong(&error))
    }
}

/// The distinct masks that the store holds, in plan order. Full runs have none.
pub fn masks(plan: &Plan, store: &Store) -> Result<Vec<NamedMask>, ReportError> {
    let mut ids: Vec<(&RunSpec, &str, String)> = Vec::new();
    for run in &plan.runs {
        if let Some(id) = run.stages.mask.as_deref()
            && !ids.iter().any(|(_, known, _)| *known == id)
        {
            ids.push((run, id, mask_name(run)));
        }
    }
    let names: Vec<String> = ids.iter().map(|(.., name)| name.clone()).collect();
    let mut found: Vec<Found> = Vec::new();
    for (run, id, mut name) in ids {
        // Masks that differ in what a name does not say (an estimator, a rounding, the base) are told apart by id.
        if names.iter().filter(|other| **other == name).count() > 1 {
            put(&mut name, format_args!("-{}", &id[..6.min(id.len())]));
        }
        if let Some(artifact) = store.artifact(Stage::Mask, id).map_err(stored)? {
            found.push(read(&artifact, id, &run.stages.base, name)?);
        }
    }
    sized(found, store)
}

/// For example `random-0.99-s0` or `fisher-0.99-permuted`: what is usual is left out of the settings, and so of the name.
fn mask_name(run: &RunSpec) -> String {
    let config = settings(&run.config);
    let value = |key: &str| config.iter().find(|(known, _)| known == key).map(|(_, value)| plain(value));
    let mut name = value("mask.type").unwrap_or_default();
    let parts = [
        ("mask.sparsity", ""),
        ("mask.layers", ""),
        ("mask.count", ""),
        ("mask.seed", "s"),
        ("mask.scope", ""),
        ("mask.unit", ""),
        ("mask.keep", "keep-"),
        ("mask.modules", ""),
        ("mask.control", ""),
    ];
    for (key, before) in parts {
        if let Some(value) = value(key) {
            put(&mut name, format_args!("-{before}{value}"));
        }
    }
    name
}

fn read<'p>(artifact: &Artifact, id: &'p str, base: &'p str, name: String) -> Result<Found<'p>, ReportError> {
    let mut found = Found { id, base, name, content: Content::Lists(Vec::new()), total: 0 };
    let (path, bytes) = (artifact.path(MASK_FILE), artifact.read(MASK_FILE).map_err(stored)?);
    let loose = is_loose(&bytes, &path).map_err(|error| found.wrong(&error))?;
    let content = if loose {
        lists(bytes, &path).map(Content::Lists)
    } else {
        parse(bytes, &path, None).map(|file| Content::Whole(file.mask))
    };
    found.content = content.map_err(|error| found.wrong(&error))?;
    let recorded = |key: &str| {
        let count = artifact.meta().get(key).and_then(Value::as_u64);
        count.ok_or_else(|| found.wrong(&format!("its record has no `{key}`")))
    };
    let (active, total) = (recorded("active")?, recorded("total")?);
    let differs = |what: &str, recorded: u64, read: u64| {
        found.wrong(&format!("its record says {recorded} {what}, {MASK_FILE} has {read}"))
    };
    let read = match &found.content {
        Content::Whole(mask) if mask.total() as u64 != total => {
            return Err(differs("entries", total, mask.total() as u64));
        }
        Content::Whole(mask) => mask.active(),
        Content::Lists(lists) => lists.iter().map(|(_, list)| list.len()).sum(),
    };
    if read as u64 != active {
        return Err(differs("active entries", active, read as u64));
    }
    found.total = total;
    Ok(found)
}

/// Gives those masks their shapes that have none.
fn sized(found: Vec<Found<'_>>, store: &Store) -> Result<Vec<NamedMask>, ReportError> {
    let mut bases: Vec<(String, Option<Vec<TensorSize>>)> = Vec::new();
    for mask in found.iter().filter(|mask| mask.sizes().is_none()) {
        if bases.iter().any(|(base, _)| base == mask.base) {
            continue;
        }
        let of_another = found.iter().filter(|other| other.base == mask.base).find_map(Found::sizes);
        let sizes = match of_another {
            Some(sizes) => Some(sizes.to_vec()),
            None => of_base(mask, store)?,
        };
        bases.push((mask.base.to_owned(), sizes));
    }
    let known =
        |base: &str| bases.iter().find(|(known, _)| known == base).and_then(|(_, sizes)| sizes.clone());
    let made_up = made_up(found.iter().filter(|mask| known(mask.base).is_none()));
    let named = found.into_iter().map(|mask| {
        let (name, of_base) = (mask.name.clone(), known(mask.base));
        let total = (mask.sizes().is_none() && of_base.is_none()).then_some(mask.total);
        let mask = mask.into_mask(of_base.as_deref().unwrap_or(&made_up))?;
        Ok(NamedMask { name, mask, total })
    });
    named.collect()
}

/// The shapes of a base that the store holds as a whole model.
fn of_base(mask: &Found<'_>, store: &Store) -> Result<Option<Vec<TensorSize>>, ReportError> {
    let Some(base) = store.artifact(Stage::Base, mask.base).map_err(stored)? else { return Ok(None) };
    if !base.files().contains_key(CONFIG_FILE) {
        return Ok(None);
    }
    let config = base.read(CONFIG_FILE).map_err(stored)?;
    let name = base.path(CONFIG_FILE).display().to_string();
    model_sizes(&config, &name).map(Some).map_err(|error| mask.wrong(&error))
}

/// Tensors that all these masks fit into, so that they can be compared.
fn made_up<'f>(found: impl Iterator<Item = &'f Found<'f>>) -> Vec<TensorSize> {
    let mut sizes: Vec<TensorSize> = Vec::new();
    for mask in found {
        let Content::Lists(lists) = &mask.content else { continue };
        for (name, list) in lists {
            let needed = list.last().map_or(0, |last| *last as usize + 1);
            match sizes.iter_mut().find(|size| size.name == *name) {
                Some(size) => size.shape[0] = size.shape[0].max(needed),
                None => sizes.push(TensorSize { name: name.clone(), shape: vec![needed] }),
            }
        }
    }
    sizes
}
