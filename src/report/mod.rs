//! The report: tables, charts and one page, from results alone.
//!
//! In: a plan and a store ([`collect`]), or the committed files of an earlier report ([`read`]). Out: files as bytes
//! ([`render`]), which the store writes below `results/<manifest name>/`. Invariant: `render` is a pure function of the
//! [`ResultSet`], and `read` after `render` is the identity, so a clone that has only the committed files reproduces
//! every figure byte for byte. No clock, no machine, no executor is known here.
//!
//! | file | what |
//! |---|---|
//! | `summary.csv`, `summary.md` | one row a run, in plan order |
//! | `runs.json` | settings, states, reasons, completion markers (digests) |
//! | `metrics.csv`, `evals.csv` | every row of every run |
//! | `jaccard.csv` | every pair of masks |
//! | `scores.csv`, `stability.csv` | what masks were chosen by, and how far halves of the data agree; where there are scores |
//! | `figures/*.svg`, `figures/*.png` | the charts; of named evaluations one of each, as in `lr_sweep_NAME.svg` |
//! | `index.html` | all of it on one page |

pub mod chart;
pub mod classes;
pub mod html;
pub mod long;
pub mod masks;
pub mod scores;
pub mod series;
pub mod table;
mod view;

mod collect;
mod error;
mod restore;
mod result;

pub use collect::collect;
pub use error::ReportError;
pub use masks::Overlap;
pub use restore::{mixes_classes, read};
pub use result::{ResultSet, Row, RunResult, State, UNKNOWN_CLASS, number};
pub use view::names;

/// Turns results into files: paths relative to `results/<manifest name>/`, in a fixed order, and bytes.
pub fn render(set: &ResultSet) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let mut frame = table::summary(set)?;
    let mut files = vec![
        ("summary.csv".to_owned(), table::csv(&mut frame)?),
        ("summary.md".to_owned(), table::markdown(set, &frame).into_bytes()),
        ("runs.json".to_owned(), restore::write_runs(set)),
        ("metrics.csv".to_owned(), long::write_rows(&set.runs, |run| &run.metrics)),
        ("evals.csv".to_owned(), long::write_rows(&set.runs, |run| &run.evals)),
        ("jaccard.csv".to_owned(), long::write_overlaps(&set.overlaps)),
    ];
    files.extend(scores::files(set));
    let figures = chart::figures(set);
    let mut pictures = Vec::new();
    for figure in &figures {
        let svg = figure.drawing.svg(&figure.name)?;
        files.push((format!("figures/{}.svg", figure.name), svg.clone().into_bytes()));
        files.push((format!("figures/{}.png", figure.name), figure.drawing.png(&figure.name)?));
        pictures.push(svg);
    }
    let inline: Vec<html::Inline<'_>> = figures
        .iter()
        .zip(&pictures)
        .map(|(figure, svg)| html::Inline { name: &figure.name, caption: &figure.caption, svg })
        .collect();
    files.push((
        "index.html".to_owned(),
        html::page(set, &table::text(&frame, &["id", "reason"]), &inline).into_bytes(),
    ));
    Ok(files)
}

/// Appends to a text. Writing to a `String` cannot fail.
pub(crate) fn put(text: &mut String, piece: std::fmt::Arguments<'_>) {
    use std::fmt::Write;
    text.write_fmt(piece).expect("a String takes everything");
}
