//! Update sparsity: the share of all entries that differ from the base, by step, for three meanings of "differ".
//!
//! A panel a meaning, a curve a run, both on a logarithmic scale of shares: masked runs cannot exceed their density.

use super::super::result::{ResultSet, RunResult, State};
use super::super::series::Family;
use super::draw::{Drawing, Point, Shape, Type};
use super::font;
use super::scale::{Kind, Scale, extent, log_domain};
use super::theme::{Frame, INK, Look, NORMAL, Panel, cross, heading, shade};

const MEANINGS: [(&str, &str); 3] = [
    ("update/changed_fp32", "in float32"),
    ("update/changed_bf16", "after rounding to bfloat16"),
    ("update/changed_1e-5", "by more than 1e-5"),
];

struct Curve {
    family: usize,
    rank: usize,
    of: usize,
    state: State,
    points: Vec<Point>,
}

/// Draws the figure; `None` when no run has a positive share.
pub fn draw(set: &ResultSet, families: &[Family], looks: &[Look]) -> Option<Drawing> {
    let panels: Vec<(&str, Vec<Curve>)> = MEANINGS
        .iter()
        .map(|(column, title)| (*title, curves(set, families, column)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    let all = || panels.iter().flat_map(|(_, curves)| curves).flat_map(|curve| &curve.points);
    let (low, high) = log_domain(all().map(|point| point.1), 0.0)?;
    let last = extent(all().map(|point| point.0))?.1.max(1.0);
    let x = Scale::new(Kind::Linear, (0.0, last), (0.0, 1.0));
    let y = Scale::new(Kind::Log, (low, high.min(1.6)), (0.0, 1.0)).percent();
    let mut drawing = Drawing::new(920, 10, String::new());
    let subtitle = "Share of all parameters that differ from the base model. Darker: higher learning rate.";
    let top = heading(&mut drawing, "How much of the network changes", subtitle, set.mark().as_deref());
    let top = legend(&mut drawing, top, families, looks);
    let (left, gap, height) = (78.0, 32.0, 250.0);
    let width = (920.0 - left - 16.0 - gap * (panels.len() - 1) as f64) / panels.len() as f64;
    for (place, (title, curves)) in panels.iter().enumerate() {
        let at = (left + place as f64 * (width + gap), top + 22.0);
        let panel = Panel::new(at, (width, height), &x, &y);
        panel.frame(
            &mut drawing,
            Frame {
                x_title: Some("training step"),
                y_title: (place == 0).then_some("share of entries changed"),
                y_labels: place == 0,
            },
        );
        drawing.text((at.0, at.1 - 9.0), *title, Type::new(NORMAL + 0.5, INK).bold());
        for curve in curves {
            let color = shade(looks[curve.family].color, curve.rank, curve.of);
            let points: Vec<Point> = curve.points.iter().map(|&point| panel.at(point)).collect();
            let end = points.last().copied().unwrap_or_default();
            if points.len() == 1 {
                drawing.shapes.push(Shape::Disc { centre: end, radius: 2.4, color });
            }
            drawing.line(points, 1.8, color);
            if curve.state == State::Failed {
                cross(&mut drawing, end, 4.5, color);
            }
        }
    }
    drawing.height = (top + 22.0 + height + 50.0) as u32;
    let count = panels.iter().map(|(_, curves)| curves.len()).max().unwrap_or(0);
    drawing.alt = format!("Share of parameters changed by step, {count} runs, in {} panels.", panels.len());
    Some(drawing)
}

fn curves(set: &ResultSet, families: &[Family], column: &str) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let cells = family.cells(set);
        for (rank, cell) in cells.iter().enumerate() {
            for &run in &cell.runs {
                let run = &set.runs[run];
                let mut points = RunResult::series(&run.metrics, column);
                points.retain(|point| point.1 > 0.0);
                let every = points.len().div_ceil(200).max(1);
                let final_point = points.last().copied();
                let mut points: Vec<Point> = points.into_iter().step_by(every).collect();
                if points.last().copied() != final_point {
                    points.extend(final_point);
                }
                if !points.is_empty() {
                    curves.push(Curve { family: index, rank, of: cells.len(), state: run.state, points });
                }
            }
        }
    }
    curves
}

fn legend(drawing: &mut Drawing, top: f64, families: &[Family], looks: &[Look]) -> f64 {
    let (mut x, mut y) = (16.0, top + 10.0);
    for (family, look) in families.iter().zip(looks) {
        let needed = 28.0 + font::width(&family.name, NORMAL, false);
        if x > 16.0 && x + needed > f64::from(drawing.width) - 16.0 {
            (x, y) = (16.0, y + 20.0);
        }
        drawing.line(vec![(x, y - 4.0), (x + 20.0, y - 4.0)], 3.0, look.color);
        drawing.text((x + 26.0, y), &family.name, Type::new(NORMAL, INK));
        x += needed + 18.0;
    }
    y + 10.0
}
