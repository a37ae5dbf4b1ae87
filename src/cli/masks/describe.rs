//! `tickets masks describe FILE ...`: counts, density and recipe of masks, by layer, by kind of module, by tensor.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::inputs::{Input, ModelArg};
use super::outputs::{layer_text, layer_value, share, word};
use crate::exit::Failure;
use crate::sparsity::{Mask, ModuleKind, Place};

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct DescribeArgs {
    /// The masks
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Their model
    #[command(flatten)]
    pub model: ModelArg,
    /// Show every tensor too
    #[arg(long)]
    pub tensors: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The command.
pub fn describe(args: &DescribeArgs) -> Result<String, Failure> {
    let model = args.model.sizes()?;
    let (mut texts, mut values) = (Vec::new(), Vec::new());
    for path in &args.files {
        let input = Input::read(path, model.as_deref())?;
        if args.json {
            values.push(as_json(&input, args.tensors));
        } else {
            texts.push(told(&input, args.tensors));
        }
    }
    Ok(if args.json { json!({ "masks": values }).to_string() } else { texts.join("\n\n") })
}

/// Some tensors of a mask, counted together.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tensors: usize,
    elements: usize,
    active: usize,
}

impl Count {
    fn density(&self) -> f64 {
        self.active as f64 / self.elements.max(1) as f64
    }
}

/// The tensors of a mask in groups, in the order in which the groups begin, or in the order of the keys.
fn grouped<K: PartialEq>(mask: &Mask, key: impl Fn(&str) -> K) -> Vec<(K, Count)> {
    let mut groups: Vec<(K, Count)> = Vec::new();
    for (tensor, list) in mask.tensors().iter().zip(mask.indices()) {
        let key = key(&tensor.name);
        let at = groups.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            groups.push((key, Count::default()));
            groups.len() - 1
        });
        let count = &mut groups[at].1;
        count.tensors += 1;
        count.elements += tensor.elements();
        count.active += list.len();
    }
    groups
}

/// The embedding, layers by number, what is outside.
fn by_layer(mask: &Mask) -> Vec<(Place, Count)> {
    let mut groups = grouped(mask, Place::of);
    groups.sort_by_key(|(place, _)| *place);
    groups
}

fn by_kind(mask: &Mask) -> Vec<(ModuleKind, Count)> {
    let mut groups = grouped(mask, ModuleKind::of);
    groups.sort_by_key(|(kind, _)| *kind);
    groups
}

fn as_json(input: &Input, tensors: bool) -> Value {
    let mask = &input.file.mask;
    let counted = |key: &str, name: Value, count: &Count| {
        json!({ key: name, "tensors": count.tensors, "elements": count.elements, "active": count.active,
                "density": count.density() })
    };
    let mut value = json!({
        "file": input.path, "digest": input.digest, "form": word(input.file.form), "active": mask.active(),
        "total": mask.total(), "density": whole(mask).density(), "tensors": mask.tensors().len(),
        "recipe": input.file.recipe, "notes": input.file.notes,
        "modules": by_kind(mask).iter().map(|(kind, count)| counted("module", kind.word().into(), count))
            .collect::<Vec<_>>(),
        "layers": by_layer(mask).iter().map(|(place, count)| counted("layer", layer_value(*place), count))
            .collect::<Vec<_>>(),
    });
    if tensors {
        let of = mask.tensors().iter().zip(mask.indices());
        let of = of.map(|(tensor, list)| {
            let density = list.len() as f64 / tensor.elements().max(1) as f64;
            json!({ "name": tensor.name, "shape": tensor.shape, "active": list.len(), "density": density })
        });
        value["by_tensor"] = of.collect::<Vec<_>>().into();
    }
    value
}

fn told(input: &Input, tensors: bool) -> String {
    let (mask, all) = (&input.file.mask, whole(&input.file.mask));
    let mut lines = vec![
        input.path.display().to_string(),
        format!(
            "entries  {} of {} ({}) in {} tensors, as {}",
            all.active,
            all.elements,
            share(all.active, all.elements),
            all.tensors,
            word(input.file.form)
        ),
        format!("digest   {}", input.digest),
        format!("recipe   {}", recipe(input.file.recipe.as_ref().unwrap_or(&Value::Null))),
    ];
    lines.extend(input.file.notes.iter().map(|note| format!("note     {note}")));
    let kinds = by_kind(mask);
    let kinds = kinds.iter().map(|(kind, count)| (kind.word().to_owned(), *count));
    lines.push(table("module", kinds, all.active).to_string());
    let layers = by_layer(mask);
    let layers = layers.iter().map(|(place, count)| (layer_text(*place), *count));
    lines.push(table("layer", layers, all.active).to_string());
    if tensors {
        let each = grouped(mask, str::to_owned);
        lines.push(table("tensor", each.into_iter(), all.active).to_string());
    }
    lines.join("\n")
}

fn whole(mask: &Mask) -> Count {
    Count { tensors: mask.tensors().len(), elements: mask.total(), active: mask.active() }
}

/// A recipe in a line, and a line for each mask that it is made of.
fn recipe(recipe: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words = match recipe {
        Value::Object(words) => words,
        Value::Null => return "no recipe".into(),
        other => return plain(other),
    };
    // The counts are told above.
    let told = words.iter().filter(|(key, _)| !["active", "total", "of"].contains(&key.as_str()));
    let told =
        told.map(|(key, value)| if key == "type" { plain(value) } else { format!("{key} {}", plain(value)) });
    let mut text = told.collect::<Vec<_>>().join(", ");
    for part in recipe["of"].as_array().into_iter().flatten() {
        let made = self::recipe(&part["recipe"]).replace('\n', "\n  ");
        let _ = write!(text, "\n         of {}: {made}", plain(&part["file"]));
    }
    text
}

fn table(what: &str, rows: impl Iterator<Item = (String, Count)>, active: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([what, "tensors", "entries", "in the mask", "density", "share of the mask"]);
    for (name, count) in rows {
        table.add_row([
            name,
            count.tensors.to_string(),
            count.elements.to_string(),
            count.active.to_string(),
            share(count.active, count.elements),
            share(count.active, active),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
