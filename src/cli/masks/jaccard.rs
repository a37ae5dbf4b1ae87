//! `tickets masks jaccard A B ...`: how much masks have in common, against chance. docs/overlap.md has the formulae.
//!
//! Memory: all masks at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::inputs::{ModelArg, unlike};
use super::outputs::{layer_text, layer_value, share};
use crate::exit::{Code, Failure};
use crate::masks;
use crate::sparsity::{Comparison, Mask, Overlap, compare_all, same_model};

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct JaccardArgs {
    /// The masks: two files or more of one model
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    pub files: Vec<PathBuf>,
    /// Their model
    #[command(flatten)]
    pub model: ModelArg,
    /// What to call them, in the order of the files; the names of the files otherwise
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Show parts of the model too. Of two masks alone both are shown
    #[arg(long, value_enum)]
    pub by: Vec<By>,
    /// Print JSON: everything, and every number in full
    #[arg(long)]
    pub json: bool,
}

/// Parts of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The embedding, every layer, what is outside
    Layer,
    /// Attention, MLP, norms, biases, embeddings
    Module,
}

/// The command.
pub fn jaccard(args: &JaccardArgs) -> Result<String, Failure> {
    let names = names(&args.files, &args.names)?;
    let model = args.model.sizes()?;
    let (mut masks, mut notes): (Vec<Mask>, _) = (Vec::new(), Vec::new());
    for path in &args.files {
        let file = masks::read(path, model.as_deref())?;
        if let Some(first) = masks.first() {
            same_model(first.tensors(), file.mask.tensors())
                .map_err(|error| unlike("compare", &args.files[0], path, &error))?;
        }
        notes.extend(file.notes.iter().map(|note| format!("{}: {note}", path.display())));
        masks.push(file.mask);
    }
    let pairs = compare_all(&masks.iter().collect::<Vec<_>>());
    let pairs = pairs.into_iter().collect::<Result<Vec<_>, _>>().map_err(masks::MasksError::from)?;
    let matrix = Matrix { names, masks, pairs };
    if args.json {
        return Ok(matrix.json(&args.files, &notes).to_string());
    }
    let by = match (&args.by[..], &matrix.pairs[..]) {
        ([], [_]) => &[By::Layer, By::Module],
        (by, _) => by,
    };
    let mut text = matrix.text(by);
    for note in notes {
        let _ = write!(text, "\nnote: {note}");
    }
    Ok(text)
}

/// The names of the masks: those given, else the files' names without their ends, told apart where they are equal.
fn names(files: &[PathBuf], given: &[String]) -> Result<Vec<String>, Failure> {
    let wrong = |what: String| Failure::new(Code::Usage, format!("name the masks by --names: {what}"), None);
    if !given.is_empty() && given.len() != files.len() {
        return Err(wrong(format!("{} names for {} files", given.len(), files.len())));
    }
    if let Some(twice) = given.iter().enumerate().find(|(at, name)| given[..*at].contains(name)) {
        return Err(wrong(format!("`{}` is there twice", twice.1)));
    }
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let lossy = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = files.iter().map(|file| lossy(file.file_stem())).collect();
    let mut taken = BTreeSet::new();
    let names = files.iter().zip(&stems).map(|(file, stem)| {
        let mut name = stem.clone();
        if stems.iter().filter(|other| *other == stem).count() > 1 {
            // Masks of a store are all called alike, and lie in folders named by their ids.
            let folder: String = lossy(file.parent().and_then(Path::file_name)).chars().take(12).collect();
            if !folder.is_empty() {
                name = format!("{folder}/{stem}");
            }
        }
        let free = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.clone()).chain(free).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        name
    });
    Ok(names.collect())
}

/// All pairs of some masks.
struct Matrix {
    names: Vec<String>,
    masks: Vec<Mask>,
    /// In the order of [`compare_all`].
    pairs: Vec<Comparison>,
}

impl Matrix {
    /// The pairs with the places of their masks.
    fn places(&self) -> impl Iterator<Item = (usize, usize, &Comparison)> {
        let count = self.masks.len();
        let places = (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)));
        places.zip(&self.pairs).map(|((a, b), pair)| (a, b, pair))
    }

    /// A value for every two masks, and `own` for a mask with itself.
    fn square(&self, own: impl Fn(&Overlap) -> Value, of: impl Fn(&Overlap) -> Value) -> Value {
        let mut rows = vec![vec![Value::Null; self.masks.len()]; self.masks.len()];
        for (at, mask) in self.masks.iter().enumerate() {
            rows[at][at] = mask.overlap(mask).map_or(Value::Null, |pair| own(&pair));
        }
        for (a, b, pair) in self.places() {
            rows[a][b] = of(&pair.whole);
            rows[b][a] = rows[a][b].clone();
        }
        json!(rows)
    }

    fn json(&self, files: &[PathBuf], notes: &[String]) -> Value {
        let of = |value: fn(&Overlap) -> Value| self.square(value, value);
        let null = |_: &Overlap| Value::Null;
        let between = |value: fn(&Overlap) -> Value| self.square(null, value);
        let pairs = self.places().map(|(a, b, pair)| {
            let by_layer = pair.by_layer.iter();
            let by_layer = by_layer.map(|(place, part)| told(json!({ "layer": layer_value(*place) }), part));
            let by_module = pair.by_module.iter();
            let by_module = by_module.map(|(kind, part)| told(json!({ "module": kind.word() }), part));
            let mut value = told(json!({ "a": self.names[a], "b": self.names[b] }), &pair.whole);
            value["by_layer"] = by_layer.collect::<Vec<_>>().into();
            value["by_module"] = by_module.collect::<Vec<_>>().into();
            value
        });
        json!({
            "names": self.names,
            "files": files,
            "counts": self.masks.iter().map(Mask::active).collect::<Vec<_>>(),
            "total": self.masks.first().map_or(0, Mask::total),
            "matrix": of(|pair| json!(pair.jaccard())),
            "intersection": of(|pair| json!(pair.intersection)),
            "union": of(|pair| json!(pair.union)),
            "chance": of(|pair| json!(pair.chance())),
            "z": between(|pair| json!(pair.z())),
            "chance_per_tensor": of(|pair| json!(pair.chance_per_tensor())),
            "z_per_tensor": between(|pair| json!(pair.z_per_tensor())),
            "pairs": pairs.collect::<Vec<_>>(),
            "notes": notes,
        })
    }

    fn text(&self, by: &[By]) -> String {
        let total = self.masks.first().map_or(0, Mask::total);
        let mut text = format!("{} masks of a model of {total} entries, Jaccard index\n", self.masks.len());
        let mut table = table(["mask", "entries", "density"].into_iter().chain(self.names()));
        for (at, (name, mask)) in self.names.iter().zip(&self.masks).enumerate() {
            let mut row = vec![name.clone(), mask.active().to_string(), share(mask.active(), total)];
            row.extend((0..self.masks.len()).map(|other| match self.whole(at, other) {
                Some(pair) => digits(pair.jaccard()),
                None if mask.active() == 0 => "–".to_owned(),
                None => "1".to_owned(),
            }));
            table.add_row(row);
        }
        let _ = writeln!(text, "{}\n\nagainst chance", right(table, 1));
        let mut table = self::table(["a", "b"].into_iter().chain(COLUMNS));
        for (a, b, pair) in self.places() {
            let names = [self.names[a].clone(), self.names[b].clone()];
            table.add_row(names.into_iter().chain(row(&pair.whole)));
        }
        let _ = write!(text, "{}", right(table, 2));
        for (a, b, pair) in self.places() {
            for by in by {
                let parts: Vec<(String, &Overlap)> = match by {
                    By::Layer => {
                        pair.by_layer.iter().map(|(place, part)| (layer_text(*place), part)).collect()
                    }
                    By::Module => {
                        pair.by_module.iter().map(|(kind, part)| (kind.word().to_owned(), part)).collect()
                    }
                };
                let _ =
                    write!(text, "\n\n{} and {}\n{}", self.names[a], self.names[b], part_table(*by, &parts));
            }
        }
        text + "\n\n" + NOTE
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The whole overlap of two different masks.
    fn whole(&self, a: usize, b: usize) -> Option<&Overlap> {
        let (low, high) = (a.min(b), a.max(b));
        self.places().find(|(x, y, _)| (*x, *y) == (low, high)).map(|(.., pair)| &pair.whole)
    }
}

const COLUMNS: [&str; 7] =
    ["common", "Jaccard", "chance", "× chance", "z", "chance per tensor", "z per tensor"];

/// What the columns mean.
const NOTE: &str = "chance: two independent uniform masks of these counts, anywhere in the model or part; per tensor: with the \
                    count of every tensor as it is. z: the common entries' distance from their mean by chance, in standard \
                    deviations. –: the counts leave no choice.";

/// The cells of [`COLUMNS`].
fn row(pair: &Overlap) -> [String; 7] {
    let deviation = |z: Option<f64>| z.map_or_else(|| "–".to_owned(), |z| format!("{z:+.2}"));
    [
        pair.intersection.to_string(),
        digits(pair.jaccard()),
        digits(pair.chance()),
        pair.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}")),
        deviation(pair.z()),
        digits(pair.chance_per_tensor()),
        deviation(pair.z_per_tensor()),
    ]
}

fn digits(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.6}"))
}

fn part_table(by: By, parts: &[(String, &Overlap)]) -> Table {
    let what = match by {
        By::Layer => "layer",
        By::Module => "module",
    };
    let mut table = table([what, "entries", "in a", "in b"].into_iter().chain(COLUMNS));
    for (name, part) in parts {
        let counts = [part.total, part.count_a, part.count_b].map(|count| count.to_string());
        table.add_row(std::iter::once(name.clone()).chain(counts).chain(row(part)));
    }
    right(table, 1)
}

/// A table whose first columns are text.
fn table<'a>(header: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// The table with all columns but the first `texts` at the right.
fn right(mut table: Table, texts: usize) -> Table {
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What is known of an overlap, after what it is of.
fn told(of: Value, pair: &Overlap) -> Value {
    let numbers = json!({
        "count_a": pair.count_a,
        "count_b": pair.count_b,
        "total": pair.total,
        "intersection": pair.intersection,
        "union": pair.union,
        "jaccard": pair.jaccard(),
        "chance": pair.chance(),
        "ratio": pair.ratio(),
        "z": pair.z(),
        "chance_per_tensor": pair.chance_per_tensor(),
        "z_per_tensor": pair.z_per_tensor(),
    });
    match (of, numbers) {
        (Value::Object(mut of), Value::Object(numbers)) => {
            of.extend(numbers);
            of.into()
        }
        (of, _) => of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_told_apart() {
        let paths = |files: &[&str]| files.iter().map(PathBuf::from).collect::<Vec<_>>();
        let of = |files: &[&str]| names(&paths(files), &[]).unwrap();
        assert_eq!(of(&["x/a.safetensors", "b.v2.safetensors"]), ["a", "b.v2"]);
        let store =
            ["s/mask/0123456789abcdef/mask.safetensors", "s/mask/fedcba9876543210/mask.safetensors", "m.st"];
        assert_eq!(of(&store), ["0123456789ab/mask", "fedcba987654/mask", "m"]);
        assert_eq!(of(&["a", "a", "a-2", "./a"]), ["a", "a-2", "a-2-2", "a-3"]);
        let given = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&paths(&["a", "b"]), &given(&["x", "y"])).unwrap(), ["x", "y"]);
        let wrong = |list: &[&str]| names(&paths(&["a", "b"]), &given(list)).unwrap_err().to_string();
        assert!(wrong(&["x"]).contains("name the masks by --names: 1 names for 2 files"));
        assert!(wrong(&["x", "x"]).contains("name the masks by --names: `x` is there twice"));
    }
}
