//! Overlap of the masks that two halves of the episodes choose, by density: a series for each of the scores, and chance.

use super::super::result::{ResultSet, number};
use super::super::scores::ScoresRecord;
use super::draw::{Drawing, Type};
use super::font;
use super::scale::{Kind, Scale, linear_domain, log_domain};
use super::theme::{Frame, INK, MUTED, NORMAL, PAPER, Panel, heading, look_of_scores, marker};
use crate::sparsity::chance_jaccard;

/// Points of the chance line.
const CHANCE_POINTS: u32 = 60;

/// The measured points of some scores, by density.
fn points(record: &ScoresRecord) -> Vec<(f64, f64)> {
    let rows = record.stability.iter();
    let mut points: Vec<(f64, f64)> = rows
        .filter_map(|row| Some((number(row, "density")?, number(row, "jaccard")?)))
        .filter(|(density, _)| *density > 0.0)
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Draws the figure; `None` when no stability is known.
pub fn draw(set: &ResultSet) -> Option<Drawing> {
    let series: Vec<(String, Vec<(f64, f64)>)> = set
        .scores
        .iter()
        .map(|record| (record.name(), points(record)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let (low, high) = log_domain(all().map(|(density, _)| density), 0.05)?;
    let high = high.min(1.0);
    let share = |step: u32| f64::from(step) / f64::from(CHANCE_POINTS);
    let chance: Vec<(f64, f64)> = (0..=CHANCE_POINTS)
        .map(|step| low * (high / low).powf(share(step)))
        .map(|density| (density, chance_jaccard(density, density)))
        .collect();
    let heights = all().map(|(_, jaccard)| jaccard).chain(chance.iter().map(|(_, jaccard)| *jaccard));
    let (_, top_of_y) = linear_domain(heights.chain([0.0]));
    let x = Scale::new(Kind::Log, (low, high), (0.0, 1.0));
    let y = Scale::new(Kind::Linear, (0.0, top_of_y), (0.0, 1.0));

    let subtitle = "Jaccard index of the masks that two disjoint halves of the episodes choose. Dashed: two independent \
                    uniform masks, p/(2 − p).";
    let mut drawing = Drawing::new(760, 10, String::new());
    let title = "Stability of the scores";
    let top = heading(&mut drawing, title, subtitle, set.mark().as_deref());
    let top = legend(&mut drawing, top, &series);
    let height = 280.0;
    let panel = Panel::new((66.0, top + 8.0), (760.0 - 66.0 - 30.0, height), &x, &y);
    let frame = Frame {
        x_title: Some("density of the masks"),
        y_title: Some("Jaccard index of the halves"),
        y_labels: true,
    };
    panel.frame(&mut drawing, frame);
    drawing.dashed(chance.into_iter().map(|point| panel.at(point)).collect(), 1.5, MUTED, (6.0, 4.0));
    for (index, (_, points)) in series.iter().enumerate() {
        let look = look_of_scores(index);
        let line: Vec<_> = points.iter().map(|point| panel.at(*point)).collect();
        drawing.line(line.clone(), 2.0, look.color);
        for at in line {
            marker(&mut drawing, at, 6.6, look.marker, PAPER);
            marker(&mut drawing, at, 4.8, look.marker, look.color);
        }
    }
    drawing.height = (top + 8.0 + height + 52.0) as u32;
    let told = series.iter().filter_map(|(name, points)| {
        let (density, jaccard) = points.first()?;
        Some(format!("{name}: {jaccard:.3} at density {density}"))
    });
    drawing.alt = format!("{title}. {}.", told.collect::<Vec<_>>().join("; "));
    Some(drawing)
}

/// Draws the key, in rows; returns the y below it.
fn legend(drawing: &mut Drawing, top: f64, series: &[(String, Vec<(f64, f64)>)]) -> f64 {
    let (mut x, mut y) = (16.0, top + 10.0);
    let width = f64::from(drawing.width);
    for (index, (name, _)) in series.iter().enumerate() {
        let look = look_of_scores(index);
        let needed = 34.0 + font::width(name, NORMAL, false);
        if x > 16.0 && x + needed > width - 16.0 {
            (x, y) = (16.0, y + 20.0);
        }
        drawing.line(vec![(x, y - 4.0), (x + 24.0, y - 4.0)], 2.0, look.color);
        marker(drawing, (x + 12.0, y - 4.0), 4.8, look.marker, look.color);
        drawing.text((x + 30.0, y), name, Type::new(NORMAL, INK));
        x += needed + 18.0;
    }
    y + 10.0
}
