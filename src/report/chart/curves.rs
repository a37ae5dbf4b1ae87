//! Curves by step, a panel a family: evaluation score, training reward, entropy.
//!
//! Hue is the family, shade the learning rate (written at the curve's end), thin lines are single runs where a learning
//! rate has several. Only what was measured is drawn: a failed run ends in a cross.

use super::super::result::{ResultSet, Row, RunResult, State};
use super::super::series::{self, Cell, Family, rate};
use super::draw::{Color, Drawing, Point, Shape, Type};
use super::font;
use super::scale::{Kind, Scale, extent, linear_domain, spread};
use super::theme::{Frame, GHOST, Look, MUTED, NORMAL, Panel, SMALL, cross, heading, legible, shade};
use crate::stats;

/// Most points of a drawn curve.
const POINTS: usize = 400;

/// What a figure of curves shows.
pub struct Curves<'a> {
    /// The title.
    pub title: &'a str,
    /// The vertical axis.
    pub y_title: &'a str,
    /// What the title does not say.
    pub subtitle: String,
    /// The column.
    pub column: &'a str,
    /// Whether the column is one of the evaluations.
    pub evals: bool,
    /// Steps of the moving average; 1 is none.
    pub window: usize,
    /// Whether the level of the base model is drawn.
    pub base: bool,
    /// Whether single points are marked.
    pub dots: bool,
}

/// A learning rate of a family with the curves of its runs.
type Drawn = (Cell, Vec<Curve>);

struct Curve {
    points: Vec<Point>,
    raw: Vec<Point>,
    state: State,
}

impl Curves<'_> {
    fn rows<'r>(&self, run: &'r RunResult) -> &'r [Row] {
        if self.evals { &run.evals } else { &run.metrics }
    }

    fn curve(&self, run: &RunResult) -> Option<Curve> {
        let raw = RunResult::series(self.rows(run), self.column);
        if raw.is_empty() {
            return None;
        }
        let values: Vec<f64> = raw.iter().map(|point| point.1).collect();
        let smooth = stats::moving_average(&values, self.window);
        let points =
            thinned(&raw.iter().zip(smooth).map(|(point, value)| (point.0, value)).collect::<Vec<_>>());
        Some(Curve { points, raw: thinned(&raw), state: run.state })
    }

    /// Draws the figure; `None` when no run has a point.
    pub fn draw(&self, set: &ResultSet, families: &[Family], looks: &[Look]) -> Option<Drawing> {
        let data: Vec<(usize, Vec<Drawn>)> = families
            .iter()
            .enumerate()
            .map(|(index, family)| {
                let cells = family.cells(set).into_iter().map(|cell| {
                    let curves = cell.runs.iter().filter_map(|&run| self.curve(&set.runs[run])).collect();
                    (cell, curves)
                });
                (index, cells.filter(|(_, curves): &(Cell, Vec<Curve>)| !curves.is_empty()).collect())
            })
            .filter(|(_, cells): &(usize, Vec<_>)| !cells.is_empty())
            .collect();
        if data.is_empty() {
            return None;
        }
        let curves = || data.iter().flat_map(|(_, cells)| cells).flat_map(|(_, curves)| curves);
        let bases: Vec<Option<f64>> =
            families.iter().map(|family| family.base(set).filter(|_| self.base)).collect();
        let bases_drawn = data.iter().filter_map(|(index, _)| bases[*index]);
        let drawn = curves().flat_map(|curve| &curve.points).map(|point| point.1).chain(bases_drawn);
        // Raw points may leave the panel when they are but the noise behind an average.
        let y_domain = linear_domain(drawn);
        let last = extent(curves().flat_map(|curve| &curve.points).map(|point| point.0))?.1.max(1.0);
        let (x, y) = (
            Scale::new(Kind::Linear, (0.0, last), (0.0, 1.0)),
            Scale::new(Kind::Linear, y_domain, (0.0, 1.0)),
        );
        let lrs_vary = families.iter().any(|family| family.cells(set).len() > 1);

        let columns = match data.len() {
            count @ 1..=3 => count,
            4 => 2,
            _ => 3,
        };
        let rows = data.len().div_ceil(columns);
        let width = if columns == 1 { 640 } else { 920 };
        let mut drawing = Drawing::new(width, 10, String::new());
        let top = heading(&mut drawing, self.title, &self.subtitle, set.mark().as_deref());
        let labels = if lrs_vary { 46.0 } else { 14.0 };
        let (left, gap, panel_height, row_height) = (66.0, 14.0, 236.0, 282.0);
        let cell_width = (f64::from(width) - left - gap * (columns - 1) as f64) / columns as f64;
        let references: Vec<(usize, Vec<Point>)> =
            references(families).filter_map(|of| Some((of, self.reference(set, &families[of])?))).collect();
        for (place, (index, cells)) in data.iter().enumerate() {
            let (row, column) = (place / columns, place % columns);
            let at = (left + column as f64 * (cell_width + gap), top + 22.0 + row as f64 * row_height);
            let panel = Panel::new(at, (cell_width - labels, panel_height), &x, &y);
            let lowest = place + columns >= data.len();
            let frame = Frame {
                x_title: lowest.then_some("training step"),
                y_title: (column == 0).then_some(self.y_title),
                y_labels: column == 0,
            };
            panel.frame(&mut drawing, frame);
            let family = &families[*index];
            let title = Type::new(title_size(family, cell_width), legible(looks[*index].color)).bold();
            drawing.text((at.0, at.1 - 9.0), &family.name, title);
            // Shown in the other panels of its class.
            let reference = references.iter().find(|(of, _)| families[*of].class == family.class);
            if let Some((_, points)) = reference.filter(|(of, _)| of != index) {
                drawing.line(points.iter().map(|&point| panel.at(point)).collect(), 1.6, GHOST);
            }
            if let Some(base) = bases[*index] {
                let y = panel.y.at(base);
                drawing.dashed(vec![(at.0, y), (at.0 + panel.width, y)], 1.2, MUTED, (5.0, 4.0));
            }
            self.panel(&mut drawing, &panel, (family, cells), looks[*index].color, lrs_vary);
        }
        drawing.height = (top + 22.0 + (rows - 1) as f64 * row_height + panel_height + 50.0) as u32;
        drawing.alt = format!("{}: {} curves in {} panels.", self.title, curves().count(), data.len());
        Some(drawing)
    }

    /// The mean curve of full fine-tuning at its best rate, shown for comparison in the other panels.
    fn reference(&self, set: &ResultSet, family: &Family) -> Option<Vec<Point>> {
        let lr = family.best(set)?.lr;
        let cell = family.cells(set).into_iter().find(|cell| cell.lr == lr)?;
        let curves: Vec<Curve> = cell
            .runs
            .iter()
            .map(|&run| &set.runs[run])
            .filter(|run| run.state == State::Done)
            .filter_map(|run| self.curve(run))
            .collect();
        mean_curve(&curves)
    }

    fn panel(
        &self,
        drawing: &mut Drawing,
        panel: &Panel,
        (family, cells): (&Family, &[Drawn]),
        color: Color,
        lrs: bool,
    ) {
        let mut ends: Vec<(f64, String, Color)> = Vec::new();
        for (rank, (cell, curves)) in cells.iter().enumerate() {
            let ink = shade(color, rank, cells.len());
            let several = curves.len() > 1;
            for curve in curves {
                if self.window > 1 && !several {
                    let points = curve.raw.iter().map(|&point| panel.at(point)).collect();
                    drawing.shapes.push(Shape::Line {
                        points,
                        width: 0.75,
                        color: ink,
                        alpha: 0.3,
                        dash: None,
                    });
                }
                let points: Vec<Point> = curve.points.iter().map(|&point| panel.at(point)).collect();
                let end = points.last().copied().unwrap_or_default();
                if self.dots && points.len() <= 40 && !several || points.len() == 1 {
                    for &point in &points {
                        drawing.shapes.push(Shape::Disc { centre: point, radius: 2.4, color: ink });
                    }
                }
                let (width, alpha) = if several { (1.0, 0.55) } else { (2.0, 1.0) };
                drawing.shapes.push(Shape::Line { points, width, color: ink, alpha, dash: None });
                if curve.state == State::Failed {
                    cross(drawing, end, 4.5, ink);
                }
            }
            let mean = if several && family.is_averaged() { mean_curve(curves) } else { None };
            if let Some(mean) = &mean {
                drawing.line(mean.iter().map(|&point| panel.at(point)).collect(), 2.4, ink);
            }
            let last =
                mean.as_ref().or(curves.first().map(|curve| &curve.points)).and_then(|points| points.last());
            if let (true, Some(lr), Some(&last)) = (lrs, cell.lr, last) {
                let (x, y) = panel.at(last);
                if x < panel.left + 0.9 * panel.width {
                    // A curve that ends early is named where it ends.
                    let style = Type::new(SMALL, legible(ink));
                    drawing.text((x + 8.0, y + SMALL * 0.36), rate(lr), style);
                } else {
                    ends.push((y, rate(lr), ink));
                }
            }
        }
        // Beyond what fits, the highest and the lowest rates alone would mislead: all are written, more densely.
        let gap = (panel.height / ends.len().max(1) as f64).min(SMALL + 1.5);
        let wanted: Vec<f64> = ends.iter().map(|end| end.0).collect();
        let placed = spread(&wanted, gap, (panel.top + 4.0, panel.top + panel.height - 2.0));
        for ((_, label, ink), y) in ends.into_iter().zip(placed) {
            let size = SMALL.min(gap);
            let style = Type::new(size, legible(ink));
            drawing.text((panel.left + panel.width + 6.0, y + size * 0.36), label, style);
        }
    }
}

/// The mean over curves of the steps that all of them have.
fn mean_curve(curves: &[Curve]) -> Option<Vec<Point>> {
    let (first, rest) = curves.split_first()?;
    let mean: Vec<Point> = first
        .points
        .iter()
        .filter_map(|&(step, value)| {
            let mut values = vec![value];
            for curve in rest {
                let place = curve.points.binary_search_by(|point| point.0.total_cmp(&step)).ok()?;
                values.push(curve.points[place].1);
            }
            Some((step, stats::mean(&values)?))
        })
        .collect();
    (!mean.is_empty()).then_some(mean)
}

/// Every k-th point so that at most [`POINTS`] remain; the last one is kept.
fn thinned(points: &[Point]) -> Vec<Point> {
    let every = points.len().div_ceil(POINTS).max(1);
    let mut kept: Vec<Point> = points.iter().copied().step_by(every).collect();
    if let (Some(&last), true) = (points.last(), !(points.len().max(1) - 1).is_multiple_of(every)) {
        kept.push(last);
    }
    kept
}

/// The window of the moving average that suits a number of steps.
pub fn window(set: &ResultSet) -> usize {
    let longest = set.runs.iter().map(|run| run.metrics.len()).max().unwrap_or(0);
    ((longest / 20) | 1).max(1)
}

/// The family of full fine-tuning of each class: it is shown for comparison among runs of its own class alone.
fn references(families: &[Family]) -> impl Iterator<Item = usize> {
    let full = |family: &Family| family.kind == "full";
    let first = move |index: usize| {
        let class = &families[index].class;
        !families[..index].iter().any(|earlier| full(earlier) && earlier.class == *class)
    };
    (0..families.len()).filter(move |&index| full(&families[index]) && first(index))
}

/// The size of a panel's title. One that names a class is made to fit.
fn title_size(family: &Family, width: f64) -> f64 {
    let size = NORMAL + 0.5;
    if family.class.is_empty() {
        size
    } else {
        size * (width / font::width(&family.name, size, true)).min(1.0)
    }
}

/// How a subtitle speaks of the reference curve.
pub fn reference_note(set: &ResultSet, families: &[Family]) -> String {
    if families.iter().any(|family| !family.class.is_empty()) {
        let shown = references(families).any(|of| {
            let others = families.iter().filter(|family| family.class == families[of].class);
            families[of].best(set).is_some() && others.count() > 1
        });
        let note = if shown { " Grey: full of the same class at its best rate." } else { "" };
        return note.to_owned();
    }
    let best = families.iter().find(|family| family.kind == "full").and_then(|family| family.best(set));
    match best {
        Some(series::Best { lr: Some(lr), .. }) if families.len() > 1 => {
            format!(" Grey: full at its best rate, {}.", rate(lr))
        }
        Some(_) if families.len() > 1 => " Grey: full.".to_owned(),
        _ => String::new(),
    }
}

/// How a subtitle speaks of shades and thin lines.
pub fn encoding_note(set: &ResultSet, families: &[Family]) -> String {
    let cells: Vec<Cell> = families.iter().flat_map(|family| family.cells(set)).collect();
    let means =
        |family: &Family| family.is_averaged() && family.cells(set).iter().any(|cell| cell.runs.len() > 1);
    let mut note = String::new();
    if cells.len() > families.len() {
        note.push_str(" Learning rate at the end of each curve, darker is higher.");
    }
    if families.iter().any(means) {
        note.push_str(" Several seeds: thin lines, their mean bold.");
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<Point> = (0..1000).map(|step| (f64::from(step), 0.0)).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= POINTS + 1);
        assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 999.0));
        assert_eq!(thinned(&points[..3]), points[..3]);
        assert!(thinned(&[]).is_empty());
    }

    #[test]
    fn the_mean_is_of_common_steps() {
        let curve = |points: &[Point]| Curve { points: points.to_vec(), raw: Vec::new(), state: State::Done };
        let mean =
            mean_curve(&[curve(&[(0.0, 1.0), (5.0, 2.0), (9.0, 8.0)]), curve(&[(0.0, 3.0), (9.0, 4.0)])]);
        assert_eq!(mean, Some(vec![(0.0, 2.0), (9.0, 6.0)]));
        assert_eq!(mean_curve(&[]), None);
    }
}
