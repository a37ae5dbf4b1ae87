//! The new file of a command, and what is said about it.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::{must_be_free, must_have_room, placed, taken};
use crate::exit::{Code, Failure};
use crate::masks::{self, Form, MasksError};
use crate::sparsity::{Mask, Place};

/// Where a new mask goes.
#[derive(Args, Clone, Debug)]
pub struct OutArgs {
    /// The file to write, which must not exist yet
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl OutArgs {
    /// Refuses a name that is taken, before anything is read.
    pub fn free(&self) -> Result<(), Failure> {
        must_be_free(&self.out)
    }

    /// Writes the mask and says so. `why` tells how a mask without entries may have come about.
    pub fn write(
        &self,
        mask: &Mask,
        form: Form,
        mut recipe: Value,
        notes: &[String],
        why: &str,
    ) -> Result<String, Failure> {
        let path = &self.out;
        if mask.active() == 0 {
            let error =
                format!("write the mask {}: it has no entry, nothing would be trained", path.display());
            return Err(Failure::new(Code::Environment, error, Some(why.into())));
        }
        if let Value::Object(recipe) = &mut recipe {
            recipe.insert("active".into(), mask.active().into());
            recipe.insert("total".into(), mask.total().into());
        }
        must_have_room(path, needed(mask, form, &recipe))?;
        let written = match form {
            Form::Indices => masks::write(path, mask, &recipe),
            Form::Booleans => masks::write_booleans(path, mask, &recipe),
        };
        // Another may have written it in the meantime: the first one stays.
        if !written.map_err(|error: MasksError| placed(error.into(), path))? {
            return Err(taken(path));
        }
        Ok(self.said(mask, form, notes))
    }

    fn said(&self, mask: &Mask, form: Form, notes: &[String]) -> String {
        let (active, total) = (mask.active(), mask.total());
        if self.json {
            let made = json!({
                "out": self.out, "form": word(form), "active": active, "total": total,
                "density": mask.density(), "notes": notes,
            });
            return made.to_string();
        }
        let mut text =
            format!("{}: {active} of {total} entries ({})", self.out.display(), share(active, total));
        for note in notes {
            let _ = write!(text, "\nnote: {note}");
        }
        text
    }
}

/// Bytes of a file, within some KiB.
fn needed(mask: &Mask, form: Form, recipe: &Value) -> u64 {
    match form {
        Form::Indices => 4 * mask.active() as u64,
        Form::Booleans => masks::booleans_bytes(mask, recipe),
    }
}

/// The name of a form in JSON.
pub fn word(form: Form) -> &'static str {
    match form {
        Form::Indices => "indices",
        Form::Booleans => "booleans",
    }
}

/// A share for a reader, in percent with four decimals; nothing of nothing is nothing.
pub fn share(part: usize, whole: usize) -> String {
    format!("{:.4} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// The place of a part of the model in JSON: a layer's number from 0, `"embedding"` or `"outside"`.
pub fn layer_value(place: Place) -> Value {
    match place {
        Place::Layer(layer) => layer.into(),
        other => other.to_string().into(),
    }
}

/// The same in the column of a table.
pub fn layer_text(place: Place) -> String {
    match place {
        Place::Layer(layer) => layer.to_string(),
        other => other.to_string(),
    }
}
