//! Final score against learning rate, a series a family.
//!
//! A marker is the mean of a learning rate's finished runs, small marks are the single runs where there are several;
//! a single run has the standard error of its evaluation as error bar. A failed run is a cross on the axis.

use super::super::result::{ResultSet, RunResult, State};
use super::super::series::{self, Family, rate};
use super::draw::{Color, Drawing, Type};
use super::font;
use super::scale::{Kind, Scale, linear_domain, log_domain};
use super::theme::{Frame, INK, Look, MUTED, NORMAL, PAPER, Panel, SMALL, cross, heading, marker};
use crate::stats;

struct Point {
    lr: f64,
    mean: f64,
    scores: Vec<f64>,
    stderr: Option<f64>,
}

/// Draws the figure, `which` behind its title; `None` when no run with a learning rate has finished.
pub fn draw(set: &ResultSet, families: &[Family], looks: &[Look], which: &str) -> Option<Drawing> {
    let data: Vec<(usize, Vec<Point>, Vec<f64>)> = families
        .iter()
        .enumerate()
        .map(|(index, family)| {
            let (mut points, mut failed) = (Vec::new(), Vec::new());
            for cell in family.cells(set) {
                let Some(lr) = cell.lr.filter(|lr| *lr > 0.0) else { continue };
                let runs = || cell.runs.iter().map(|&run| &set.runs[run]);
                failed.extend(runs().filter(|run| run.state == State::Failed).map(|_| lr));
                let scores: Vec<f64> = runs().filter_map(RunResult::final_score).collect();
                let Some(mean) = stats::mean(&scores) else { continue };
                let stderr = runs().find_map(RunResult::final_stderr).filter(|_| scores.len() == 1);
                points.push(Point { lr, mean, scores, stderr });
            }
            (index, points, failed)
        })
        .filter(|(_, points, failed)| !points.is_empty() || !failed.is_empty())
        .collect();
    let points = || data.iter().flat_map(|(_, points, _)| points);
    points().next()?;
    let failures = data.iter().any(|(_, _, failed)| !failed.is_empty());
    let base = series::base_score(set);
    let rates =
        points().map(|point| point.lr).chain(data.iter().flat_map(|(_, _, failed)| failed.iter().copied()));
    let x_domain = log_domain(rates, 0.07)?;
    let heights = points().flat_map(|point| {
        let margin = point.stderr.unwrap_or(0.0);
        point.scores.iter().copied().chain([point.mean + margin, point.mean - margin])
    });
    let (low, high) = linear_domain(heights.chain(base));
    // An error bar may reach below zero, where a score cannot be.
    let low =
        if points().all(|point| point.scores.iter().all(|score| *score >= 0.0)) { low.max(0.0) } else { low };
    let x = Scale::new(Kind::Log, x_domain, (0.0, 1.0));
    let y = Scale::new(Kind::Linear, (low, high), (0.0, 1.0));

    let seeds = points().any(|point| point.scores.len() > 1);
    let episodes =
        series::eval_examples(set).map_or_else(String::new, |count| format!(" on {count} held-out episodes"));
    let mut subtitle = format!("Score of the last evaluation{episodes}.");
    if points().any(|point| point.stderr.is_some()) {
        subtitle.push_str(" Bars: ± 1 standard error of the evaluation.");
    }
    if seeds {
        subtitle.push_str(" Several seeds: small marks, the line joins their means.");
    }
    let mut drawing = Drawing::new(760, 10, String::new());
    let top = heading(
        &mut drawing,
        &format!("Final score by learning rate{which}"),
        &subtitle,
        set.mark().as_deref(),
    );
    let top = legend(
        &mut drawing,
        top,
        &data.iter().map(|(index, ..)| (&families[*index], looks[*index])).collect::<Vec<_>>(),
        failures,
    );
    let height = 320.0;
    let panel = Panel::new((66.0, top + 8.0), (760.0 - 66.0 - 62.0, height), &x, &y);
    panel.frame(
        &mut drawing,
        Frame {
            x_title: Some("learning rate"),
            y_title: Some("mean score of the final evaluation"),
            y_labels: true,
        },
    );
    if let Some(base) = base {
        let y = panel.y.at(base);
        let right = panel.left + panel.width;
        drawing.dashed(vec![(panel.left, y), (right, y)], 1.3, MUTED, (6.0, 4.0));
        drawing.text((right + 6.0, y - 2.0), "base", Type::new(SMALL, MUTED));
        drawing.text((right + 6.0, y + 11.0), super::scale::short(base), Type::new(SMALL, MUTED));
    }
    for (index, points, failed) in &data {
        let look = looks[*index];
        let line: Vec<_> = points.iter().map(|point| panel.at((point.lr, point.mean))).collect();
        if line.len() > 1 {
            drawing.line(line.clone(), 2.0, look.color);
        }
        for (point, &(px, _)) in points.iter().zip(&line) {
            if let Some(stderr) = point.stderr {
                let (above, below) =
                    (panel.y.at(point.mean + stderr), panel.y.at((point.mean - stderr).max(low)));
                drawing.line(vec![(px, above), (px, below)], 1.3, look.color);
                for end in [above, below] {
                    drawing.line(vec![(px - 4.0, end), (px + 4.0, end)], 1.3, look.color);
                }
            }
            if point.scores.len() > 1 {
                // Side by side, or equal scores and the mean would hide each other.
                let apart = 9.0f64.min(28.0 / (point.scores.len() - 1) as f64);
                for (rank, &score) in point.scores.iter().enumerate() {
                    let shift = (rank as f64 - (point.scores.len() - 1) as f64 / 2.0) * apart;
                    let shift = shift + 5.0f64.copysign(shift);
                    marker(
                        &mut drawing,
                        (px + shift, panel.y.at(score)),
                        3.2,
                        look.marker,
                        look.color.mix(PAPER, 0.45),
                    );
                }
            }
        }
        for &(px, py) in &line {
            marker(&mut drawing, (px, py), 7.0, look.marker, PAPER);
            marker(&mut drawing, (px, py), 5.2, look.marker, look.color);
        }
        for &lr in failed {
            cross(&mut drawing, (panel.x.at(lr), panel.top + panel.height - 7.0), 4.5, look.color);
        }
    }
    drawing.height = (top + 8.0 + height + 52.0) as u32;
    let best = families.iter().filter_map(|family| {
        let best = family.best(set)?;
        let rate = best.lr.map_or_else(String::new, |lr| format!(" at {}", rate(lr)));
        Some(format!("{} {:.3}{rate}", family.name, best.score))
    });
    drawing.alt = format!("Final score by learning rate. Best: {}.", best.collect::<Vec<_>>().join("; "));
    Some(drawing)
}

/// Draws the key in rows; returns the y below it.
fn legend(drawing: &mut Drawing, top: f64, entries: &[(&Family, Look)], failures: bool) -> f64 {
    let (mut x, mut y) = (16.0, top + 10.0);
    let width = f64::from(drawing.width);
    for (family, look) in entries {
        let needed = 34.0 + font::width(&family.name, NORMAL, false);
        if x > 16.0 && x + needed > width - 16.0 {
            (x, y) = (16.0, y + 20.0);
        }
        drawing.line(vec![(x, y - 4.0), (x + 24.0, y - 4.0)], 2.0, look.color);
        marker(drawing, (x + 12.0, y - 4.0), 4.8, look.marker, look.color);
        drawing.text((x + 30.0, y), &family.name, Type::new(NORMAL, INK));
        x += needed + 18.0;
    }
    if failures {
        cross(drawing, (x + 6.0, y - 4.0), 4.5, Color(0x55, 0x5b, 0x61));
        drawing.text((x + 16.0, y), "failed run", Type::new(NORMAL, INK));
    }
    y + 10.0
}
